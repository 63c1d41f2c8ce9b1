//! One thread of the pool: take a job, use the newest detector, answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::Work;
use super::queue::Queue;
use super::stats::Counters;
use crate::clam::CancelToken;
use crate::detector::Detector;
use crate::error::{ScanError, panic_message};
use crate::scanner::{Scanner, ScannerStats};
use crate::slot::DetectorSlot;

/// How often a worker without a job looks for a new detector. Else it would keep the old one, which may be a
/// gigabyte, until the next job.
const LOOK: Duration = Duration::from_secs(1);

/// What a job has at hand while it runs: this thread's scanner.
#[derive(Debug)]
pub struct Worker {
    scanner: Scanner,
    /// What of the scanner's work has been counted.
    counted: ScannerStats,
    counters: Arc<Counters>,
    slot: DetectorSlot,
    /// Cancelled by a shutdown that does not wait for scans.
    stop: CancelToken,
}

impl Worker {
    /// Runs one scan with this worker's scanner.
    ///
    /// # Errors
    /// Those of `scan`, and [`ScanError::Panicked`] if it panicked: the panic costs this verdict
    /// only, and the worker goes on with a new scanner.
    pub fn scan<T>(
        &mut self,
        scan: impl FnOnce(&mut Scanner) -> Result<T, ScanError>,
    ) -> Result<T, ScanError> {
        // Unwind safe: the scanner is the only thing the closure can leave half changed, and it
        // is replaced.
        let scanner = &mut self.scanner;
        catch_unwind(AssertUnwindSafe(|| scan(scanner))).unwrap_or_else(|panic| {
            self.counters.panicked();
            self.renew(self.scanner.detector().clone());
            Err(ScanError::Panicked {
                message: panic_message(&*panic),
            })
        })
    }

    /// The detector that this job is scanned with.
    pub fn detector(&self) -> &Detector {
        self.scanner.detector()
    }

    /// Takes up the detector that is in the slot now, if there is one. A worker does so by itself before each job; this is for a job that
    /// waits until scanning works again.
    pub fn refresh(&mut self) {
        if let Some(current) = self.slot.load_now()
            && current.generation() != self.detector().generation()
        {
            self.renew(current);
        }
    }

    /// Cancelled by [`super::Shutdown::CancelRunning`]. Scans obey it by themselves; it is for jobs that do something
    /// else for long.
    pub fn stop_token(&self) -> &CancelToken {
        &self.stop
    }

    /// A new scanner; what the old one did is counted.
    fn renew(&mut self, detector: Detector) {
        self.count();
        self.scanner = detector.scanner().with_cancel_token(self.stop.clone());
        self.counted = ScannerStats::default();
    }

    fn count(&mut self) {
        let done = self.scanner.stats();
        self.counters.scanned(self.counted, done);
        self.counted = done;
    }
}

/// The life of a worker thread.
pub(super) fn work<W: Work>(
    queue: &Queue<W>,
    counters: &Arc<Counters>,
    slot: &DetectorSlot,
    stop: &CancelToken,
    answer: &impl Fn(W::Output) -> bool,
) {
    let equip = |detector: &Detector| Worker {
        scanner: detector.scanner().with_cancel_token(stop.clone()),
        counted: ScannerStats::default(),
        counters: Arc::clone(counters),
        slot: slot.clone(),
        stop: stop.clone(),
    };
    let mut worker = equip(&slot.load());
    loop {
        let job = match queue.pop(LOOK) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let current = match slot.load_now() {
            Some(current) => current,
            None => {
                // Somebody waits for the last user of the old one to let go of it.
                drop(worker);
                let current = slot.load();
                worker = equip(&current);
                current
            }
        };
        if current.generation() != worker.detector().generation() {
            worker.renew(current);
        }
        let Some(job) = job else { continue };
        counters.started();
        let receipt = job.receipt();
        let output =
            catch_unwind(AssertUnwindSafe(|| job.run(&mut worker))).unwrap_or_else(|panic| {
                counters.panicked();
                worker.renew(worker.detector().clone());
                W::panicked(receipt, panic_message(&*panic))
            });
        worker.count();
        counters.finished();
        if !answer(output) {
            // Nobody is left to answer to.
            counters.dropped(queue.close(true).len());
            return;
        }
    }
}
