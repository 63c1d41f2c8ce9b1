//! Where a transaction stands, and what comes next: the state machine behind exactly-once delivery.
//!
//! ```text
//! Init → Resolve → (ready) → Begin → (open: results are sent) → Flush + who are we in the group?
//!   ▲                  ▲                                          │
//!   │                  ├────────── Commit ◀── SendOffsets ◀───────┘
//!   │                  └────────── Abort  ◀── a failed send, a lease that ended, a refusal
//! Recreate ◀── fenced, broken, or nobody knows whether the commit happened
//! ```
//!
//! Results, dead letters and the offsets that they answer are in the same transaction, so they count
//! together or not at all. Three rules make that enough:
//!
//! - Offsets go with the group's metadata that was taken while the leases were ours. The broker refuses
//!   them once the group has moved on, and makes the next owner wait for a commit that is under way.
//! - A lease that ends with results in the open transaction spoils it.
//! - Until a commit is *known* to have happened nothing is forgotten. When it is not known, a new
//!   producer first settles what the old one left, and then what is committed is asked for.
//!
//! No I/O, no clock, no threads: [`Transactions::next`] says what to do, [`Transactions::done`] takes what
//! came of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::errors::Remedy;
use super::sequencer::Lease;

/// Shortest and longest pause before a call is made again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What is to be done next. Each is handed out once, and answered with [`Transactions::done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Make the producer ready; this ends what a predecessor with its id left open.
    Init,
    /// Ask which offsets are committed, and settle them.
    Resolve,
    /// Begin a transaction.
    Begin,
    /// Wait until everything that was sent is acknowledged.
    Flush,
    /// Get the group's metadata from the thread that owns the consumer.
    Identify,
    /// Put the offsets of everything answered into the transaction.
    SendOffsets,
    /// Commit it.
    Commit,
    /// Abort it.
    Abort,
    /// Put a new producer in the place of this one.
    Recreate,
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing to act on.
    None,
    /// The offsets that were put into the transaction are committed, and so are the answers.
    Committed,
    /// Nothing that was sent since the begin counts: it is to be sent again.
    Undone,
    /// It cannot go on.
    Exit,
}

/// Why a transaction cannot be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// A lease with results in it ended.
    Revoked,
    /// Something that was sent did not arrive, or a call was refused.
    Failed,
}

impl Spoiled {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Spoiled::Revoked => "revoked",
            Spoiled::Failed => "failed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Unresolved,
    Ready,
    Beginning,
    Open,
    /// What of [`Step::Flush`] and [`Step::Identify`] is done.
    Ending {
        flushed: bool,
        identified: bool,
    },
    Offsets,
    Committing,
    Aborting,
    Broken,
    Over,
}

/// The state machine.
#[derive(Debug)]
pub struct Transactions {
    state: State,
    /// Steps of this state that were handed out and not answered.
    under_way: BTreeSet<Step>,
    /// With results in the open transaction.
    leases: BTreeSet<Lease>,
    sends: u64,
    spoiled: Option<Spoiled>,
    /// A commit was asked for and is not known to have failed or succeeded.
    in_doubt: bool,
    opened: Option<Instant>,
    /// When the call of this state was made first.
    since: Option<Instant>,
    not_before: Option<Instant>,
    pause: Duration,
    interval: Duration,
    /// How long a call may be tried again before something stronger is done.
    patience: Duration,
}

impl Transactions {
    /// Nothing is open, and no producer ready. A transaction is open for about `interval`; a call is tried
    /// again for `patience`.
    pub fn new(interval: Duration, patience: Duration) -> Self {
        Transactions {
            state: State::New,
            under_way: BTreeSet::new(),
            leases: BTreeSet::new(),
            sends: 0,
            spoiled: None,
            in_doubt: false,
            opened: None,
            since: None,
            not_before: None,
            pause: PAUSE.0,
            interval,
            patience,
        }
    }

    /// True while results may be sent.
    pub fn is_open(&self) -> bool {
        self.state == State::Open && self.spoiled.is_none()
    }

    /// True if nothing is open and a transaction may begin.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    /// True if no transaction is open or under way.
    pub fn is_idle(&self) -> bool {
        matches!(
            self.state,
            State::New | State::Unresolved | State::Ready | State::Broken | State::Over
        )
    }

    /// Sends since the begin.
    pub fn sends(&self) -> u64 {
        self.sends
    }

    /// Why the transaction is being aborted.
    pub fn spoiled(&self) -> Option<Spoiled> {
        self.spoiled
    }

    /// There is something to send or to settle.
    pub fn begin(&mut self) {
        if self.state == State::Ready {
            self.enter(State::Beginning);
        }
    }

    /// A result of this lease was handed to the producer.
    pub fn sent(&mut self, lease: Lease) {
        self.leases.insert(lease);
        self.sends += 1;
    }

    /// True when the open transaction has been open long enough.
    pub fn is_due(&self, now: Instant) -> bool {
        self.is_open()
            && self
                .opened
                .is_some_and(|opened| now.duration_since(opened) >= self.interval)
    }

    /// Ends the open transaction: nothing more is sent in it.
    pub fn end(&mut self) {
        if self.is_open() {
            self.enter(State::Ending {
                flushed: false,
                identified: false,
            });
        }
    }

    /// A lease has ended. Its results must not count, unless the commit is under way already.
    pub fn closed(&mut self, lease: Lease) {
        if self.leases.contains(&lease) {
            self.spoil(Spoiled::Revoked);
        }
    }

    /// Something that was sent did not arrive.
    pub fn failed(&mut self) {
        self.spoil(Spoiled::Failed);
    }

    /// The producer is broken for good.
    pub fn broken(&mut self) {
        match self.state {
            State::Broken | State::Over => {}
            _ => self.enter(State::Broken),
        }
    }

    /// No more transactions: what is open is aborted.
    pub fn stop(&mut self) {
        match self.state {
            State::Open | State::Ending { .. } | State::Beginning => {
                self.spoil(Spoiled::Revoked);
            }
            _ => {}
        }
    }

    fn spoil(&mut self, why: Spoiled) {
        match self.state {
            // What is under way is answered first, see `next`.
            State::Beginning | State::Open | State::Ending { .. } | State::Offsets => {
                self.spoiled.get_or_insert(why);
            }
            // Too late to call a commit back: the offsets of every lease are in it, and the broker took
            // them while the group had not moved on. A next owner waits for its end.
            _ => {}
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.under_way.clear();
        self.since = None;
        self.not_before = None;
        match state {
            State::Ready => self.clear(),
            // From here on it may happen.
            State::Committing => self.in_doubt = true,
            _ => {}
        }
    }

    /// What to do now, if there is anything. While a step is under way that another must wait for there
    /// is nothing.
    pub fn next(&mut self, now: Instant) -> Option<Step> {
        if self.spoiled.is_some()
            && matches!(
                self.state,
                State::Open | State::Ending { .. } | State::Offsets
            )
            && self.under_way.is_empty()
        {
            self.enter(State::Aborting);
        }
        if self.not_before.is_some_and(|then| now < then) {
            return None;
        }
        let step = match self.state {
            State::New => Step::Init,
            State::Unresolved => Step::Resolve,
            State::Beginning => Step::Begin,
            State::Ending { flushed: false, .. } if self.is_free(Step::Flush) => Step::Flush,
            State::Ending {
                identified: false, ..
            } => Step::Identify,
            State::Offsets => Step::SendOffsets,
            State::Committing => Step::Commit,
            State::Aborting => Step::Abort,
            State::Broken => Step::Recreate,
            State::Ending { .. } | State::Ready | State::Open | State::Over => return None,
        };
        if self.spoiled.is_some() && matches!(step, Step::Flush | Step::Identify) {
            return None;
        }
        if !self.is_free(step) {
            return None;
        }
        self.under_way.insert(step);
        self.not_before = None;
        self.since.get_or_insert(now);
        Some(step)
    }

    fn is_free(&self, step: Step) -> bool {
        !self.under_way.contains(&step)
    }

    /// A step is done, or failed. The answer to a step that nobody waits for any more is ignored.
    pub fn done(&mut self, step: Step, outcome: Result<(), Remedy>, now: Instant) -> Turn {
        if !self.under_way.remove(&step) {
            return Turn::None;
        }
        match outcome {
            Ok(()) => self.succeeded(step, now),
            Err(remedy) => self.refused(step, remedy, now),
        }
    }

    fn succeeded(&mut self, step: Step, now: Instant) -> Turn {
        match (step, self.state) {
            (Step::Init, _) => self.enter(State::Unresolved),
            (Step::Resolve, _) => {
                self.in_doubt = false;
                self.enter(State::Ready);
            }
            (Step::Begin, _) => {
                self.enter(State::Open);
                self.opened = Some(now);
            }
            (Step::Flush, State::Ending { identified, .. }) => self.ending(true, identified),
            (Step::Identify, State::Ending { flushed, .. }) => self.ending(flushed, true),
            (Step::SendOffsets, _) if self.spoiled.is_some() => self.enter(State::Aborting),
            (Step::SendOffsets, _) => self.enter(State::Committing),
            (Step::Commit, _) => {
                self.in_doubt = false;
                self.pause = PAUSE.0;
                self.enter(State::Ready);
                return Turn::Committed;
            }
            (Step::Abort, _) => {
                // A commit that was refused after it was sent: better to look.
                self.enter(match self.in_doubt {
                    true => State::Unresolved,
                    false => State::Ready,
                });
                self.clear();
                return Turn::Undone;
            }
            (Step::Recreate, _) => {
                self.enter(State::New);
                self.clear();
                self.wait(now);
                return Turn::Undone;
            }
            (Step::Flush | Step::Identify, _) => {}
        }
        Turn::None
    }

    fn ending(&mut self, flushed: bool, identified: bool) {
        match self.spoiled.is_none() && flushed && identified {
            true => self.enter(State::Offsets),
            // Not entered anew: the other step may be under way.
            false => {
                self.state = State::Ending {
                    flushed,
                    identified,
                }
            }
        }
    }

    fn clear(&mut self) {
        self.leases.clear();
        self.sends = 0;
        self.spoiled = None;
        self.opened = None;
    }

    fn refused(&mut self, step: Step, remedy: Remedy, now: Instant) -> Turn {
        let is_late = self
            .since
            .is_some_and(|since| now.duration_since(since) >= self.patience);
        let remedy = match (step, remedy) {
            (_, Remedy::Exit) => Remedy::Exit,
            // These two can be asked for ever: nothing is open, nothing is lost.
            (Step::Init, Remedy::Retry) | (Step::Resolve, _) => Remedy::Retry,
            (Step::Init | Step::Begin | Step::Recreate, _) => Remedy::Recreate,
            (Step::Flush | Step::Identify | Step::SendOffsets, Remedy::Retry) if is_late => {
                Remedy::Abort
            }
            // The commit may have happened, and may happen yet.
            (Step::Commit | Step::Abort, Remedy::Retry) if is_late => Remedy::Recreate,
            // An abort that has to be aborted is broken.
            (Step::Abort, Remedy::Abort) => Remedy::Recreate,
            (_, remedy) => remedy,
        };
        match remedy {
            Remedy::Retry => self.wait(now),
            Remedy::Exit => {
                self.enter(State::Over);
                return Turn::Exit;
            }
            Remedy::Recreate => {
                self.enter(State::Broken);
                if step == Step::Recreate {
                    self.wait(now);
                }
            }
            Remedy::Abort | Remedy::Rejoin | Remedy::Shorten => {
                self.spoiled.get_or_insert(Spoiled::Failed);
                // While flush or identify is under way the abort waits for it, see `next`.
                if !matches!(self.state, State::Ending { .. }) {
                    self.enter(State::Aborting);
                }
            }
        }
        Turn::None
    }

    fn wait(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}
