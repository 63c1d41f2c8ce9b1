//! What a worker does with a batch: the table of what becomes of a record.
//!
//! | record | answer |
//! |---|---|
//! | every engine examined every view | `clean` or `threat` |
//! | empty, tombstone | `skipped` |
//! | larger than `max_message_bytes` | `partial` with the limit, its text cut |
//! | a limit of libclamav was hit | `partial` with the reason |
//! | libclamav reports an error about its content | `partial` with `malformed`, at once |
//! | the scan failed, panicked, or the environment kept libclamav from looking, retries included | `error`, and the original is a dead letter |
//!
//! No record is answered twice, none not at all, and none costs another its answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use scanlib::{
    Detector, Incomplete, Message, Parser, Pool, Report, Request, ScanError, Stage, TrySubmitError,
    Verdict, Work, Worker,
};

use super::answers::{Answers, AnswersBuilder};
use super::batch::{Batch, Record};
use super::circuit::{Circuit, Fault};
use super::crash_guard::{CrashGuard, Note};
use super::dead_letter::{DeadLetter, Reason};
use super::flow::Flow;
use super::quota::Quota;
use super::{Refused, Scanning};
use crate::config::{Emit, ResultFormat, ResultKey};
use crate::log;
use crate::ops::health::{Health, Working};
use crate::ops::metrics::{DetectionLabels, KindLabel, Metrics, ReasonLabel};
use crate::result::{
    self, ClamavState, DbMode, EngineState, Outcome, RulesState, ScanContext, Status,
};
use crate::wrong::WrongReports;

/// Pause before the first repetition of a failed scan; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Everything that workers need besides a batch and their scanner.
#[derive(Debug)]
pub struct Desk {
    /// Name of this replica in results.
    pub instance: String,
    /// Whether records are read once more.
    pub is_replay: bool,
    /// Identity of the Kafka cluster.
    pub cluster: String,
    /// Topic of the records.
    pub topic: String,
    /// Reads messages.
    pub parser: Parser,
    /// A longer record is not scanned, in bytes.
    pub max_message_bytes: u64,
    /// Time for all views of one record.
    pub max_record_time: Duration,
    /// How often a failed scan is repeated.
    pub retries: u32,
    /// Which results are sent.
    pub emit: Emit,
    /// What becomes a result's key.
    pub result_key: ResultKey,
    /// The form of results.
    pub result_format: ResultFormat,
    /// Notes what is being scanned, if it is to.
    pub guard: Option<CrashGuard>,
    /// Tells when the prefilter was wrong.
    pub wrong: WrongReports,
    /// Stops everything when nothing can be scanned.
    pub circuit: Circuit,
    /// Stops everything when too much becomes a dead letter.
    pub quota: Quota,
    /// Signs of life.
    pub health: Arc<Health>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

/// A batch to scan.
#[derive(Debug)]
pub struct ScanBatch {
    batch: Batch,
    desk: Arc<Desk>,
}

impl Work for ScanBatch {
    type Output = Answers;
    type Receipt = (u64, Arc<Flow>);

    fn cost_bytes(&self) -> u64 {
        self.batch.bytes()
    }

    fn receipt(&self) -> Self::Receipt {
        (self.batch.seq(), Arc::clone(self.batch.flow()))
    }

    fn run(self, worker: &mut Worker) -> Answers {
        let ScanBatch { batch, desk } = self;
        let engines = engine_state(worker.detector());
        let mut answers = AnswersBuilder::with_capacity(batch.len());
        let working = desk.health.working();
        let note = desk.guard.as_ref().map(CrashGuard::note);
        // A batch of a partition that goes is given up where it is: its next owner goes on there.
        let mut is_complete = batch.flow().start();
        let mut records = batch.records();
        while is_complete && let Some(record) = records.next() {
            working.next();
            let hand = Hand {
                batch: &batch,
                note: note.as_ref(),
                working: &working,
            };
            is_complete =
                batch.is_live() && desk.answer(&hand, &record, worker, &engines, &mut answers);
            if is_complete {
                desk.quota.answered();
            }
        }
        drop(records);
        desk.wrong.look(worker.detector());
        answers.through(batch.through());
        answers.build(batch.seq(), is_complete, batch.into_in_flight())
    }

    fn panicked((seq, flow): Self::Receipt, message: String) -> Answers {
        Answers::crashed(seq, message, flow.admit(0, 0))
    }
}

/// The batch that a worker has in hand, and where it notes what it is about to scan.
struct Hand<'b> {
    batch: &'b Batch,
    note: Option<&'b Note<'b>>,
    working: &'b Working<'b>,
}

impl Hand<'_> {
    /// Whether the answer is still wanted. A worker that waits for it to be possible is alive.
    fn is_wanted(&self) -> bool {
        self.working.next();
        self.batch.is_live()
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
struct Failure {
    reason: Reason,
    error: String,
    /// It is proven that the record itself is at fault.
    is_at_fault: bool,
    /// What was seen before libclamav could not look.
    report: Option<Report>,
}

/// What is known of a record.
enum Judged {
    Scanned(Report),
    Failed(Box<Failure>),
    /// It was not to be scanned.
    NotScanned,
}

impl Judged {
    fn failed(reason: Reason, error: &str) -> Judged {
        let error = error.to_owned();
        // What is not scanned at all fails the same way each time.
        Judged::Failed(Box::new(Failure {
            reason,
            error,
            is_at_fault: true,
            report: None,
        }))
    }

    fn report(&self) -> Option<&Report> {
        match self {
            Judged::Scanned(report) => Some(report),
            Judged::Failed(failure) => failure.report.as_ref(),
            Judged::NotScanned => None,
        }
    }

    fn outcome(&self, payload: Option<&[u8]>) -> Outcome<'_> {
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

impl Desk {
    /// Answers one record; false if its lease ended before it could be scanned.
    fn answer(
        &self,
        hand: &Hand<'_>,
        record: &Record<'_>,
        worker: &mut Worker,
        engines: &EngineState,
        answers: &mut AnswersBuilder,
    ) -> bool {
        let scanned_at = SystemTime::now();
        let raw = record.payload.unwrap_or_default();
        let to_scan = !raw.is_empty() && raw.len() as u64 <= self.max_message_bytes;
        let parsed = catch_unwind(AssertUnwindSafe(|| {
            self.parser.parse_received(raw, record.timestamp_ms)
        }));
        let partition = hand.batch.lease().partition;
        let is_suspect = || {
            let guard = self.guard.as_ref();
            guard.is_some_and(|guard| guard.is_suspect(partition, record.offset))
        };
        let mut judged = match &parsed {
            Ok(_) if to_scan && is_suspect() => Judged::failed(
                Reason::CrashSuspect,
                "not scanned: the last processes ended while they scanned this record",
            ),
            Ok(message) if to_scan => match self.scan(hand, record.offset, message, worker) {
                Some(Ok(report)) => Judged::Scanned(report),
                Some(Err(failure)) => Judged::Failed(failure),
                None => return false,
            },
            Ok(_) => Judged::NotScanned,
            Err(_) => Judged::failed(Reason::Panic, "the parser panicked"),
        };
        if let Judged::Failed(failure) = judged {
            let message = parsed.as_ref().ok();
            judged = match self.give_up(hand, record.offset, message, worker, failure) {
                Some(judged) => judged,
                None => return false,
            };
        }
        let mut message = parsed.unwrap_or_else(|_| self.parser.parse(b""));
        let context = ScanContext {
            instance: &self.instance,
            is_replay: self.is_replay,
            cluster: &self.cluster,
            topic: &self.topic,
            partition,
            offset: record.offset,
            key: record.key,
            timestamp_ms: record.timestamp_ms,
            scanned_at,
            processed_at: SystemTime::now(),
        };
        let summary = answers.result(record.offset, record.timestamp_ms, |out| {
            let start = out.len();
            let encode = |out: &mut Vec<u8>, message: &Message<'_>, judged: &Judged| {
                result::encode_as(
                    self.result_format,
                    out,
                    &context,
                    message,
                    judged.outcome(record.payload),
                    engines,
                )
            };
            let attempt = catch_unwind(AssertUnwindSafe(|| encode(out, &message, &judged)));
            let summary = attempt.unwrap_or_else(|_| {
                // One record's odd content is no reason to stop: say less, and keep the original.
                out.truncate(start);
                message = self.parser.parse(b"");
                judged = Judged::failed(Reason::Panic, "the result could not be written");
                encode(out, &message, &judged)
            });
            let headers = (summary.status.as_str(), summary.severity);
            (summary, headers)
        });
        match self.result_key {
            ResultKey::Input => answers.key(record.key),
            ResultKey::ScanId => {
                answers.key(Some(summary.scan_id.hyphenated().to_string().as_bytes()))
            }
        }
        if summary.status == Status::Threat {
            log::threat_detected(&summary, &context, &message.fields);
        }
        self.count(
            judged.outcome(record.payload),
            judged.report(),
            summary.status,
        );
        if let Judged::Failed(failure) = &judged {
            let Failure { reason, error, .. } = &**failure;
            self.metrics
                .scan_errors
                .get_or_create(&KindLabel {
                    kind: reason.as_str(),
                })
                .inc();
            answers.dead_letter(DeadLetter::new(record, context.partition, *reason, error));
        }
        if self.emit == Emit::Threats && summary.status == Status::Clean {
            answers.drop_result();
        }
        true
    }

    /// Scans a message, again if that fails. `None` if the lease ended first.
    fn scan(
        &self,
        hand: &Hand<'_>,
        offset: i64,
        message: &Message<'_>,
        worker: &mut Worker,
    ) -> Option<Result<Report, Box<Failure>>> {
        loop {
            if self.circuit.is_open() {
                hand.idle();
                if !self.circuit.wait(worker, || hand.is_wanted()) {
                    return None;
                }
            }
            let mut repeats = 0;
            let failure = loop {
                let failure = match self.try_scan(hand, offset, message, worker) {
                    Ok(report) => return Some(Ok(report)),
                    Err(failure) => failure,
                };
                if !hand.is_wanted() {
                    return None;
                }
                if repeats == self.retries {
                    break failure;
                }
                thread::sleep(jittered(FIRST_PAUSE * 2_u32.saturating_pow(repeats)));
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
        hand: &Hand<'_>,
        offset: i64,
        message: Option<&Message<'_>>,
        worker: &mut Worker,
        failure: Box<Failure>,
    ) -> Option<Judged> {
        while !failure.is_at_fault && !self.quota.admit() {
            hand.idle();
            if !self.quota.wait(|| hand.is_wanted()) {
                return None;
            }
            let again = message.map(|message| self.try_scan(hand, offset, message, worker));
            if let Some(Ok(report)) = again {
                return Some(Judged::Scanned(report));
            }
        }
        Some(Judged::Failed(failure))
    }

    fn try_scan(
        &self,
        hand: &Hand<'_>,
        offset: i64,
        message: &Message<'_>,
        worker: &mut Worker,
    ) -> Result<Report, Box<Failure>> {
        if let Some(note) = hand.note {
            note.scanning(hand.batch.lease().partition, offset);
        }
        let outcome = self.scan_once(message, worker);
        if outcome.is_err() {
            hand.idle();
        }
        outcome
    }

    fn scan_once(
        &self,
        message: &Message<'_>,
        worker: &mut Worker,
    ) -> Result<Report, Box<Failure>> {
        // One that is not reached within the process's life is none.
        let deadline = Instant::now().checked_add(self.max_record_time);
        let request = deadline.map_or_else(Request::new, |at| Request::new().deadline(at));
        let report = match worker.scan(|scanner| scanner.scan_message(message, &request)) {
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
        if let Verdict::Incomplete {
            cause: cause @ Incomplete::EngineError { .. },
            ..
        } = &report.verdict
        {
            let error = cause.to_string();
            return Err(Box::new(Failure {
                reason: Reason::EngineError,
                error,
                is_at_fault: false,
                report: Some(report),
            }));
        }
        if report.engine_calls > 0 {
            self.circuit.succeeded();
        }
        Ok(report)
    }

    fn count(&self, outcome: Outcome<'_>, report: Option<&Report>, status: Status) {
        let metrics = &self.metrics;
        if let Outcome::Skipped { reason } = outcome {
            let reason = if reason == "tombstone" {
                "tombstone"
            } else {
                "empty"
            };
            metrics
                .records_skipped
                .get_or_create(&ReasonLabel { reason })
                .inc();
            if reason == "tombstone" {
                metrics.tombstones.inc();
            }
        }
        let (engine, elapsed) = report.map_or(("limits", Duration::ZERO), |r| {
            (engine_word(r.decided_by), r.elapsed)
        });
        metrics.scanned(status.as_str(), engine, elapsed);
        if let Some(report) = report {
            metrics.engine_failure(report);
        }
        for detection in report.map_or(&[][..], |r| r.verdict.detections()) {
            let engine = if detection.is_clamav() {
                "clamav"
            } else {
                "rules"
            };
            let severity = detection.severity.as_str();
            metrics
                .detections
                .get_or_create(&DetectionLabels { engine, severity })
                .inc();
        }
    }
}

fn engine_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Limits => "limits",
        Stage::Rules => "rules",
        Stage::Prefilter => "prefilter",
        _ => "clamav",
    }
}

/// What results say about the engines of a detector.
fn engine_state(detector: &Detector) -> EngineState {
    EngineState {
        clamav: detector.engine().map(|engine| {
            let info = engine.info();
            ClamavState {
                version: info.library.text.clone(),
                db_mode: if info.builtin_only {
                    DbMode::Builtin
                } else {
                    DbMode::Custom
                },
                profile: info.profile.name(),
                left_out: (info.profile != scanlib::Profile::Full).then(|| info.outside.total()),
                signatures: info.signatures,
                digest: info.digest.to_string(),
            }
        }),
        rules: detector.rules().map(|rules| RulesState {
            rules: rules.rules().len() as u64,
        }),
    }
}

/// Between half and all of `pause`, so that workers that failed together do not retry together.
fn jittered(pause: Duration) -> Duration {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.subsec_nanos());
    pause.mul_f64(0.5 + f64::from(nanos % 1000) / 2000.0)
}

/// The pool, as the poll thread sees it.
#[derive(Debug)]
pub struct PoolScanning {
    /// The workers.
    pub pool: Arc<Pool<ScanBatch>>,
    /// What they need.
    pub desk: Arc<Desk>,
}

impl Scanning for PoolScanning {
    fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        let work = ScanBatch {
            batch,
            desk: Arc::clone(&self.desk),
        };
        self.pool.try_submit(work).map_err(|back| match back {
            TrySubmitError::Full(work) | TrySubmitError::Closed(work) => Refused(work.batch),
        })
    }

    fn is_ready(&self) -> bool {
        !self.desk.circuit.is_open()
    }

    fn measure(&self, metrics: &Metrics) {
        self.desk.quota.look();
        metrics.pool(&self.pool.stats());
    }
}
