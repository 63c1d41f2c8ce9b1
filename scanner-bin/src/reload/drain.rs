//! New signatures where memory has no room for two engines: the old one is freed first, and records wait.

use std::thread;
use std::time::{Duration, Instant};

use scanlib::{Detector, DetectorSlot, DrainError};

use super::candidate::{Candidate, load};
use super::{Before, DetectorError, Loader, Model, Outcome, TICK, announce};
use crate::generation::Id;
use crate::ops::health::Check;
use crate::shutdown::Shutdown;

/// How long scans that are under way may take before it is put off.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before the old signatures are tried once more, if they cannot be loaded again.
const PAUSE: Duration = Duration::from_secs(5);

/// The service ends while there are no signatures.
struct Ends;

impl Loader {
    /// As [`Loader::replace`] does with two engines.
    pub(super) fn drain(
        &self,
        slot: &DetectorSlot,
        candidate: Candidate,
        before: &Before,
        (model, start): (Model, Instant),
        shutdown: &Shutdown,
    ) -> Outcome {
        tracing::info!(
            "Memory has no room for two engines: records wait while the old signatures are freed and the new ones loaded"
        );
        self.watch.health.pass_with_note(
            Check::Database,
            "signatures are being loaded in place of those before; records wait",
        );
        let id = candidate.snapshot.id.clone();
        let (mut problem, mut event) = (None, None);
        let drained = slot.drain_with(PATIENCE, || match self.try_out(&candidate, before) {
            Ok(tried) => {
                event = Some(self.adopted(candidate, &tried, model, start));
                Ok(tried.detector)
            }
            Err(error) => {
                tracing::error!(%error, "The new signatures are no good: those of before are loaded again");
                problem = Some(error);
                self.come_back(shutdown)
            }
        });
        let waited = start.elapsed().as_secs_f64();
        match (drained, problem) {
            (Ok(_), None) => {
                announce(&self.watch, &slot.load(), "Signatures reloaded");
                tracing::info!(seconds = waited, "Records waited for the signatures");
                self.watch.health.pass(Check::Database);
                self.note_all(event);
                Outcome::Ok
            }
            (Ok(_), Some(error)) => {
                announce(
                    &self.watch,
                    &slot.load(),
                    "Signatures of before loaded again",
                );
                self.not_reloaded(Some(&id), &error, start)
            }
            (Err(DrainError::Build(Ends)), problem) => {
                let error = problem.unwrap_or(DetectorError::StillInUse);
                self.not_reloaded(Some(&id), &error, start)
            }
            (Err(_), _) => self.not_reloaded(Some(&id), &DetectorError::StillInUse, start),
        }
    }

    /// Whether what is in use could be loaded again.
    pub(super) fn has_way_back(&self) -> bool {
        let id = self.in_use().id.clone();
        id.is_some_and(|id| self.kept(&id).is_ok())
    }

    /// Loads what was in use, or what was before it, until that is done: there is nothing else.
    fn come_back(&self, shutdown: &Shutdown) -> Result<Detector, Ends> {
        let in_use = self.in_use().id.clone();
        let kept = self.state.as_ref().map(|state| state.kept());
        let kept = kept.into_iter().flatten().map(|kept| kept.snapshot.id);
        let ids: Vec<Id> = in_use.into_iter().chain(kept).collect();
        loop {
            let mut problem = None;
            for id in &ids {
                let tried = self
                    .kept(id)
                    .and_then(|kept| load(&self.scan, &kept.paths(), self.isolation.as_ref()));
                match tried {
                    Ok(tried) => {
                        self.in_use().id = Some(id.clone());
                        self.watch.health.pass(Check::SelfScan);
                        self.watch.metrics.engine_ready.set(1);
                        return Ok(tried.detector);
                    }
                    Err(error) => problem = Some(error.to_string()),
                }
            }
            let problem = problem.unwrap_or_else(|| "none are kept".to_owned());
            tracing::error!(
                error = problem,
                "The signatures of before cannot be loaded again"
            );
            self.watch.metrics.engine_ready.set(0);
            self.watch.health.fail(
                Check::SelfScan,
                format!("no signatures are loaded, and records wait: those of before cannot be loaded again: {problem}"),
            );
            let until = Instant::now() + PAUSE;
            while Instant::now() < until {
                if shutdown.is_requested() {
                    return Err(Ends);
                }
                thread::sleep(TICK);
            }
        }
    }
}
