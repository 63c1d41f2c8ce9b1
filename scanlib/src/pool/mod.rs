//! Worker threads that share one detector, fed by a queue that is bounded by jobs *and* by bytes.
//!
//! The pool promises three things. A full queue is back-pressure: [`Pool::submit`] waits and
//! [`Pool::try_submit`] gives the job back. Every job that a worker takes is answered exactly
//! once, also when the code that runs it panics. And a detector swapped into the slot is used by
//! each worker from its next job on, while jobs under way finish on the old one.

mod queue;
mod stats;
mod worker;

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Sender;

pub use queue::{SubmitError, TrySubmitError};
pub use stats::PoolStats;
pub use worker::Worker;

use crate::clam::{CancelToken, SCAN_STACK_BYTES};
use crate::slot::DetectorSlot;
use queue::Queue;
use stats::Counters;

/// What a pool's workers do with one job.
pub trait Work: Send + Sized + 'static {
    /// What a job is answered with.
    type Output: Send + 'static;
    /// What it takes to answer for a job whose [`run`](Work::run) panicked.
    type Receipt;

    /// How much of the queue's byte budget the job takes while it waits, in bytes.
    fn cost_bytes(&self) -> u64;

    /// Taken before the job runs.
    fn receipt(&self) -> Self::Receipt;

    /// Does the work. Each scan goes through [`Worker::scan`], so that a panic costs one verdict.
    fn run(self, worker: &mut Worker) -> Self::Output;

    /// The answer for a job that panicked outside of [`Worker::scan`].
    fn panicked(receipt: Self::Receipt, message: String) -> Self::Output;
}

/// Settings of a [`Pool`] that is yet to start.
pub struct PoolBuilder<W> {
    slot: DetectorSlot,
    workers: NonZeroUsize,
    queue_jobs: usize,
    queue_bytes: u64,
    name: String,
    /// So that the kind of work is told once, by [`Pool::builder`] or by the pool's type.
    work: PhantomData<fn(W)>,
}

impl<W> fmt::Debug for PoolBuilder<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("workers", &self.workers)
            .field("queue_jobs", &self.queue_jobs)
            .field("queue_bytes", &self.queue_bytes)
            .finish_non_exhaustive()
    }
}

impl<W: Work> PoolBuilder<W> {
    /// Number of worker threads. Default: one for each processor that this process may use.
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = workers;
        self
    }

    /// Most jobs that may wait. Default: two for each worker. With [`usize::MAX`] there is no such limit, and nothing is reserved for
    /// it: for jobs whose number is bounded elsewhere.
    pub fn queue_jobs(mut self, jobs: usize) -> Self {
        self.queue_jobs = jobs.max(1);
        self
    }

    /// Most bytes that may wait, as told by [`Work::cost_bytes`]. A single larger job is let in
    /// when nothing else waits. Default: 64 MiB.
    pub fn queue_bytes(mut self, bytes: u64) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Name of the threads, for debuggers and `top`; they are numbered from 0. Default: `scan`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Starts the workers. Each answer goes to `results`; a full channel holds the workers back,
    /// and a channel without receivers closes the pool.
    ///
    /// # Errors
    /// The operating system refused a thread. Those already started are stopped again.
    pub fn start(self, results: Sender<W::Output>) -> std::io::Result<Pool<W>> {
        self.start_with(move |answer| results.send(answer).is_ok())
    }

    /// `answer` takes what a job returned, and says whether there may be more.
    fn start_with(
        self,
        answer: impl Fn(W::Output) -> bool + Clone + Send + 'static,
    ) -> std::io::Result<Pool<W>> {
        let queue = Arc::new(Queue::new(self.queue_jobs, self.queue_bytes));
        let counters = Arc::new(Counters::default());
        let mut pool = Pool {
            queue,
            counters,
            stop: CancelToken::new(),
            workers: Vec::with_capacity(self.workers.get()),
        };
        for index in 0..self.workers.get() {
            let queue = Arc::clone(&pool.queue);
            let counters = Arc::clone(&pool.counters);
            let (slot, stop, answer) = (self.slot.clone(), pool.stop.clone(), answer.clone());
            // On an error the pool is dropped here, which stops the threads before this one.
            let thread = std::thread::Builder::new()
                .name(format!("{}-{index}", self.name))
                .stack_size(SCAN_STACK_BYTES)
                .spawn(move || worker::work(&queue, &counters, &slot, &stop, &answer))?;
            pool.workers.push(thread);
        }
        Ok(pool)
    }
}

impl<W: Work<Output = ()>> PoolBuilder<W> {
    /// Starts the workers for jobs that answer by themselves, each to whoever asked: through a channel or a socket of
    /// its own.
    ///
    /// # Errors
    /// As [`PoolBuilder::start`].
    pub fn start_detached(self) -> std::io::Result<Pool<W>> {
        self.start_with(|()| true)
    }
}

/// What happens to waiting jobs when a pool stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shutdown {
    /// They are run and answered.
    FinishQueued,
    /// They are left, and counted in [`PoolStats::dropped`]. Jobs under way still finish.
    DropQueued,
    /// They are left as by [`Shutdown::DropQueued`], and the scans under way are cancelled: each is answered as
    /// [`crate::Incomplete::Cancelled`] as soon as it notices (see [`crate::CancelToken`]), and no cache remembers it
    /// as clean.
    CancelRunning,
}

/// The worker threads. Dropping it is [`Shutdown::DropQueued`].
#[derive(Debug)]
pub struct Pool<W: Work> {
    queue: Arc<Queue<W>>,
    counters: Arc<Counters>,
    stop: CancelToken,
    workers: Vec<JoinHandle<()>>,
}

impl<W: Work> Pool<W> {
    /// Starts describing a pool whose workers use the detector in `slot`.
    pub fn builder(slot: DetectorSlot) -> PoolBuilder<W> {
        let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        PoolBuilder {
            slot,
            workers,
            queue_jobs: workers.get() * 2,
            queue_bytes: 64 << 20,
            name: "scan".to_owned(),
            work: PhantomData,
        }
    }

    /// Hands a job over; waits while the queue is full.
    ///
    /// # Errors
    /// The pool has stopped; the job comes back.
    pub fn submit(&self, job: W) -> Result<(), SubmitError<W>> {
        self.queue.push(job)
    }

    /// Hands a job over if there is room now.
    ///
    /// # Errors
    /// The queue is full, or the pool has stopped; the job comes back.
    pub fn try_submit(&self, job: W) -> Result<(), TrySubmitError<W>> {
        self.queue.try_push(job)
    }

    /// What the pool has done and holds now.
    pub fn stats(&self) -> PoolStats {
        let (queued_jobs, queued_bytes) = self.queue.len();
        self.counters
            .read(self.workers.len(), queued_jobs, queued_bytes)
    }

    /// Stops the workers and waits for them. The receivers of the results must go on receiving
    /// meanwhile.
    pub fn shutdown(self, mode: Shutdown) -> PoolStats {
        self.shutdown_returning(mode).0
    }

    /// As [`Pool::shutdown`]; the jobs that nobody ran come back, oldest first, so that they can be answered or handed
    /// to another pool.
    pub fn shutdown_returning(mut self, mode: Shutdown) -> (PoolStats, Vec<W>) {
        let left = self.stop(mode);
        (self.stats(), left)
    }

    fn stop(&mut self, mode: Shutdown) -> Vec<W> {
        let left = self.queue.close(mode != Shutdown::FinishQueued);
        self.counters.dropped(left.len());
        if mode == Shutdown::CancelRunning {
            self.stop.cancel();
        }
        for thread in self.workers.drain(..) {
            // Workers catch the panics of jobs; one of their own has been printed by the hook.
            let _panic = thread.join();
        }
        left
    }
}

impl<W: Work> Drop for Pool<W> {
    fn drop(&mut self) {
        drop(self.stop(Shutdown::DropQueued));
    }
}
