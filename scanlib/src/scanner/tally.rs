//! What is known about one object while its views are examined, and the report made of it.

use std::time::{Duration, Instant};

use crate::clam::EngineScan;
use crate::detector::Detector;
use crate::report::{Detection, Detections, FileFamily, Incomplete, Report, Stage, Verdict, View};
use crate::signature;

/// Detections, limits and counters of one object.
#[derive(Debug)]
pub(super) struct Tally {
    /// Since when something has been done for this object alone. Nothing is, for most of those that were judged ahead: two looks at the
    /// clock would cost as much as half the automata.
    started: Option<Instant>,
    found: Vec<Detection>,
    pub(super) incomplete: Option<Incomplete>,
    failed_in: Option<FileFamily>,
    pub(super) views: u32,
    engine_calls: u32,
    judged_by_engine: bool,
    pub(super) type_ignored: bool,
}

impl Tally {
    pub(super) fn new(started: Option<Instant>) -> Tally {
        Tally {
            started,
            found: Vec::new(),
            incomplete: None,
            failed_in: None,
            views: 0,
            engine_calls: 0,
            judged_by_engine: false,
            type_ignored: false,
        }
    }

    /// What comes takes time; now, if it has not begun yet.
    pub(super) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    /// Whether libclamav has found something.
    pub(super) fn is_found_by_engine(&self) -> bool {
        self.found.iter().any(Detection::is_clamav)
    }

    pub(super) fn add(&mut self, detection: Detection) {
        let same = |known: &Detection| {
            known.name == detection.name && known.is_clamav() == detection.is_clamav()
        };
        if !self.found.iter().any(same) {
            self.found.push(detection);
        }
    }

    /// Takes in the result of a scan.
    pub(super) fn engine(&mut self, view: View, scan: EngineScan) {
        self.engine_calls += 1;
        self.known(view, scan);
    }

    /// Takes in what libclamav concluded, now or before.
    pub(super) fn known(&mut self, view: View, scan: EngineScan) {
        self.judged_by_engine = true;
        for name in scan.names {
            self.add(signature::detection(name, view));
        }
        // The first cause is the one to report: later ones often follow from it. But what may be mended is not hidden behind
        // what stays as it is.
        let is_environment = |cause: &Incomplete| matches!(cause, Incomplete::EngineError { .. });
        let replaces = scan.incomplete.as_ref().is_some_and(is_environment)
            && !self.incomplete.as_ref().is_some_and(is_environment);
        if self.incomplete.is_none() || replaces {
            self.incomplete = scan.incomplete;
            self.failed_in = scan.failed_in;
        }
        self.type_ignored |= scan.type_ignored;
    }

    /// Notes which limit kept payloads of the message from being decoded, if one did.
    pub(super) fn of_message(mut self, limit: Option<Incomplete>) -> Tally {
        self.incomplete = self.incomplete.take().or(limit);
        self
    }

    pub(super) fn finish(self, detector: &Detector, input_bytes: u64) -> Report {
        let decided_by = match &self.incomplete {
            Some(Incomplete::FileTooLarge { .. }) => Stage::Limits,
            None if self.found.iter().any(|found| !found.is_clamav()) => Stage::Rules,
            _ if self.judged_by_engine => Stage::Engine,
            _ if detector.engine().is_some() => Stage::Prefilter,
            _ => Stage::Rules,
        };
        let verdict = match (self.incomplete, self.found) {
            (Some(cause), so_far) => Verdict::Incomplete { cause, so_far },
            (None, found) => Detections::new(found).map_or(Verdict::Clean, Verdict::Infected),
        };
        Report {
            verdict,
            decided_by,
            generation: detector.generation(),
            input_bytes,
            views: self.views,
            engine_calls: self.engine_calls,
            type_ignored: self.type_ignored,
            failed_in: self.failed_in,
            elapsed: self.started.map_or(Duration::ZERO, |it| it.elapsed()),
        }
    }
}
