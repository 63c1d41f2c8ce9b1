//! The promises of the queue in front of libclamav, and the queue against a naive twin under random interleavings.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use scan_pipeline::fair_queue::{Charge, FairQueue, Taken};

const SLOW: Duration = Duration::from_secs(5);
const QUICK: Duration = Duration::from_millis(1);

/// Takes the next item and finishes it.
fn work<T>(queue: &mut FairQueue<T>, takes: impl Fn(&T) -> Duration) -> Option<T> {
    let Taken { item, charge } = queue.pop()?;
    let took = takes(&item);
    queue.finished(charge, took);
    Some(item)
}

#[test]
fn a_light_partition_waits_for_the_item_under_way_and_no_other() {
    let mut queue = FairQueue::default();
    for bomb in 0..15 {
        queue.push(0, bomb);
    }
    for at in 0..10 {
        let Taken { item, charge } = queue.pop().unwrap();
        assert_eq!(item, at, "a bomb");
        // While it is scanned, two records of other partitions arrive.
        queue.push(1, 100);
        queue.push(2, 200);
        queue.finished(charge, SLOW);
        assert_eq!(work(&mut queue, |_| QUICK), Some(100));
        assert_eq!(work(&mut queue, |_| QUICK), Some(200));
    }
}

#[test]
fn items_of_a_partition_stay_in_order() {
    let mut queue = FairQueue::default();
    for number in 0..100 {
        queue.push(number % 3, number);
    }
    let mut last = BTreeMap::new();
    while let Some(number) = work(&mut queue, |_| QUICK) {
        let before = last.insert(number % 3, number);
        assert!(before < Some(number));
    }
    assert_eq!(last.len(), 3);
    assert!(queue.is_empty());
}

#[test]
fn two_partitions_with_enough_to_do_get_the_same_time() {
    let mut queue = FairQueue::default();
    for _ in 0..20 {
        queue.push(0, SLOW);
    }
    for _ in 0..200_000 {
        queue.push(1, QUICK);
    }
    let mut used = [Duration::ZERO; 2];
    while used[0] < SLOW * 20 {
        let took = work(&mut queue, |took| *took).unwrap();
        used[usize::from(took == QUICK)] += took;
        assert!(used[0].abs_diff(used[1]) <= SLOW, "{used:?}");
    }
}

#[test]
fn several_threads_do_not_all_take_from_the_partition_with_the_slow_ones() {
    let mut queue = FairQueue::default();
    (0..8).for_each(|_| queue.push(0, SLOW));
    assert_eq!(work(&mut queue, |took| *took), Some(SLOW));
    (0..8).for_each(|_| queue.push(1, QUICK));
    // Its items have not finished yet, but they are foreseen to be slow.
    let first = queue.pop().unwrap();
    assert_eq!(first.item, QUICK);
    queue.finished(first.charge, QUICK);
    let taken: Vec<_> = (0..8).map(|_| queue.pop().unwrap()).collect();
    let slow = taken.iter().filter(|taken| taken.item == SLOW).count();
    assert!(slow <= 1, "{slow} of 8");
    for Taken { item, charge } in taken {
        queue.finished(charge, item);
    }
}

#[test]
fn who_had_more_than_the_others_waits_only_while_they_have_work() {
    let mut queue = FairQueue::default();
    queue.push(0, SLOW);
    queue.push(1, QUICK);
    assert_eq!(work(&mut queue, |took| *took), Some(SLOW));
    queue.push(0, SLOW);
    assert_eq!(work(&mut queue, |took| *took), Some(QUICK));
    // Nobody else is there.
    assert_eq!(work(&mut queue, |took| *took), Some(SLOW));
    // All was idle: what was used before does not count any more.
    queue.push(0, SLOW);
    queue.push(1, QUICK);
    assert_eq!(work(&mut queue, |took| *took), Some(SLOW));
}

#[test]
fn what_is_given_up_leaves_the_others_where_they_were() {
    let mut queue = FairQueue::default();
    (0..10).for_each(|number| queue.push(number % 2, number));
    let mut odd = queue.take_where(|number| number % 2 == 1);
    odd.sort_unstable();
    assert_eq!(odd, [1, 3, 5, 7, 9]);
    assert_eq!(queue.len(), 5);
    let rest: Vec<i32> = std::iter::from_fn(|| work(&mut queue, |_| QUICK)).collect();
    assert_eq!(rest, [0, 2, 4, 6, 8]);
}

/// The same promise, written down plainly: every item and every partition ever seen, in lists.
#[derive(Default)]
struct Naive {
    /// Partition, arrival.
    waiting: Vec<(i32, usize)>,
    start: BTreeMap<i32, u64>,
    last: BTreeMap<i32, u64>,
    under_way: Vec<(i32, u64)>,
    now: u64,
}

impl Naive {
    fn push(&mut self, partition: i32, arrival: usize) {
        let is_first = !self.waiting.iter().any(|(of, _)| *of == partition);
        let start = self.start.entry(partition).or_default();
        if is_first {
            *start = self.now.max(*start);
        }
        self.waiting.push((partition, arrival));
    }

    fn pop(&mut self) -> Option<usize> {
        let start = |partition: &i32| self.start[partition];
        let next = self.waiting.iter().min_by_key(|(of, arrival)| {
            let of_line = self.waiting.iter().filter(|(other, _)| other == of);
            let head = of_line.map(|(_, arrival)| *arrival).min();
            (start(of), head, *arrival)
        });
        let (partition, arrival) = *next?;
        self.waiting.retain(|(_, other)| *other != arrival);
        self.now = self.now.max(self.start[&partition]);
        let foreseen = self.last.get(&partition).copied().unwrap_or_default();
        *self.start.get_mut(&partition).unwrap() += foreseen;
        self.under_way.push((partition, foreseen));
        Some(arrival)
    }

    fn finished(&mut self, number: usize, took: u64) {
        let (partition, foreseen) = self.under_way.remove(number);
        let start = self.start.get_mut(&partition).unwrap();
        *start = (*start + took).saturating_sub(foreseen);
        self.last.insert(partition, took);
        if self.waiting.is_empty() && self.under_way.is_empty() {
            *self = Naive::default();
        } else {
            self.forget();
        }
    }

    fn remove(&mut self, partition: i32) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|(of, _)| *of != partition);
        self.forget();
        before - self.waiting.len()
    }

    /// Who has nothing to do and owes nothing is as one that never was.
    fn forget(&mut self) {
        let partitions: Vec<i32> = self.start.keys().copied().collect();
        for partition in partitions {
            let is_known = self.waiting.iter().any(|(of, _)| *of == partition)
                || self.under_way.iter().any(|(of, _)| *of == partition)
                || self.start[&partition] > self.now;
            if !is_known {
                self.start.remove(&partition);
                self.last.remove(&partition);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(i32),
    Pop,
    Finish(usize, u64),
    GiveUp(i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4).prop_map(Step::Push),
        4 => Just(Step::Pop),
        4 => (0..8_usize, prop_oneof![0..5_u64, 100..5_000_u64])
            .prop_map(|(number, took)| Step::Finish(number, took)),
        1 => (0..4).prop_map(Step::GiveUp),
    ]
}

proptest! {
    #[test]
    fn it_does_what_its_naive_twin_does(steps in prop::collection::vec(step(), 1..200)) {
        let mut queue = FairQueue::default();
        let mut naive = Naive::default();
        let mut charges: Vec<Charge> = Vec::new();
        for (arrival, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push(partition) => {
                    queue.push(partition, (partition, arrival));
                    naive.push(partition, arrival);
                }
                Step::Pop => {
                    let taken = queue.pop();
                    prop_assert_eq!(taken.as_ref().map(|taken| taken.item.1), naive.pop());
                    charges.extend(taken.map(|taken| taken.charge));
                }
                Step::Finish(number, took) if !charges.is_empty() => {
                    let number = number % charges.len();
                    queue.finished(charges.remove(number), Duration::from_millis(took));
                    naive.finished(number, took);
                }
                Step::Finish(..) => {}
                Step::GiveUp(partition) => {
                    let gone = queue.take_where(|(of, _)| *of == partition).len();
                    prop_assert_eq!(gone, naive.remove(partition));
                }
            }
            prop_assert_eq!(queue.len(), naive.waiting.len());
        }
    }
}
