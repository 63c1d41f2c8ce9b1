//! Scans one record with libclamav: retries, the circuit breaker, the quota of dead letters.

use std::thread;
use std::time::{Duration, Instant};

use scanlib::{Incomplete, Message, PendingScan, Report, Request, ScanError, Verdict, Worker};

use super::RecordProcessor;
use crate::batch::Record;
use crate::circuit::Fault;
use crate::crash_guard::Note;
use crate::dead_letter::Reason;
#[cfg(feature = "chaos-faults")]
use crate::faults;
use crate::flow::Flow;
use crate::health::Working;
use crate::random;
use crate::result::Outcome;

/// Pause before the first repetition of a failed scan; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The batch of the record in hand, and where the worker notes what it is about to scan.
pub(super) struct BatchContext<'b> {
    pub(super) flow: &'b Flow,
    pub(super) note: Option<&'b Note<'b>>,
    pub(super) working: &'b Working<'b>,
}

impl BatchContext<'_> {
    /// Whether the answer is still wanted. A worker that waits for it to be possible is alive.
    fn is_wanted(&self) -> bool {
        self.working.next();
        self.flow.is_live()
    }

    /// Nothing is being scanned. Whoever is killed while it only waits was not brought down by a record, nor by the one before it, whose note
    /// stands until the next.
    fn idle(&self) {
        if let Some(note) = self.note {
            note.clear();
        }
    }
}

/// A record that could not be judged.
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) error: String,
    /// It is proven that the record itself is at fault.
    is_at_fault: bool,
    /// What was seen before libclamav could not look.
    pub(super) report: Option<Report>,
}

/// What is known of a record.
pub(super) enum Judged {
    Scanned(Report),
    Failed(Box<Failure>),
    /// It was not to be scanned.
    NotScanned,
}

impl Judged {
    pub(super) fn failed(reason: Reason, error: &str) -> Judged {
        let error = error.to_owned();
        // What is not scanned at all fails the same way each time.
        Judged::Failed(Box::new(Failure {
            reason,
            error,
            is_at_fault: true,
            report: None,
        }))
    }

    pub(super) fn report(&self) -> Option<&Report> {
        match self {
            Judged::Scanned(report) => Some(report),
            Judged::Failed(failure) => failure.report.as_ref(),
            Judged::NotScanned => None,
        }
    }

    pub(super) fn outcome(&self, payload: Option<&[u8]>) -> Outcome<'_> {
        match (self, self.report(), payload) {
            (_, Some(report), _) => Outcome::from(report),
            (Judged::Failed(failure), ..) => Outcome::Error {
                reason: &failure.error,
            },
            (_, _, None) => Outcome::Skipped {
                reason: "tombstone",
            },
            (_, _, Some([])) => Outcome::Skipped { reason: "empty" },
            (_, _, Some(_)) => Outcome::TooLarge,
        }
    }
}

/// A message to scan.
struct Scan<'m> {
    offset: i64,
    message: &'m Message<'m>,
    /// What screening found out.
    screened: Option<&'m PendingScan>,
}

impl RecordProcessor {
    /// Judges a record that has to be scanned. `None` if its lease ended before that was possible.
    pub(super) fn judge(
        &self,
        context: &BatchContext<'_>,
        record: &Record<'_>,
        message: Option<&Message<'_>>,
        screened: Option<&PendingScan>,
        worker: &mut Worker,
    ) -> Option<Judged> {
        let offset = record.offset;
        let scan = message.map(|message| Scan {
            offset,
            message,
            screened,
        });
        let judged = match &scan {
            Some(_) if self.is_suspect(context.flow.lease().partition, offset) => Judged::failed(
                Reason::CrashSuspect,
                "not scanned: the last processes ended while they scanned this record",
            ),
            Some(scan) => match self.scan(context, scan, worker)? {
                Ok(report) => Judged::Scanned(report),
                Err(failure) => Judged::Failed(failure),
            },
            None => Judged::failed(Reason::Panic, "the parser panicked"),
        };
        match judged {
            Judged::Failed(failure) => self.give_up(context, scan.as_ref(), worker, failure),
            judged => Some(judged),
        }
    }

    /// What becomes of a record over which this program's own code panicked, outside of its scan. The defect may concern every record, so the
    /// quota of dead letters applies. `None` if the lease ended first.
    pub(super) fn give_up_after_panic(
        &self,
        context: &BatchContext<'_>,
        offset: i64,
        worker: &mut Worker,
        message: &str,
    ) -> Option<Judged> {
        self.metrics.worker_panics.inc();
        tracing::error!(
            partition = context.flow.lease().partition,
            offset,
            message,
            "The engine stage panicked over a record; the record gets an error result"
        );
        let failure = Failure {
            reason: Reason::Panic,
            error: format!("the engine stage panicked: {message}"),
            is_at_fault: false,
            report: None,
        };
        self.give_up(context, None, worker, Box::new(failure))
    }

    /// Scans a message, again if that fails. `None` if the lease ended first.
    fn scan(
        &self,
        context: &BatchContext<'_>,
        scan: &Scan<'_>,
        worker: &mut Worker,
    ) -> Option<Result<Report, Box<Failure>>> {
        loop {
            if self.circuit.is_open() {
                context.idle();
                if !self.circuit.wait(worker, || context.is_wanted()) {
                    return None;
                }
            }
            let mut repeats = 0;
            let failure = loop {
                let failure = match self.try_scan(context, scan, worker) {
                    Ok(report) => return Some(Ok(report)),
                    Err(failure) => failure,
                };
                if !context.is_wanted() {
                    return None;
                }
                // Two processes crashed over it already.
                if failure.reason == Reason::Crash {
                    return Some(Err(failure));
                }
                if repeats == self.retries {
                    break failure;
                }
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(repeats);
                // Workers that failed together do not retry together.
                thread::sleep(random::jitter(pause, 0.5..1.0));
                repeats += 1;
            };
            let fault = self.circuit.failed(worker, &failure.error);
            // In an open circuit it is not the record's fault: it waits with the others.
            if fault != Fault::Open {
                let is_at_fault = fault == Fault::Record && failure.reason == Reason::Panic;
                return Some(Err(Box::new(Failure {
                    is_at_fault,
                    ..*failure
                })));
            }
        }
    }

    /// Lets a record become a dead letter once there may be one more. Until then it is tried again from time to time, if it could be
    /// read: what was wrong may be mended. A record that is itself at fault does not wait. `None` if the lease ended first.
    fn give_up(
        &self,
        context: &BatchContext<'_>,
        scan: Option<&Scan<'_>>,
        worker: &mut Worker,
        failure: Box<Failure>,
    ) -> Option<Judged> {
        while !failure.is_at_fault && !self.quota.admit() {
            context.idle();
            if !self.quota.wait(|| context.is_wanted()) {
                return None;
            }
            // The engine may have been loaded anew meanwhile.
            worker.refresh();
            let again = scan.map(|scan| self.try_scan(context, scan, worker));
            if let Some(Ok(report)) = again {
                return Some(Judged::Scanned(report));
            }
        }
        Some(Judged::Failed(failure))
    }

    fn try_scan(
        &self,
        context: &BatchContext<'_>,
        scan: &Scan<'_>,
        worker: &mut Worker,
    ) -> Result<Report, Box<Failure>> {
        if let Some(note) = context.note {
            note.scanning(context.flow.lease().partition, scan.offset);
        }
        context.working.next();
        let outcome = self.scan_once(scan, worker);
        if outcome.is_err() {
            context.idle();
        }
        outcome
    }

    fn scan_once(&self, scan: &Scan<'_>, worker: &mut Worker) -> Result<Report, Box<Failure>> {
        let request = match Instant::now().checked_add(self.max_record_time) {
            Some(deadline) => Request::new().deadline(deadline),
            None => Request::new(),
        };
        let scanned = worker.scan(|scanner| match scan.screened {
            Some(pending) => scanner.finish_message(scan.message, pending, &request),
            None => scanner.scan_message(scan.message, &request),
        });
        let report = match scanned {
            Ok(report) => report,
            Err(error) => {
                let reason = match &error {
                    ScanError::Panicked { .. } => {
                        self.metrics.worker_panics.inc();
                        Reason::Panic
                    }
                    _ => Reason::ScanError,
                };
                return Err(Box::new(Failure {
                    reason,
                    error: error.to_string(),
                    is_at_fault: false,
                    report: None,
                }));
            }
        };
        let failed = match &report.verdict {
            Verdict::Incomplete { cause, .. } => match cause {
                Incomplete::EngineError { .. } => Some((Reason::EngineError, cause.to_string())),
                Incomplete::Crashed { .. } => Some((Reason::Crash, cause.to_string())),
                _ => None,
            },
            _ => None,
        };
        #[cfg(feature = "chaos-faults")]
        if failed.is_some() && faults::is(faults::Fault::LostScanIsClean) {
            let mut report = report;
            report.verdict = Verdict::Clean;
            return Ok(report);
        }
        if let Some((reason, error)) = failed {
            return Err(Box::new(Failure {
                is_at_fault: reason == Reason::Crash,
                reason,
                error,
                report: Some(report),
            }));
        }
        if report.engine_calls > 0 {
            self.circuit.succeeded();
        }
        Ok(report)
    }
}
