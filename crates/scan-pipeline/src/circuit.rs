//! Tells a record that cannot be scanned from an environment in which nothing can.
//!
//! libclamav's errors about content never come here: such a record is `partial` at once. What comes here is a record whose scan failed for
//! another reason, retries included. A harmless object is then scanned on trial. If that succeeds, scanning works and the failure does not
//! count. If it fails, the failure is the environment's (a temporary directory that is gone or full, no memory), and would send the whole
//! topic to the dead-letter topic. After several confirmed failures without a successful scan in between the circuit opens: workers wait,
//! which holds everything before them back, readiness fails, and the trial is repeated from time to time. Once it succeeds the waiting
//! records are scanned again from the start.
//!
//! Records that the prefilter clears are no successful scans: they need nothing that could be missing.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use scanlib::{Engine, Worker};

use crate::health::{Check, Health};

/// Confirmed failures in a row on different records that open the circuit.
const IN_A_ROW: u32 = 5;
/// Pause between two trial scans.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a waiting worker looks whether it still should.
const LOOK: Duration = Duration::from_millis(20);

/// Whose fault it is that a record could not be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The record's: a trial scan succeeded right after.
    Record,
    /// The environment's, for this record as for any other.
    Environment,
    /// The environment's, and the circuit is open: the record is to wait and be scanned again.
    Open,
}

/// Shared by all workers.
#[derive(Debug)]
pub struct Circuit {
    in_a_row: AtomicU32,
    is_open: AtomicBool,
    last_trial: Mutex<Instant>,
    health: Arc<Health>,
}

impl Circuit {
    /// A closed one.
    pub fn new(health: Arc<Health>) -> Circuit {
        Circuit {
            in_a_row: AtomicU32::new(0),
            is_open: AtomicBool::new(false),
            last_trial: Mutex::new(Instant::now()),
            health,
        }
    }

    /// True while scanning is pointless.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// A record was scanned by libclamav.
    pub fn succeeded(&self) {
        if self.in_a_row.load(Ordering::Relaxed) != 0 {
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A record could not be scanned, retries included. Scans on trial to find out whose fault that is.
    pub fn failed(&self, worker: &mut Worker, error: &str) -> Fault {
        if works(worker) {
            self.succeeded();
            return Fault::Record;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        // An engine whose process has ended scans nothing until it is built anew, which is under way.
        let isolation = worker.detector().engine().and_then(Engine::isolation);
        let is_lost = isolation.is_some_and(|status| status.is_lost);
        if (in_a_row >= IN_A_ROW || is_lost) && !self.is_open.swap(true, Ordering::AcqRel) {
            let reason = match is_lost {
                true => format!(
                    "the process that holds the signatures has ended, reading waits until they are loaded again: {error}"
                ),
                false => format!(
                    "{in_a_row} records in a row could not be scanned, reading waits until a trial scan succeeds: {error}"
                ),
            };
            tracing::error!("Not ready: {reason}");
            self.health.fail(Check::Scans, reason);
        }
        if self.is_open() {
            Fault::Open
        } else {
            Fault::Environment
        }
    }

    /// Waits until scanning works again, trying it out. False if `wanted` became false first.
    pub fn wait(&self, worker: &mut Worker, wanted: impl Fn() -> bool) -> bool {
        while self.is_open() {
            if !wanted() {
                return false;
            }
            // One worker at a time tries.
            if let Ok(mut last) = self.last_trial.try_lock()
                && last.elapsed() >= PAUSE
            {
                // Other signatures may have come meanwhile, or the same anew.
                worker.refresh();
                let works = works(worker);
                *last = Instant::now();
                if works {
                    self.close();
                }
                continue;
            }
            thread::sleep(LOOK);
        }
        true
    }

    fn close(&self) {
        self.in_a_row.store(0, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Release);
        self.health.pass(Check::Scans);
        tracing::info!("a trial scan succeeded: scanning goes on");
    }
}

/// Asks libclamav itself: rules and prefilter need nothing that could be missing.
fn works(worker: &mut Worker) -> bool {
    let works = worker.scan(|scanner| Ok(scanner.detector().engine().is_none_or(|e| e.works())));
    works.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::PathBuf;

    use scanlib::{Detector, DetectorSlot, EngineBuilder, Library, Pool, Work};

    use super::*;
    use crate::health::{Limits, Probe};

    /// Reports a failure to the circuit, with or without a directory for temporary files.
    struct Report {
        circuit: Arc<Circuit>,
        broken: Option<PathBuf>,
    }

    impl Work for Report {
        type Output = Fault;
        type Receipt = ();

        fn cost_bytes(&self) -> u64 {
            0
        }

        fn receipt(&self) {}

        fn run(self, worker: &mut Worker) -> Fault {
            if let Some(tmp) = &self.broken {
                std::fs::remove_dir(tmp).unwrap();
            }
            let fault = self.circuit.failed(worker, "on purpose");
            if let Some(tmp) = &self.broken {
                std::fs::create_dir(tmp).unwrap();
            }
            fault
        }

        fn panicked((): (), message: String) -> Fault {
            panic!("{message}")
        }
    }

    #[test]
    fn only_failures_that_a_trial_scan_confirms_count_and_a_success_ends_the_row() {
        let base = tempfile::tempdir().unwrap();
        let engine = EngineBuilder::new(Library::init().unwrap()).unwrap();
        let engine = engine.builtin_signatures().unwrap().tmp_dir(base.path());
        let engine = engine.compile().unwrap();
        let tmp = engine.info().tmp_dir.clone();
        let detector = Detector::builder().engine(engine).build().unwrap();
        let health = Arc::new(Health::new(Limits {
            poll_loop: PAUSE,
            worker: PAUSE,
        }));
        let circuit = Arc::new(Circuit::new(Arc::clone(&health)));
        let (answers, faults) = crossbeam_channel::unbounded();
        let pool = Pool::builder(DetectorSlot::new(detector))
            .workers(NonZeroUsize::MIN)
            .start(answers)
            .unwrap();
        let report = |broken: bool| {
            let job = Report {
                circuit: Arc::clone(&circuit),
                broken: broken.then(|| tmp.clone()),
            };
            assert!(pool.submit(job).is_ok());
            faults.recv().unwrap()
        };
        // However many, they are the records' own.
        assert!((0..20).all(|_| report(false) == Fault::Record));
        assert!((0..4).all(|_| report(true) == Fault::Environment));
        assert_eq!(report(false), Fault::Record);
        assert!((0..4).all(|_| report(true) == Fault::Environment));
        assert!(!circuit.is_open());
        assert_eq!(report(true), Fault::Open);
        assert!(circuit.is_open());
        let failures = health.answer(Probe::Ready).failures();
        assert!(failures.contains("scans: 5 records in a row"), "{failures}");
    }
}
