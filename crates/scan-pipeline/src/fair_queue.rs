//! Waiting work of several partitions, in a fair order: pure, no clock, no threads.
//!
//! The partition that has used the least of the engine's time goes first (start-time fair queueing: each partition has a virtual
//! time, which moves on with what its items took). Within a partition items keep their order. What an item will take is not known
//! beforehand, so an item that is taken counts as much as the partition's last one until it has finished; then the difference is
//! settled.
//!
//! A partition that had nothing waiting does not save up time: it continues where the others are. So a partition with a few cheap items
//! waits for the items that are being worked on and for no others, however many expensive ones another partition has waiting; and a partition
//! with expensive ones waits until the others have had as much time as its last ones took, and no longer.
//!
//! The queue has no bound of its own: its records are in flight, and [`flow`](super::flow) bounds those, for each partition and for all.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Items of several partitions.
#[derive(Debug)]
pub struct FairQueue<T> {
    lines: BTreeMap<i32, Line<T>>,
    /// The virtual time at which the item that was taken last began.
    now: Duration,
    /// Items that came so far.
    arrivals: u64,
    waiting: usize,
    running: usize,
}

#[derive(Debug)]
struct Line<T> {
    items: VecDeque<(u64, T)>,
    /// The virtual time at which the next item begins.
    start: Duration,
    /// Items that were taken and have not finished.
    running: usize,
    /// What the item took that finished last.
    last: Duration,
}

/// An item to work on.
#[derive(Debug)]
#[must_use = "its time has to be settled with FairQueue::finished"]
pub struct Taken<T> {
    /// The item.
    pub item: T,
    /// What it counts until it has finished.
    pub charge: Charge,
}

/// What an item that was taken counts until it has finished.
#[derive(Debug)]
pub struct Charge {
    partition: i32,
    foreseen: Duration,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        FairQueue {
            lines: BTreeMap::new(),
            now: Duration::ZERO,
            arrivals: 0,
            waiting: 0,
            running: 0,
        }
    }
}

impl<T> FairQueue<T> {
    /// Items that wait.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Adds an item behind those of its partition.
    pub fn push(&mut self, partition: i32, item: T) {
        let line = self.lines.entry(partition).or_insert_with(|| Line {
            items: VecDeque::new(),
            start: Duration::ZERO,
            running: 0,
            last: Duration::ZERO,
        });
        if line.items.is_empty() {
            line.start = line.start.max(self.now);
        }
        line.items.push_back((self.arrivals, item));
        self.arrivals += 1;
        self.waiting += 1;
    }

    /// Takes the next item: of the partition that is furthest behind in time, and among equals of the one that waits longest.
    pub fn pop(&mut self) -> Option<Taken<T>> {
        let waiting = self.lines.iter_mut().filter_map(|(partition, line)| {
            let (arrival, _) = line.items.front()?;
            Some(((line.start, *arrival), *partition, line))
        });
        let (_, partition, line) = waiting.min_by_key(|(key, ..)| *key)?;
        let (_, item) = line.items.pop_front()?;
        let foreseen = line.last;
        self.now = self.now.max(line.start);
        line.start += foreseen;
        line.running += 1;
        self.waiting -= 1;
        self.running += 1;
        let charge = Charge {
            partition,
            foreseen,
        };
        Some(Taken { item, charge })
    }

    /// An item that was taken has finished.
    pub fn finished(&mut self, charge: Charge, took: Duration) {
        let Charge {
            partition,
            foreseen,
        } = charge;
        self.running -= 1;
        if let Some(line) = self.lines.get_mut(&partition) {
            line.running -= 1;
            line.last = took;
            line.start = (line.start + took).saturating_sub(foreseen);
        }
        if self.waiting == 0 && self.running == 0 {
            // Nobody competes: nobody owes anything.
            self.lines.clear();
            self.now = Duration::ZERO;
        } else {
            self.forget();
        }
    }

    /// Takes out the items for which this holds, in no particular order of partitions.
    pub fn take_where(&mut self, mut is_taken: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for line in self.lines.values_mut() {
            if line.items.iter().any(|(_, item)| is_taken(item)) {
                for (arrival, item) in std::mem::take(&mut line.items) {
                    match is_taken(&item) {
                        true => taken.push(item),
                        false => line.items.push_back((arrival, item)),
                    }
                }
            }
        }
        self.waiting -= taken.len();
        self.forget();
        taken
    }

    /// Partitions about which nothing is known that matters.
    fn forget(&mut self) {
        let now = self.now;
        self.lines
            .retain(|_, line| !line.items.is_empty() || line.running > 0 || line.start > now);
    }
}
