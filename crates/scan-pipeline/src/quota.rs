//! Keeps a topic of which too much fails from being drained into the dead-letter topic.
//!
//! The [circuit](super::circuit) opens when nothing can be scanned. This holds when some of it can, for example where the directory for
//! temporary files has room for some records only: when more dead letters than the limits allow were written within a minute. The workers
//! that have the next one in hand wait and try it again from time to time, which holds everything behind them back; readiness fails and
//! says why. As the minute moves on one more is let through, so that nothing stands still for ever, nothing is lost, and an operator has
//! the time to look. Readiness comes back when the last minute has less than half of what is allowed.
//!
//! Records and dead letters are counted alike, each when it is answered: were records counted later, a share would fall as soon as
//! workers wait, and keep them waiting.
//!
//! Records that are proven to be at fault themselves are neither counted as dead letters here nor stopped: a content error, which has a
//! result and no dead letter; a panic after which a trial scan succeeds; a record that ended the process. Otherwise whoever writes such
//! records would stop the replica.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::health::{Check, Health};
use crate::metrics::Metrics;

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
        // The record in hand is not answered yet.
        let records = records.max(letters);
        (percent > 0 && letters > FREE && letters * 100 > records * u64::from(percent)).then(|| {
            format!(
                "kafka.dead_letter_percent is {percent}, and {letters} of the {records} records of the last minute could not be judged"
            )
        })
    }
}

/// Events of the last minute, second by second. Each slot holds the number of its second from the start in the upper half, and the
/// number of events in the lower half.
#[derive(Debug)]
struct Window([AtomicU64; WINDOW]);

impl Window {
    fn new() -> Window {
        Window(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// So many more in the second `at`; takes no lock, because every record comes here.
    fn add(&self, at: u32, events: u32) {
        let slot = &self.0[at as usize % WINDOW];
        // Fails only for a second that is over, which another thread has replaced by its own.
        let _replaced = slot.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            let second = (held >> 32) as u32;
            match second.cmp(&at) {
                std::cmp::Ordering::Equal => Some(held.saturating_add(u64::from(events))),
                std::cmp::Ordering::Less => Some(u64::from(at) << 32 | u64::from(events)),
                std::cmp::Ordering::Greater => None,
            }
        });
    }

    /// Events of the minute that ends with the second `now`.
    fn sum(&self, now: u32) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        let is_recent = |held: &u64| (held >> 32) + WINDOW as u64 > u64::from(now);
        let recent = slots.filter(is_recent);
        recent.map(|held| held & u64::from(u32::MAX)).sum()
    }
}

/// Shared by all workers.
#[derive(Debug)]
pub struct Quota {
    limits: Limits,
    start: Instant,
    records: Window,
    /// Of these one more is let through or not, which is one step.
    letters: Mutex<Window>,
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
            records: Window::new(),
            letters: Mutex::new(Window::new()),
            is_met: AtomicBool::new(false),
            health,
            metrics,
        }
    }

    /// Records have their answers, whatever these are.
    pub fn answered(&self, records: usize) {
        self.records
            .add(self.now(), u32::try_from(records).unwrap_or(u32::MAX));
    }

    /// Whether one more record may become a dead letter; if so, it counts as one. If not, readiness fails.
    pub fn admit(&self) -> bool {
        let now = self.now();
        let letters = self.letters();
        let refusal = self
            .limits
            .exceeded(letters.sum(now) + 1, self.records.sum(now));
        match refusal {
            None => letters.add(now, 1),
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
        let now = self.now();
        let (letters, records) = (self.letters().sum(now), self.records.sum(now));
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

    fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn letters(&self) -> MutexGuard<'_, Window> {
        // Counts are whole between any two steps of whoever panicked.
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Probe;

    const LIMITS: Limits = Limits {
        per_minute: 100,
        percent: 10,
    };

    #[test]
    fn a_minute_is_forgotten_second_by_second() {
        let window = Window::new();
        for at in 0..200 {
            window.add(at, 1);
            assert_eq!(window.sum(at), u64::from(at + 1).min(60));
        }
        // An idle time is forgotten too.
        assert_eq!(window.sum(230), 29);
        assert_eq!(window.sum(1_000), 0);
    }

    proptest::proptest! {
        /// The naive twin is the list of all events.
        #[test]
        fn a_window_counts_what_a_list_of_events_has(
            steps in proptest::collection::vec((0_u32..70, 0_u32..5), 0..60),
        ) {
            let (window, mut events, mut now) = (Window::new(), Vec::new(), 0);
            for (idle, count) in steps {
                now += idle;
                for _ in 0..count {
                    window.add(now, 1);
                    events.push(now);
                }
                let expected = events.iter().filter(|at| **at + 60 > now).count();
                proptest::prop_assert_eq!(window.sum(now), expected as u64);
            }
        }
    }

    fn quota() -> (Quota, Arc<Health>) {
        let limits = crate::health::Limits {
            poll_loop: PAUSE,
            worker: PAUSE,
        };
        let health = Arc::new(Health::new(limits));
        let metrics = Arc::new(Metrics::new(Arc::default()));
        (Quota::new(LIMITS, Arc::clone(&health), metrics), health)
    }

    /// Below the share nothing waits, however many records are in batches that are not done yet.
    #[test]
    fn a_share_below_the_limit_is_never_stopped() {
        let limits = Limits {
            per_minute: 0,
            percent: 10,
        };
        let quota = Quota {
            limits,
            ..quota().0
        };
        for record in 0..20_000 {
            if record % 100 < 3 {
                assert!(quota.admit(), "record {record}");
            }
            quota.answered(1);
        }
    }

    /// After a burst that was stopped, the share of the minutes that follow counts, not that of the burst.
    #[test]
    fn a_limit_that_was_met_does_not_keep_itself_up() {
        let (mut quota, _health) = quota();
        let burst = (0..50).filter(|_| quota.admit()).count();
        assert_eq!(burst, 10, "the first few");
        quota.start -= Duration::from_secs(61);
        let mut refused = 0;
        for record in 0..1_000 {
            refused += u32::from(record % 100 < 3 && !quota.admit());
            quota.answered(1);
        }
        assert_eq!(refused, 0);
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
        let (mut quota, health) = quota();
        let told = || {
            let answer = health.answer(Probe::Ready);
            let mut checks = answer.checks.into_iter();
            checks.find(|check| check.name == "dead_letters").unwrap()
        };
        quota.answered(1_000);
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
