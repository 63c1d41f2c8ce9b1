//! Counters of a pool.

use std::ops::Add;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::prefilter::Cause;
use crate::scanner::{CauseCounts, ScannerStats};

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
    /// Waiting jobs that nobody ran, because the pool was shut down.
    pub dropped: u64,
    /// Objects and messages given a verdict, by jobs that have been answered.
    pub scans: u64,
    /// Their length together, in bytes.
    pub scanned_bytes: u64,
    /// Calls of libclamav for them, audits apart.
    pub engine_calls: u64,
    /// Buffers that the prefilter cleared.
    pub cleared: u64,
    /// Cleared buffers that libclamav scanned nevertheless, as an audit.
    pub audits: u64,
    /// Buffers whose verdict was remembered; see [`crate::DetectorBuilder::verdict_cache_entries`].
    pub cached: u64,
    /// Buffers that had to be scanned, by their cause.
    pub causes: CauseCounts,
    /// Verdicts that are [`crate::Verdict::Infected`].
    pub infected: u64,
    /// Verdicts that are [`crate::Verdict::Incomplete`].
    pub incomplete: u64,
}

/// What two pools have done and hold together.
impl Add for PoolStats {
    type Output = PoolStats;

    fn add(self, other: PoolStats) -> PoolStats {
        let mut causes = self.causes;
        causes += other.causes;
        PoolStats {
            workers: self.workers + other.workers,
            busy: self.busy + other.busy,
            queued_jobs: self.queued_jobs + other.queued_jobs,
            queued_bytes: self.queued_bytes + other.queued_bytes,
            done: self.done + other.done,
            panics: self.panics + other.panics,
            dropped: self.dropped + other.dropped,
            scans: self.scans + other.scans,
            scanned_bytes: self.scanned_bytes + other.scanned_bytes,
            engine_calls: self.engine_calls + other.engine_calls,
            cleared: self.cleared + other.cleared,
            audits: self.audits + other.audits,
            cached: self.cached + other.cached,
            causes,
            infected: self.infected + other.infected,
            incomplete: self.incomplete + other.incomplete,
        }
    }
}

/// Monotonic, and read only for statistics: no ordering between them is promised.
#[derive(Debug, Default)]
pub(super) struct Counters {
    busy: AtomicUsize,
    done: AtomicU64,
    panics: AtomicU64,
    dropped: AtomicU64,
    scans: AtomicU64,
    scanned_bytes: AtomicU64,
    engine_calls: AtomicU64,
    cleared: AtomicU64,
    audits: AtomicU64,
    cached: AtomicU64,
    causes: [AtomicU64; Cause::ALL.len()],
    infected: AtomicU64,
    incomplete: AtomicU64,
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

    pub(super) fn dropped(&self, jobs: usize) {
        self.dropped.fetch_add(jobs as u64, Relaxed);
    }

    /// What a scanner did between two looks at it.
    pub(super) fn scanned(&self, before: ScannerStats, after: ScannerStats) {
        for (counter, before, after) in [
            (&self.scans, before.scans, after.scans),
            (
                &self.scanned_bytes,
                before.scanned_bytes,
                after.scanned_bytes,
            ),
            (&self.engine_calls, before.engine_calls, after.engine_calls),
            (&self.cleared, before.cleared, after.cleared),
            (&self.audits, before.audits, after.audits),
            (&self.cached, before.cached, after.cached),
            (&self.infected, before.infected, after.infected),
            (&self.incomplete, before.incomplete, after.incomplete),
        ] {
            counter.fetch_add(after - before, Relaxed);
        }
        let causes = before.causes.iter().zip(after.causes.iter());
        for (counter, ((_, before), (_, after))) in self.causes.iter().zip(causes) {
            counter.fetch_add(after - before, Relaxed);
        }
    }

    pub(super) fn read(&self, workers: usize, queued_jobs: usize, queued_bytes: u64) -> PoolStats {
        let mut causes = CauseCounts::default();
        for (cause, counter) in Cause::ALL.iter().zip(&self.causes) {
            causes[*cause] = counter.load(Relaxed);
        }
        PoolStats {
            workers,
            busy: self.busy.load(Relaxed),
            queued_jobs,
            queued_bytes,
            done: self.done.load(Relaxed),
            panics: self.panics.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            scans: self.scans.load(Relaxed),
            scanned_bytes: self.scanned_bytes.load(Relaxed),
            engine_calls: self.engine_calls.load(Relaxed),
            cleared: self.cleared.load(Relaxed),
            audits: self.audits.load(Relaxed),
            cached: self.cached.load(Relaxed),
            causes,
            infected: self.infected.load(Relaxed),
            incomplete: self.incomplete.load(Relaxed),
        }
    }
}
