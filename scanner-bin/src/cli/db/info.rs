//! `db info`: the prefilter of a set of signatures, in numbers; and if it is off, what turns it off.

use std::fmt::{self, Display};
use std::process::ExitCode;

use clap::Args;
use scanlib::EngineInfo;
use scanlib::prefilter::{DisabledReason, Doubt, Kinds, Prefilter, Summary};
use serde_json::{Value, json};

use super::outside::{outside_lines, outside_object};
use crate::cli::engine::EngineArgs;
use crate::cli::format::Format;
use crate::cli::{EXIT_ERROR, fail, print};
use crate::escape::Escaped;
use crate::json;

/// Exit status if the signatures turn the prefilter off.
const EXIT_OFF: u8 = 1;
/// So many names are shown of each list; the JSON object has all of them.
const SHOWN: usize = 20;
/// What to do about signatures that turn it off.
const HOW_TO_LEAVE_OUT: &str =
    "if you can do without them: --leave-out NAME for each, or scan.leave_out in the configuration";

/// What is loaded, and how it is told.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit status: 0 if the prefilter is on, 1 if the signatures turn it off, 2 if it is off for another
reason or they cannot be loaded.

Examples:
  scanner-bin db info --database /var/lib/clamav
  scanner-bin db info --database /var/lib/clamav --text-model my.model --format json | jq .expected")]
pub struct InfoArgs {
    /// What is loaded.
    #[command(flatten)]
    pub engine: EngineArgs,

    /// Text for people, or a JSON object
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "text|json",
          hide_possible_values = true, hide_default_value = true)]
    pub format: Format,
}

/// Runs the subcommand.
pub(super) fn run(args: &InfoArgs) -> ExitCode {
    let engine = match args.engine.load() {
        Ok(engine) => engine,
        Err(error) => return fail(&error),
    };
    let (prefilter, info) = (engine.prefilter(), engine.info());
    let page = match args.format {
        Format::Text => Page { prefilter, info }.to_string().into_bytes(),
        Format::Json => match object(prefilter, info) {
            Ok(page) => page,
            Err(error) => return fail(&error),
        },
    };
    match print(&page) {
        ExitCode::SUCCESS => ExitCode::from(exit_status(prefilter.off())),
        failed => failed,
    }
}

fn exit_status(off: Option<&DisabledReason>) -> u8 {
    match off {
        None => 0,
        Some(
            DisabledReason::NotUnderstood { .. }
            | DisabledReason::Anything { .. }
            | DisabledReason::TooMuch { .. },
        ) => EXIT_OFF,
        Some(_) => EXIT_ERROR,
    }
}

/// For people.
struct Page<'a> {
    prefilter: &'a Prefilter,
    info: &'a EngineInfo,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Page { prefilter, info } = self;
        let summary = prefilter.summary();
        match prefilter.off() {
            None => line(f, "prefilter", &"on")?,
            Some(off) => line(f, "prefilter", &format_args!("off: {}", Reason(off)))?,
        }
        reasons(f, prefilter)?;
        line(
            f,
            "loaded",
            &format_args!("{} signatures by libclamav's count", info.signatures),
        )?;
        for (what, text) in outside_lines(info.profile.name(), &info.excluded_by_profile) {
            line(f, what, &text)?;
        }
        if !info.excluded.is_empty() {
            let count = info.excluded.len();
            line(f, "left out", &format_args!("{count}, as --leave-out says"))?;
            names(f, &info.excluded)?;
        }
        line(
            f,
            "plain text",
            &"these can match a message that is plain text:",
        )?;
        for (kind, count) in kinds(&summary.signatures) {
            line(f, "", &format_args!("{count:>7}  {kind}"))?;
        }
        line(f, "", &format_args!("{:>7}  hashes", summary.hashes))?;
        if prefilter.off().is_none() {
            numbers(f, summary)?;
        }
        line(
            f,
            "build time",
            &format_args!("{} ms", summary.build_time.as_millis()),
        )
    }
}

fn numbers(f: &mut fmt::Formatter<'_>, summary: &Summary) -> fmt::Result {
    line(
        f,
        "texts",
        &format_args!(
            "{} in normalised text, the shortest of {} bytes; {} in messages as they are",
            summary.texts, summary.shortest_text, summary.raw_texts
        ),
    )?;
    line(
        f,
        "memory",
        &format_args!("{} KiB", summary.memory_bytes.div_ceil(1024)),
    )?;
    line(
        f,
        "always",
        &format_args!(
            "{} may match any message of some lengths",
            summary.always.len()
        ),
    )?;
    names(f, &summary.always)?;
    line(
        f,
        "proposed",
        &format_args!(
            "{:.1e} signatures in a message of 300 bytes; most often",
            summary.expected
        ),
    )?;
    for (name, expected) in &summary.dearest {
        line(
            f,
            "",
            &format_args!("{expected:.1e}  {}", Escaped(name.as_bytes())),
        )?;
    }
    Ok(())
}

/// What turns it off, one by one.
fn reasons(f: &mut fmt::Formatter<'_>, prefilter: &Prefilter) -> fmt::Result {
    match prefilter.off() {
        Some(DisabledReason::Anything { signatures }) => {
            names(f, signatures)?;
            line(f, "", &HOW_TO_LEAVE_OUT)
        }
        Some(DisabledReason::NotUnderstood { more, .. }) => {
            let doubts = prefilter.doubts();
            for doubt in doubts {
                line(f, "", &Escaped(doubt.to_string().as_bytes()))?;
            }
            more_than(f, (more + 1).saturating_sub(doubts.len() as u64))?;
            match doubts.iter().any(|doubt| doubt.signature.is_some()) {
                true => line(f, "", &HOW_TO_LEAVE_OUT),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn names(f: &mut fmt::Formatter<'_>, names: &[String]) -> fmt::Result {
    for name in names.iter().take(SHOWN) {
        line(f, "", &Escaped(name.as_bytes()))?;
    }
    more_than(f, names.len().saturating_sub(SHOWN) as u64)
}

fn more_than(f: &mut fmt::Formatter<'_>, left_out: u64) -> fmt::Result {
    match left_out {
        0 => Ok(()),
        more => line(f, "", &format_args!("and {more} more")),
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, text: &dyn Display) -> fmt::Result {
    writeln!(f, "{what:<11}{text}")
}

/// Why it is off, where the list below it says the rest.
struct Reason<'a>(&'a DisabledReason);

impl Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DisabledReason::NotUnderstood { .. } => f.write_str("not everything is understood"),
            DisabledReason::Anything { signatures } => {
                write!(f, "may match any message: {}", signatures.len())
            }
            off => write!(f, "{}", Escaped(off.to_string().as_bytes())),
        }
    }
}

fn kinds(kinds: &Kinds) -> [(&'static str, usize); 5] {
    [
        ("body signatures", kinds.body),
        ("logical signatures", kinds.logical),
        ("YARA rules", kinds.yara),
        ("bytecode", kinds.bytecode),
        ("patterns of file types", kinds.file_types),
    ]
}

fn object(prefilter: &Prefilter, info: &EngineInfo) -> serde_json::Result<Vec<u8>> {
    let summary = prefilter.summary();
    let doubts: Vec<Value> = prefilter.doubts().iter().map(doubt).collect();
    let anything = match prefilter.off() {
        Some(DisabledReason::Anything { signatures }) => &signatures[..],
        _ => &[],
    };
    let dearest: Vec<Value> = summary
        .dearest
        .iter()
        .map(|(name, expected)| json!({"name": name, "expected": expected}))
        .collect();
    let mut page = Vec::new();
    json::append(
        &mut page,
        &json!({
            "on": prefilter.off().is_none(),
            "off": prefilter.off().map(ToString::to_string),
            "doubts": doubts,
            "doubts_not_told": match prefilter.off() {
                Some(DisabledReason::NotUnderstood { more, .. }) => (more + 1).saturating_sub(doubts.len() as u64),
                _ => 0,
            },
            "anything": anything,
            "loaded": info.signatures,
            "profile": info.profile.name(),
            "outside_profile": outside_object(&info.excluded_by_profile),
            "left_out": info.excluded,
            "not_there": info.unmatched_exclusions.iter().map(|one| &one.name).collect::<Vec<_>>(),
            "signatures": {
                "body": summary.signatures.body,
                "logical": summary.signatures.logical,
                "yara": summary.signatures.yara,
                "bytecode": summary.signatures.bytecode,
                "file_types": summary.signatures.file_types,
            },
            "hashes": summary.hashes,
            "texts": summary.texts,
            "shortest_text": summary.shortest_text,
            "raw_texts": summary.raw_texts,
            "memory_bytes": summary.memory_bytes,
            "always": summary.always,
            "expected": summary.expected,
            "dearest": dearest,
            "build_seconds": summary.build_time.as_secs_f64(),
        }),
    )?;
    page.push(b'\n');
    Ok(page)
}

fn doubt(doubt: &Doubt) -> Value {
    json!({"file": doubt.file, "line": doubt.line, "signature": doubt.signature, "why": doubt.why})
}
