//! The first stage: whole batches, as far as they can be judged without libclamav.

use std::sync::Arc;
use std::time::SystemTime;

use crossbeam_channel::Sender;
use scanlib::{Message, PendingScan, Screened, Work, Worker};

use super::encode::Place;
use super::engine_stage::EngineStage;
use super::judge::Judged;
use super::open_batch::{OpenBatch, PendingRecord};
use super::{RecordProcessor, engine_state};
use crate::answers::{Answers, AnswersBuilder};
use crate::batch::{Batch, OwnedRecord, Record};
use crate::flow::Flow;
use crate::result::EngineState;

/// Records that are parsed before the first of them is judged: as many as the prefilter judges together.
const TOGETHER: usize = 32;

/// A batch to screen.
#[derive(Debug)]
pub(super) struct ScreenBatch {
    batch: Batch,
    engine: Arc<EngineStage>,
}

impl ScreenBatch {
    pub(super) fn new(batch: Batch, engine: Arc<EngineStage>) -> ScreenBatch {
        ScreenBatch { batch, engine }
    }

    pub(super) fn into_batch(self) -> Batch {
        self.batch
    }
}

impl Work for ScreenBatch {
    /// Answers go to the egress thread, from here or from the engine stage.
    type Output = ();
    type Receipt = (u64, Arc<Flow>, Sender<Answers>);

    fn cost_bytes(&self) -> u64 {
        self.batch.bytes()
    }

    fn receipt(&self) -> Self::Receipt {
        let flow = Arc::clone(self.batch.flow());
        (self.batch.seq(), flow, self.engine.answers().clone())
    }

    fn run(self, worker: &mut Worker) {
        let ScreenBatch { batch, engine } = self;
        let processor = engine.processor();
        let working = processor.health.working();
        let engines = engine_state(worker.detector());
        let partition = batch.lease().partition;
        let records: Vec<Record<'_>> = batch.records().collect();
        let mut screening = Screening {
            processor,
            partition,
            engines,
            answers: AnswersBuilder::with_capacity(records.len()),
            pending: Vec::new(),
        };
        // A batch of a partition that goes is given up where it is: its next owner goes on there.
        let mut is_wanted = batch.flow().start();
        for records in records.chunks(TOGETHER) {
            is_wanted = is_wanted && batch.is_live();
            if !is_wanted {
                break;
            }
            working.next();
            screening.screen(records, worker);
        }
        let Screening {
            mut answers,
            pending,
            ..
        } = screening;
        processor.wrong.look(worker.detector());
        answers.through(batch.through());
        drop(records);
        // Whoever waits for the egress thread is not stuck in a record.
        drop(working);
        let (seq, in_flight) = (batch.seq(), batch.into_in_flight());
        if pending.is_empty() || !is_wanted {
            engine.send(answers.build(seq, is_wanted, in_flight));
        } else {
            let batch = OpenBatch::new(seq, answers, pending.len(), in_flight);
            engine.submit(&batch, pending);
        }
    }

    fn panicked((seq, flow, answers): Self::Receipt, message: String) {
        // Whoever took answers is gone only if the service ends.
        let _gone = answers.send(Answers::crashed(seq, message, flow.admit(0, 0)));
    }
}

/// A batch being screened.
struct Screening<'p> {
    processor: &'p RecordProcessor,
    partition: i32,
    engines: EngineState,
    answers: AnswersBuilder,
    /// Records for the engine stage, in their order.
    pending: Vec<PendingRecord>,
}

/// What is known of a record before it is screened.
enum Known<'r> {
    /// It is scanned; its message is with the others that are.
    ToScan,
    /// It is not to be scanned.
    NotScanned(Box<Message<'r>>),
    /// The engine stage judges it from the start: its parser panicked, or it is suspected of crashes.
    Doubtful,
}

impl Screening<'_> {
    /// Answers some records in their order, or keeps their places and hands them to the engine stage.
    fn screen(&mut self, records: &[Record<'_>], worker: &mut Worker) {
        let scanned_at = SystemTime::now();
        let before = self.pending.len();
        let mut messages = Vec::with_capacity(records.len());
        let known: Vec<Known<'_>> = records
            .iter()
            .map(|record| match self.processor.parse(record) {
                Some(message) if !self.processor.is_scanned(record) => {
                    Known::NotScanned(Box::new(message))
                }
                Some(message) if !self.is_suspect(record) => {
                    messages.push(message);
                    Known::ToScan
                }
                _ => Known::Doubtful,
            })
            .collect();
        let screened = screen_each(&messages, worker);
        let mut screened = messages.iter().zip(screened);
        for (record, known) in records.iter().zip(&known) {
            let place = Place {
                partition: self.partition,
                scanned_at,
            };
            match known {
                Known::NotScanned(message) => {
                    self.answer(place, record, message, Judged::NotScanned);
                }
                Known::Doubtful => self.hand_on(record, None),
                Known::ToScan => match screened.next() {
                    Some((message, Some(Screened::Decided(report)))) => {
                        self.answer(place, record, message, Judged::Scanned(report));
                    }
                    Some((_, Some(Screened::Pending(scan)))) => self.hand_on(record, Some(scan)),
                    _ => self.hand_on(record, None),
                },
            }
        }
        let handed_on = self.pending.len() - before;
        self.processor.quota.answered(records.len() - handed_on);
    }

    fn is_suspect(&self, record: &Record<'_>) -> bool {
        self.processor.is_suspect(self.partition, record.offset)
    }

    fn answer(&mut self, place: Place, record: &Record<'_>, message: &Message<'_>, judged: Judged) {
        let (engines, answers) = (&self.engines, &mut self.answers);
        self.processor
            .answer(place, record, message, judged, engines, answers);
    }

    fn hand_on(&mut self, record: &Record<'_>, scan: Option<PendingScan>) {
        self.pending.push(PendingRecord {
            place: self.answers.reserve(),
            record: OwnedRecord::of(record),
            scan,
        });
    }
}

/// Screens messages, together if that goes well. `None` for one on which the scanner panics: the panic costs no other record its answer.
fn screen_each(messages: &[Message<'_>], worker: &mut Worker) -> Vec<Option<Screened>> {
    let together = worker.scan(|scanner| {
        let screened = scanner.screen_messages(messages);
        Ok(screened.map(Some).collect())
    });
    together.unwrap_or_else(|_panic| {
        let alone = messages.iter().map(std::slice::from_ref);
        let screen = |message: &[Message<'_>]| {
            let screened = worker.scan(|scanner| Ok(scanner.screen_messages(message).next()));
            screened.ok().flatten()
        };
        alone.map(screen).collect()
    })
}
