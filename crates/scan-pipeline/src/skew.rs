//! Whether one key, or one partition, carries most records: then more replicas cannot help.
//!
//! All records of a key are in one partition, and a partition has one owner. Where everything comes
//! from behind one address, and the address is the key, that owner works alone whatever the others do.
//!
//! Keys are not kept, and there is no limit to how many there may be: [`Shares`] counts in a fixed
//! number of places (the algorithm of Misra and Gries), which finds every key that has more than one
//! record in 65 and never says more of it than is true.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Places to count in.
const PLACES: usize = 64;
/// A window ends when it has had this many records…
const LEAST_RECORDS: u64 = 1_000;
/// …and this much time: how a batch of records came together is nobody's trouble.
const LEAST_TIME: Duration = Duration::from_secs(5);
/// A key carries most records from this share on.
const MOST: f64 = 0.5;

/// Where a record is, for whoever wants to look at its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Partition of the input topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
}

/// The key that has the most records, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Busiest {
    /// Share of the records that had a key: at most what is true, and at least 1/65 less.
    pub share: f64,
    /// A record of the key.
    pub place: Place,
}

#[derive(Clone, Copy)]
struct Slot {
    hash: u64,
    count: u64,
    place: Place,
}

/// Counts keys in bounded memory.
#[derive(Default)]
pub struct Shares {
    hashing: RandomState,
    /// At most [`PLACES`], none of them with a count of 0.
    slots: Vec<Slot>,
    total: u64,
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares")
            .field("total", &self.total)
            .field("busiest", &self.busiest())
            .finish_non_exhaustive()
    }
}

impl Shares {
    /// Counts a record with this key.
    pub fn add(&mut self, key: &[u8], place: Place) {
        self.total += 1;
        let hash = self.hashing.hash_one(key);
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.hash == hash) {
            slot.count += 1;
        } else if self.slots.len() < PLACES {
            self.slots.push(Slot {
                hash,
                count: 1,
                place,
            });
        } else {
            // One record of each key that has a place goes with this one; so no key loses more than its share of them.
            self.slots.retain_mut(|slot| {
                slot.count -= 1;
                slot.count > 0
            });
        }
    }

    /// Records that were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The busiest key; `None` if no key has more than one record in 65.
    pub fn busiest(&self) -> Option<Busiest> {
        let slot = self.slots.iter().max_by_key(|slot| slot.count)?;
        let share = slot.count as f64 / self.total as f64;
        Some(Busiest {
            share,
            place: slot.place,
        })
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.total = 0;
    }
}

/// What a window of time showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Share of the busiest key, of the records that had one; 0 if there were too few of them.
    pub key_share: f64,
    /// Share of the busiest of the owned partitions; 0 if only one is owned.
    pub partition_share: f64,
    /// What makes more replicas pointless, if something does.
    pub skew: Option<Skew>,
}

/// What carries most records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Skew {
    /// One key, and so its partition.
    Key(Busiest),
    /// One partition, whatever the keys.
    Partition {
        /// Which.
        partition: i32,
        /// Share of the records of all owned partitions.
        share: f64,
    },
}

/// Looks at records as they are read, one window of time after the other.
#[derive(Debug)]
pub struct Watch {
    keys: Shares,
    partitions: BTreeMap<i32, u64>,
    since: Instant,
}

impl Watch {
    /// The first window begins now.
    pub fn new(now: Instant) -> Watch {
        Watch {
            keys: Shares::default(),
            partitions: BTreeMap::new(),
            since: now,
        }
    }

    /// A record was read. Without a key it does not count among keys: such records are spread over all partitions.
    pub fn record(&mut self, key: Option<&[u8]>, place: Place) {
        if let Some(key) = key {
            self.keys.add(key, place);
        }
    }

    /// So many records of an owned partition were read; 0 says only that it is owned.
    pub fn partition(&mut self, partition: i32, records: u64) {
        *self.partitions.entry(partition).or_default() += records;
    }

    /// Partitions came or went: what was seen until now says nothing about what comes.
    pub fn restart(&mut self, now: Instant) {
        *self = Watch {
            keys: std::mem::take(&mut self.keys),
            partitions: BTreeMap::new(),
            since: now,
        };
        self.keys.clear();
    }

    /// What the window showed, if it is over; then the next one begins.
    pub fn look(&mut self, now: Instant) -> Option<Seen> {
        let records: u64 = self.partitions.values().sum();
        if records < LEAST_RECORDS || now.saturating_duration_since(self.since) < LEAST_TIME {
            return None;
        }
        let has_keys = self.keys.total() >= LEAST_RECORDS;
        let key = self.keys.busiest().filter(|_| has_keys);
        let owned = self.partitions.len();
        let busiest = self.partitions.iter().max_by_key(|(_, count)| **count);
        let partition = busiest
            .filter(|_| owned > 1)
            .map(|(id, count)| (*id, *count as f64 / records as f64));
        let skew = match (key, partition) {
            // A key that has most of the few records with keys is not in anybody's way.
            (Some(key), _) if key.share > MOST && self.keys.total() * 2 > records => {
                Some(Skew::Key(key))
            }
            (_, Some((partition, share))) if share > too_much(owned) => {
                Some(Skew::Partition { partition, share })
            }
            _ => None,
        };
        self.restart(now);
        Some(Seen {
            key_share: key.map_or(0.0, |key| key.share),
            partition_share: partition.map_or(0.0, |(_, share)| share),
            skew,
        })
    }
}

/// The share from which on one of so many partitions carries most: half-way from an even share to everything.
fn too_much(partitions: usize) -> f64 {
    f64::midpoint(1.0 / partitions as f64, 1.0)
}
