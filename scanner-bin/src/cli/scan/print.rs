//! How answers look: as clamscan prints them, or as one JSON object each.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use scanlib::prefilter::DisabledReason;
use scanlib::{Detection, Incomplete, PoolStats, Report, Verdict, headline};
use serde::Serialize;

use super::args::{Format, ScanArgs, Stats};
use super::color;
use super::job::{Outcome, Row};
use super::progress::Progress;
use super::quarantine::{Aside, Placed, Quarantine};
use super::say;
use super::totals::Totals;
use super::walk::LeftOut;
use crate::escape::Escaped;
use crate::result::{Match, threat_name};
use crate::status::Status;

/// Printed output is handed on when this many bytes have gathered.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints rows and counts them.
#[derive(Debug)]
pub(super) struct Printer<W: Write> {
    out: W,
    buffer: Vec<u8>,
    log: Option<BufWriter<File>>,
    quarantine: Option<Quarantine>,
    progress: Progress,
    show: Show,
    totals: Totals,
}

/// What is printed, and how.
#[derive(Clone, Copy, Debug)]
struct Show {
    format: Format,
    color: bool,
    infected_only: bool,
    suppress_ok: bool,
    quiet: bool,
    bell: bool,
}

/// What `--log` and `--move` need, opened before anything is scanned.
#[derive(Debug)]
pub(super) struct Targets {
    log: Option<File>,
    quarantine: Option<Quarantine>,
}

impl Targets {
    /// Opens what is named.
    ///
    /// # Errors
    /// It cannot be written to; a sentence for the user.
    pub(super) fn open(args: &ScanArgs) -> Result<Targets, String> {
        let log = match &args.output.log {
            None => None,
            Some(path) => Some(
                File::options()
                    .append(true)
                    .create(true)
                    .open(path)
                    .map_err(|error| format!("--log {}: {error}", path.display()))?,
            ),
        };
        let quarantine = match (&args.files.move_to, &args.files.copy_to) {
            (Some(dir), _) => Some(Quarantine::Move(open_aside("--move", dir)?)),
            (None, Some(dir)) => Some(Quarantine::Copy(open_aside("--copy", dir)?)),
            (None, None) => args.files.remove.then_some(Quarantine::Remove),
        };
        Ok(Targets { log, quarantine })
    }
}

fn open_aside(flag: &str, dir: &Path) -> Result<Aside, String> {
    Aside::open(dir).map_err(|error| {
        format!(
            "{flag} {}: {error}; make the directory first",
            dir.display()
        )
    })
}

impl<W: Write> Printer<W> {
    /// Prints to `out`, with colours if wanted.
    ///
    /// # Errors
    /// The log cannot be written.
    pub(super) fn new(
        out: W,
        color: bool,
        args: &ScanArgs,
        targets: Targets,
        progress: Progress,
        totals: Totals,
    ) -> io::Result<Printer<W>> {
        let mut log = targets.log.map(BufWriter::new);
        if let Some(log) = &mut log {
            writeln!(log, "\n{}\n", "-".repeat(79))?;
        }
        Ok(Printer {
            out,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            log,
            quarantine: targets.quarantine,
            progress,
            show: Show {
                format: args.format,
                color,
                infected_only: args.infected,
                suppress_ok: args.output.suppress_ok_results,
                quiet: args.output.quiet,
                bell: args.output.bell,
            },
            totals,
        })
    }

    /// Prints one row.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        let status = row.status();
        self.totals.count(row, status);
        self.progress
            .advance(row.bytes, self.totals.scanned(), self.totals.threats());
        if self.show.wants(row, status) {
            let name = Name(row).to_string();
            for text in texts(row, status) {
                self.text(status, &name, &text)?;
            }
            if self.show.format == Format::Jsonl {
                crate::json::append(&mut self.buffer, &Object::of(row, status))?;
                self.buffer.push(b'\n');
            }
        }
        if status == Status::Threat {
            self.threat(row)?;
        }
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Prints a row as text, and writes it to the log.
    fn text(&mut self, status: Status, name: &str, text: &str) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            writeln!(log, "{name}: {text}")?;
        }
        if self.show.quiet {
            if matches!(status, Status::Partial | Status::Error) {
                self.progress
                    .without(|| say(format_args!("{name}: {text}")));
            }
        } else if self.show.format == Format::Table {
            if self.show.color {
                let style = color::style(status);
                writeln!(self.buffer, "{name}: {style}{text}{style:#}")?;
            } else {
                writeln!(self.buffer, "{name}: {text}")?;
            }
        }
        Ok(())
    }

    /// What else is done when something was found.
    fn threat(&mut self, row: &Row) -> io::Result<()> {
        if self.show.bell {
            self.flush()?;
            self.progress
                .without(|| io::stderr().write_all(b"\x07").ok());
        }
        let Some(quarantine) = &self.quarantine else {
            return Ok(());
        };
        let placed = match &row.file {
            Some(file) => quarantine.put(file),
            None if row.is_stdin() => Err(io::Error::other("standard input has no file")),
            None => Err(io::Error::other("it changed while it was scanned")),
        };
        let target = |path: &Path| Escaped(path.as_os_str().as_bytes()).to_string();
        let (status, text) = match placed {
            Ok(Placed::Already) => return Ok(()),
            Ok(Placed::Moved(path)) => (Status::Threat, format!("moved to '{}'", target(&path))),
            Ok(Placed::Copied(path)) => (Status::Threat, format!("copied to '{}'", target(&path))),
            Ok(Placed::Removed) => (Status::Threat, "removed".to_owned()),
            Err(error) => {
                self.totals.count_not_put_aside();
                let what = quarantine.participle();
                let error = error.to_string();
                let error = Escaped(error.as_bytes());
                (Status::Error, format!("not {what}: {error} ERROR"))
            }
        };
        let name = Name(row).to_string();
        if self.show.format == Format::Jsonl && status == Status::Error {
            // The objects on standard output say what was found, not what was done about it.
            self.progress
                .without(|| say(format_args!("scanner-bin: {name}: {text}")));
        }
        self.text(status, &name, &text)
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let (out, buffer) = (&mut self.out, &self.buffer);
        let written = self
            .progress
            .without(|| out.write_all(buffer).and_then(|()| out.flush()));
        self.buffer.clear();
        written
    }

    /// What the pool did, and whether the prefilter was off.
    pub(super) fn worked(&mut self, pool: PoolStats, off: Option<&DisabledReason>) {
        self.totals.worked(pool, off);
    }

    /// Writes the summary and tells what was counted.
    ///
    /// # Errors
    /// The log or the output cannot be written; a closed output is none.
    pub(super) fn finish(mut self, args: &ScanArgs) -> io::Result<Totals> {
        self.totals.end();
        self.progress.end();
        let output = &args.output;
        let quiet = output.quiet && output.stats == Stats::Text;
        let text = match output.stats {
            Stats::Text => self.totals.to_string(),
            Stats::Json => format!("{}\n", self.totals.to_json()?),
        };
        if let Some(log) = &mut self.log {
            if !output.no_summary {
                log.write_all(self.totals.to_string().as_bytes())?;
            }
            log.flush()?;
        }
        let json_rows = args.format == Format::Jsonl && output.stats == Stats::Text;
        if !(output.no_summary || quiet || json_rows) {
            let written = if output.stdout {
                self.out
                    .write_all(text.as_bytes())
                    .and_then(|()| self.out.flush())
            } else {
                io::stderr().lock().write_all(text.as_bytes())
            };
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
                _ => {}
            }
        }
        Ok(self.totals)
    }
}

impl Show {
    fn wants(self, row: &Row, status: Status) -> bool {
        match &row.outcome {
            Outcome::Directory | Outcome::LeftOut(LeftOut::Subdirectory) => false,
            // The objects are about what is scanned; the rest is in the statistics.
            Outcome::LeftOut(_) if self.format == Format::Jsonl => false,
            _ => match status {
                Status::Clean => !self.infected_only && !self.suppress_ok,
                Status::Skipped => !self.infected_only,
                Status::Threat | Status::Partial | Status::Error => true,
            },
        }
    }
}

/// What a row is about, as it is printed.
struct Name<'a>(&'a Row);

impl std::fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.0.is_stdin() {
            b"stdin"
        } else {
            self.0.path.as_os_str().as_bytes()
        };
        write!(f, "{}", Escaped(path))?;
        match self.0.line {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// What is said about a row: one text, or one for each name that was found.
fn texts(row: &Row, status: Status) -> Vec<Cow<'static, str>> {
    let one = |text: String| vec![Cow::Owned(text)];
    match (&row.outcome, status) {
        (Outcome::Scanned(report), Status::Threat) => {
            let found = report.verdict.detections().iter();
            found
                .map(|found| format!("{} FOUND", Escaped(found.name.as_bytes())).into())
                .collect()
        }
        (Outcome::Scanned(report), Status::Partial | Status::Error) => {
            let why = cause(report).unwrap_or_default();
            let word = status.as_str().to_uppercase();
            one(format!("{} {word}", Escaped(why.as_bytes())))
        }
        (Outcome::Scanned(report), _) if report.type_ignored => {
            vec!["OK (libclamav does not examine this type)".into()]
        }
        (Outcome::Scanned(_), _) => vec!["OK".into()],
        (Outcome::Empty, _) if row.line.is_some() => vec!["Empty line".into()],
        (Outcome::Empty, _) => vec!["Empty file".into()],
        (Outcome::TooLong { len, max }, _) => {
            one(format!("{len} bytes, more than the limit of {max} PARTIAL"))
        }
        (Outcome::TooDeep, _) => {
            vec!["not entered, deeper than --max-dir-recursion PARTIAL".into()]
        }
        (Outcome::Changed, _) => one(format!("{} PARTIAL", Incomplete::Changed)),
        (Outcome::Error(error), _) => one(format!("{} ERROR", Escaped(error.as_bytes()))),
        (Outcome::LeftOut(why), _) => vec![
            match why {
                LeftOut::Excluded => "Excluded",
                LeftOut::SymbolicLink => "Symbolic link",
                LeftOut::SpecialFile => "Not a regular file",
                LeftOut::Subdirectory => "Subdirectory",
                LeftOut::OtherFileSystem => "Excluded (another file system)",
                LeftOut::Proc => "Excluded (/proc)",
            }
            .into(),
        ],
        (Outcome::Directory, _) => Vec::new(),
    }
}

impl Row {
    /// The row in a word.
    fn status(&self) -> Status {
        match &self.outcome {
            Outcome::Scanned(report) => Status::of(&report.verdict),
            Outcome::Empty | Outcome::LeftOut(_) | Outcome::Directory => Status::Skipped,
            Outcome::TooLong { .. } | Outcome::TooDeep | Outcome::Changed => Status::Partial,
            Outcome::Error(_) => Status::Error,
        }
    }

    /// Why it was not examined in full, in a stable word.
    pub(super) fn not_examined(&self) -> Option<&'static str> {
        match &self.outcome {
            Outcome::Scanned(report) => match &report.verdict {
                Verdict::Incomplete { cause, .. } => Some(cause.reason()),
                _ => None,
            },
            Outcome::TooLong { .. } => Some("max_message_bytes"),
            Outcome::TooDeep => Some("max_dir_recursion"),
            Outcome::Changed => Some(Incomplete::Changed.reason()),
            Outcome::Error(_) => Some("unreadable"),
            Outcome::Empty | Outcome::LeftOut(_) | Outcome::Directory => None,
        }
    }
}

/// Why something was not examined in full.
fn cause(report: &Report) -> Option<String> {
    match &report.verdict {
        Verdict::Incomplete { cause, .. } => Some(cause.to_string()),
        _ => None,
    }
}

/// What libclamav reported about the content, if that is malformed.
fn malformed(row: &Row) -> Option<String> {
    match &row.outcome {
        Outcome::Scanned(report) => match &report.verdict {
            Verdict::Incomplete { cause, .. } if matches!(cause, Incomplete::Malformed { .. }) => {
                Some(cause.to_string())
            }
            _ => None,
        },
        _ => None,
    }
}

/// One line of `--format jsonl`.
#[derive(Serialize)]
struct Object<'a> {
    path: Cow<'a, str>,
    /// The bytes of a path that is not UTF-8, and `path` what can be shown of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    status: Status,
    threat_name: Option<Cow<'a, str>>,
    severity: Option<&'static str>,
    clamav_result: Option<&'a str>,
    matches: Vec<Match<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<&'static str>,
    /// What libclamav reported about malformed content.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    type_ignored: bool,
}

impl<'a> Object<'a> {
    fn of(row: &'a Row, status: Status) -> Object<'a> {
        let (found, error, type_ignored): (&[Detection], _, _) = match &row.outcome {
            Outcome::Scanned(report) => {
                let error = (status == Status::Error).then(|| cause(report)).flatten();
                (report.verdict.detections(), error, report.type_ignored)
            }
            Outcome::Error(error) => (&[], Some(error.clone()), false),
            _ => (&[], None, false),
        };
        let limits = match &row.outcome {
            Outcome::Error(_) => None,
            _ => row.not_examined(),
        };
        let first = headline(found);
        let bytes = row.path.as_os_str().as_bytes();
        Object {
            path: String::from_utf8_lossy(bytes),
            path_base64: std::str::from_utf8(bytes)
                .is_err()
                .then(|| BASE64_STANDARD.encode(bytes)),
            line: row.line,
            status,
            threat_name: first.map(threat_name),
            severity: first.map(|found| found.severity.as_str()),
            clamav_result: found
                .iter()
                .find(|d| d.is_clamav())
                .map(|d| d.name.as_str()),
            matches: found.iter().map(Match::of).collect(),
            reason: malformed(row),
            limits: limits.into_iter().collect(),
            error,
            type_ignored,
        }
    }
}
