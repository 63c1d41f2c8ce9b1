//! What a worker does with a batch: the table of what becomes of a record.
//!
//! | record | answer |
//! |---|---|
//! | every engine examined every view | `clean` or `threat` |
//! | empty, tombstone | `skipped` |
//! | larger than `max_message_bytes` | `partial` with the limit, its text cut |
//! | a limit of libclamav was hit | `partial` with the reason |
//! | the scan failed, panicked, or libclamav could not look, retries included | `error`, and the original is a dead letter |
//!
//! No record is answered twice, none not at all, and none costs another its answer.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use scanlib::{
    Detector, Incomplete, Message, Parser, Pool, Report, Request, ScanError, Stage, TrySubmitError, Verdict, Work, Worker,
};

use super::answers::{Answers, AnswersBuilder};
use super::batch::{Batch, Record};
use super::circuit::Circuit;
use super::dead_letter::{DeadLetter, Reason};
use super::flow::InFlight;
use super::{Refused, Scanning};
use crate::config::{Emit, ResultKey};
use crate::ops::health::Health;
use crate::ops::metrics::{DetectionLabels, KindLabel, Metrics, QueueLabel, ReasonLabel};
use crate::result::{self, ClamavState, DbMode, EngineState, Outcome, RulesState, ScanContext, Status, Summary};

/// Pause before the first repetition of a failed scan; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Everything that workers need besides a batch and their scanner.
#[derive(Debug)]
pub struct Desk {
    /// Name of this replica in results.
    pub instance: String,
    /// Identity of the Kafka cluster.
    pub cluster: String,
    /// Topic of the records.
    pub topic: String,
    /// Reads messages.
    pub parser: Parser,
    /// A longer record is not scanned, in bytes.
    pub max_message_bytes: u64,
    /// How often a failed scan is repeated.
    pub retries: u32,
    /// Which results are sent.
    pub emit: Emit,
    /// What becomes a result's key.
    pub result_key: ResultKey,
    /// Stops everything when nothing can be scanned.
    pub circuit: Circuit,
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
    type Receipt = (u64, InFlight);

    fn cost_bytes(&self) -> u64 {
        self.batch.bytes()
    }

    fn receipt(&self) -> Self::Receipt {
        (self.batch.seq(), self.batch.in_flight().again())
    }

    fn run(self, worker: &mut Worker) -> Answers {
        let ScanBatch { batch, desk } = self;
        let engines = engine_state(worker.detector());
        let mut answers = AnswersBuilder::with_capacity(batch.len());
        let working = desk.health.working();
        let mut is_complete = true;
        for record in batch.records() {
            working.next();
            // A batch of a partition that goes is given up where it is: its next owner goes on there.
            if !batch.is_live() || !desk.answer(&batch, &record, worker, &engines, &mut answers) {
                is_complete = false;
                break;
            }
        }
        answers.build(batch.seq(), is_complete, batch.into_in_flight())
    }

    fn panicked((seq, in_flight): Self::Receipt, message: String) -> Answers {
        Answers::crashed(seq, message, in_flight)
    }
}

/// How a scan went, retries included.
enum Judged {
    Scanned(Report),
    /// Not judged; what was found nevertheless is in the report.
    Failed { reason: Reason, error: String, report: Option<Report> },
}

impl Desk {
    /// Answers one record; false if its lease ended before it could be scanned.
    fn answer(
        &self,
        batch: &Batch,
        record: &Record<'_>,
        worker: &mut Worker,
        engines: &EngineState,
        answers: &mut AnswersBuilder,
    ) -> bool {
        let scanned_at = SystemTime::now();
        let raw = record.payload.unwrap_or_default();
        // The parser is ours and tolerant; should it panic all the same, the bytes are still scanned.
        let message = catch_unwind(AssertUnwindSafe(|| self.parser.parse(raw)))
            .unwrap_or_else(|_| Parser::plain(raw));
        let mut dead = None;
        let report;
        let outcome = match record.payload {
            None => Outcome::Skipped { reason: "tombstone" },
            Some([]) => Outcome::Skipped { reason: "empty" },
            Some(raw) if raw.len() as u64 > self.max_message_bytes => Outcome::TooLarge,
            Some(_) => match self.judge(batch, &message, worker) {
                None => return false,
                Some(Judged::Scanned(done)) => {
                    report = done;
                    Outcome::from(&report)
                }
                Some(Judged::Failed { reason, error, report: seen }) => {
                    dead = Some(DeadLetter::new(record, batch.lease().partition, reason, &error));
                    self.metrics.scan_errors.get_or_create(&KindLabel { kind: reason.as_str() }).inc();
                    match seen {
                        Some(seen) => {
                            report = seen;
                            Outcome::from(&report)
                        }
                        None => {
                            failure = error;
                            Outcome::Error { reason: &failure }
                        }
                    }
                }
            },
        };
        let context = ScanContext {
            instance: &self.instance,
            cluster: &self.cluster,
            topic: &self.topic,
            partition: batch.lease().partition,
            offset: record.offset,
            key: record.key,
            timestamp_ms: record.timestamp_ms,
            scanned_at,
            processed_at: SystemTime::now(),
        };
        let summary = answers.result(record.offset, record.timestamp_ms, |out| {
            let summary = result::encode(out, &context, &message, outcome, engines);
            let (status, severity) = (summary.status.as_str(), summary.severity);
            (summary, status, severity)
        });
        self.count(&outcome, &summary);
        self.log(&context, &message, &summary);
        match self.result_key {
            ResultKey::Input => answers.key(record.key),
            ResultKey::ScanId => answers.key(Some(summary.scan_id.hyphenated().to_string().as_bytes())),
        }
        if let Some(letter) = dead {
            answers.dead_letter(letter);
        }
        if self.emit == Emit::Threats && summary.status == Status::Clean {
            answers.drop_result();
        }
        true
    }

    /// Scans a message, again if that fails. `None` if the lease ended first.
    fn judge(&self, batch: &Batch, message: &Message<'_>, worker: &mut Worker) -> Option<Judged> {
        loop {
            if self.circuit.is_open() && !self.circuit.wait(worker, || batch.is_live()) {
                return None;
            }
            let mut attempt = 0;
            let failed = loop {
                let scan = worker.scan(|scanner| scanner.scan_message(message, &Request::new()));
                let failed = match scan {
                    Ok(report) => match engine_error(&report) {
                        None => {
                            if report.engine_calls > 0 {
                                self.circuit.succeeded();
                            }
                            return Some(Judged::Scanned(report));
                        }
                        Some(error) => Judged::Failed { reason: Reason::EngineError, error, report: Some(report) },
                    },
                    Err(error) => {
                        let reason = match &error {
                            ScanError::Panicked { .. } => {
                                self.metrics.worker_panics.inc();
                                Reason::Panic
                            }
                            _ => Reason::ScanError,
                        };
                        Judged::Failed { reason, error: error.to_string(), report: None }
                    }
                };
                if attempt >= self.retries || !batch.is_live() {
                    break failed;
                }
                thread::sleep(jittered(FIRST_PAUSE * 2_u32.saturating_pow(attempt)));
                attempt += 1;
            };
            let Judged::Failed { error, .. } = &failed else { return Some(failed) };
            // In an open circuit it is not the record's fault: it waits with the others.
            if !self.circuit.failed(error) {
                return Some(failed);
            }
        }
    }

    fn count(&self, outcome: &Outcome<'_>, summary: &Summary) {
        let metrics = &self.metrics;
        let (engine, elapsed) = match outcome {
            Outcome::Scanned { decided_by, elapsed, .. } => (engine_word(*decided_by), *elapsed),
            _ => ("limits", Duration::ZERO),
        };
        metrics.scanned(summary.status.as_str(), engine, elapsed);
    }

    fn log(&self, context: &ScanContext<'_>, message: &Message<'_>, summary: &Summary) {
        if summary.status != Status::Threat {
            return;
        }
        tracing::warn!(
            scan_id = %summary.scan_id,
            threat_name = summary.threat_name,
            severity = summary.severity,
            source_host = message.fields.source_host.as_deref(),
            partition = context.partition,
            offset = context.offset,
            engine = summary.engine,
            "Threat detected"
        );
    }
}
