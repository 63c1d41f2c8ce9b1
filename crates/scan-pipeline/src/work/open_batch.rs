//! A batch of which some records are with the engine stage.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use scanlib::PendingScan;

use crate::answers::{Answers, AnswersBuilder};
use crate::batch::OwnedRecord;
use crate::flow::{Flow, InFlight};

/// The answers to a batch, with a place for each record that is still to be answered. Its records stay in flight.
#[derive(Debug)]
pub(super) struct OpenBatch {
    seq: u64,
    flow: Arc<Flow>,
    /// `None` once the answers were handed out.
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    answers: AnswersBuilder,
    in_flight: InFlight,
    /// Records that are neither answered nor given up.
    missing: usize,
    is_complete: bool,
}

/// A record that libclamav has to see.
#[derive(Debug)]
pub(super) struct PendingRecord {
    /// Its place in the answers of its batch.
    pub(super) place: usize,
    pub(super) record: OwnedRecord,
    /// What screening found out; `None` if it did not get that far.
    pub(super) scan: Option<PendingScan>,
}

impl OpenBatch {
    /// `missing` records, at least one, have a reserved place in `answers`.
    pub(super) fn new(
        seq: u64,
        answers: AnswersBuilder,
        missing: usize,
        in_flight: InFlight,
    ) -> Arc<OpenBatch> {
        Arc::new(OpenBatch {
            seq,
            flow: Arc::clone(in_flight.flow()),
            open: Mutex::new(Some(Open {
                answers,
                in_flight,
                missing,
                is_complete: true,
            })),
        })
    }

    /// The state of the batch's lease.
    pub(super) fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }

    /// Answers one record. Returns the answers of the batch if it was the last that was missing.
    #[must_use = "the egress thread waits for the answers"]
    pub(super) fn answer(&self, place: usize, answer: AnswersBuilder) -> Option<Answers> {
        self.close_one(|open| open.answers.fill(place, answer))
    }

    /// Leaves one record to the next owner of its partition. Returns as [`answer`](Self::answer).
    #[must_use = "the egress thread waits for the answers"]
    pub(super) fn give_up(&self) -> Option<Answers> {
        self.close_one(|open| open.is_complete = false)
    }

    /// The program's own code panicked: nothing of the batch is answered.
    #[must_use = "the egress thread has to end the service"]
    pub(super) fn crash(&self, message: String) -> Answers {
        drop(self.lock().take());
        Answers::crashed(self.seq, message, self.flow.admit(0, 0))
    }

    fn close_one(&self, close: impl FnOnce(&mut Open)) -> Option<Answers> {
        let mut state = self.lock();
        let open = state.as_mut()?;
        close(open);
        open.missing -= 1;
        if open.missing > 0 {
            return None;
        }
        let open = state.take()?;
        let Open {
            answers,
            in_flight,
            is_complete,
            ..
        } = open;
        Some(answers.build(self.seq, is_complete, in_flight))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        // Nothing that is done under the lock leaves it half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
