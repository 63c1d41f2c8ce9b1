//! A sign of life that one thread gives and others read, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// When a thread last said that it lives.
#[derive(Debug)]
pub struct Heartbeat {
    start: Instant,
    /// Microseconds since `start`, plus one; 0 for never.
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// "I live."
    pub fn beat(&self) {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX - 1);
        self.last.store(micros + 1, Ordering::Relaxed);
    }

    /// "I stopped on purpose": as if it had never begun.
    pub fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Time since the last beat; `None` before the first one and after a rest.
    pub fn age(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(
            self.start
                .elapsed()
                .saturating_sub(Duration::from_micros(last)),
        )
    }
}
