//! Counters of a pool.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What a pool has done since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Worker threads.
    pub workers: usize,
    /// Workers that run a job now.
    pub busy: usize,
    /// Jobs that wait.
    pub queued_jobs: usize,
    /// Bytes that wait.
    pub queued_bytes: u64,
    /// Jobs answered.
    pub done: u64,
    /// Panics caught, in scans and in jobs.
    pub panics: u64,
    /// Waiting jobs dropped by a shutdown.
    pub dropped: u64,
}

/// Monotonic, and read only for statistics: no ordering between them is promised.
#[derive(Debug, Default)]
pub(super) struct Counters {
    busy: AtomicUsize,
    done: AtomicU64,
    panics: AtomicU64,
    dropped: AtomicU64,
}

impl Counters {
    pub(super) fn started(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    pub(super) fn finished(&self) {
        self.busy.fetch_sub(1, Relaxed);
        self.done.fetch_add(1, Relaxed);
    }

    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, jobs: u64) {
        self.dropped.fetch_add(jobs, Relaxed);
    }

    pub(super) fn read(&self, workers: usize, queued_jobs: usize, queued_bytes: u64) -> PoolStats {
        PoolStats {
            workers,
            busy: self.busy.load(Relaxed),
            queued_jobs,
            queued_bytes,
            done: self.done.load(Relaxed),
            panics: self.panics.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}
