//! Puts results back into input order and finds the offset that may be committed.
//!
//! Batches of one partition are numbered; workers finish them in any order. For each partition the
//! sequencer keeps a ring: a record enters it when every record before it has been scanned, and it
//! leaves when every record before it has been answered. The **watermark** is the offset after the
//! last record that left. It is never computed by counting, only from offsets that were received,
//! so gaps in the offsets (compaction, transaction markers) cost nothing and lose nothing.
//!
//! A sequencer [for transactions](Sequencer::for_transactions) lets a record leave only when the transaction that
//! holds its answer is committed. Until then everything can be sent again: a transaction that is
//! aborted costs sends, never a second read or scan.
//!
//! No I/O, no clock, no threads: events go in, [`Action`]s and sends come out. Every step is O(1) per
//! record.

use std::collections::{HashMap, VecDeque};

/// One uninterrupted ownership of one partition. Whatever arrives for another generation is late,
/// belongs to nobody, and is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Partition of the input topic.
    pub partition: i32,
    /// Grows with every assignment in this process; never used twice.
    pub generation: u64,
}

/// Place of one send in the ring of its lease.
pub type Slot = u64;

/// One step towards answering a record. A record with both a result and a dead letter is two
/// entries, of which only the last passes its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<T> {
    /// The watermark once this entry and all before it are done; `None` if another entry of the same
    /// record follows.
    pub next_offset: Option<i64>,
    /// What has to be sent and acknowledged; `None` if nothing has to be (a policy drop).
    pub item: Option<T>,
}

/// Something the surroundings have to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Everything before this offset is answered: it may be committed.
    Watermark {
        /// Whose.
        lease: Lease,
        /// The offset to commit.
        offset: i64,
    },
    /// Everything that [`Sequencer::drain`] asked for is answered or abandoned. Comes after the last
    /// watermark.
    Drained {
        /// Whose.
        lease: Lease,
    },
}

/// What was dropped because it arrived after its lease had ended, or behind an abandoned batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// Scanned records.
    pub scanned: u64,
    /// Delivery reports.
    pub delivered: u64,
}

/// The rings of all owned partitions.
#[derive(Debug)]
pub struct Sequencer<T> {
    rings: HashMap<i32, Ring<T>>,
    /// Partitions with something to send, each at most once, served in turn.
    sendable: VecDeque<i32>,
    /// Partitions whose watermark or drain may have news, each at most once.
    changed: VecDeque<i32>,
    stale: Stale,
    held: usize,
    /// What is acknowledged stays until [`Sequencer::settle`].
    keeps: bool,
}

#[derive(Debug)]
struct Ring<T> {
    generation: u64,
    /// The first batch that has not entered the ring.
    next_seq: u64,
    /// Batches from `next_seq` on that came before their turn.
    early: VecDeque<Option<Vec<Entry<T>>>>,
    /// No batch from here on is released: one before it was not scanned to its end.
    cut: u64,
    drain: Option<u64>,
    slots: VecDeque<Held<T>>,
    /// Slot number of the first element of `slots`.
    base: Slot,
    /// No slot before this one waits to be sent.
    cursor: Slot,
    /// Slots that are [`State::Kept`].
    kept: usize,
    watermark: Option<i64>,
    reported: Option<i64>,
    in_sendable: bool,
    in_changed: bool,
}

#[derive(Debug)]
struct Held<T> {
    next_offset: Option<i64>,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    Waiting(T),
    InFlight(T),
    /// Acknowledged in a transaction that is not committed.
    Kept(T),
    Done,
}

impl<T> State<T> {
    fn is_answered(&self) -> bool {
        matches!(self, State::Kept(_) | State::Done)
    }
}

impl<T> Default for Sequencer<T> {
    fn default() -> Self {
        Sequencer {
            rings: HashMap::new(),
            sendable: VecDeque::new(),
            changed: VecDeque::new(),
            stale: Stale::default(),
            held: 0,
            keeps: false,
        }
    }
}

impl<T> Sequencer<T> {
    /// No partitions.
    pub fn new() -> Self {
        Self::default()
    }

    /// No partitions; what is acknowledged counts only once it is [settled](Self::settle).
    pub fn for_transactions() -> Self {
        Sequencer {
            keeps: true,
            ..Self::default()
        }
    }

    /// Begins a lease with an empty ring; its first batch is number 0. A lease of the same partition
    /// that was not closed ends here.
    pub fn assign(&mut self, lease: Lease) {
        self.remove(lease.partition);
        self.rings
            .insert(lease.partition, Ring::new(lease.generation));
    }

    /// Ends a lease, whether drained or not: what it still holds is dropped and counted, what comes
    /// later for it is stale.
    pub fn close(&mut self, lease: Lease) {
        if self
            .rings
            .get(&lease.partition)
            .is_some_and(|r| r.generation == lease.generation)
        {
            self.remove(lease.partition);
        }
    }

    fn remove(&mut self, partition: i32) {
        if let Some(ring) = self.rings.remove(&partition) {
            let early: usize = ring.early.iter().flatten().map(Vec::len).sum();
            let unsent = ring
                .slots
                .iter()
                .filter(|h| matches!(h.state, State::Waiting(_)))
                .count();
            self.stale.scanned += (early + unsent) as u64;
            self.held -= early + ring.slots.len();
            self.sendable.retain(|p| *p != partition);
            self.changed.retain(|p| *p != partition);
        }
    }

    /// A worker is through with a batch. `complete` is false if it gave up before the batch's end
    /// because the lease is ending; an untouched batch has no entries and is not complete. Nothing
    /// behind an incomplete batch is ever sent.
    pub fn scanned(&mut self, lease: Lease, seq: u64, entries: Vec<Entry<T>>, complete: bool) {
        let Some(ring) = ring_of(&mut self.rings, lease) else {
            self.stale.scanned += entries.len() as u64;
            return;
        };
        if seq < ring.next_seq || seq >= ring.cut || ring.has(seq) {
            self.stale.scanned += entries.len() as u64;
            return;
        }
        self.held += entries.len();
        if !complete {
            let dropped = ring.cut_after(seq);
            self.stale.scanned += dropped as u64;
            self.held -= dropped;
        }
        ring.keep(seq, entries);
        ring.release();
        if !self.keeps {
            self.held -= ring.advance();
        }
        note(&mut self.sendable, &mut ring.in_sendable, lease.partition);
        note(&mut self.changed, &mut ring.in_changed, lease.partition);
    }

    /// The next thing to send, in input order within its partition, partitions in turn, all entries of one record
    /// together. It counts as in flight until [`acked`](Self::acked) or [`failed`](Self::failed).
    pub fn next_send(&mut self) -> Option<(Lease, Slot, &T)> {
        let (lease, slot) = loop {
            let partition = *self.sendable.front()?;
            let ring = self.rings.get_mut(&partition)?;
            match ring.take_waiting() {
                Some(slot) => {
                    // To the end of the line: the next record belongs to another partition.
                    if !ring.is_split() {
                        self.sendable.rotate_left(1);
                    }
                    break (
                        Lease {
                            partition,
                            generation: ring.generation,
                        },
                        slot,
                    );
                }
                None => {
                    ring.in_sendable = false;
                    self.sendable.pop_front();
                }
            }
        };
        let item = self.rings.get(&lease.partition)?.item(slot)?;
        Some((lease, slot, item))
    }

    /// The broker confirmed what was sent for this slot.
    pub fn acked(&mut self, lease: Lease, slot: Slot) {
        let keeps = self.keeps;
        if let Some(ring) = ring_of(&mut self.rings, lease)
            && ring.acknowledge(slot, keeps)
        {
            if !keeps {
                self.held -= ring.advance();
            }
            note(&mut self.changed, &mut ring.in_changed, lease.partition);
        } else {
            self.stale.delivered += 1;
        }
    }

    /// What was sent for this slot did not arrive: it waits again, before everything of its partition
    /// that was not sent yet.
    pub fn failed(&mut self, lease: Lease, slot: Slot) {
        if let Some(ring) = ring_of(&mut self.rings, lease)
            && ring.wait_again(slot)
        {
            note(&mut self.sendable, &mut ring.in_sendable, lease.partition);
        } else {
            self.stale.delivered += 1;
        }
    }

    /// Nothing that is in flight will be reported any more, and nothing that was kept counts: all of it waits again.
    pub fn failed_all(&mut self) {
        for (partition, ring) in &mut self.rings {
            for slot in ring.base..ring.base + ring.slots.len() as u64 {
                ring.wait_again(slot);
            }
            note(&mut self.sendable, &mut ring.in_sendable, *partition);
        }
    }

    /// True while a record has been sent in part: a transaction that ended here would hold its dead letter without its
    /// result.
    pub fn is_split(&self) -> bool {
        self.rings.values().any(Ring::is_split)
    }

    /// True if anything is answered and not settled.
    pub fn has_unsettled(&self) -> bool {
        self.rings
            .values()
            .any(|ring| ring.slots.front().is_some_and(|h| h.state.is_answered()))
    }

    /// True if anything waits to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.sendable.is_empty()
    }

    /// How many entries are acknowledged and not settled: of all partitions, and of the one with most.
    pub fn kept(&self) -> (usize, usize) {
        let kept = self.rings.values().map(|ring| ring.kept);
        kept.fold((0, 0), |(sum, most), kept| (sum + kept, most.max(kept)))
    }

    /// True if nothing but settling keeps a drain from its end.
    pub fn awaits_settling(&self) -> bool {
        self.rings.values().any(|ring| {
            ring.drain.is_some_and(|through| ring.is_released(through))
                && !ring.slots.is_empty()
                && ring.slots.iter().all(|h| h.state.is_answered())
        })
    }

    /// For each lease with something answered and not settled, the offset after it: what a transaction
    /// that ends now commits.
    pub fn unsettled(&self) -> Vec<(Lease, i64)> {
        let of = |(partition, ring): (&i32, &Ring<T>)| {
            let lease = Lease {
                partition: *partition,
                generation: ring.generation,
            };
            let answered = ring.slots.iter().take_while(|h| h.state.is_answered());
            Some((lease, answered.filter_map(|h| h.next_offset).last()?))
        };
        self.rings.iter().filter_map(of).collect()
    }

    /// Everything before `offset` is committed, with the answers in the same transaction: it leaves. `leaves` sees each answer
    /// that does.
    pub fn settle(&mut self, lease: Lease, offset: i64, mut leaves: impl FnMut(Slot, &T)) {
        if let Some(ring) = ring_of(&mut self.rings, lease) {
            self.held -= ring.settle(offset, &mut leaves);
            note(&mut self.changed, &mut ring.in_changed, lease.partition);
        }
    }

    /// The leases that have not ended.
    pub fn leases(&self) -> Vec<Lease> {
        let lease = |(partition, ring): (&i32, &Ring<T>)| Lease {
            partition: *partition,
            generation: ring.generation,
        };
        self.rings.iter().map(lease).collect()
    }

    /// Asks for [`Action::Drained`] when the batches before `through_seq` are answered or abandoned.
    /// A lease that has ended has nothing to drain and gets no answer.
    pub fn drain(&mut self, lease: Lease, through_seq: u64) {
        if let Some(ring) = ring_of(&mut self.rings, lease) {
            ring.drain = Some(through_seq);
            note(&mut self.changed, &mut ring.in_changed, lease.partition);
        }
    }

    /// What is sent for this slot, if it is in flight or waits.
    pub fn item(&self, lease: Lease, slot: Slot) -> Option<&T> {
        self.rings
            .get(&lease.partition)
            .filter(|r| r.generation == lease.generation)?
            .item(slot)
    }

    /// The next thing to act on, until there is none.
    pub fn next_action(&mut self) -> Option<Action> {
        loop {
            let partition = *self.changed.front()?;
            let ring = self.rings.get_mut(&partition)?;
            let lease = Lease {
                partition,
                generation: ring.generation,
            };
            if let Some(offset) = ring.watermark
                && ring.reported != ring.watermark
            {
                ring.reported = ring.watermark;
                return Some(Action::Watermark { lease, offset });
            }
            self.changed.pop_front();
            ring.in_changed = false;
            if ring.drain.is_some_and(|through| ring.is_drained(through)) {
                ring.drain = None;
                return Some(Action::Drained { lease });
            }
        }
    }

    /// What was dropped so far.
    pub fn stale(&self) -> Stale {
        self.stale
    }

    /// How many entries are held: released and unanswered, or early.
    pub fn held(&self) -> usize {
        self.held
    }
}

/// The ring of a lease that has not ended. A function of the field alone, so that the caller keeps
/// its hands on the others.
fn ring_of<T>(rings: &mut HashMap<i32, Ring<T>>, lease: Lease) -> Option<&mut Ring<T>> {
    rings.get_mut(&lease.partition).filter(|ring| {
        #[cfg(feature = "chaos-faults")]
        if super::faults::is(super::faults::Fault::NoGenerationCheck) {
            return true;
        }
        ring.generation == lease.generation
    })
}

fn note(queue: &mut VecDeque<i32>, is_in: &mut bool, partition: i32) {
    if !*is_in {
        *is_in = true;
        queue.push_back(partition);
    }
}

impl<T> Ring<T> {
    fn new(generation: u64) -> Self {
        Ring {
            generation,
            next_seq: 0,
            early: VecDeque::new(),
            cut: u64::MAX,
            drain: None,
            slots: VecDeque::new(),
            base: 0,
            cursor: 0,
            kept: 0,
            watermark: None,
            reported: None,
            in_sendable: false,
            in_changed: false,
        }
    }

    /// Batch `seq` is the last one that counts; returns how many entries came early behind it.
    fn cut_after(&mut self, seq: u64) -> usize {
        self.cut = seq + 1;
        let keep = (self.cut - self.next_seq) as usize;
        let dropped = self.early.iter().skip(keep).flatten().map(Vec::len).sum();
        self.early.truncate(keep);
        dropped
    }

    fn has(&self, seq: u64) -> bool {
        matches!(
            self.early.get((seq - self.next_seq) as usize),
            Some(Some(_))
        )
    }

    fn keep(&mut self, seq: u64, entries: Vec<Entry<T>>) {
        let at = (seq - self.next_seq) as usize;
        if self.early.len() <= at {
            self.early.resize_with(at + 1, || None);
        }
        self.early[at] = Some(entries);
    }

    /// Lets every batch whose turn has come into the ring.
    fn release(&mut self) {
        while let Some(Some(_)) = self.early.front() {
            let entries = self.early.pop_front().flatten().unwrap_or_default();
            self.next_seq += 1;
            self.slots.extend(entries.into_iter().map(|entry| Held {
                next_offset: entry.next_offset,
                state: entry.item.map_or(State::Done, State::Waiting),
            }));
        }
    }

    /// Lets everything answered leave the ring; returns how many did.
    fn advance(&mut self) -> usize {
        let before = self.slots.len();
        while let Some(Held {
            next_offset,
            state: State::Done,
        }) = self.slots.front()
        {
            self.watermark = next_offset.or(self.watermark);
            self.slots.pop_front();
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        before - self.slots.len()
    }

    /// Lets everything before `offset` leave, in whole records; returns how many entries did.
    fn settle(&mut self, offset: i64, leaves: &mut impl FnMut(Slot, &T)) -> usize {
        let passed = |h: &Held<T>| h.next_offset.is_some_and(|next| next <= offset);
        let behind = self
            .slots
            .iter()
            .take_while(|h| h.next_offset.is_none_or(|next| next <= offset));
        // The entries of a record that is not passed end the count, though they name no offset.
        let count = behind
            .enumerate()
            .filter(|(_, h)| passed(h))
            .last()
            .map_or(0, |(at, _)| at + 1);
        for held in self.slots.drain(..count) {
            self.watermark = held.next_offset.or(self.watermark);
            if matches!(held.state, State::Kept(_)) {
                self.kept -= 1;
            }
            if let State::Waiting(item) | State::InFlight(item) | State::Kept(item) = &held.state {
                leaves(self.base, item);
            }
            self.base += 1;
        }
        self.cursor = self.cursor.max(self.base);
        count
    }

    fn is_split(&self) -> bool {
        let last = self.cursor.checked_sub(self.base + 1).map(|at| at as usize);
        last.and_then(|at| self.slots.get(at))
            .is_some_and(|held| held.next_offset.is_none())
    }

    fn held(&mut self, slot: Slot) -> Option<&mut Held<T>> {
        self.slots
            .get_mut(usize::try_from(slot.checked_sub(self.base)?).ok()?)
    }

    fn item(&self, slot: Slot) -> Option<&T> {
        match &self
            .slots
            .get(usize::try_from(slot.checked_sub(self.base)?).ok()?)?
            .state
        {
            State::Waiting(item) | State::InFlight(item) | State::Kept(item) => Some(item),
            State::Done => None,
        }
    }

    fn take_waiting(&mut self) -> Option<Slot> {
        loop {
            let slot = self.cursor;
            let held = self.held(slot)?;
            let state = std::mem::replace(&mut held.state, State::Done);
            let waited = matches!(state, State::Waiting(_));
            held.state = match state {
                State::Waiting(item) => State::InFlight(item),
                other => other,
            };
            self.cursor = slot + 1;
            if waited {
                return Some(slot);
            }
        }
    }

    fn acknowledge(&mut self, slot: Slot, keeps: bool) -> bool {
        let is_acknowledged = self.replace(slot, |state| match state {
            State::InFlight(item) if keeps => Ok(State::Kept(item)),
            State::InFlight(_) => Ok(State::Done),
            other => Err(other),
        });
        if is_acknowledged && keeps {
            self.kept += 1;
        }
        is_acknowledged
    }

    fn wait_again(&mut self, slot: Slot) -> bool {
        let mut was_kept = false;
        let waits = self.replace(slot, |state| match state {
            State::InFlight(item) => Ok(State::Waiting(item)),
            State::Kept(item) => {
                was_kept = true;
                Ok(State::Waiting(item))
            }
            other => Err(other),
        });
        if waits {
            self.cursor = self.cursor.min(slot);
            self.kept -= usize::from(was_kept);
        }
        waits
    }

    /// Moves a slot to another state, or leaves it in the one that `step` gives back as an error.
    fn replace(
        &mut self,
        slot: Slot,
        step: impl FnOnce(State<T>) -> Result<State<T>, State<T>>,
    ) -> bool {
        let Some(held) = self.held(slot) else {
            return false;
        };
        let (state, is_moved) = match step(std::mem::replace(&mut held.state, State::Done)) {
            Ok(state) => (state, true),
            Err(state) => (state, false),
        };
        held.state = state;
        is_moved
    }

    fn is_released(&self, through_seq: u64) -> bool {
        self.next_seq >= through_seq.min(self.cut)
    }

    fn is_drained(&self, through_seq: u64) -> bool {
        self.is_released(through_seq) && self.slots.is_empty()
    }
}
