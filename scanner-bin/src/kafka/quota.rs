//! Keeps a topic of which too much fails from being drained into the dead-letter topic.
//!
//! The [circuit](super::circuit) opens when nothing can be scanned. This holds when some of it can: when more dead letters than the
//! limits allow were written within a minute. The workers that have the next one in hand wait and try it again from time to time, which
//! holds everything behind them back; readiness fails and says why. As the minute moves on one more is let through, so that nothing
//! stands still for ever, nothing is lost, and an operator has the time to look. Readiness comes back when the last minute has less than half of what is allowed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::ops::health::{Check, Health};
use crate::ops::metrics::Metrics;

/// Seconds that count.
const WINDOW: usize = 60;
/// Dead letters of a window that no share forbids: of the first few records any one is a large part.
const FREE: u64 = 10;
/// Time between two tries of a record that waits, and how often its worker looks whether it still should.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// How many records of a minute one replica may give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many; 0 for any number.
    pub per_minute: u32,
    /// So many hundredths of the records answered, and ten in any case; 0 for any share.
    pub percent: u32,
}

impl Limits {
    /// Which limit `letters` would exceed, with so many records answered in the same time.
    fn exceeded(self, letters: u64, records: u64) -> Option<String> {
        let Limits {
            per_minute,
            percent,
        } = self;
        if per_minute > 0 && letters > u64::from(per_minute) {
            return Some(format!(
                "kafka.dead_letters_per_minute is {per_minute}, and one more record could not be judged"
            ));
        }
        // A record is counted as answered with its batch, as a dead letter at once.
        let records = records.max(letters);
        (percent > 0 && letters > FREE && letters * 100 > records * u64::from(percent)).then(|| {
            format!(
                "kafka.dead_letter_percent is {percent}, and {letters} of the {records} records of the last minute could not be judged"
            )
        })
    }
}

/// What happened in one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    /// Which one, from the start.
    at: u64,
    records: u64,
    letters: u64,
}

/// Counts of the last minute; pure.
#[derive(Debug)]
struct Window([Second; WINDOW]);

impl Window {
    fn second(&mut self, at: u64) -> &mut Second {
        let second = &mut self.0[at as usize % WINDOW];
        if second.at != at {
            *second = Second {
                at,
                ..Second::default()
            };
        }
        second
    }

    /// Dead letters and records of the minute that ends with this second.
    fn sums(&self, now: u64) -> (u64, u64) {
        let recent = self.0.iter().filter(|s| s.at + WINDOW as u64 > now);
        recent.fold((0, 0), |(letters, records), second| {
            (letters + second.letters, records + second.records)
        })
    }
}

/// Shared by all workers.
#[derive(Debug)]
pub struct Quota {
    limits: Limits,
    start: Instant,
    window: Mutex<Window>,
    is_met: AtomicBool,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl Quota {
    /// Nothing is counted yet.
    pub fn new(limits: Limits, health: Arc<Health>, metrics: Arc<Metrics>) -> Quota {
        Quota {
            limits,
            start: Instant::now(),
            window: Mutex::new(Window([Second::default(); WINDOW])),
            is_met: AtomicBool::new(false),
            health,
            metrics,
        }
    }

    /// So many records have their answer.
    pub fn answered(&self, records: usize) {
        let now = self.now();
        self.window().second(now).records += records as u64;
    }

    /// Whether one more record may become a dead letter; if so, it counts as one. If not, readiness fails.
    pub fn admit(&self) -> bool {
        let now = self.now();
        let mut window = self.window();
        let (letters, records) = window.sums(now);
        let refusal = self.limits.exceeded(letters + 1, records);
        match refusal {
            None => window.second(now).letters += 1,
            Some(ref why) => self.meet(why),
        }
        refusal.is_none()
    }

    /// Waits for a moment. False if `wanted` became false first.
    pub fn wait(&self, wanted: impl Fn() -> bool) -> bool {
        let until = Instant::now() + PAUSE;
        while Instant::now() < until {
            if !wanted() {
                return false;
            }
            thread::sleep(LOOK);
        }
        true
    }

    /// Looks whether there is room again; to be called from time to time.
    pub fn look(&self) {
        if !self.is_met.load(Ordering::Relaxed) {
            return;
        }
        let (letters, records) = self.window().sums(self.now());
        // Not one below the limit: the next dead letter would fail readiness again.
        if self.limits.exceeded(letters * 2, records).is_none() {
            self.is_met.store(false, Ordering::Relaxed);
            self.health.pass(Check::DeadLetters);
            tracing::info!("few records cannot be judged any more: reading goes on");
        }
    }

    fn meet(&self, why: &str) {
        if !self.is_met.swap(true, Ordering::Relaxed) {
            let reason = format!(
                "{why}: reading waits, and a few go to the dead-letter topic each minute; see its records' header \"error\", mend the cause, or raise the limit"
            );
            tracing::error!("Not ready: {reason}");
            self.metrics.dlq_limit_tripped.inc();
            self.health.fail(Check::DeadLetters, reason);
        }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        // Counts are whole between any two steps of whoever panicked.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::health::Probe;

    const LIMITS: Limits = Limits {
        per_minute: 100,
        percent: 10,
    };

    #[test]
    fn a_minute_is_forgotten_second_by_second() {
        let mut window = Window([Second::default(); WINDOW]);
        for at in 0..200 {
            window.second(at).letters += 1;
            window.second(at).records += 3;
            let seconds = (at + 1).min(60);
            assert_eq!(window.sums(at), (seconds, seconds * 3));
        }
        // An idle time is forgotten too.
        assert_eq!(window.sums(230), (29, 87));
        assert_eq!(window.sums(1_000), (0, 0));
    }

    #[test]
    fn the_first_few_are_always_allowed() {
        assert_eq!(LIMITS.exceeded(10, 0), None);
        let why = LIMITS.exceeded(11, 0).unwrap();
        assert!(why.contains("11 of the 11 records"), "{why}");
    }

    #[test]
    fn a_share_and_a_number_are_allowed_and_no_more() {
        assert_eq!(LIMITS.exceeded(20, 200), None);
        assert!(LIMITS.exceeded(21, 200).is_some());
        assert_eq!(LIMITS.exceeded(100, 1_000_000), None);
        let why = LIMITS.exceeded(101, 1_000_000).unwrap();
        assert!(why.contains("dead_letters_per_minute"), "{why}");
    }

    #[test]
    fn readiness_fails_at_the_limit_and_comes_back_when_half_is_free() {
        let limits = crate::ops::health::Limits {
            poll_loop: PAUSE,
            worker: PAUSE,
        };
        let health = Arc::new(Health::new(limits));
        let metrics = Arc::new(Metrics::new(Arc::default()));
        let mut quota = Quota::new(LIMITS, Arc::clone(&health), metrics);
        let told = || {
            let answer = health.answer(Probe::Ready);
            let mut checks = answer.checks.into_iter();
            checks.find(|check| check.name == "dead_letters").unwrap()
        };
        quota.answered(1_000_000);
        assert!((0..100).all(|_| quota.admit()));
        assert!(told().ok);
        assert!(!quota.admit());
        quota.look();
        assert!(!told().ok, "{}", told().reason);
        // A minute later.
        quota.start -= Duration::from_secs(61);
        quota.answered(1_000);
        assert!((0..51).all(|_| quota.admit()));
        quota.look();
        assert!(!told().ok, "more than half of what is allowed");
        quota.start -= Duration::from_secs(61);
        quota.look();
        assert!(told().ok);
        assert!(quota.admit());
    }

    #[test]
    fn nought_is_no_limit() {
        let none = Limits {
            per_minute: 0,
            percent: 0,
        };
        assert_eq!(none.exceeded(u64::from(u32::MAX), 1), None);
    }
}
