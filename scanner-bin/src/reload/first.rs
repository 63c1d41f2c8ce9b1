//! The signatures to start with: what the files hold, or else what was kept of those that were in use.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use scanlib::Detector;

use super::candidate::Candidate;
use super::{Before, DetectorError, Fingerprint, Loader, announce, detector};
use crate::generation::Id;
use crate::generation::history::{Event, What};
use crate::generation::manifest::Manifest;
use crate::generation::snapshot::Snapshot;
use crate::generation::state::{Wanted, now};
use crate::ops::health::Check;

/// Files that changed less than so long ago may not be complete.
const SETTLED: Duration = Duration::from_secs(1);
/// So long is waited for them at the most; then what changes during the load is refused.
const PATIENCE: Duration = Duration::from_secs(10);

/// One way to start.
#[derive(Debug)]
enum Way {
    /// With what the files hold.
    Files {
        snapshot: Snapshot,
        seen: Fingerprint,
        /// It may be anything beside what was in use.
        is_compared: bool,
    },
    /// With a generation that is kept.
    Kept(Id),
}

impl Loader {
    /// The detector to start with. The probes hear of each step.
    ///
    /// # Errors
    /// Anything that keeps records from being scanned.
    pub fn first(&self) -> Result<Detector, DetectorError> {
        let detector = match self.scan.database.is_empty() {
            true => {
                self.watch.metrics.signature_db_up_to_date.set(1);
                detector(&self.scan, self.isolation.as_ref())?
            }
            false => self.first_of_files()?,
        };
        self.watch.metrics.engine_ready.set(1);
        announce(&self.watch, &detector, "Signatures loaded");
        for check in [Check::Engine, Check::Rules, Check::SelfScan] {
            self.watch.health.pass(check);
        }
        Ok(detector)
    }

    fn first_of_files(&self) -> Result<Detector, DetectorError> {
        self.blame_the_last_load();
        let kept = self.state.as_ref().map(|state| state.kept());
        let kept = kept.unwrap_or_default();
        let wanted = self.state.as_ref().and_then(|state| state.take_wanted());
        settle(|| Fingerprint::of(&self.scan.database));
        let (source, mut first_problem) = match self.discover() {
            Ok(found) => (Some(found), None),
            Err(error) => {
                self.not_started(None, &error, Instant::now());
                (None, Some(error))
            }
        };
        let source_id = source.as_ref().map(|(snapshot, _)| snapshot.id.clone());
        let held = source_id.as_ref().and_then(|id| self.held(id));
        let mut why_not = first_problem.as_ref().map(ToString::to_string);
        if let Some(held) = &held {
            tracing::warn!(
                generation = held.id.as_str(),
                reason = held.reason,
                "These signature files were turned down before, and are not tried again"
            );
            why_not = Some(held.reason.clone());
        }
        let last = kept.first().map(|last| last.measure.clone());
        for way in ways(wanted, source, held.is_some(), &kept) {
            let since = Instant::now();
            let id = match &way {
                Way::Files { snapshot, .. } => snapshot.id.clone(),
                Way::Kept(id) => id.clone(),
            };
            match self.start_with(way, last.as_ref(), since) {
                Ok(detector) => {
                    let is_of_the_files = source_id.as_ref() == Some(&id);
                    if !is_of_the_files {
                        self.started_with_kept(&id, why_not.as_deref());
                    }
                    let up_to_date = &self.watch.metrics.signature_db_up_to_date;
                    up_to_date.set(i64::from(is_of_the_files));
                    return Ok(detector);
                }
                Err(error) => {
                    self.not_started(Some(&id), &error, since);
                    why_not.get_or_insert_with(|| error.to_string());
                    first_problem.get_or_insert(error);
                }
            }
        }
        // Without a way there was a problem that left none.
        Err(first_problem.unwrap_or(DetectorError::NoSignatures))
    }

    fn start_with(
        &self,
        way: Way,
        last: Option<&crate::generation::canary::Measure>,
        since: Instant,
    ) -> Result<Detector, DetectorError> {
        let model = self.model();
        let (candidate, before): (Candidate, Before) = match way {
            Way::Kept(id) => (self.kept(&id)?, Before::default()),
            Way::Files {
                snapshot,
                seen,
                is_compared,
            } => {
                let measure = last.filter(|_| is_compared).cloned();
                let before = Before {
                    measure,
                    is_fresh: false,
                };
                (self.prepare(snapshot, seen)?, before)
            }
        };
        let tried = self.try_out(&candidate, &before)?;
        let event = self.adopted(candidate, &tried, model, since);
        self.note(event);
        Ok(tried.detector)
    }

    fn not_started(&self, id: Option<&Id>, error: &DetectorError, since: Instant) {
        tracing::error!(
            error = error.to_string(),
            generation = id.map(Id::as_str),
            "Signatures cannot be loaded"
        );
        let is_refused = self.not_adopted(id, error, since);
        if !is_refused {
            self.in_use().is_to_be_tried_again = true;
        }
    }

    fn started_with_kept(&self, id: &Id, why_not: Option<&str>) {
        let why_not = why_not.unwrap_or("an operator asked for it");
        tracing::warn!(
            generation = id.as_str(),
            reason = why_not,
            "Started with signatures that were kept, not with those of the files"
        );
        self.note_old(why_not, false);
    }

    /// If the last process ended while it loaded files, again and again, it is their fault.
    fn blame_the_last_load(&self) {
        let Some(state) = &self.state else { return };
        let Some((id, ends)) = state.ended_while_loading() else {
            return;
        };
        let reason = format!("the process ended while it was loaded, {ends} times in a row");
        tracing::warn!(
            generation = id.as_str(),
            ends,
            "The last process ended while it loaded signatures"
        );
        let is_to_blame = ends >= self.scan.crash_limit;
        if is_to_blame {
            self.hold(&id, &reason);
        } else {
            // If it is tried again, that is known of it.
            self.in_use().ended = Some((id.clone(), ends));
        }
        self.note(Event {
            at: now(),
            event: if is_to_blame {
                What::Refused
            } else {
                What::Ended
            },
            generation: Some(id),
            db_digest: None,
            signatures: None,
            seconds: None,
            reason: Some(reason),
        });
    }
}

/// What to try, the best first: what an operator asked for, what the files hold, what was kept; and what was turned down, if there is
/// nothing else.
fn ways(
    wanted: Option<Wanted>,
    source: Option<(Snapshot, Fingerprint)>,
    is_held: bool,
    kept: &[Manifest],
) -> Vec<Way> {
    let mut ways = Vec::new();
    let is_forced = wanted == Some(Wanted::Source);
    if let Some(Wanted::Generation(id)) = wanted {
        ways.push(Way::Kept(id));
    }
    let mut last_resort = None;
    if let Some((snapshot, seen)) = source {
        let way = Way::Files {
            snapshot,
            seen,
            is_compared: !is_forced && !is_held,
        };
        match is_held && !is_forced {
            true => last_resort = Some(way),
            false => ways.push(way),
        }
    }
    ways.extend(kept.iter().map(|kept| Way::Kept(kept.snapshot.id.clone())));
    ways.extend(last_resort);
    ways
}

/// Waits until the files have stood still for a moment: who writes them may have started together with this process.
fn settle(look: impl Fn() -> Fingerprint) {
    let until = Instant::now() + PATIENCE;
    let mut seen = look();
    while Instant::now() < until {
        let age = seen
            .newest()
            .map(|newest| SystemTime::now().duration_since(newest));
        // A time to come is one of another machine's clock.
        if age.is_none_or(|age| age.is_ok_and(|age| age >= SETTLED)) {
            return;
        }
        thread::sleep(SETTLED);
        let now = look();
        if now == seen {
            return;
        }
        seen = now;
    }
}
