//! `db status`: what is in use, what the files hold, what is kept, and what is not tried again.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use scanlib::database::Excluded;
use serde_json::{Value, json};

use super::outside::{outside_lines, outside_object};
use super::place::{self, Failure, PlaceArgs};
use crate::cli::table::Table;
use crate::cli::{fail, print};
use crate::config::ScanConfig;
use crate::escape::Escaped;
use crate::generation::Id;
use crate::generation::held::HeldList;
use crate::generation::manifest::Manifest;
use crate::generation::snapshot::{FileInfo, Snapshot};
use crate::times::rfc3339_from_millis;

/// Exit status if the files are not what is in use.
const EXIT_OTHER: u8 = 1;

/// What is looked at.
#[derive(Args, Debug)]
#[command(after_help = "\
Nothing is loaded and nothing is changed; with the profile log-only what it leaves out is counted.
Without --state-dir or scan.state_dir only the files are told.
Exit status: 0 if what the files hold is in use, 1 if it is not, 2 if that cannot be found out.

Examples:
  scanner-bin db status --config /etc/scanner.toml
  scanner-bin db status --database /var/lib/clamav --state-dir /var/lib/scanner/state --format json | jq .kept")]
pub struct StatusArgs {
    /// Where.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Runs the subcommand.
pub(super) fn run(args: &StatusArgs) -> ExitCode {
    let told = || -> Result<(Vec<u8>, u8), Failure> {
        let scan = args.place.settings()?;
        let status = Status::of(&scan)?;
        let page = args.place.page(|| status.text(), &status.object())?;
        Ok((
            page,
            if status.is_up_to_date() {
                0
            } else {
                EXIT_OTHER
            },
        ))
    };
    match told() {
        Err(error) => fail(&*error),
        Ok((page, status)) => match print(&page) {
            ExitCode::SUCCESS => ExitCode::from(status),
            failed => failed,
        },
    }
}

/// Everything that is known without loading anything.
struct Status {
    /// What the files hold, or why that is not known.
    source: Result<Snapshot, String>,
    /// Which of their signatures are loaded,
    profile: &'static str,
    /// and which are not, or why that is not known.
    outside: Result<Excluded, String>,
    directory: Option<Directory>,
}

/// What the directory of a replica says.
struct Directory {
    path: String,
    owner: Option<String>,
    current: Option<Id>,
    kept: Vec<Manifest>,
    held: HeldList,
}

impl Status {
    fn of(scan: &ScanConfig) -> Result<Status, Failure> {
        let directory = match &scan.state_dir {
            None => None,
            Some(_) => {
                let state = place::state(scan)?;
                Some(Directory {
                    path: state.dir().display().to_string(),
                    owner: state.owner(),
                    current: state.current(),
                    kept: state.kept(),
                    held: state.held(),
                })
            }
        };
        if scan.database.is_empty() && directory.is_none() {
            return Err(
                "no signatures are configured: set scan.database, or name them with --database"
                    .into(),
            );
        }
        Ok(Status {
            source: Snapshot::read(&scan.database).map_err(|error| error.to_string()),
            profile: scan.profile.as_str(),
            outside: outside(scan),
            directory,
        })
    }

    fn is_up_to_date(&self) -> bool {
        match (&self.source, &self.directory) {
            (Ok(source), Some(directory)) => directory.current.as_ref() == Some(&source.id),
            (Ok(_), None) => true,
            (Err(_), _) => false,
        }
    }

    /// What becomes of what the files hold.
    fn verdict(&self) -> (&'static str, Option<&str>) {
        match (&self.source, &self.directory) {
            (Err(why), _) => ("cannot be read", Some(why)),
            (Ok(_), None) => ("not known: no scan.state_dir", None),
            (Ok(source), Some(directory)) => match directory.held.of(&source.id) {
                _ if directory.current.as_ref() == Some(&source.id) => ("in use", None),
                Some(held) => ("not tried again", Some(&held.reason)),
                None => ("not loaded yet", None),
            },
        }
    }

    fn text(&self) -> String {
        let mut page = String::new();
        let mut line = |what: &str, text: String| {
            let text = Escaped(text.as_bytes());
            // Writing to a string does not fail.
            let _infallible = writeln!(page, "{what:<11}{text}");
        };
        if let Ok(source) = &self.source {
            for part in &source.parts {
                line(
                    "source",
                    format!("{}: {} files", part.path.display(), part.files.len()),
                );
            }
            line(
                "holds",
                format!("generation {}, {}", source.id, bytes(source.bytes())),
            );
        }
        match (&self.source, &self.outside) {
            (Ok(_), Ok(outside)) => outside_lines(self.profile, outside)
                .into_iter()
                .for_each(|(what, text)| line(what, text)),
            (Ok(_), Err(error)) => line("profile", format!("{}: {error}", self.profile)),
            (Err(_), _) => {}
        }
        let (verdict, why) = self.verdict();
        line("which is", verdict.to_owned());
        if let Some(why) = why {
            line("", why.to_owned());
        }
        if let Some(directory) = &self.directory {
            let owner = directory.owner.as_deref();
            let owner = owner.map_or("no process".to_owned(), |owner| format!("process {owner}"));
            line("kept in", format!("{}, used by {owner}", directory.path));
        }
        if let Ok(source) = &self.source {
            let mut files = Table::new(["FILE", "VERSION", "BUILT", "SIGNATURES", "SIZE"]);
            for file in source.files() {
                file_row(&mut files, file);
            }
            let _infallible = write!(page, "\n{files}");
        }
        let Some(directory) = &self.directory else {
            return page;
        };
        let mut kept = Table::new([
            "",
            "GENERATION",
            "IN USE SINCE",
            "SIGNATURES",
            "PROFILE",
            "LEFT OUT",
            "SIZE",
            "LIBCLAMAV",
            "A LINE",
            "DIGEST IN RESULTS",
        ]);
        for manifest in &directory.kept {
            let is_current = directory.current.as_ref() == Some(&manifest.snapshot.id);
            kept.row([
                if is_current { &"*" } else { &"" },
                &manifest.snapshot.id,
                &manifest.activated_at,
                &manifest.measure.signatures,
                &manifest.measure.profile,
                &manifest.measure.left_out,
                &bytes(manifest.snapshot.bytes()),
                &manifest.libclamav,
                &format_args!("{:.2} ms", manifest.measure.line_micros / 1e3),
                &manifest.db_digest.get(..12).unwrap_or_default(),
            ]);
        }
        let _infallible = write!(page, "\n{kept}");
        let mut held = Table::new(["NOT TRIED AGAIN", "SINCE", "WHY"]);
        for one in directory.held.iter() {
            held.row([&one.id, &one.at, &one.reason]);
        }
        if directory.held.iter().next().is_some() {
            let _infallible = write!(page, "\n{held}");
        }
        page
    }

    fn object(&self) -> Value {
        let (verdict, why) = self.verdict();
        let directory = self.directory.as_ref();
        json!({
            "up_to_date": self.is_up_to_date(),
            "source": {
                "generation": self.source.as_ref().ok().map(|source| source.id.as_str()),
                "state": verdict,
                "why": why,
                "parts": self.source.as_ref().ok().map(|source| &source.parts),
                "profile": self.profile,
                "outside_profile": self.outside.as_ref().ok().map(outside_object),
                "bytes": self.source.as_ref().ok().map(Snapshot::bytes),
                "built": self.source.as_ref().ok().and_then(Snapshot::built),
            },
            "state_dir": directory.map(|directory| &directory.path),
            "used_by": directory.and_then(|directory| directory.owner.as_deref()),
            "in_use": directory.and_then(|directory| directory.current.as_ref()),
            "kept": directory.map(|directory| &directory.kept),
            "not_tried_again": directory.map(|directory| &directory.held),
        })
    }
}

/// What the profile leaves out of the files.
fn outside(scan: &ScanConfig) -> Result<Excluded, String> {
    let mut all = Excluded::default();
    for path in &scan.database {
        let outside = scan.signatures().excluded(path);
        all.merge(&outside.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

/// One line for a file.
fn file_row(table: &mut Table, file: &FileInfo) {
    let container = file.container.as_ref();
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    table.row([
        &file.name,
        &or_dash(container.map(|found| found.version.to_string())),
        &or_dash(container.and_then(|found| built(found.built?))),
        &or_dash(container.map(|found| found.signatures.to_string())),
        &bytes(file.bytes),
    ]);
}

/// A time in seconds since 1970 as people read it.
pub(super) fn built(seconds: u64) -> Option<String> {
    rfc3339_from_millis(i64::try_from(seconds).ok()?.checked_mul(1000)?)
}

/// A size with a unit.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64),
    }
}
