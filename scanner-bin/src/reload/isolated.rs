//! Scanning processes of the engine in use: metrics about them, and a new engine when the process that holds it has ended.

use std::time::{Duration, Instant};

use scanlib::{DetectorSlot, Generation, IsolationStatus};

use super::{DetectorError, Loader, Outcome, Trigger, announce, detector};
use crate::ops::health::Check;
use crate::shutdown::Shutdown;

/// Pause before the second attempt to build an engine anew; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A message about scanning processes that ended is logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What was seen of the engine in use.
#[derive(Debug, Default)]
pub(super) struct Watch {
    generation: Option<Generation>,
    seen: IsolationStatus,
    /// Crashes and kills that were not logged yet.
    unlogged: (u64, u64),
    logged: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

impl Watch {
    /// Counts what happened since the last look. Returns whether the engine is lost and to be built anew now.
    pub(super) fn look(&mut self, loader: &Loader, slot: &DetectorSlot) -> bool {
        let Some(current) = slot.load_now() else {
            return false;
        };
        let Some(status) = current.engine().and_then(|engine| engine.isolation()) else {
            return false;
        };
        if self.generation.replace(current.generation()) != Some(current.generation()) {
            self.seen = IsolationStatus::default();
            loader.watch.metrics.set_confinement(&status.confinement);
        }
        let before = std::mem::replace(&mut self.seen, status);
        let crashed = status.crashed.saturating_sub(before.crashed);
        let killed = status.killed.saturating_sub(before.killed);
        let metrics = &loader.watch.metrics;
        metrics
            .scanning_processes
            .inc_by(status.started.saturating_sub(before.started));
        metrics.scanning_process_crashes.inc_by(crashed);
        metrics.scanning_process_kills.inc_by(killed);
        if status.longest_outage > before.longest_outage {
            let longest = status.longest_outage.as_secs_f64();
            let gauge = &metrics.scanning_process_outage;
            gauge.set(gauge.get().max(longest));
        }
        self.log(crashed, killed);
        status.is_lost && self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn log(&mut self, crashed: u64, killed: u64) {
        self.unlogged.0 += crashed;
        self.unlogged.1 += killed;
        let is_due = self.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY);
        if self.unlogged != (0, 0) && is_due {
            let (crashed, killed) = std::mem::take(&mut self.unlogged);
            self.logged = Some(Instant::now());
            tracing::warn!(
                crashed,
                killed,
                "Scanning processes ended; the records they scanned were scanned again or have a result that says so"
            );
        }
    }

    /// An engine was built anew, or was not.
    pub(super) fn restored(&mut self, restored: bool) {
        if restored {
            (self.failures, self.not_before) = (0, None);
            return;
        }
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(10));
        self.failures += 1;
        self.not_before = Instant::now().checked_add(pause.min(LONGEST_PAUSE));
    }
}

impl Loader {
    /// Builds the engine anew in place of one whose process has ended. Returns whether it was.
    pub(super) fn restore(&self, slot: &DetectorSlot, shutdown: &Shutdown) -> bool {
        tracing::error!("The process that holds the signatures has ended: they are loaded again");
        if !self.scan.database.is_empty() {
            return self.reload(slot, &Trigger::Lost, shutdown) == Outcome::Ok;
        }
        let built = slot.reload_with(|_| detector(&self.scan, self.isolation.as_ref()));
        match built {
            Ok(_) => {
                announce(&self.watch, &slot.load(), "Signatures reloaded");
                self.watch.health.pass(Check::Database);
                true
            }
            Err(error) => {
                let error: DetectorError = error;
                tracing::error!(error = error.to_string(), "Signatures cannot be loaded");
                false
            }
        }
    }
}
