//! `explain`: one message, and step by step why libclamav was asked about it or not.

mod json;
mod text;
mod trace;

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::Args;
use scanlib::prefilter::AuditOptions;
use scanlib::{Detector, Parser, RuleSet, ViewSet};

use super::MAX_MESSAGE_BYTES;
use super::engine::EngineArgs;
use super::format::Format;
use super::lines::LineBatches;
use super::unpack::unpack;
use crate::status::Status;
use trace::Trace;

/// Show what becomes of a message, step by step: its views, the prefilter, libclamav
#[derive(Args, Debug)]
#[command(after_help = "\
For each view of the message it shows the bytes, whether they are plain text to libclamav, which
texts of signatures stand in it and whether all else that these need is there, whether libclamav
was asked, and what it said. The verdict is that of 'run' with its default limits.

Exit status: 1 a threat, else 2 not everything could be examined, else 0.

Examples:
  scanner-bin explain --database /var/lib/clamav '<13>Oct 20 02:44:02 web app: hello'
  tail -n 1 /var/log/syslog | scanner-bin explain --database /var/lib/clamav --format json -")]
pub struct ExplainArgs {
    /// The message; - reads standard input, where each line is one
    #[arg(value_name = "LINE", allow_hyphen_values = true)]
    pub line: OsString,

    /// What is loaded.
    #[command(flatten)]
    pub engine: EngineArgs,

    /// Views to examine, from raw,body,decoded,guarded [default: all]
    #[arg(long, value_name = "VIEWS")]
    pub views: Option<ViewSet>,

    /// Text for people, or a JSON object for each message
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "text|json",
          hide_possible_values = true, hide_default_value = true)]
    pub format: Format,
}

/// Runs the subcommand.
pub fn run(args: &ExplainArgs) -> ExitCode {
    match explain(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => super::fail(&*error),
    }
}

fn explain(args: &ExplainArgs) -> Result<u8, Box<dyn std::error::Error>> {
    let detector = Detector::builder()
        .engine(args.engine.load()?)
        .rules(RuleSet::builtin())
        .views(args.views.unwrap_or(ViewSet::ALL))
        .audit(AuditOptions {
            one_in: 0,
            ..AuditOptions::default()
        })
        .build()?;
    let mut seen = Seen::default();
    let mut between: &[u8] = b"";
    let mut one = |line: &[u8]| -> Result<(), Box<dyn std::error::Error>> {
        let message = Parser::default().parse(line);
        let trace = Trace::of(&detector, &message)?;
        seen.note(trace.status());
        let mut page = Vec::new();
        match args.format {
            Format::Text => {
                page.extend(std::mem::replace(&mut between, b"\n"));
                text::write(&mut page, &trace)?;
            }
            Format::Json => json::write(&mut page, &trace)?,
        }
        Ok(io::stdout().lock().write_all(&page)?)
    };
    let done = match args.line.as_bytes() {
        b"-" => each_line(&mut one),
        line if line.len() > MAX_MESSAGE_BYTES => Err(too_long(line.len() as u64)),
        line => one(line),
    };
    match done {
        Err(error) if is_closed_pipe(&*error) => Ok(seen.exit_status()),
        done => done.map(|()| seen.exit_status()),
    }
}

type Take<'t> = dyn FnMut(&[u8]) -> Result<(), Box<dyn std::error::Error>> + 't;

/// Hands on each line of standard input.
fn each_line(take: &mut Take<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let stream = unpack(io::stdin().lock(), None)?.reader;
    let mut batches = LineBatches::new(stream, MAX_MESSAGE_BYTES);
    while let Some(batch) = batches.next_batch()? {
        for (_, line, len) in batch.iter() {
            if len > line.len() as u64 {
                return Err(too_long(len));
            }
            take(line)?;
        }
    }
    Ok(())
}

fn too_long(len: u64) -> Box<dyn std::error::Error> {
    format!("a message of {len} bytes is longer than the limit of {MAX_MESSAGE_BYTES}").into()
}

/// Whoever reads has seen enough.
fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// What there was among the messages.
#[derive(Debug, Default)]
struct Seen {
    threat: bool,
    incomplete: bool,
}

impl Seen {
    fn note(&mut self, status: Status) {
        match status {
            Status::Threat => self.threat = true,
            Status::Partial | Status::Error => self.incomplete = true,
            Status::Clean | Status::Skipped => {}
        }
    }

    /// As that of `scan`.
    fn exit_status(&self) -> u8 {
        match self {
            Seen { threat: true, .. } => 1,
            Seen {
                incomplete: true, ..
            } => 2,
            Seen { .. } => 0,
        }
    }
}
