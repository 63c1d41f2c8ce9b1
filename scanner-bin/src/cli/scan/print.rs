//! How answers look: as clamscan prints them, or as one JSON object each.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use scanlib::{Detection, Report, Verdict, headline};
use serde::Serialize;

use super::args::Format;
use super::job::{Outcome, Row};
use crate::escape::Escaped;
use crate::result::{Match, threat_name};
use crate::status::Status;

/// Prints rows and counts them.
#[derive(Debug)]
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    format: Format,
    infected_only: bool,
    totals: Totals,
}

impl<W: Write> Printer<W> {
    /// With `infected_only`, clean and skipped rows are counted and not printed.
    pub(super) fn new(out: W, format: Format, infected_only: bool) -> Printer<W> {
        let out = BufWriter::with_capacity(64 << 10, out);
        Printer {
            out,
            format,
            infected_only,
            totals: Totals::new(),
        }
    }

    /// Prints one row.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn row(&mut self, row: &Row) -> io::Result<()> {
        let status = row.status();
        self.totals.count(row, status);
        if self.infected_only && matches!(status, Status::Clean | Status::Skipped) {
            return Ok(());
        }
        match self.format {
            Format::Table => self.table(row, status),
            Format::Jsonl => {
                serde_json::to_writer(&mut self.out, &Object::of(row, status))?;
                self.out.write_all(b"\n")
            }
        }
    }

    fn table(&mut self, row: &Row, status: Status) -> io::Result<()> {
        write!(self.out, "{}", Escaped(row.path.as_os_str().as_bytes()))?;
        if let Some(line) = row.line {
            write!(self.out, ":{line}")?;
        }
        self.out.write_all(b": ")?;
        match (&row.outcome, status) {
            (Outcome::Scanned(report), Status::Threat) => {
                let names: Vec<&str> = report
                    .verdict
                    .detections()
                    .iter()
                    .map(|found| found.name.as_str())
                    .collect();
                writeln!(self.out, "{} FOUND", Escaped(names.join(", ").as_bytes()))
            }
            (Outcome::Scanned(report), Status::Partial | Status::Error) => {
                let why = cause(report).unwrap_or_default();
                writeln!(
                    self.out,
                    "{} {}",
                    Escaped(why.as_bytes()),
                    status.as_str().to_uppercase()
                )
            }
            (Outcome::Scanned(report), _) if report.type_ignored => self
                .out
                .write_all(b"OK (libclamav does not examine this type)\n"),
            (Outcome::Scanned(_), _) => self.out.write_all(b"OK\n"),
            (Outcome::Empty, _) => self.out.write_all(b"Empty\n"),
            (Outcome::TooLong { len, max }, _) => {
                writeln!(
                    self.out,
                    "{len} bytes, more than the limit of {max} PARTIAL"
                )
            }
            (Outcome::Error(error), _) => {
                writeln!(self.out, "{} ERROR", Escaped(error.as_bytes()))
            }
        }
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// The output is gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// What was counted.
    pub(super) fn into_totals(self) -> Totals {
        // A closed output is no news here: every write was checked.
        let (_out, _unwritten) = self.out.into_parts();
        self.totals
    }
}

impl Row {
    /// The row in a word.
    fn status(&self) -> Status {
        match &self.outcome {
            Outcome::Scanned(report) => Status::of(&report.verdict),
            Outcome::Empty => Status::Skipped,
            Outcome::TooLong { .. } => Status::Partial,
            Outcome::Error(_) => Status::Error,
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

/// One line of `--format jsonl`.
#[derive(Serialize)]
struct Object<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    status: Status,
    threat_name: Option<Cow<'a, str>>,
    severity: Option<&'static str>,
    clamav_result: Option<&'a str>,
    matches: Vec<Match<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    limits: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    type_ignored: bool,
}

impl<'a> Object<'a> {
    fn of(row: &'a Row, status: Status) -> Object<'a> {
        let (found, limits, error, type_ignored): (&[Detection], _, _, _) = match &row.outcome {
            Outcome::Scanned(report) => {
                let limits = match &report.verdict {
                    Verdict::Incomplete { cause, .. } => vec![cause.reason()],
                    _ => Vec::new(),
                };
                let error = (status == Status::Error).then(|| cause(report)).flatten();
                (
                    report.verdict.detections(),
                    limits,
                    error,
                    report.type_ignored,
                )
            }
            Outcome::Empty => (&[], Vec::new(), None, false),
            Outcome::TooLong { .. } => (&[], vec!["max_message_bytes"], None, false),
            Outcome::Error(error) => (&[], Vec::new(), Some(error.clone()), false),
        };
        let first = headline(found);
        Object {
            path: row.path.to_string_lossy().into_owned(),
            line: row.line,
            status,
            threat_name: first.map(threat_name),
            severity: first.map(|found| found.severity.as_str()),
            clamav_result: found
                .iter()
                .find(|d| d.is_clamav())
                .map(|d| d.name.as_str()),
            matches: found.iter().map(Match::of).collect(),
            limits,
            error,
            type_ignored,
        }
    }
}

/// How many rows had which status.
#[derive(Debug)]
pub(super) struct Totals {
    started: Instant,
    rows: u64,
    bytes: u64,
    threats: u64,
    partial: u64,
    errors: u64,
    skipped: u64,
    took: Duration,
}

impl Totals {
    fn new() -> Totals {
        Totals {
            started: Instant::now(),
            rows: 0,
            bytes: 0,
            threats: 0,
            partial: 0,
            errors: 0,
            skipped: 0,
            took: Duration::ZERO,
        }
    }

    fn count(&mut self, row: &Row, status: Status) {
        self.rows += 1;
        if let Outcome::Scanned(report) = &row.outcome {
            self.bytes += report.input_bytes;
        }
        match status {
            Status::Clean => {}
            Status::Threat => self.threats += 1,
            Status::Partial => self.partial += 1,
            Status::Error => self.errors += 1,
            Status::Skipped => self.skipped += 1,
        }
        self.took = self.started.elapsed();
    }

    /// As clamscan's: 1 for a threat, whatever else happened; else 2 if something was not examined
    /// in full; else 0.
    pub(super) fn exit_status(&self) -> u8 {
        match (self.threats, self.partial + self.errors) {
            (1.., _) => 1,
            (0, 1..) => 2,
            (0, 0) => 0,
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            rows,
            threats,
            partial,
            errors,
            skipped,
            bytes,
            ..
        } = self;
        let clean = rows - threats - partial - errors - skipped;
        writeln!(f, "\n----------- SCAN SUMMARY -----------")?;
        writeln!(f, "Scanned: {rows} ({bytes} bytes)")?;
        writeln!(f, "Infected: {threats}")?;
        writeln!(f, "Clean: {clean}")?;
        writeln!(f, "Partial: {partial}")?;
        writeln!(f, "Errors: {errors}")?;
        writeln!(f, "Empty: {skipped}")?;
        writeln!(f, "Time: {:.3} s", self.took.as_secs_f64())
    }
}
