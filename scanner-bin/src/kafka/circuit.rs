//! Tells a record that cannot be scanned from surroundings in which nothing can.
//!
//! One failing record is answered as an error and goes to the dead-letter topic. When several records
//! in a row fail, whatever is wrong (a temporary directory that is gone or full, no memory) would send
//! the whole topic there. Then the circuit opens: workers wait, which holds everything before them
//! back, readiness fails, and a scan of a known text is tried from time to time. Once it succeeds the
//! waiting records are scanned again from the start.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use scanlib::{Incomplete, Payload, Request, Worker};

use crate::ops::health::{Check, Health};

/// Failures in a row on different records that open the circuit.
const IN_A_ROW: u32 = 5;
/// Pause between two trial scans.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a waiting worker looks whether it still should.
const LOOK: Duration = Duration::from_millis(20);
/// What is scanned on trial: any text makes libclamav use everything that a record needs.
const TRIAL: &[u8] = b"<13>Jan  1 00:00:00 scanner scanner-bin: trial scan";

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

    /// A record could not be scanned, retries included. True if that is not the record's fault.
    pub fn failed(&self, error: &str) -> bool {
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        if in_a_row >= IN_A_ROW && !self.is_open.swap(true, Ordering::AcqRel) {
            let reason = format!(
                "{in_a_row} records in a row could not be scanned, reading waits until a trial scan succeeds: {error}"
            );
            tracing::error!("Not ready: {reason}");
            self.health.fail(Check::Scans, reason);
        }
        self.is_open()
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
    let scan = worker.scan(|scanner| match scanner.detector().engine() {
        Some(engine) => engine
            .scan(Payload::Bytes(TRIAL), &Request::new())
            .map(|scan| scan.incomplete),
        None => Ok(None),
    });
    matches!(scan, Ok(incomplete) if !matches!(incomplete, Some(Incomplete::EngineError { .. })))
}
