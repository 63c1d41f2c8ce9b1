//! `db sync`: signature files from a private mirror into the directory that services read.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use scanlib::Library;
use serde_json::{Value, json};

use super::place::{self, Failure};
use super::status::{built, bytes};
use crate::cli::format::Format;
use crate::cli::table::Table;
use crate::cli::{EXIT_ERROR, fail, print, say};
use crate::escape::Escaped;
use crate::sync::digests::Digests;
use crate::sync::fetch::Manner;
use crate::sync::mirror::Mirror;
use crate::sync::row::{Row, What};
use crate::sync::{self, Wanted, name};

/// Exit status if something was refused.
const EXIT_REFUSED: u8 = 1;

/// From where to where.
#[derive(Args, Debug)]
#[command(after_help = "\
Runs once and ends: for a timer, a CronJob or a person. Services never download; they read the
directory. A file appears there, by a rename, once it is complete, its digital signature is good
(.cvd) or libclamav loads it (all others, which carry none), and it is no older than what is
there. What the mirror still has is not downloaded, what was refused neither, and a .cvd that broke
goes on where it broke. A proxy is taken from http_proxy, https_proxy and no_proxy. What a sync
remembers is in DIR/.scanner-sync.
Exit status: 0 if all files are there as the mirror has them, 1 if one was refused, 2 if one could
not be had.

Examples:
  scanner-bin db sync --from https://mirror.example/clamav/ --to /srv/signatures
  scanner-bin db sync --from https://mirror.example/ --to /srv/signatures --file own.ndb --sha256 SHA256SUMS")]
pub struct SyncArgs {
    /// URL of a directory on a mirror
    #[arg(long, value_name = "URL")]
    pub from: String,

    /// Directory that services read
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,

    /// Only this file, and the detached signature that goes with it; repeatable [default: main.cvd, daily.cvd, bytecode.cvd]
    #[arg(long, value_name = "NAME")]
    pub file: Vec<String>,

    /// Ask the public network, which bans addresses that ask too often
    #[arg(long)]
    pub public: bool,

    /// Let an older container take the place of a newer one
    #[arg(long)]
    pub allow_downgrade: bool,

    /// Fetch and examine everything, also what is there and what was refused before
    #[arg(long)]
    pub force: bool,

    /// Digests, as sha256sum writes them, that files must have which carry no digital signature
    #[arg(long, value_name = "FILE")]
    pub sha256: Option<PathBuf>,

    /// Certificates (PEM) of authorities to trust besides the system's
    #[arg(long, value_name = "PATH")]
    pub ca_file: Option<PathBuf>,

    /// Seconds for a connection, and seconds without anything coming, before a request is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub patience: u64,

    /// A larger file is not taken
    #[arg(long, value_name = "N", default_value_t = 1 << 30)]
    pub max_file_bytes: u64,

    /// Text for people, or a JSON object
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "text|json",
          hide_possible_values = true, hide_default_value = true)]
    pub format: Format,
}

/// Runs the subcommand.
pub(super) fn run(args: &SyncArgs) -> ExitCode {
    let done = || -> Result<(Vec<u8>, u8), Failure> {
        let wanted = wanted(args)?;
        let library = Library::init()?;
        let tell = |text: std::fmt::Arguments<'_>| {
            let text = text.to_string();
            say(format_args!("scanner-bin: {}", Escaped(text.as_bytes())));
        };
        let rows = sync::run(&wanted, &args.to, library, &tell)?;
        let object = json!({
            "from": wanted.mirror.base(),
            "to": args.to.display().to_string(),
            "files": rows.iter().map(object).collect::<Vec<_>>(),
        });
        Ok((
            place::page(args.format, || text(&rows), &object)?,
            status(&rows),
        ))
    };
    match done() {
        Err(error) => fail(&*error),
        Ok((page, status)) => match print(&page) {
            ExitCode::SUCCESS => ExitCode::from(status),
            failed => failed,
        },
    }
}

fn wanted(args: &SyncArgs) -> Result<Wanted, Failure> {
    let mut files: Vec<String> = Vec::new();
    for file in &args.file {
        name::check(file)?;
        if !files.contains(file) {
            files.push(file.clone());
        }
    }
    if files.is_empty() {
        files.extend(name::USUAL.map(str::to_owned));
    }
    if let Some(path) = &args.ca_file {
        // libcurl's own words do not say which file it is.
        std::fs::File::open(path)
            .map_err(|error| format!("--ca-file {}: {error}", path.display()))?;
    }
    let digests = args.sha256.as_deref().map(Digests::read).transpose()?;
    Ok(Wanted {
        digests,
        mirror: Mirror::parse(&args.from, args.public)?,
        files,
        allow_downgrade: args.allow_downgrade,
        force: args.force,
        manner: Manner {
            ca_file: args.ca_file.clone(),
            patience: Duration::from_secs(args.patience),
            max_file_bytes: args.max_file_bytes,
        },
    })
}

/// What could not be found out weighs more than what was.
fn status(rows: &[Row]) -> u8 {
    let any = |what| rows.iter().any(|row| row.what == what);
    match (any(What::Failed), any(What::Refused)) {
        (true, _) => EXIT_ERROR,
        (_, true) => EXIT_REFUSED,
        _ => 0,
    }
}

fn object(row: &Row) -> Value {
    let container = row.container.as_ref();
    json!({
        "name": row.name,
        "result": row.what.as_str(),
        "why": row.why,
        "version_before": row.before,
        "version": container.map(|found| found.version),
        "built": container.and_then(|found| found.built),
        "signatures": container.map(|found| found.signatures),
        "bytes": row.bytes,
        "received_bytes": row.received,
    })
}

fn text(rows: &[Row]) -> String {
    let mut table = Table::new(["FILE", "VERSION", "BUILT", "SIZE", "RECEIVED", "RESULT"]);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        let container = row.container.as_ref();
        let version = match (row.before, container) {
            (Some(before), Some(now)) if before != now.version => {
                Some(format!("{before} -> {}", now.version))
            }
            (_, now) => now.map(|now| now.version.to_string()),
        };
        table.row([
            &row.name,
            &or_dash(version),
            &or_dash(container.and_then(|found| built(found.built?))),
            &or_dash(row.bytes.map(bytes)),
            &bytes(row.received),
            &row.what.as_str(),
        ]);
    }
    let mut page = format!("{table}\n");
    for row in rows {
        if let Some(why) = &row.why {
            let _infallible = writeln!(page, "BAD  {}: {}", row.name, Escaped(why.as_bytes()));
        }
    }
    if status(rows) == 0 {
        let updated = rows.iter().filter(|row| row.what == What::Updated).count();
        let _infallible = writeln!(
            page,
            "ok   {} files as the mirror has them, {updated} of them new",
            rows.len()
        );
    }
    page
}
