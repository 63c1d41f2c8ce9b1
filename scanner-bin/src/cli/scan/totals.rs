//! What a whole scan came to: the summary, as text and as JSON, and the exit status.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use scanlib::PoolStats;
use scanlib::prefilter::DisabledReason;
use serde::Serialize;
use time::OffsetDateTime;

use super::job::{Outcome, Row};
use super::walk::LeftOut;
use crate::escape::Escaped;
use crate::status::Status;
use crate::times::rfc3339_millis;

/// What is known before the first row.
#[derive(Clone, Debug, Serialize)]
pub(super) struct About {
    /// Signatures in the engine.
    pub known_signatures: u64,
    /// Signatures kept out of it, as `--leave-out` and `--profile` say.
    pub signatures_left_out: u64,
    /// The built-in test signature only: no database was given.
    pub builtin_only: bool,
    /// Version of libclamav.
    pub engine_version: String,
    /// What loading the signatures took.
    pub load_seconds: f64,
    /// Scanning threads.
    pub threads: usize,
    /// What is counted.
    pub unit: Unit,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Unit {
    Files,
    Lines,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Unit::Files => "files",
            Unit::Lines => "lines",
        }
    }
}

/// How many rows had which status.
#[derive(Debug)]
pub(super) struct Totals {
    about: About,
    started: Instant,
    start_date: OffsetDateTime,
    took: Duration,
    directories: u64,
    bytes: u64,
    clean: u64,
    threats: u64,
    partial: u64,
    errors: u64,
    empty: u64,
    /// Infected files that could not be moved, copied or removed.
    not_put_aside: u64,
    /// What was not to be examined, by reason.
    left_out: BTreeMap<LeftOut, u64>,
    /// What was not, or not in full, examined although it should have been, by reason.
    not_examined: BTreeMap<&'static str, u64>,
    looked: Looked,
}

/// Who looked at the views of what was scanned.
#[derive(Clone, Debug, Default, Serialize)]
struct Looked {
    /// Why the prefilter cleared nothing, or no more.
    off: Option<String>,
    /// Views that the prefilter cleared.
    cleared: u64,
    /// Views, and files as a whole, that libclamav was asked about.
    scanned: u64,
    /// Cleared views that libclamav was asked about all the same.
    audits: u64,
    /// Why libclamav had to look at a view, and how often.
    causes: BTreeMap<&'static str, u64>,
}

/// For the summary: `1200 views cleared, 34 scanned, 1 audited`
impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} views cleared, {} scanned by libclamav, {} audited",
            self.cleared, self.scanned, self.audits
        )?;
        match &self.off {
            Some(why) => write!(f, " (off: {})", Escaped(why.as_bytes())),
            None => Ok(()),
        }
    }
}

impl Totals {
    pub(super) fn new(about: About) -> Totals {
        Totals {
            about,
            started: Instant::now(),
            start_date: OffsetDateTime::now_utc(),
            took: Duration::ZERO,
            directories: 0,
            bytes: 0,
            clean: 0,
            threats: 0,
            partial: 0,
            errors: 0,
            empty: 0,
            not_put_aside: 0,
            left_out: BTreeMap::new(),
            not_examined: BTreeMap::new(),
            looked: Looked::default(),
        }
    }

    /// What the pool did, and whether the prefilter was off.
    pub(super) fn worked(&mut self, pool: PoolStats, off: Option<&DisabledReason>) {
        let causes = pool.causes.iter();
        let causes = causes.map(|(cause, count)| (cause.as_str(), count));
        self.looked = Looked {
            off: off.map(DisabledReason::to_string),
            cleared: pool.cleared,
            scanned: pool.engine_calls,
            audits: pool.audits,
            causes: causes.filter(|(_, count)| *count > 0).collect(),
        };
    }

    pub(super) fn count(&mut self, row: &Row, status: Status) {
        match &row.outcome {
            Outcome::Directory => {
                self.directories += 1;
                return;
            }
            Outcome::LeftOut(why) => {
                *self.left_out.entry(*why).or_default() += 1;
                return;
            }
            Outcome::Scanned(report) => self.bytes += report.input_bytes,
            Outcome::TooDeep
            | Outcome::TooLong { .. }
            | Outcome::Changed
            | Outcome::Empty
            | Outcome::Error(_) => {}
        }
        match status {
            Status::Clean => self.clean += 1,
            Status::Threat => self.threats += 1,
            Status::Partial => self.partial += 1,
            Status::Error => self.errors += 1,
            Status::Skipped => self.empty += 1,
        }
        if let Some(reason) = row.not_examined() {
            *self.not_examined.entry(reason).or_default() += 1;
        }
    }

    /// An infected file could not be moved, copied or removed.
    pub(super) fn count_not_put_aside(&mut self) {
        self.not_put_aside += 1;
    }

    /// Stops the clock.
    pub(super) fn end(&mut self) {
        self.took = self.started.elapsed();
    }

    /// Files or lines that were looked at: without empty ones and errors.
    pub(super) fn scanned(&self) -> u64 {
        self.clean + self.threats + self.partial
    }

    /// Those of them with a threat.
    pub(super) fn threats(&self) -> u64 {
        self.threats
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

    fn per_second(&self, amount: u64) -> f64 {
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 {
            amount as f64 / seconds
        } else {
            0.0
        }
    }

    /// All of it for a machine: one object.
    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Object<'a> {
            #[serde(flatten)]
            about: &'a About,
            scanned: u64,
            clean: u64,
            infected: u64,
            partial: u64,
            errors: u64,
            empty: u64,
            directories: u64,
            not_examined: &'a BTreeMap<&'static str, u64>,
            left_out: BTreeMap<&'static str, u64>,
            not_put_aside: u64,
            prefilter: &'a Looked,
            bytes: u64,
            seconds: f64,
            per_second: f64,
            bytes_per_second: f64,
            started: String,
            ended: String,
            exit_status: u8,
        }
        serde_json::to_string(&Object {
            about: &self.about,
            scanned: self.scanned(),
            clean: self.clean,
            infected: self.threats,
            partial: self.partial,
            errors: self.errors,
            empty: self.empty,
            directories: self.directories,
            not_examined: &self.not_examined,
            left_out: self
                .left_out
                .iter()
                .map(|(why, n)| (why.as_str(), *n))
                .collect(),
            not_put_aside: self.not_put_aside,
            prefilter: &self.looked,
            bytes: self.bytes,
            seconds: self.took.as_secs_f64(),
            per_second: self.per_second(self.scanned()),
            bytes_per_second: self.per_second(self.bytes),
            started: rfc3339_millis(self.start_date),
            ended: rfc3339_millis(self.start_date + self.took),
            exit_status: self.exit_status(),
        })
    }
}

/// A number of bytes as people read it.
struct Bytes(f64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
        let (mut value, mut unit) = (self.0, 0);
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = if unit == 0 { 0 } else { 2 };
        write!(f, "{value:.decimals$} {}", UNITS[unit])
    }
}

/// `max_filesize 2, unreadable 1`
fn list<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let parts: Vec<String> = counts.map(|(what, n)| format!("{what} {n}")).collect();
    parts.join(", ")
}

/// As clamscan's summary, with the same words for the same things; what did not happen has no line, but for
/// what clamscan always prints.
impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About {
            known_signatures,
            signatures_left_out,
            engine_version,
            load_seconds,
            threads,
            unit,
            ..
        } = &self.about;
        let unit = unit.as_str();
        writeln!(f, "\n----------- SCAN SUMMARY -----------")?;
        writeln!(f, "Known viruses: {known_signatures}")?;
        if *signatures_left_out > 0 {
            writeln!(f, "Signatures left out: {signatures_left_out}")?;
        }
        writeln!(f, "Engine version: {engine_version}")?;
        writeln!(f, "Scanned directories: {}", self.directories)?;
        writeln!(f, "Scanned {unit}: {}", self.scanned())?;
        writeln!(f, "Infected {unit}: {}", self.threats)?;
        if self.partial > 0 {
            writeln!(f, "Partial {unit}: {}", self.partial)?;
        }
        if self.errors > 0 {
            writeln!(f, "Total errors: {}", self.errors)?;
        }
        if self.empty > 0 {
            writeln!(f, "Empty {unit}: {}", self.empty)?;
        }
        if !self.not_examined.is_empty() {
            let reasons = list(self.not_examined.iter().map(|(why, n)| (*why, *n)));
            writeln!(f, "Not examined in full: {reasons}")?;
        }
        if !self.left_out.is_empty() {
            let reasons = list(self.left_out.iter().map(|(why, n)| (why.as_str(), *n)));
            writeln!(f, "Left out: {}", reasons.replace('_', " "))?;
        }
        if self.not_put_aside > 0 {
            writeln!(f, "Not moved, copied or removed: {}", self.not_put_aside)?;
        }
        writeln!(f, "Prefilter: {}", self.looked)?;
        writeln!(f, "Data scanned: {}", Bytes(self.bytes as f64))?;
        // As clamscan's: with the loading of the signatures, which the rate leaves out.
        let seconds = load_seconds + self.took.as_secs_f64();
        writeln!(
            f,
            "Time: {seconds:.3} sec ({:.0} m {:.0} s)",
            (seconds / 60.0).floor(),
            (seconds % 60.0).floor()
        )?;
        writeln!(
            f,
            "Rate: {:.0} {unit}/s, {}/s, threads: {threads}, loading: {load_seconds:.3} sec",
            self.per_second(self.scanned()),
            Bytes(self.per_second(self.bytes)),
        )?;
        writeln!(f, "Start Date: {}", rfc3339_millis(self.start_date))?;
        writeln!(
            f,
            "End Date:   {}",
            rfc3339_millis(self.start_date + self.took)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        let shown = |n: u64| Bytes(n as f64).to_string();
        assert_eq!(shown(0), "0 bytes");
        assert_eq!(shown(1023), "1023 bytes");
        assert_eq!(shown(1536), "1.50 KiB");
        assert_eq!(shown(5 << 40), "5.00 TiB");
        assert_eq!(shown(5 << 50), "5120.00 TiB");
    }
}
