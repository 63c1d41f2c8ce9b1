//! `db verify`: whether a service would take these files, found out without one.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use scanlib::database::{self, Container};
use scanlib::{Library, LoadErrorKind};
use serde_json::{Value, json};

use super::place::{self, Failure, PlaceArgs};
use super::status::{built, bytes};
use crate::cli::table::Table;
use crate::cli::{fail, print};
use crate::escape::Escaped;
use crate::generation::canary::Measure;
use crate::reload;

/// Exit status if the files would not be taken.
const EXIT_BAD: u8 = 1;

/// What is verified.
#[derive(Args, Debug)]
#[command(after_help = "\
Checks digital signatures, loads everything, looks for EICAR in each view and for false alarms in harmless lines, and compares with
what is in use if --state-dir or scan.state_dir is there. Only .cvd files carry a signature of all that they hold.
Exit status: 0 if a service would take the files, 1 if not, 2 if they cannot be read.

Examples:
  scanner-bin db verify --database /mnt/incoming && mv /mnt/incoming /var/lib/clamav-next
  scanner-bin db verify --config /etc/scanner.toml --format json | jq .files")]
pub struct VerifyArgs {
    /// Which.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Runs the subcommand.
pub(super) fn run(args: &VerifyArgs) -> ExitCode {
    match verify(args) {
        Err(error) => fail(&*error),
        Ok((page, is_good)) => match print(&page) {
            ExitCode::SUCCESS => ExitCode::from(if is_good { 0 } else { EXIT_BAD }),
            failed => failed,
        },
    }
}

/// One file.
struct File {
    path: PathBuf,
    bytes: u64,
    container: Option<Container>,
    /// `None`: it carries none of the whole.
    signature: Option<Result<(), String>>,
}

impl File {
    fn look(library: Library, path: PathBuf) -> Result<File, Failure> {
        let failed = |error| format!("{}: {error}", path.display());
        let bytes = std::fs::metadata(&path).map_err(failed)?.len();
        let container = Container::read(&path).map_err(failed)?;
        let signature = match database::has_digital_signature(&path) {
            false => None,
            true => match library.verify(&path) {
                Ok(()) => Some(Ok(())),
                Err(error) if matches!(error.kind(), LoadErrorKind::Io(_)) => {
                    return Err(error.into());
                }
                Err(error) => Some(Err(error.kind().to_string())),
            },
        };
        Ok(File {
            path,
            bytes,
            container,
            signature,
        })
    }

    fn word(&self) -> &'static str {
        match &self.signature {
            Some(Ok(())) => "good",
            Some(Err(_)) => "BAD",
            None => "none",
        }
    }

    fn object(&self) -> Value {
        let container = self.container.as_ref();
        json!({
            "path": self.path.display().to_string(),
            "bytes": self.bytes,
            "signature": self.word().to_lowercase(),
            "why": self.signature.as_ref().and_then(|signature| signature.as_ref().err()),
            "version": container.map(|found| found.version),
            "built": container.and_then(|found| found.built),
            "signatures": container.map(|found| found.signatures),
        })
    }
}

fn verify(args: &VerifyArgs) -> Result<(Vec<u8>, bool), Failure> {
    let scan = args.place.settings()?;
    if scan.database.is_empty() {
        return Err(
            "no signatures are configured: set scan.database, or name them with --database".into(),
        );
    }
    let library = Library::init()?;
    let mut files = Vec::new();
    for path in &scan.database {
        for file in database::signature_files(path)? {
            files.push(File::look(library, file)?);
        }
    }
    let last = match &scan.state_dir {
        Some(_) => place::state(&scan)?.kept().into_iter().next(),
        None => None,
    };
    let is_verified = !files
        .iter()
        .any(|file| matches!(file.signature, Some(Err(_))));
    let tried: Result<Measure, String> = match is_verified {
        false => Err("not loaded: a digital signature is not good".to_owned()),
        true => reload::examine(&scan)
            .map_err(|error| error.to_string())
            .and_then(|measure| match &last {
                None => Ok(measure),
                Some(last) => match measure.beside(&last.measure) {
                    Ok(()) => Ok(measure),
                    Err(error) => Err(error.to_string()),
                },
            }),
    };
    let object = json!({
        "good": tried.is_ok(),
        "why": tried.as_ref().err(),
        "files": files.iter().map(File::object).collect::<Vec<_>>(),
        "measure": tried.as_ref().ok(),
        "compared_with": last.as_ref().map(|last| last.snapshot.id.as_str()),
    });
    let page = args.place.page(|| text(&files, &tried), &object)?;
    Ok((page, tried.is_ok()))
}

fn text(files: &[File], tried: &Result<Measure, String>) -> String {
    let mut table = Table::new([
        "FILE",
        "VERSION",
        "BUILT",
        "SIGNATURES",
        "SIZE",
        "SIGNATURE",
    ]);
    for file in files {
        let container = file.container.as_ref();
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.row([
            &file.path.display(),
            &or_dash(container.map(|found| found.version.to_string())),
            &or_dash(container.and_then(|found| built(found.built?))),
            &or_dash(container.map(|found| found.signatures.to_string())),
            &bytes(file.bytes),
            &file.word(),
        ]);
    }
    let mut page = format!("{table}\n");
    for file in files {
        if let Some(Err(why)) = &file.signature {
            let name = file.path.display().to_string();
            let _infallible = writeln!(
                page,
                "BAD  {}: {}",
                Escaped(name.as_bytes()),
                Escaped(why.as_bytes())
            );
        }
    }
    let _infallible = match tried {
        Ok(measure) => {
            let found = match measure.found.len() {
                0 => "harmless lines stay clean".to_owned(),
                some => format!("something is found in {some} harmless lines"),
            };
            let eicar = match measure.finds_eicar {
                true => "EICAR is found",
                false => "EICAR is not found",
            };
            let profile = match measure.left_out {
                0 => String::new(),
                left_out => format!(" ({} leaves out {left_out})", measure.profile),
            };
            writeln!(
                page,
                "ok   {} signatures{profile}; {eicar}; {found}; {:.2} ms for a line",
                measure.signatures,
                measure.line_micros / 1e3
            )
        }
        Err(why) => writeln!(page, "BAD  {}", Escaped(why.as_bytes())),
    };
    page
}
