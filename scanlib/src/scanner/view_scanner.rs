//! Examines one view: rules, then the prefilter, then libclamav.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::causes::CauseCounts;
use super::tally::Tally;
use crate::clam::{Engine, Payload, Request};
use crate::detector::Detector;
use crate::error::ScanError;
use crate::message::{ViewRef, ViewSet};
use crate::prefilter::{Audit, AuditOptions, Gate, Scratch};
use crate::report::View;
#[cfg(feature = "rules")]
use crate::rules::RuleMatch;

/// What scanning a view needs besides the view: the buffers that scans reuse, the draw of audits, and counters.
#[derive(Debug)]
pub(super) struct ViewScanner {
    guarded: Vec<u8>,
    #[cfg(feature = "rules")]
    matches: Vec<RuleMatch>,
    scratch: Scratch,
    /// The prefilter's decisions on the views that come next.
    pub(super) gates: Vec<Gate>,
    pub(super) audit: Audit,
    /// Time that audits took in this message.
    pub(super) audited: Duration,
    pub(super) cleared: u64,
    pub(super) audits: u64,
    pub(super) cached: u64,
    pub(super) causes: CauseCounts,
}

/// What was decided about a view before its turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decided {
    /// The prefilter's decision; without one it is made at the view's turn.
    pub(super) gate: Option<Gate>,
    /// Whether the view is audited if it is cleared; without a decision it is drawn at the view's turn.
    pub(super) audit: Option<bool>,
}

impl ViewScanner {
    pub(super) fn new(audit: AuditOptions) -> ViewScanner {
        // Scanners that start together must not draw the same messages.
        static SEED: AtomicU64 = AtomicU64::new(0);
        let seed = SEED.fetch_add(1, Ordering::Relaxed) + u64::from(std::process::id());
        ViewScanner {
            guarded: Vec::new(),
            #[cfg(feature = "rules")]
            matches: Vec::new(),
            scratch: Scratch::default(),
            gates: Vec::new(),
            audit: Audit::new(audit, seed),
            audited: Duration::ZERO,
            cleared: 0,
            audits: 0,
            cached: 0,
            causes: CauseCounts::default(),
        }
    }

    /// Has the prefilter judge the buffers that come next.
    pub(super) fn look_ahead(&mut self, detector: &Detector, buffers: &[&[u8]]) {
        match detector.engine() {
            Some(_) => {
                let prefilter = detector.prefilter();
                prefilter.check_each(buffers, &mut self.scratch, &mut self.gates);
            }
            None => self.gates.clear(),
        }
    }

    /// Counts a view and matches the rules against it.
    pub(super) fn match_rules(&mut self, detector: &Detector, of: ViewRef<'_>, tally: &mut Tally) {
        tally.views += 1;
        #[cfg(feature = "rules")]
        if let Some(rules) = detector.rules() {
            tally.start();
            let ViewRef { view, data: buffer } = of;
            rules.find(buffer, &mut self.matches);
            for found in self.matches.drain(..) {
                tally.add(rules.detection(&found, view, buffer));
            }
        }
        #[cfg(not(feature = "rules"))]
        let _no_rules = (detector, of);
    }

    /// Examines one view with rules and libclamav.
    pub(super) fn look(
        &mut self,
        detector: &Detector,
        of: ViewRef<'_>,
        decided: Decided,
        request: &Request<'_>,
        views: ViewSet,
        tally: &mut Tally,
    ) -> Result<(), ScanError> {
        self.match_rules(detector, of, tally);
        let Some(engine) = detector.engine() else {
            return Ok(());
        };
        let buffer = of.data;
        let ignored_before = std::mem::take(&mut tally.type_ignored);
        if self.has_to_look(detector, engine, of, decided, request, tally)? {
            self.scan(detector, engine, of, request, tally)?;
        }
        if tally.type_ignored && views.contains(View::Guarded) {
            self.guarded.clear();
            self.guarded.push(b'\n');
            self.guarded.extend_from_slice(buffer);
            // Typed as something else now; were it ignored again, it would be said.
            tally.type_ignored = false;
            let guarded = std::mem::take(&mut self.guarded);
            let of = ViewRef {
                view: View::Guarded,
                data: &guarded,
            };
            if self.has_to_look(detector, engine, of, Decided::default(), request, tally)? {
                self.scan(detector, engine, of, request, tally)?;
            }
            self.guarded = guarded;
        }
        tally.type_ignored |= ignored_before;
        Ok(())
    }

    /// Has libclamav scan a buffer, if its verdict on it is not known.
    fn scan(
        &mut self,
        detector: &Detector,
        engine: &Engine,
        of: ViewRef<'_>,
        request: &Request<'_>,
        tally: &mut Tally,
    ) -> Result<(), ScanError> {
        let scan = || engine.scan(Payload::Bytes(of.data), request);
        let (scan, is_known) = match detector.verdict_cache() {
            // Whoever stops a scanner is to hear that it stopped.
            Some(cache) if !request.is_cancelled() => {
                cache.get_or_scan(engine.scanning_processes(), of.data, request, scan)?
            }
            _ => (scan()?, false),
        };
        if is_known {
            self.cached += 1;
            tally.known(of.view, scan);
        } else {
            tally.engine(of.view, scan);
        }
        Ok(())
    }

    /// Whether libclamav has to examine a buffer: not if the answer is settled, nor if it would certainly call it clean.
    fn has_to_look(
        &mut self,
        detector: &Detector,
        engine: &Engine,
        of: ViewRef<'_>,
        decided: Decided,
        request: &Request<'_>,
        tally: &mut Tally,
    ) -> Result<bool, ScanError> {
        let ViewRef { view, data: buffer } = of;
        if !request.all_matches() && tally.is_found_by_engine() {
            return Ok(false);
        }
        if decided.gate != Some(Gate::Cleared) {
            tally.start();
        }
        if request.is_cancelled() {
            // Whoever stops a scanner is to hear that it stopped; libclamav's answer says so.
            return Ok(true);
        }
        let prefilter = detector.prefilter();
        let gate = match decided.gate {
            // An audit since then may have found that it is not to be trusted.
            Some(gate) if prefilter.off().is_none() => gate,
            _ => prefilter.check(buffer, &mut self.scratch),
        };
        match gate {
            Gate::MustScan(cause) => {
                self.causes[cause] += 1;
                return Ok(true);
            }
            Gate::Cleared => self.cleared += 1,
        }
        if decided.audit.unwrap_or_else(|| self.audit.is_due()) {
            self.audits += 1;
            tally.start();
            let started = Instant::now();
            let scan = engine.scan(Payload::Bytes(buffer), request)?;
            self.audited += started.elapsed();
            // What could not be examined now is clean by proof; only a finding says something.
            if !scan.names.is_empty() {
                prefilter.report_false_negative(buffer, &scan.names);
                tally.engine(view, scan);
            }
        }
        Ok(false)
    }
}
