//! What the probes answer: three questions, each a list of checks with a reason.
//!
//! * *started*: signatures and rules are loaded. Never asks Kafka.
//! * *live*: the threads move. Never asks brokers, lag or databases: a restart mends none of them.
//! * *ready*: this replica does its work, or stands by for it.
//!
//! The threads of the service [`pass`](Health::pass) and [`fail`](Health::fail) the checks they know
//! about; the heartbeats are judged when asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::heartbeat::Heartbeat;

/// A check that a thread of the service passes or fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// The first engine is loaded and compiled.
    Engine,
    /// The rules are loaded, or switched off.
    Rules,
    /// The engine found its test signature in a scan of its own.
    SelfScan,
    /// The consumer group was joined at least once. Standing by without a partition counts.
    Group,
    /// The input topic exists.
    InputTopic,
    /// Results reach the broker, or there are none. A failure lapses after a minute of silence.
    Producer,
    /// Scans do not fail one after the other.
    Scans,
    /// Not too many records become dead letters.
    DeadLetters,
    /// Every partition that this replica owns can be read.
    Batches,
    /// The service is not about to stop.
    Running,
    /// The signatures in use are those of the files; if not, the answer says so and stays ready.
    Database,
}

/// Every check: its name in the answer, what it says before anybody passed or failed it.
const CHECKS: [(Check, &str, Result<(), &str>); 11] = [
    (
        Check::Engine,
        "engine",
        Err("the signatures are being loaded"),
    ),
    (Check::Rules, "rules", Err("the rules are being loaded")),
    (
        Check::SelfScan,
        "self_scan",
        Err("the engine has not scanned its test data yet"),
    ),
    (
        Check::Group,
        "group",
        Err("the consumer group was not joined yet"),
    ),
    (
        Check::InputTopic,
        "input_topic",
        Err("the input topic was not seen yet"),
    ),
    (Check::Producer, "producer", Ok(())),
    (Check::Scans, "scans", Ok(())),
    (Check::DeadLetters, "dead_letters", Ok(())),
    (Check::Batches, "batches", Ok(())),
    (Check::Running, "running", Ok(())),
    (Check::Database, "database", Ok(())),
];

const STARTUP: &[Check] = &[Check::Engine, Check::Rules];
const READY: &[Check] = &[
    Check::SelfScan,
    Check::Group,
    Check::InputTopic,
    Check::Producer,
    Check::Scans,
    Check::DeadLetters,
    Check::Batches,
    Check::Running,
    Check::Database,
];

/// What there is to say about a check that passed.
const OK: &str = "ok";
/// How long a failed delivery counts if no other follows.
const PRODUCER_FAILURE_LAPSES: Duration = Duration::from_secs(60);

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// Has it started?
    Startup,
    /// Do its threads move?
    Live,
    /// Does it do its work?
    Ready,
}

/// How old a sign of life may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time between two rounds of the poll loop; half of `max.poll.interval.ms` leaves time to act.
    pub poll_loop: Duration,
    /// Time that one record may keep a worker. Must be more than the engine's own time limit.
    pub worker: Duration,
}

/// The state that the threads of the service report to.
#[derive(Debug)]
pub struct Health {
    limits: Limits,
    poll_loop: Arc<Heartbeat>,
    workers: Workers,
    checks: Mutex<[State; CHECKS.len()]>,
}

#[derive(Clone, Debug)]
struct State {
    /// What to say, passed or not.
    outcome: Result<String, String>,
    since: Instant,
}

/// The answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// True if every check is.
    pub ok: bool,
    /// One entry for each check.
    pub checks: Vec<Finding>,
}

/// One check of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub name: &'static str,
    /// True if it passed.
    pub ok: bool,
    /// Why, in a sentence.
    pub reason: String,
}

impl Answer {
    /// The reasons of the failed checks, in one line.
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.ok);
        failed
            .map(|check| format!("{}: {}", check.name, check.reason))
            .collect::<Vec<_>>()
            .join("; ")
    }
}

impl Health {
    /// A service that has not started yet.
    pub fn new(limits: Limits) -> Health {
        let now = Instant::now();
        Health {
            limits,
            poll_loop: Arc::default(),
            workers: Workers::default(),
            checks: Mutex::new(CHECKS.map(|(_, _, outcome)| State {
                outcome: outcome.map(|()| OK.to_owned()).map_err(str::to_owned),
                since: now,
            })),
        }
    }

    /// The heartbeat of the poll loop, to be given each time it comes round. Before the first beat the
    /// loop counts as live: it has not been started.
    pub fn poll_loop(&self) -> &Arc<Heartbeat> {
        &self.poll_loop
    }

    /// Says that a worker takes up a record or batch; it is done when the guard is dropped.
    pub fn working(&self) -> Working<'_> {
        self.workers.begin()
    }

    /// A check holds.
    pub fn pass(&self, check: Check) {
        self.set(check, Ok(OK.to_owned()));
    }

    /// A check holds, but there is something to know about it.
    pub fn pass_with_note(&self, check: Check, note: impl Into<String>) {
        self.set(check, Ok(note.into()));
    }

    /// A check does not hold, and why: what, where, what to do.
    pub fn fail(&self, check: Check, reason: impl Into<String>) {
        self.set(check, Err(reason.into()));
    }

    fn set(&self, check: Check, outcome: Result<String, String>) {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks[check as usize] = State {
            outcome,
            since: Instant::now(),
        };
    }

    /// Answers a probe.
    pub fn answer(&self, probe: Probe) -> Answer {
        let checks = match probe {
            Probe::Startup => self.findings(STARTUP),
            Probe::Live => vec![self.poll_loop_finding(), self.worker_finding()],
            Probe::Ready => self.findings(READY),
        };
        Answer {
            ok: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    fn findings(&self, wanted: &[Check]) -> Vec<Finding> {
        let states = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let finding = |check: &Check| {
            let state = &states[*check as usize];
            let lapsed =
                *check == Check::Producer && state.since.elapsed() > PRODUCER_FAILURE_LAPSES;
            let (ok, reason) = match &state.outcome {
                Ok(note) => (true, note.clone()),
                Err(reason) if lapsed => (true, format!("idle since: {reason}")),
                Err(reason) => (false, reason.clone()),
            };
            Finding {
                name: CHECKS[*check as usize].1,
                ok,
                reason,
            }
        };
        wanted.iter().map(finding).collect()
    }

    fn poll_loop_finding(&self) -> Finding {
        let limit = self.limits.poll_loop;
        let (ok, reason) = match self.poll_loop.age() {
            None => (true, "not started".to_owned()),
            Some(age) if age <= limit => (true, "ok".to_owned()),
            Some(age) => (
                false,
                format!(
                    "the last round was {:.1} s ago, the limit is {:.1} s",
                    secs(age),
                    secs(limit)
                ),
            ),
        };
        Finding {
            name: "poll_loop",
            ok,
            reason,
        }
    }

    fn worker_finding(&self) -> Finding {
        let limit = self.limits.worker;
        let (ok, reason) = match self.workers.oldest() {
            Some(age) if age > limit => (
                false,
                format!(
                    "one record has kept a worker for {:.1} s, the limit is {:.1} s",
                    secs(age),
                    secs(limit)
                ),
            ),
            _ => (true, "ok".to_owned()),
        };
        Finding {
            name: "workers",
            ok,
            reason,
        }
    }
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// More workers at a time than this are not watched.
const WATCHED: usize = 1024;

/// A heartbeat for each worker that is at work, in a slot that it takes when it begins.
#[derive(Debug)]
struct Workers {
    start: Instant,
    /// Microseconds since `start` of the last beat, plus one; 0 for a free slot.
    slots: Box<[AtomicU64]>,
}

impl Default for Workers {
    fn default() -> Workers {
        let slots = std::iter::repeat_with(AtomicU64::default)
            .take(WATCHED)
            .collect();
        Workers {
            start: Instant::now(),
            slots,
        }
    }
}

impl Workers {
    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).map_or(u64::MAX, |micros| micros + 1)
    }

    fn begin(&self) -> Working<'_> {
        let now = self.now();
        let take = |slot: &&AtomicU64| {
            slot.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        };
        Working {
            workers: self,
            slot: self.slots.iter().find(take),
        }
    }

    fn oldest(&self) -> Option<Duration> {
        let beats = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let oldest = beats.filter(|beat| *beat != 0).min()?;
        Some(Duration::from_micros(self.now().saturating_sub(oldest)))
    }
}

/// A worker at work.
#[must_use = "the work ends when this is dropped"]
#[derive(Debug)]
pub struct Working<'h> {
    workers: &'h Workers,
    slot: Option<&'h AtomicU64>,
}

impl Working<'_> {
    /// Says that the next record of a batch begins.
    pub fn next(&self) {
        if let Some(slot) = self.slot {
            slot.store(self.workers.now(), Ordering::Relaxed);
        }
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_checks_is_in_the_order_of_the_enum() {
        for (at, (check, _, _)) in CHECKS.iter().enumerate() {
            assert_eq!(*check as usize, at);
        }
    }

    #[test]
    fn a_delivery_failure_lapses_after_a_minute_without_another() {
        let health = Health::new(Limits {
            poll_loop: Duration::from_secs(1),
            worker: Duration::from_secs(1),
        });
        health.fail(Check::Producer, "no broker");
        let producer = |health: &Health| health.findings(&[Check::Producer]).remove(0);
        assert!(!producer(&health).ok);
        let before = Instant::now()
            .checked_sub(PRODUCER_FAILURE_LAPSES + Duration::from_secs(1))
            .unwrap();
        health.checks.lock().unwrap()[Check::Producer as usize].since = before;
        let lapsed = producer(&health);
        assert!(
            lapsed.ok && lapsed.reason.contains("no broker"),
            "{lapsed:?}"
        );
    }
}
