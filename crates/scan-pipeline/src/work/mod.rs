//! What becomes of a record, in two stages.
//!
//! | record | answer |
//! |---|---|
//! | every engine examined every view | `clean` or `threat` |
//! | empty, tombstone | `skipped` |
//! | larger than `max_message_bytes` | `partial` with the limit, its text cut |
//! | a limit of libclamav, or the time for one record, was exceeded | `partial` with the reason |
//! | libclamav reports an error about its content | `partial` with `malformed`, at once |
//! | the scan failed, panicked, or the environment kept libclamav from looking, retries included | `error`, and the original is a dead letter |
//! | the process that scanned it crashed, and another that scanned it alone | `error`, and the original is a dead letter |
//!
//! No record is answered twice, none not at all, and none costs another its answer.
//!
//! ```text
//! batch ─▶ screening: parse → views → prefilter → rules ─┬─ all decided ──────────────────────▶ answers
//!                                                        └─ open batch ◀─┐
//!              records that libclamav has to see ─▶ fair queue ─▶ engine ┘ last one answered ─▶ answers
//! ```
//!
//! **Screening** takes batches in the order in which they came and answers what needs no libclamav: microseconds for each record,
//! whatever is in it, without a system call and without waiting. **The engine stage** takes single records, from the
//! partition that has used the least time, and does everything that may take long: libclamav, retries, an open circuit breaker, the dead-letter
//! quota. So a record that keeps libclamav busy delays the records behind it in its own partition, because results keep their order, and
//! elsewhere only those that need libclamav too.
//!
//! Between the stages a record waits as a copy of its bytes with the prefilter's decisions. It holds no detector: signatures that are
//! replaced meanwhile can be freed, and the record is judged by the new ones from the start.

mod account;
mod encode;
mod engine_stage;
mod judge;
mod open_batch;
mod screening;

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use scanlib::{Detector, DetectorSlot, Message, Parser, Pool, TrySubmitError};

use super::answers::Answers;
use super::batch::{Batch, Record};
use super::circuit::Circuit;
use super::crash_guard::CrashGuard;
use super::quota::Quota;
use super::{Refused, Scanning};
use crate::config::{Emit, ResultFormat, ResultKey};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::result::{ClamavState, DbMode, EngineState, RulesState};
use crate::wrong::WrongReports;
use engine_stage::EngineStage;
use screening::ScreenBatch;

/// Turns records into answers: everything that both stages need besides a scanner.
#[derive(Debug)]
pub struct RecordProcessor {
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
    /// How often a failed scan is repeated.
    pub retries: u32,
    /// How long libclamav may take for all views of one record, each time it is tried. A record that takes longer is `partial`.
    pub max_record_time: Duration,
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

impl RecordProcessor {
    /// Parses a record; `None` if the parser panicked.
    fn parse<'r>(&self, record: &Record<'r>) -> Option<Message<'r>> {
        let raw = record.payload.unwrap_or_default();
        let parse = || self.parser.parse_received(raw, record.timestamp_ms);
        // Unwind safe: the parser has no state.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(parse)).ok()
    }

    /// False for a record that is answered without being scanned: it is empty, or too large.
    fn is_scanned(&self, record: &Record<'_>) -> bool {
        let raw = record.payload.unwrap_or_default();
        !raw.is_empty() && raw.len() as u64 <= self.max_message_bytes
    }

    /// Whether scanning this record is what brought the last processes down.
    fn is_suspect(&self, partition: i32, offset: i64) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.is_suspect(partition, offset))
    }
}

/// What results report about the engines of a detector.
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
                left_out: (info.profile != scanlib::Profile::Full)
                    .then(|| info.excluded_by_profile.total()),
                signatures: info.signatures,
                digest: info.digest.to_string(),
            }
        }),
        rules: detector.rules().map(|rules| RulesState {
            rules: rules.rules().len() as u64,
        }),
    }
}

/// The threads of both stages. They end when the last clone is dropped: batches and records that wait are left, those under way finish.
#[derive(Clone, Debug)]
pub struct Stages {
    // First, because fields are dropped in this order: screening hands records to the engine stage.
    screening: Arc<Pool<ScreenBatch>>,
    engine: Arc<EngineStage>,
}

impl Stages {
    /// Starts `threads` threads for each stage. Batches that wait to be screened have `queue_bytes` together at the most; what is made
    /// of batches goes to `answers`.
    ///
    /// # Errors
    /// The operating system refused a thread.
    pub fn start(
        slot: &DetectorSlot,
        processor: Arc<RecordProcessor>,
        threads: NonZeroUsize,
        queue_bytes: u64,
        answers: Sender<Answers>,
    ) -> io::Result<Stages> {
        let engine = EngineStage::start(slot.clone(), processor, threads, answers)?;
        let screening = Pool::<ScreenBatch>::builder(slot.clone())
            .workers(threads)
            .queue_bytes(queue_bytes)
            .start_detached()?;
        Ok(Stages {
            screening: Arc::new(screening),
            engine: Arc::new(engine),
        })
    }

    fn processor(&self) -> &RecordProcessor {
        self.engine.processor()
    }
}

impl Scanning for Stages {
    fn try_submit(&self, batch: Batch) -> Result<(), Refused> {
        let work = ScreenBatch::new(batch, Arc::clone(&self.engine));
        self.screening.try_submit(work).map_err(|back| match back {
            TrySubmitError::Full(work) | TrySubmitError::Closed(work) => Refused(work.into_batch()),
        })
    }

    fn is_ready(&self) -> bool {
        !self.processor().circuit.is_open()
    }

    fn release_ended(&self) {
        self.engine.release_ended();
    }

    fn measure(&self, metrics: &Metrics) {
        self.engine.release_ended();
        self.processor().quota.look();
        let screening = self.screening.stats();
        let mut stats = screening + self.engine.stats();
        stats.queued_jobs = screening.queued_jobs;
        metrics.pool(&stats);
        metrics.engine_queue(self.engine.waiting());
    }
}
