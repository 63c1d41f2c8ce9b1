//! The waiting jobs: a crossbeam channel for order and count, and a budget for their bytes.
//!
//! The channel alone would bound the number of jobs only. Bytes are taken from the budget before
//! a job enters the channel and given back when a worker takes it out, so the sum over the
//! waiting jobs never exceeds the budget, but for a single job larger than all of it.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};

use super::Work;

pub(super) struct Queue<W> {
    /// `None` once closed.
    sender: RwLock<Option<Sender<W>>>,
    receiver: Receiver<W>,
    budget: Budget,
}

impl<W: Work> Queue<W> {
    pub(super) fn new(jobs: usize, bytes: u64) -> Queue<W> {
        // A bounded channel reserves all of its places.
        let (sender, receiver) = match jobs {
            usize::MAX => crossbeam_channel::unbounded(),
            jobs => crossbeam_channel::bounded(jobs),
        };
        Queue {
            sender: RwLock::new(Some(sender)),
            receiver,
            budget: Budget::new(bytes),
        }
    }

    pub(super) fn push(&self, job: W) -> Result<(), SubmitError<W>> {
        let cost = job.cost_bytes();
        // A clone, so that waiting in `send` does not hold the lock that `close` needs. `close`
        // then leaves the channel open until this job is in it; the workers still take it out.
        let Some(sender) = self.sender() else {
            return Err(SubmitError(job));
        };
        if !self.budget.take(cost) {
            return Err(SubmitError(job));
        }
        sender.send(job).map_err(|back| {
            self.budget.give(cost);
            SubmitError(back.0)
        })
    }

    pub(super) fn try_push(&self, job: W) -> Result<(), TrySubmitError<W>> {
        let cost = job.cost_bytes();
        let Some(sender) = self.sender() else {
            return Err(TrySubmitError::Closed(job));
        };
        if !self.budget.try_take(cost) {
            return Err(TrySubmitError::Full(job));
        }
        sender.try_send(job).map_err(|back| {
            self.budget.give(cost);
            match back {
                TrySendError::Full(job) => TrySubmitError::Full(job),
                TrySendError::Disconnected(job) => TrySubmitError::Closed(job),
            }
        })
    }

    /// The next job; waits for one as long as `patience`.
    pub(super) fn pop(&self, patience: Duration) -> Result<W, RecvTimeoutError> {
        let job = self.receiver.recv_timeout(patience)?;
        self.budget.give(job.cost_bytes());
        Ok(job)
    }

    /// Lets no further job in. Takes the waiting ones out, oldest first, if asked to.
    pub(super) fn close(&self, take_waiting: bool) -> Vec<W> {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
        self.budget.close();
        let mut taken = Vec::new();
        if take_waiting {
            while let Ok(job) = self.receiver.try_recv() {
                self.budget.give(job.cost_bytes());
                taken.push(job);
            }
        }
        taken
    }

    /// Jobs and bytes that wait.
    pub(super) fn len(&self) -> (usize, u64) {
        (self.receiver.len(), self.budget.used())
    }

    fn sender(&self) -> Option<Sender<W>> {
        self.sender
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<W> fmt::Debug for Queue<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("jobs", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// Bytes that may wait at once.
struct Budget {
    max: u64,
    state: Mutex<State>,
    freed: Condvar,
}

struct State {
    used: u64,
    closed: bool,
}

impl Budget {
    fn new(max: u64) -> Budget {
        Budget {
            max,
            state: Mutex::new(State {
                used: 0,
                closed: false,
            }),
            freed: Condvar::new(),
        }
    }

    /// Waits for room. False once closed.
    fn take(&self, bytes: u64) -> bool {
        let full = |state: &mut State| !state.closed && !self.fits(state, bytes);
        let mut state = self
            .freed
            .wait_while(self.lock(), full)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.used += bytes;
        }
        !state.closed
    }

    fn try_take(&self, bytes: u64) -> bool {
        let mut state = self.lock();
        let fits = self.fits(&state, bytes);
        if fits {
            state.used += bytes;
        }
        fits
    }

    fn give(&self, bytes: u64) {
        self.lock().used -= bytes;
        // All: the first to wake may be a job that is still too large.
        self.freed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.freed.notify_all();
    }

    fn used(&self) -> u64 {
        self.lock().used
    }

    fn fits(&self, state: &State, bytes: u64) -> bool {
        state.used == 0 || state.used.saturating_add(bytes) <= self.max
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool has stopped; here is the job.
pub struct SubmitError<W>(pub W);

/// The pool did not take the job; here it is.
pub enum TrySubmitError<W> {
    /// As many jobs or bytes wait as may: try again later.
    Full(W),
    /// The pool has stopped.
    Closed(W),
}

// By hand, because a job need not be `Debug` for its error to be one.
impl<W> fmt::Debug for SubmitError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubmitError(..)")
    }
}

impl<W> fmt::Display for SubmitError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the pool has stopped")
    }
}

impl<W> std::error::Error for SubmitError<W> {}

impl<W> fmt::Debug for TrySubmitError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySubmitError::Full(_) => "Full(..)",
            TrySubmitError::Closed(_) => "Closed(..)",
        })
    }
}

impl<W> fmt::Display for TrySubmitError<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySubmitError::Full(_) => "the pool's queue is full",
            TrySubmitError::Closed(_) => "the pool has stopped",
        })
    }
}

impl<W> std::error::Error for TrySubmitError<W> {}
