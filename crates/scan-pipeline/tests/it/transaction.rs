//! The state machine of transactions: its promises one by one, and together with the sequencer against a model of a broker
//! that fails, forgets to answer, fences and gives partitions away, in every order that a random walk finds.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scan_pipeline::errors::Remedy;
use scan_pipeline::sequencer::{Action, Entry, Lease, Sequencer, Slot};
use scan_pipeline::transaction::{Step, Transactions, Turn};

const INTERVAL: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(15);

fn lease(partition: i32) -> Lease {
    Lease {
        partition,
        generation: 1,
    }
}

/// A machine, and the time that it is told.
struct Told {
    machine: Transactions,
    now: Instant,
}

impl Told {
    fn new() -> Self {
        Told {
            machine: Transactions::new(INTERVAL, PATIENCE),
            now: Instant::now(),
        }
    }

    fn ready() -> Self {
        let mut told = Self::new();
        told.expect(Step::Init, Ok(()), Turn::None);
        told.expect(Step::Resolve, Ok(()), Turn::None);
        assert!(told.machine.is_ready());
        told
    }

    fn open() -> Self {
        let mut told = Self::ready();
        told.machine.begin();
        told.expect(Step::Begin, Ok(()), Turn::None);
        assert!(told.machine.is_open());
        told.machine.sent(lease(0));
        told
    }

    fn ended() -> Self {
        let mut told = Self::open();
        told.machine.end();
        told
    }

    fn at(step: Step) -> Self {
        let mut told = Self::ended();
        for before in [Step::Flush, Step::Identify, Step::SendOffsets, Step::Commit] {
            if before == step {
                break;
            }
            told.expect(before, Ok(()), Turn::None);
        }
        told
    }

    fn next(&mut self) -> Option<Step> {
        self.machine.next(self.now)
    }

    #[track_caller]
    fn expect(&mut self, step: Step, outcome: Result<(), Remedy>, turn: Turn) {
        assert_eq!(self.next(), Some(step));
        assert_eq!(self.machine.done(step, outcome, self.now), turn, "{step:?}");
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }
}

#[test]
fn offsets_and_answers_are_committed_together_and_only_after_everything_is_acknowledged() {
    let mut told = Told::ended();
    assert_eq!(told.next(), Some(Step::Flush));
    assert_eq!(told.next(), Some(Step::Identify), "both at once");
    assert_eq!(told.next(), None, "no offsets before both are done");
    let now = told.now;
    assert_eq!(told.machine.done(Step::Identify, Ok(()), now), Turn::None);
    assert_eq!(told.next(), None);
    assert_eq!(told.machine.done(Step::Flush, Ok(()), now), Turn::None);
    told.expect(Step::SendOffsets, Ok(()), Turn::None);
    told.expect(Step::Commit, Ok(()), Turn::Committed);
    assert!(told.machine.is_ready());
    assert_eq!(told.next(), None);
}

#[test]
fn nothing_is_sent_outside_of_an_open_transaction() {
    let mut told = Told::new();
    assert!(!told.machine.is_open());
    told.machine.begin();
    assert_eq!(told.next(), Some(Step::Init), "not ready to begin");
    let mut told = Told::ended();
    assert!(!told.machine.is_open());
    told.machine.end();
    told.machine.begin();
    assert_eq!(told.next(), Some(Step::Flush));
}

#[test]
fn a_transaction_is_due_after_its_interval() {
    let mut told = Told::open();
    assert!(!told.machine.is_due(told.now));
    told.wait(INTERVAL);
    assert!(told.machine.is_due(told.now));
    told.machine.end();
    assert!(!told.machine.is_due(told.now), "it is being ended already");
}

#[test]
fn a_lease_that_ends_with_results_inside_spoils_the_transaction_until_the_commit_is_under_way() {
    for step in [Step::Flush, Step::Identify, Step::SendOffsets] {
        let mut told = Told::at(step);
        told.machine.closed(lease(1));
        told.machine.closed(lease(0));
        told.expect(Step::Abort, Ok(()), Turn::Undone);
        assert!(told.machine.is_ready());
    }
    let mut told = Told::at(Step::SendOffsets);
    assert_eq!(told.next(), Some(Step::SendOffsets));
    told.machine.closed(lease(0));
    assert_eq!(told.next(), None, "one call at a time");
    let now = told.now;
    assert_eq!(
        told.machine.done(Step::SendOffsets, Ok(()), now),
        Turn::None
    );
    told.expect(Step::Abort, Ok(()), Turn::Undone);

    let mut told = Told::at(Step::Commit);
    told.machine.closed(lease(0));
    told.expect(Step::Commit, Ok(()), Turn::Committed);
}

#[test]
fn a_lease_without_results_inside_ends_without_harm() {
    let mut told = Told::ended();
    told.machine.closed(lease(1));
    told.expect(Step::Flush, Ok(()), Turn::None);
}

#[test]
fn an_abort_waits_for_what_is_under_way() {
    let mut told = Told::ended();
    assert_eq!(told.next(), Some(Step::Flush));
    assert_eq!(told.next(), Some(Step::Identify));
    told.machine.failed();
    assert_eq!(told.next(), None);
    let now = told.now;
    told.machine.done(Step::Flush, Ok(()), now);
    assert_eq!(told.next(), None, "the other is still under way");
    told.machine.done(Step::Identify, Ok(()), now);
    told.expect(Step::Abort, Ok(()), Turn::Undone);
}

#[test]
fn a_call_is_tried_again_until_patience_ends_and_then_something_stronger_is_done() {
    let after = |step: Step| {
        let mut told = Told::at(step);
        let end = told.now + PATIENCE;
        let mut calls = 0;
        loop {
            let asked = told.next();
            match asked {
                Some(asked) if asked == step => {
                    calls += 1;
                    let now = told.now;
                    assert_eq!(told.machine.done(step, Err(Remedy::Retry), now), Turn::None);
                }
                // The other half of an end.
                Some(Step::Identify) if step == Step::Flush => {
                    let now = told.now;
                    told.machine.done(Step::Identify, Ok(()), now);
                }
                Some(other) => return (calls, told.now >= end, other),
                None => told.wait(Duration::from_millis(20)),
            }
        }
    };
    for (step, stronger) in [
        (Step::Flush, Step::Abort),
        (Step::SendOffsets, Step::Abort),
        (Step::Commit, Step::Recreate),
    ] {
        let (calls, is_late, then) = after(step);
        assert_eq!((is_late, then), (true, stronger), "{step:?}");
        assert!((4..60).contains(&calls), "{calls} calls of {step:?}");
    }
}

#[test]
fn the_first_call_and_the_look_at_what_is_committed_are_tried_for_ever() {
    let mut told = Told::new();
    for _ in 0..100 {
        told.expect(Step::Init, Err(Remedy::Retry), Turn::None);
        told.wait(Duration::from_secs(6));
    }
    told.expect(Step::Init, Ok(()), Turn::None);
    for remedy in [Remedy::Retry, Remedy::Abort, Remedy::Recreate] {
        told.expect(Step::Resolve, Err(remedy), Turn::None);
        told.wait(Duration::from_secs(6));
    }
    told.expect(Step::Resolve, Ok(()), Turn::None);
    assert!(told.machine.is_ready());
}

#[test]
fn after_an_unknown_outcome_a_new_producer_settles_the_old_one_before_anything_is_sent() {
    let mut told = Told::at(Step::Commit);
    told.expect(Step::Commit, Err(Remedy::Recreate), Turn::None);
    told.expect(Step::Recreate, Ok(()), Turn::Undone);
    assert!(!told.machine.is_ready());
    told.wait(Duration::from_secs(6));
    told.expect(Step::Init, Ok(()), Turn::None);
    assert!(!told.machine.is_ready());
    told.expect(Step::Resolve, Ok(()), Turn::None);
    assert!(told.machine.is_ready());
}

#[test]
fn a_commit_that_was_refused_is_aborted_and_looked_at() {
    let mut told = Told::at(Step::Commit);
    told.expect(Step::Commit, Err(Remedy::Abort), Turn::None);
    told.expect(Step::Abort, Ok(()), Turn::Undone);
    told.expect(Step::Resolve, Ok(()), Turn::None);
    assert!(told.machine.is_ready());
}

#[test]
fn an_abort_that_fails_costs_the_producer() {
    for remedy in [Remedy::Abort, Remedy::Recreate] {
        let mut told = Told::open();
        told.machine.failed();
        told.expect(Step::Abort, Err(remedy), Turn::None);
        told.expect(Step::Recreate, Ok(()), Turn::Undone);
    }
}

#[test]
fn what_needs_a_person_ends_it_in_every_step() {
    for step in [Step::Flush, Step::SendOffsets, Step::Commit] {
        let mut told = Told::at(step);
        told.expect(step, Err(Remedy::Exit), Turn::Exit);
        assert_eq!(told.next(), None);
        assert!(!told.machine.is_open());
    }
}

#[test]
fn a_stop_aborts_what_is_open_and_lets_a_commit_end() {
    let mut told = Told::open();
    told.machine.stop();
    told.expect(Step::Abort, Ok(()), Turn::Undone);
    assert!(told.machine.is_idle());
    let mut told = Told::at(Step::Commit);
    told.machine.stop();
    assert!(!told.machine.is_idle());
    told.expect(Step::Commit, Ok(()), Turn::Committed);
    assert!(told.machine.is_idle());
}

#[test]
fn replacing_the_producer_again_and_again_slows_down() {
    let mut told = Told::new();
    let since = told.now;
    for _ in 0..10 {
        while told.next() != Some(Step::Init) {
            told.wait(Duration::from_millis(10));
        }
        let now = told.now;
        told.machine.done(Step::Init, Err(Remedy::Recreate), now);
        told.expect(Step::Recreate, Ok(()), Turn::Undone);
    }
    assert!(told.now - since > Duration::from_secs(10));
}

// The sequencer for transactions.

fn answered(sequencer: &mut Sequencer<i64>, count: usize) {
    for _ in 0..count {
        let (lease, slot, _) = sequencer.next_send().expect("something to send");
        sequencer.acked(lease, slot);
    }
}

fn sequence(offsets: &[i64]) -> Sequencer<i64> {
    let mut sequencer = Sequencer::for_transactions();
    sequencer.assign(lease(0));
    let entries = offsets.iter().map(|offset| Entry {
        next_offset: Some(offset + 1),
        item: Some(*offset),
    });
    sequencer.scanned(lease(0), 0, entries.collect(), true);
    sequencer
}

#[test]
fn an_acknowledgement_in_a_transaction_moves_no_watermark_until_it_is_settled() {
    let mut s = sequence(&[3, 4, 9]);
    answered(&mut s, 2);
    assert_eq!(s.next_action(), None);
    assert_eq!(s.unsettled(), [(lease(0), 5)]);
    assert_eq!(s.kept(), (2, 2));
    let mut left = Vec::new();
    s.settle(lease(0), 5, |slot, item| left.push((slot, *item)));
    assert_eq!(left, [(0, 3), (1, 4)]);
    let watermark = Action::Watermark {
        lease: lease(0),
        offset: 5,
    };
    assert_eq!(s.next_action(), Some(watermark));
    assert_eq!((s.kept(), s.held()), ((0, 0), 1));
}

#[test]
fn what_an_aborted_transaction_held_is_sent_again_in_order_and_what_was_settled_is_not() {
    let mut s = sequence(&[0, 1, 2, 3]);
    answered(&mut s, 3);
    s.settle(lease(0), 1, |_, _| {});
    s.failed_all();
    let again: Vec<i64> = std::iter::from_fn(|| s.next_send().map(|(_, _, item)| *item)).collect();
    assert_eq!(again, [1, 2, 3]);
    assert_eq!(s.kept(), (0, 0));
}

#[test]
fn a_drain_in_transactions_ends_with_the_commit() {
    let mut s = sequence(&[0]);
    s.drain(lease(0), 1);
    assert!(!s.awaits_settling());
    answered(&mut s, 1);
    assert!(s.awaits_settling());
    assert_eq!(s.next_action(), None);
    s.settle(lease(0), 1, |_, _| {});
    assert!(!s.awaits_settling());
    s.next_action();
    assert_eq!(s.next_action(), Some(Action::Drained { lease: lease(0) }));
}

#[test]
fn a_record_is_never_split_between_transactions() {
    let mut s: Sequencer<i64> = Sequencer::for_transactions();
    for partition in 0..2 {
        s.assign(lease(partition));
        let both = vec![
            Entry {
                next_offset: None,
                item: Some(-8),
            },
            Entry {
                next_offset: Some(9),
                item: Some(8),
            },
        ];
        s.scanned(lease(partition), 0, both, true);
    }
    let (of, first, _) = s.next_send().unwrap();
    assert!(s.is_split());
    let (then, second, item) = s
        .next_send()
        .map(|(l, slot, item)| (l, slot, *item))
        .unwrap();
    assert_eq!(
        (then, item),
        (of, 8),
        "both sends of a record come together"
    );
    assert!(!s.is_split());
    // The client's queue was full.
    s.failed(of, second);
    assert!(s.is_split());
    s.acked(of, first);
    assert_eq!(s.unsettled(), [], "a dead letter alone passes nothing");
    // Committed by somebody up to this record, not beyond: the dead letter is not gone.
    s.settle(of, 8, |_, _| panic!("nothing is settled"));
    assert_eq!(s.held(), 4);
}

#[test]
fn records_that_nobody_is_told_about_are_settled_as_well() {
    let mut s: Sequencer<i64> = Sequencer::for_transactions();
    s.assign(lease(0));
    let dropped = vec![Entry {
        next_offset: Some(1),
        item: None,
    }];
    s.scanned(lease(0), 0, dropped, true);
    assert!(s.has_unsettled());
    assert_eq!(s.next_action(), None);
    assert_eq!(s.unsettled(), [(lease(0), 1)]);
}

// The model.

const PARTITIONS: usize = 3;

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Us,
    /// We were told that it goes; the group has not moved on.
    Leaving,
    Other,
}

#[derive(Default)]
struct Txn {
    sends: Vec<(usize, i64)>,
    offsets: Option<Vec<(usize, i64)>>,
}

/// What the brokers know.
struct World {
    committed: [i64; PARTITIONS],
    visible: BTreeMap<(usize, i64), usize>,
    txn: Option<Txn>,
    generation: u64,
    owners: [Owner; PARTITIONS],
    /// Results of ours that came to count, and that did not.
    ours: usize,
    aborted: usize,
}

impl World {
    fn commit(&mut self) {
        let Some(txn) = self.txn.take() else { return };
        self.ours += txn.sends.len();
        for send in txn.sends {
            *self.visible.entry(send).or_default() += 1;
        }
        for (partition, offset) in txn.offsets.unwrap_or_default() {
            self.committed[partition] = offset;
        }
    }

    fn abort(&mut self) {
        if let Some(txn) = self.txn.take() {
            self.aborted += txn.sends.len();
        }
    }

    /// Offsets that wait for the end of a transaction: nobody is told where to begin.
    fn is_unstable(&self, partition: usize) -> bool {
        let offsets = self.txn.as_ref().and_then(|txn| txn.offsets.as_ref());
        offsets.is_some_and(|offsets| offsets.iter().any(|(p, _)| *p == partition))
    }

    /// Exactly the records before the committed offset have a result that counts, and one each.
    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert!(
            self.visible.values().all(|times| *times == 1),
            "{:?}",
            self.visible
        );
        for p in 0..PARTITIONS {
            let last = self.visible.range((p, 0)..(p + 1, 0)).next_back();
            prop_assert_eq!(
                last.map_or(0, |((_, offset), _)| offset + 1),
                self.committed[p]
            );
        }
        prop_assert_eq!(
            self.visible.len() as i64,
            self.committed.iter().sum::<i64>()
        );
        Ok(())
    }
}

enum Command {
    Close(Lease),
    Identity(u64),
}

/// The egress thread and the poll thread in small.
struct Process {
    machine: Transactions,
    sequencer: Sequencer<(usize, i64)>,
    leases: [Option<Lease>; PARTITIONS],
    position: [i64; PARTITIONS],
    seq: [u64; PARTITIONS],
    lease_count: u64,
    in_flight: Vec<(Lease, Slot, (usize, i64))>,
    commands: VecDeque<Command>,
    is_rung: bool,
    identity: u64,
    offsets: Vec<(Lease, i64)>,
    asked: Vec<Lease>,
    /// A call that was made and is not answered.
    call: Option<Step>,
    now: Instant,
}

impl Process {
    fn new() -> Self {
        Process {
            machine: Transactions::new(INTERVAL, PATIENCE),
            sequencer: Sequencer::for_transactions(),
            leases: [None; PARTITIONS],
            position: [0; PARTITIONS],
            seq: [0; PARTITIONS],
            lease_count: 0,
            in_flight: Vec::new(),
            commands: VecDeque::new(),
            is_rung: false,
            identity: 0,
            offsets: Vec::new(),
            asked: Vec::new(),
            call: None,
            now: Instant::now(),
        }
    }

    fn assign(&mut self, world: &mut World, p: usize) {
        if self.leases[p].is_some() || world.is_unstable(p) {
            return;
        }
        // What was told before comes first.
        while !self.commands.is_empty() {
            self.deliver();
        }
        world.generation += 1;
        world.owners[p] = Owner::Us;
        self.lease_count += 1;
        let lease = Lease {
            partition: p as i32,
            generation: self.lease_count,
        };
        self.sequencer.assign(lease);
        self.leases[p] = Some(lease);
        self.position[p] = world.committed[p];
        self.seq[p] = 0;
    }

    /// The poll thread lets a partition go, drained or not.
    fn revoke(&mut self, world: &mut World, p: usize) {
        if let Some(lease) = self.leases[p].take() {
            self.commands.push_back(Command::Close(lease));
            world.owners[p] = Owner::Leaving;
        }
    }

    fn poll_round(&mut self, world: &World) {
        if std::mem::take(&mut self.is_rung) {
            self.commands.push_back(Command::Identity(world.generation));
        }
    }

    fn deliver(&mut self) {
        match self.commands.pop_front() {
            Some(Command::Close(lease)) => {
                self.sequencer.close(lease);
                self.machine.closed(lease);
            }
            Some(Command::Identity(generation)) => {
                self.identity = generation;
                self.machine.done(Step::Identify, Ok(()), self.now);
            }
            None => {}
        }
    }

    fn read(&mut self, p: usize, records: i64) {
        let Some(lease) = self.leases[p] else { return };
        let entries = (self.position[p]..self.position[p] + records)
            .map(|offset| Entry {
                next_offset: Some(offset + 1),
                item: Some((p, offset)),
            })
            .collect();
        self.sequencer.scanned(lease, self.seq[p], entries, true);
        self.seq[p] += 1;
        self.position[p] += records;
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            if !self.machine.is_open() {
                return;
            }
            let Some((lease, slot, item)) = self.sequencer.next_send() else {
                return;
            };
            self.in_flight.push((lease, slot, *item));
            self.machine.sent(lease);
        }
    }

    fn report(&mut self, world: &mut World, pick: usize, arrives: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let (lease, slot, item) = self.in_flight.remove(pick % self.in_flight.len());
        if arrives {
            world.txn.get_or_insert_default().sends.push(item);
            self.sequencer.acked(lease, slot);
        } else {
            self.sequencer.failed(lease, slot);
            self.machine.failed();
        }
    }

    fn purge(&mut self) {
        for (lease, slot, _) in std::mem::take(&mut self.in_flight) {
            self.sequencer.failed(lease, slot);
            self.machine.failed();
        }
    }

    fn steer(&mut self) {
        if self.machine.is_ready()
            && (self.sequencer.has_unsettled() || self.sequencer.has_unsent())
        {
            self.machine.begin();
        }
        if self.machine.is_due(self.now) {
            self.machine.end();
        }
    }

    /// Hands the next step out, if there is one and no call is under way.
    fn issue(&mut self) {
        if self.call.is_some() {
            return;
        }
        while let Some(step) = self.machine.next(self.now) {
            match step {
                Step::Identify => self.is_rung = true,
                Step::SendOffsets if self.offsets.is_empty() => {
                    self.offsets = self.sequencer.unsettled();
                    self.call = Some(step);
                }
                Step::Resolve => {
                    self.asked = self.sequencer.leases();
                    self.call = Some(step);
                }
                _ => self.call = Some(step),
            }
        }
    }

    /// The brokers answer the call under way, well or with fault number `fault`.
    fn answer(&mut self, world: &mut World, fault: u8) {
        let Some(step) = self.call.take() else { return };
        let outcome = match (step, fault) {
            (Step::Init, 1 | 2) => Err(Remedy::Retry),
            (Step::Init, 3) => Err(Remedy::Recreate),
            (Step::Init, _) => {
                world.abort();
                Ok(())
            }
            (Step::Resolve, 1..=3) => Err(Remedy::Retry),
            (Step::Resolve, _) => {
                for lease in std::mem::take(&mut self.asked) {
                    let committed = world.committed[lease.partition as usize];
                    self.sequencer.settle(lease, committed, |_, _| {});
                }
                Ok(())
            }
            (Step::Begin, 3) => Err(Remedy::Recreate),
            (Step::Begin, _) => Ok(()),
            (Step::Flush, 1) => Err(Remedy::Retry),
            (Step::Flush, 2) => {
                self.report(world, 0, false);
                Err(Remedy::Retry)
            }
            (Step::Flush, _) => {
                while !self.in_flight.is_empty() {
                    self.report(world, 0, true);
                }
                Ok(())
            }
            (Step::SendOffsets, _) if self.identity != world.generation => Err(Remedy::Abort),
            (Step::SendOffsets, 1) => Err(Remedy::Retry),
            (Step::SendOffsets, 2) => Err(Remedy::Abort),
            (Step::SendOffsets, 3) => {
                world.abort();
                Err(Remedy::Recreate)
            }
            (Step::SendOffsets, fault) => {
                let offsets = self.offsets.iter();
                let offsets = offsets.map(|(l, offset)| (l.partition as usize, *offset));
                let txn = world.txn.get_or_insert_default();
                txn.offsets = Some(offsets.collect());
                // The answer was lost.
                if fault == 4 {
                    Err(Remedy::Retry)
                } else {
                    Ok(())
                }
            }
            (Step::Commit, 1) => Err(Remedy::Retry),
            (Step::Commit, 2) => Err(Remedy::Abort),
            (Step::Commit, 3) => {
                world.abort();
                Err(Remedy::Recreate)
            }
            (Step::Commit, fault) => {
                world.commit();
                match fault {
                    4 => Err(Remedy::Retry),
                    5 => Err(Remedy::Recreate),
                    _ => Ok(()),
                }
            }
            (Step::Abort, 1) => Err(Remedy::Retry),
            (Step::Abort, 3) => Err(Remedy::Recreate),
            (Step::Abort, _) => {
                world.abort();
                self.purge();
                Ok(())
            }
            (Step::Recreate, _) => {
                self.in_flight.clear();
                Ok(())
            }
            (Step::Identify, _) => unreachable!("not a call"),
        };
        match self.machine.done(step, outcome, self.now) {
            Turn::None => {}
            Turn::Committed => {
                for (lease, offset) in std::mem::take(&mut self.offsets) {
                    self.sequencer.settle(lease, offset, |_, _| {});
                }
            }
            Turn::Undone => {
                self.offsets.clear();
                self.sequencer.failed_all();
            }
            Turn::Exit => unreachable!("no fault asks for it"),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Read(usize, i64),
    Send(usize),
    Report(usize, bool),
    Steer,
    Issue,
    Answer(u8),
    Deliver,
    PollRound,
    Time(u64),
    Revoke(usize),
    /// The group moves on: what leaves is another member's.
    MoveOn,
    /// The other member answers so many records, each exactly once.
    Foreign(usize, i64),
    Assign(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let p = 0..PARTITIONS;
    prop_oneof![
        6 => (p.clone(), 1..4_i64).prop_map(|(p, n)| Event::Read(p, n)),
        6 => (1..5_usize).prop_map(Event::Send),
        6 => (0..5_usize, prop::bool::weighted(0.97)).prop_map(|(n, ok)| Event::Report(n, ok)),
        8 => Just(Event::Steer),
        12 => Just(Event::Issue),
        16 => prop_oneof![4 => Just(0_u8), 1 => 1..6_u8].prop_map(Event::Answer),
        10 => Just(Event::Deliver),
        8 => Just(Event::PollRound),
        6 => (1..400_u64).prop_map(Event::Time),
        1 => (4000..20_000_u64).prop_map(Event::Time),
        1 => p.clone().prop_map(Event::Revoke),
        2 => Just(Event::MoveOn),
        2 => (p.clone(), 0..3_i64).prop_map(|(p, n)| Event::Foreign(p, n)),
        3 => p.prop_map(Event::Assign),
    ]
}

fn apply(event: Event, us: &mut Process, world: &mut World) {
    match event {
        Event::Read(p, n) => us.read(p, n),
        Event::Send(n) => us.send(n),
        Event::Report(n, arrives) => us.report(world, n, arrives),
        Event::Steer => us.steer(),
        Event::Issue => us.issue(),
        Event::Answer(fault) => us.answer(world, fault),
        Event::Deliver => us.deliver(),
        Event::PollRound => us.poll_round(world),
        Event::Time(ms) => us.now += Duration::from_millis(ms),
        Event::Revoke(p) => us.revoke(world, p),
        Event::MoveOn => {
            if world.owners.contains(&Owner::Leaving) {
                world.generation += 1;
                for owner in &mut world.owners {
                    if *owner == Owner::Leaving {
                        *owner = Owner::Other;
                    }
                }
            }
        }
        Event::Foreign(p, n) => {
            if world.owners[p] == Owner::Other && !world.is_unstable(p) {
                for offset in world.committed[p]..world.committed[p] + n {
                    *world.visible.entry((p, offset)).or_default() += 1;
                }
                world.committed[p] += n;
            }
        }
        Event::Assign(p) => {
            if world.owners[p] == Owner::Other {
                us.assign(world, p);
            }
        }
    }
}

fn world() -> World {
    World {
        committed: [0; PARTITIONS],
        visible: BTreeMap::new(),
        txn: None,
        generation: 0,
        owners: [Owner::Other; PARTITIONS],
        ours: 0,
        aborted: 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(300)))]

    #[test]
    fn whatever_fails_each_record_counts_once_and_the_end_is_reached(events in prop::collection::vec(event(), 1..300)) {
        let (mut us, mut world) = (Process::new(), world());
        for p in 0..PARTITIONS {
            us.assign(&mut world, p);
        }
        for event in events {
            apply(event, &mut us, &mut world);
            world.check()?;
        }
        // Quiet: no more faults, and everything that was read is answered.
        for _ in 0..400 {
            for event in [Event::Steer, Event::Issue, Event::Answer(0), Event::PollRound, Event::Deliver, Event::Send(50), Event::Time(100)] {
                apply(event, &mut us, &mut world);
            }
            world.check()?;
            if us.sequencer.held() == 0 && us.commands.is_empty() && us.machine.is_ready() {
                break;
            }
        }
        prop_assert_eq!(us.sequencer.held(), 0);
        for p in 0..PARTITIONS {
            if us.leases[p].is_some() {
                prop_assert_eq!(world.committed[p], us.position[p]);
            }
        }
    }
}

/// The walk above means nothing if it commits nothing, or never aborts.
#[test]
fn the_random_walk_meets_commits_aborts_and_hand_overs() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut committed, mut aborted, mut generations) = (0, 0, 0);
    for _ in 0..200 {
        let events = prop::collection::vec(event(), 400)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let (mut us, mut world) = (Process::new(), world());
        for p in 0..PARTITIONS {
            us.assign(&mut world, p);
        }
        for event in events {
            apply(event, &mut us, &mut world);
        }
        committed += world.ours;
        aborted += world.aborted;
        generations += world.generation;
    }
    assert!(
        committed > 300 && aborted > 300 && generations > 300,
        "{committed} {aborted} {generations}"
    );
}
