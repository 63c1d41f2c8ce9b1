//! The second stage: single records, from a queue that is fair to partitions, for everything that may take long.

use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Sender, TrySendError};
use scanlib::error::panic_message;
use scanlib::{DetectorSlot, Pool, PoolStats, TrySubmitError, Work, Worker};

use super::encode::Place;
use super::judge::BatchContext;
use super::open_batch::{OpenBatch, PendingRecord};
use super::{RecordProcessor, engine_state};
use crate::answers::{Answers, AnswersBuilder};
use crate::crash_guard::CrashGuard;
use crate::fair_queue::{FairQueue, Taken};

/// Threads that call libclamav, and the records that wait for them.
#[derive(Debug)]
pub(super) struct EngineStage {
    shared: Arc<Shared>,
    pool: Pool<Turn>,
    /// Answers of batches that were given up, which found no room on their way. Only the poll thread comes here.
    unsent: Mutex<Vec<Answers>>,
}

#[derive(Debug)]
struct Shared {
    processor: Arc<RecordProcessor>,
    queue: Mutex<FairQueue<Waiting>>,
    answers: Sender<Answers>,
}

#[derive(Debug)]
struct Waiting {
    batch: Arc<OpenBatch>,
    record: PendingRecord,
}

impl EngineStage {
    pub(super) fn start(
        slot: DetectorSlot,
        processor: Arc<RecordProcessor>,
        threads: NonZeroUsize,
        answers: Sender<Answers>,
    ) -> io::Result<EngineStage> {
        let shared = Arc::new(Shared {
            processor,
            queue: Mutex::default(),
            answers,
        });
        let pool = Pool::<Turn>::builder(slot)
            .workers(threads)
            // One for each record in flight that waits: the poll thread bounds these.
            .queue_jobs(usize::MAX)
            .thread_name("engine")
            .start_detached()?;
        Ok(EngineStage {
            shared,
            pool,
            unsent: Mutex::default(),
        })
    }

    pub(super) fn processor(&self) -> &RecordProcessor {
        &self.shared.processor
    }

    pub(super) fn answers(&self) -> &Sender<Answers> {
        &self.shared.answers
    }

    /// Hands the answers of a batch to the egress thread; waits while it has enough to do.
    pub(super) fn send(&self, answers: Answers) {
        self.shared.send(answers);
    }

    /// Takes the records of a batch that are missing. Never waits.
    pub(super) fn submit(&self, batch: &Arc<OpenBatch>, records: Vec<PendingRecord>) {
        let turns = records.len();
        let partition = batch.flow().lease().partition;
        let mut queue = self.shared.queue();
        for record in records {
            let batch = Arc::clone(batch);
            queue.push(partition, Waiting { batch, record });
        }
        drop(queue);
        for _ in 0..turns {
            let turn = Turn {
                shared: Arc::clone(&self.shared),
                batch: Arc::clone(batch),
            };
            if let Err(TrySubmitError::Closed(_)) = self.pool.try_submit(turn) {
                // The service ends. What was not answered is not committed.
                return;
            }
        }
    }

    /// Gives up the records of leases that have ended. Never waits.
    pub(super) fn release_ended(&self) {
        let is_ended = |waiting: &Waiting| !waiting.batch.flow().is_live();
        let ended = self.shared.queue().take_where(is_ended);
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        unsent.extend(ended.iter().filter_map(|waiting| waiting.batch.give_up()));
        while let Some(answers) = unsent.pop() {
            if let Err(TrySendError::Full(answers)) = self.shared.answers.try_send(answers) {
                unsent.push(answers);
                return;
            }
        }
    }

    /// Records that wait.
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue().len()
    }

    pub(super) fn stats(&self) -> PoolStats {
        self.pool.stats()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, FairQueue<Waiting>> {
        // A panic in the queue itself would be a defect that the next use of it meets again.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, answers: Answers) {
        // Whoever took answers is gone only if the service ends; what is not answered is not committed.
        let _gone = self.answers.send(answers);
    }

    /// Judges a record, or answers it as an error if that panicked with this message. `None` if its lease ended first.
    fn judge(
        &self,
        waiting: &Waiting,
        worker: &mut Worker,
        panicked: Option<&str>,
    ) -> Option<AnswersBuilder> {
        let Waiting { batch, record } = waiting;
        let processor = &*self.processor;
        if !batch.flow().is_live() {
            return None;
        }
        let working = processor.health.working();
        let note = processor.guard.as_ref().map(CrashGuard::note);
        let context = BatchContext {
            flow: batch.flow(),
            note: note.as_ref(),
            working: &working,
        };
        let place = Place {
            partition: batch.flow().lease().partition,
            scanned_at: SystemTime::now(),
        };
        let scan = record.scan.as_ref();
        let record = &record.record.borrow();
        let (parsed, judged) = match panicked {
            None => {
                let parsed = processor.parse(record);
                let judged = processor.judge(&context, record, parsed.as_ref(), scan, worker)?;
                (parsed, judged)
            }
            Some(message) => {
                let judged =
                    processor.give_up_after_panic(&context, record.offset, worker, message)?;
                (None, judged)
            }
        };
        let message = parsed.unwrap_or_else(|| processor.parser.parse(b""));
        let engines = engine_state(worker.detector());
        let mut answer = AnswersBuilder::default();
        processor.answer(place, record, &message, judged, &engines, &mut answer);
        processor.quota.answered(1);
        processor.wrong.look(worker.detector());
        Some(answer)
    }
}

/// The right to take the next record: there is one for each that was ever in the queue.
#[derive(Debug)]
struct Turn {
    shared: Arc<Shared>,
    /// The batch of a record that came with it. It need not be the one that is taken.
    batch: Arc<OpenBatch>,
}

impl Work for Turn {
    /// Answers go to the egress thread when their batch is complete.
    type Output = ();
    type Receipt = (Arc<Shared>, Arc<OpenBatch>);

    fn cost_bytes(&self) -> u64 {
        0
    }

    fn receipt(&self) -> Self::Receipt {
        (Arc::clone(&self.shared), Arc::clone(&self.batch))
    }

    fn run(self, worker: &mut Worker) {
        let Turn { shared, .. } = self;
        // Nothing is there if a record was given up meanwhile.
        let Some(Taken { item, charge }) = shared.queue().pop() else {
            return;
        };
        let started = Instant::now();
        // Unwind safe: what the closure could leave half done is dropped, and the record is answered all the same.
        let judged = catch_unwind(AssertUnwindSafe(|| shared.judge(&item, worker, None)));
        let judged = judged.unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            shared.judge(&item, worker, Some(&message))
        });
        shared.queue().finished(charge, started.elapsed());
        let Waiting { batch, record } = item;
        let answers = match judged {
            Some(answer) => batch.answer(record.place, answer),
            None => batch.give_up(),
        };
        if let Some(answers) = answers {
            shared.send(answers);
        }
    }

    /// A record may be left without an answer, and its batch open for ever: the service ends with an error, and what is not answered is
    /// read again.
    fn panicked((shared, batch): Self::Receipt, message: String) {
        let message = format!("the engine stage panicked outside of a record: {message}");
        shared.send(batch.crash(message));
    }
}
