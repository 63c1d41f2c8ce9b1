//! The sequencer's promises, one by one, and against a naive twin under random interleavings.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use scan_pipeline::sequencer::{Action, Entry, Lease, Sequencer, Slot};

fn lease(generation: u64) -> Lease {
    Lease {
        partition: 0,
        generation,
    }
}

/// Records at these offsets, each to be sent as its own offset.
fn records(offsets: &[i64]) -> Vec<Entry<i64>> {
    offsets
        .iter()
        .map(|o| Entry {
            next_offset: Some(o + 1),
            item: Some(*o),
        })
        .collect()
}

fn send_all(sequencer: &mut Sequencer<i64>) -> Vec<(Slot, i64)> {
    std::iter::from_fn(|| sequencer.next_send().map(|(_, slot, item)| (slot, *item))).collect()
}

fn items(sent: &[(Slot, i64)]) -> Vec<i64> {
    sent.iter().map(|(_, item)| *item).collect()
}

fn actions(sequencer: &mut Sequencer<i64>) -> Vec<Action> {
    std::iter::from_fn(|| sequencer.next_action()).collect()
}

fn watermark(offset: i64) -> Action {
    Action::Watermark {
        lease: lease(1),
        offset,
    }
}

fn assigned() -> Sequencer<i64> {
    let mut sequencer = Sequencer::new();
    sequencer.assign(lease(1));
    sequencer
}

#[test]
fn results_are_sent_in_input_order_whatever_order_the_workers_finish_in() {
    let mut s = assigned();
    s.scanned(lease(1), 2, records(&[20, 21]), true);
    assert!(send_all(&mut s).is_empty(), "batch 2 waits for 0 and 1");
    s.scanned(lease(1), 0, records(&[0, 1]), true);
    assert_eq!(items(&send_all(&mut s)), [0, 1]);
    s.scanned(lease(1), 1, records(&[10]), true);
    assert_eq!(items(&send_all(&mut s)), [10, 20, 21]);
}

#[test]
fn an_acknowledgement_behind_a_gap_does_not_move_the_watermark() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[5, 6, 7]), true);
    let sent = send_all(&mut s);
    s.acked(lease(1), sent[2].0);
    s.acked(lease(1), sent[1].0);
    assert!(actions(&mut s).is_empty());
    s.acked(lease(1), sent[0].0);
    assert_eq!(actions(&mut s), [watermark(8)]);
}

#[test]
fn the_watermark_follows_received_offsets_across_gaps_in_the_log() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[3, 90]), true);
    let sent = send_all(&mut s);
    s.acked(lease(1), sent[0].0);
    assert_eq!(actions(&mut s), [watermark(4)]);
    s.acked(lease(1), sent[1].0);
    assert_eq!(actions(&mut s), [watermark(91)]);
}

#[test]
fn a_policy_drop_passes_the_watermark_without_being_sent_but_only_in_turn() {
    let mut s = assigned();
    let mut batch = records(&[0]);
    batch.push(Entry {
        next_offset: Some(2),
        item: None,
    });
    s.scanned(lease(1), 0, batch, true);
    let sent = send_all(&mut s);
    assert_eq!(items(&sent), [0]);
    assert!(actions(&mut s).is_empty());
    s.acked(lease(1), sent[0].0);
    assert_eq!(actions(&mut s), [watermark(2)]);
}

#[test]
fn a_record_with_a_dead_letter_passes_only_when_both_sends_are_acknowledged() {
    let both = vec![
        Entry {
            next_offset: None,
            item: Some(-4),
        },
        Entry {
            next_offset: Some(5),
            item: Some(4),
        },
    ];
    for first in [0, 1] {
        let mut s = assigned();
        s.scanned(lease(1), 0, both.clone(), true);
        let sent = send_all(&mut s);
        s.acked(lease(1), sent[first].0);
        assert!(!actions(&mut s).contains(&watermark(5)));
        s.acked(lease(1), sent[1 - first].0);
        assert_eq!(actions(&mut s), [watermark(5)]);
    }
}

#[test]
fn a_failed_send_is_repeated_before_anything_that_was_not_sent() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[0, 1, 2, 3]), true);
    let first: Vec<_> = (0..3)
        .filter_map(|_| s.next_send().map(|(_, slot, _)| slot))
        .collect();
    s.acked(lease(1), first[1]);
    s.failed(lease(1), first[2]);
    s.failed(lease(1), first[0]);
    assert_eq!(items(&send_all(&mut s)), [0, 2, 3]);
    assert!(actions(&mut s).is_empty());
}

#[test]
fn a_lost_producer_repeats_everything_unacknowledged_in_order() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[0, 1, 2]), true);
    let sent = send_all(&mut s);
    s.acked(lease(1), sent[1].0);
    s.failed_all();
    assert_eq!(items(&send_all(&mut s)), [0, 2]);
}

#[test]
fn late_items_of_a_dead_generation_are_dropped_and_counted() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[0, 1]), true);
    let sent = send_all(&mut s);
    s.close(lease(1));
    s.assign(lease(2));
    s.acked(lease(1), sent[0].0);
    s.failed(lease(1), sent[1].0);
    s.scanned(lease(1), 1, records(&[2, 3, 4]), true);
    assert_eq!((s.stale().delivered, s.stale().scanned), (2, 3));
    assert!(send_all(&mut s).is_empty());
    assert!(actions(&mut s).is_empty());
    // And the new generation starts at its own batch 0.
    s.scanned(lease(2), 0, records(&[1]), true);
    assert_eq!(items(&send_all(&mut s)), [1]);
}

#[test]
fn nothing_behind_an_abandoned_batch_is_sent_or_committed() {
    let mut s = assigned();
    s.scanned(lease(1), 2, records(&[20]), true);
    s.scanned(lease(1), 1, records(&[10]), false); // gave up after its first record
    s.scanned(lease(1), 3, records(&[30]), true);
    s.scanned(lease(1), 0, records(&[0]), true);
    let sent = send_all(&mut s);
    assert_eq!(items(&sent), [0, 10]);
    s.drain(lease(1), 4);
    for (slot, _) in sent {
        s.acked(lease(1), slot);
    }
    assert_eq!(
        actions(&mut s),
        [watermark(11), Action::Drained { lease: lease(1) }]
    );
    assert_eq!(s.stale().scanned, 2);
    assert_eq!(s.held(), 0);
}

#[test]
fn a_drain_ends_when_the_last_acknowledgement_is_in_and_not_before() {
    let mut s = assigned();
    s.scanned(lease(1), 0, records(&[0]), true);
    s.drain(lease(1), 2);
    let sent = send_all(&mut s);
    s.acked(lease(1), sent[0].0);
    assert_eq!(
        actions(&mut s),
        [watermark(1)],
        "batch 1 is still being scanned"
    );
    s.scanned(lease(1), 1, records(&[1]), true);
    assert!(actions(&mut s).is_empty(), "batch 1 is not acknowledged");
    let sent = send_all(&mut s);
    s.acked(lease(1), sent[0].0);
    assert_eq!(
        actions(&mut s),
        [watermark(2), Action::Drained { lease: lease(1) }]
    );
    assert!(actions(&mut s).is_empty());
}

#[test]
fn a_drain_of_an_idle_partition_ends_at_once() {
    let mut s = assigned();
    s.drain(lease(1), 0);
    assert_eq!(actions(&mut s), [Action::Drained { lease: lease(1) }]);
}

#[test]
fn partitions_take_turns() {
    let mut s = Sequencer::new();
    for partition in 0..2 {
        let lease = Lease {
            partition,
            generation: 1,
        };
        s.assign(lease);
        s.scanned(lease, 0, records(&[0, 1]), true);
    }
    let order: Vec<i32> = std::iter::from_fn(|| s.next_send().map(|(l, ..)| l.partition)).collect();
    assert_eq!(order, [0, 1, 0, 1]);
}

/// One partition's lease, remembered in full and judged from scratch each time.
#[derive(Default)]
struct Naive {
    generation: u64,
    batches: BTreeMap<u64, (Vec<Entry<i64>>, bool)>,
    handed_out: u64,
    acked: BTreeSet<Slot>,
    in_flight: BTreeSet<Slot>,
    drain: Option<u64>,
}

impl Naive {
    fn cut(&self) -> u64 {
        self.batches
            .iter()
            .filter(|(_, (_, complete))| !complete)
            .map(|(seq, _)| seq + 1)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn released(&self) -> (u64, Vec<Entry<i64>>) {
        let mut out = Vec::new();
        let mut seq = 0;
        while let Some((entries, _)) = self.batches.get(&seq).filter(|_| seq < self.cut()) {
            out.extend(entries.iter().cloned());
            seq += 1;
        }
        (seq, out)
    }

    fn done(&self) -> usize {
        let (_, entries) = self.released();
        entries
            .iter()
            .enumerate()
            .take_while(|(slot, e)| e.item.is_none() || self.acked.contains(&(*slot as u64)))
            .count()
    }

    fn watermark(&self) -> Option<i64> {
        self.released().1[..self.done()]
            .iter()
            .rev()
            .find_map(|e| e.next_offset)
    }

    fn is_drained(&self, through: u64) -> bool {
        let (released, entries) = self.released();
        released >= through.min(self.cut()) && self.done() == entries.len()
    }

    fn next_slot(&self) -> Option<(Slot, i64)> {
        let (_, entries) = self.released();
        entries.iter().enumerate().find_map(|(slot, e)| {
            let slot = slot as u64;
            (!self.acked.contains(&slot) && !self.in_flight.contains(&slot))
                .then_some((slot, e.item?))
        })
    }
}

#[derive(Clone, Debug)]
enum Step {
    Assign(usize),
    Close(usize),
    Drain(usize),
    /// Finish the `pick`-th outstanding batch with this many records.
    Finish {
        partition: usize,
        pick: usize,
        gaps: Vec<(i64, bool)>,
        complete: bool,
    },
    Ack {
        partition: usize,
        pick: usize,
    },
    Fail {
        partition: usize,
        pick: usize,
    },
    Send(usize),
    LoseProducer,
    /// Something of a generation that never was or is no more.
    Late(usize),
}

const PARTITIONS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS;
    prop_oneof![
        1 => partition.clone().prop_map(Step::Assign),
        1 => partition.clone().prop_map(Step::Close),
        1 => partition.clone().prop_map(Step::Drain),
        8 => (partition.clone(), 0..4_usize, prop::collection::vec((1..4_i64, prop::bool::weighted(0.8)), 0..4), prop::bool::weighted(0.95))
            .prop_map(|(partition, pick, gaps, complete)| Step::Finish { partition, pick, gaps, complete }),
        12 => (partition.clone(), 0..6_usize).prop_map(|(partition, pick)| Step::Ack { partition, pick }),
        2 => (partition.clone(), 0..6_usize).prop_map(|(partition, pick)| Step::Fail { partition, pick }),
        8 => (1..8_usize).prop_map(Step::Send),
        1 => Just(Step::LoseProducer),
        1 => partition.prop_map(Step::Late),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn the_sequencer_agrees_with_a_naive_twin(steps in prop::collection::vec(step(), 1..120)) {
        let mut real: Sequencer<i64> = Sequencer::new();
        let mut twins: Vec<Option<Naive>> = (0..PARTITIONS).map(|_| None).collect();
        let mut reported: Vec<Option<i64>> = vec![None; PARTITIONS];
        let mut generation = 0;
        for step in steps {
            match step {
                Step::Assign(p) => {
                    generation += 1;
                    real.assign(Lease { partition: p as i32, generation });
                    twins[p] = Some(Naive { generation, ..Naive::default() });
                    reported[p] = None;
                }
                Step::Close(p) => {
                    if let Some(twin) = twins[p].take() {
                        real.close(Lease { partition: p as i32, generation: twin.generation });
                    }
                }
                Step::Drain(p) => {
                    if let Some(twin) = &mut twins[p] {
                        twin.drain = Some(twin.handed_out);
                        real.drain(Lease { partition: p as i32, generation: twin.generation }, twin.handed_out);
                    }
                }
                Step::Finish { partition: p, pick, gaps, complete } => {
                    if let Some(twin) = &mut twins[p] {
                        // Offsets grow with the batch numbers, so a batch in front leaves room.
                        let seq = (0..).filter(|s| !twin.batches.contains_key(s)).nth(pick).unwrap();
                        let mut offset = seq as i64 * 100;
                        let entries: Vec<Entry<i64>> = gaps.iter().map(|(gap, send)| {
                            offset += gap;
                            Entry { next_offset: Some(offset + 1), item: send.then_some(offset) }
                        }).collect();
                        twin.handed_out = twin.handed_out.max(seq + 1);
                        twin.batches.insert(seq, (entries.clone(), complete));
                        real.scanned(Lease { partition: p as i32, generation: twin.generation }, seq, entries, complete);
                    }
                }
                Step::Ack { partition: p, pick } => {
                    if let Some(twin) = &mut twins[p]
                        && let Some(slot) = twin.in_flight.iter().copied().nth(pick)
                    {
                        twin.in_flight.remove(&slot);
                        twin.acked.insert(slot);
                        real.acked(Lease { partition: p as i32, generation: twin.generation }, slot);
                    }
                }
                Step::Fail { partition: p, pick } => {
                    if let Some(twin) = &mut twins[p]
                        && let Some(slot) = twin.in_flight.iter().copied().nth(pick)
                    {
                        twin.in_flight.remove(&slot);
                        real.failed(Lease { partition: p as i32, generation: twin.generation }, slot);
                    }
                }
                Step::Send(n) => {
                    for _ in 0..n {
                        match real.next_send().map(|(lease, slot, item)| (lease, slot, *item)) {
                            Some((lease, slot, item)) => {
                                let twin = twins[lease.partition as usize].as_mut().expect("a live lease");
                                prop_assert_eq!(twin.generation, lease.generation);
                                prop_assert_eq!(twin.next_slot(), Some((slot, item)));
                                twin.in_flight.insert(slot);
                            }
                            None => {
                                prop_assert!(twins.iter().flatten().all(|t| t.next_slot().is_none()));
                            }
                        }
                    }
                }
                Step::LoseProducer => {
                    real.failed_all();
                    for twin in twins.iter_mut().flatten() {
                        twin.in_flight.clear();
                    }
                }
                Step::Late(p) => {
                    let current = twins[p].as_ref().map(|t| t.generation);
                    let dead = Lease { partition: p as i32, generation: (1..).find(|g| Some(*g) != current).unwrap() };
                    let before = real.stale();
                    real.acked(dead, 0);
                    real.failed(dead, 0);
                    real.scanned(dead, 0, records(&[7]), true);
                    real.drain(dead, 0);
                    real.close(dead);
                    prop_assert_eq!(real.stale().delivered, before.delivered + 2);
                    prop_assert_eq!(real.stale().scanned, before.scanned + 1);
                }
            }
            while let Some(action) = real.next_action() {
                match action {
                    Action::Watermark { lease, offset } => {
                        let p = lease.partition as usize;
                        prop_assert!(reported[p].is_none_or(|r| r < offset), "the watermark went back");
                        prop_assert_eq!(twins[p].as_ref().map(|t| t.generation), Some(lease.generation));
                        reported[p] = Some(offset);
                    }
                    Action::Drained { lease } => {
                        let twin = twins[lease.partition as usize].as_mut().expect("a live lease");
                        let through = twin.drain.take().expect("a drain was asked for");
                        prop_assert!(twin.is_drained(through));
                    }
                }
            }
            for (p, twin) in twins.iter().enumerate() {
                if let Some(twin) = twin {
                    prop_assert_eq!(reported[p], twin.watermark());
                    prop_assert!(!twin.drain.is_some_and(|through| twin.is_drained(through)), "a drain was not answered");
                }
            }
        }
    }
}
