//! What the threads share about an owned partition: a few atomics, no lock.
//!
//! A [`Flow`] belongs to one lease. When the partition is lost and comes back it gets a new one, so a
//! late writer can only touch what nobody reads any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use super::sequencer::Lease;

/// What is in flight in the whole process: taken from Kafka, and not yet answered.
#[derive(Debug, Default)]
pub struct Budget {
    messages: AtomicU64,
    bytes: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    /// Records in flight.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// How many records may be in flight; moves with how fast they are answered.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Called by the poll thread alone.
    pub(crate) fn set_limit(&self, messages: u64) {
        self.limit.store(messages, Ordering::Relaxed);
    }

    /// Bytes in flight: payloads, keys, and a fixed cost for each record's result.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// State of one lease. The poll thread and the egress thread write it, workers read it.
#[derive(Debug)]
pub struct Flow {
    lease: Lease,
    live: AtomicBool,
    started: AtomicU64,
    drained: AtomicBool,
    watermark: AtomicI64,
    messages: AtomicU64,
    bytes: AtomicU64,
    budget: Arc<Budget>,
}

const NO_WATERMARK: i64 = -1;

impl Flow {
    /// A lease that begins.
    pub fn new(lease: Lease, budget: Arc<Budget>) -> Arc<Flow> {
        Arc::new(Flow {
            lease,
            live: AtomicBool::new(true),
            started: AtomicU64::new(0),
            drained: AtomicBool::new(false),
            watermark: AtomicI64::new(NO_WATERMARK),
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            budget,
        })
    }

    /// Whose state this is.
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// False once scanning more of this lease is useless: the next owner will do it.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::SeqCst)
    }

    /// A worker takes up a batch; false if it need not. The worker answers in both cases.
    pub fn start(&self) -> bool {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.is_live()
    }

    /// Workers give up what they have not scanned yet. Returns the number of batches that have to be
    /// answered before the lease is drained. Of the batches that no worker has taken up by now, every
    /// one will be given up, so nobody needs to wait until they have come through the queue.
    ///
    /// That the count is a prefix of the batches follows from their order in the queue: should a worker
    /// be counted before one that took an earlier batch, the earlier one is given up, and with it
    /// everything behind.
    pub fn kill(&self) -> u64 {
        self.live.store(false, Ordering::SeqCst);
        self.started.load(Ordering::SeqCst)
    }

    /// The offset that may be committed; `None` before the first record is answered.
    pub fn watermark(&self) -> Option<i64> {
        Some(self.watermark.load(Ordering::Acquire)).filter(|w| *w != NO_WATERMARK)
    }

    /// Called by the egress thread alone, with growing offsets.
    pub(crate) fn set_watermark(&self, offset: i64) {
        #[cfg(feature = "chaos-faults")]
        if super::faults::is(super::faults::Fault::HighestSeen) {
            self.watermark.fetch_max(offset, Ordering::AcqRel);
            return;
        }
        self.watermark.store(offset, Ordering::Release);
    }

    /// True when a drain that was asked for has ended; the watermark is final then.
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Acquire)
    }

    pub(crate) fn set_drained(&self) {
        self.drained.store(true, Ordering::Release);
    }

    /// What is in flight in the whole process.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Records of this lease in flight.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// Bytes of this lease in flight.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts records as in flight until the returned guard is dropped, whatever becomes of them.
    pub fn admit(self: &Arc<Self>, messages: u64, bytes: u64) -> InFlight {
        self.messages.fetch_add(messages, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.messages.fetch_add(messages, Ordering::Relaxed);
        self.budget.bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight {
            flow: Arc::clone(self),
            messages,
            bytes,
        }
    }
}

/// Records that are in flight as long as this lives.
#[derive(Debug)]
pub struct InFlight {
    flow: Arc<Flow>,
    messages: u64,
    bytes: u64,
}

impl InFlight {
    /// The lease they belong to.
    pub fn flow(&self) -> &Arc<Flow> {
        &self.flow
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.flow
            .messages
            .fetch_sub(self.messages, Ordering::Relaxed);
        self.flow.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.flow
            .budget
            .messages
            .fetch_sub(self.messages, Ordering::Relaxed);
        self.flow
            .budget
            .bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How much may be in flight before no more is taken, of one partition and of all.
///
/// A partition whose records wait for libclamav keeps what it has taken in flight. So that it cannot keep the others from being read,
/// each owned partition has a share of its own: half of the bytes and as many records as are planned for, divided by the number of
/// partitions. Beyond its share a partition uses what the others leave of the records and of the first half of the bytes. The sum of all bytes
/// therefore stays within `max_bytes`; that of the records may be twice what is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLimits {
    /// Records of one partition.
    pub messages_per_partition: u64,
    /// Records of all partitions that are planned for.
    pub max_messages: u64,
    /// Bytes of all partitions.
    pub max_bytes: u64,
    /// Records of a partition's share at the least: a full batch.
    pub min_share: u64,
    /// Owned partitions.
    pub partitions: u64,
}

impl FlowLimits {
    /// Whether more may be taken of a partition.
    pub fn allow(&self, flow: &Flow) -> bool {
        let (messages, bytes) = (flow.budget.messages(), flow.budget.bytes());
        if flow.messages() >= self.messages_per_partition {
            return false;
        }
        if messages == 0 {
            return true;
        }
        let partitions = self.partitions.max(1);
        let shared_bytes = match partitions {
            1 => self.max_bytes,
            _ => self.max_bytes / 2,
        };
        let share = (self.max_messages / partitions).max(self.min_share);
        let has_messages = messages < self.max_messages || flow.messages() < share;
        let has_bytes = bytes < shared_bytes || flow.bytes() < shared_bytes / partitions;
        has_messages && has_bytes && bytes < self.max_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FlowLimits = FlowLimits {
        messages_per_partition: 2_048,
        max_messages: 1_024,
        max_bytes: 64 << 20,
        min_share: 256,
        partitions: 4,
    };

    fn flow(partition: i32, budget: &Arc<Budget>) -> Arc<Flow> {
        let generation = 1;
        let lease = Lease {
            partition,
            generation,
        };
        Flow::new(lease, Arc::clone(budget))
    }

    /// Takes batches of a partition until no more is allowed.
    fn take_all(flow: &Arc<Flow>, messages: u64, bytes: u64) -> Vec<InFlight> {
        let mut taken = Vec::new();
        while LIMITS.allow(flow) {
            taken.push(flow.admit(messages, bytes));
        }
        taken
    }

    #[test]
    fn a_partition_that_answers_nothing_leaves_the_others_their_shares() {
        for (messages, bytes) in [(64, 64 << 10), (1, 1 << 20), (256, 256 << 10)] {
            let budget = Arc::new(Budget::default());
            let flows: Vec<_> = (0..4).map(|partition| flow(partition, &budget)).collect();
            let held: Vec<_> = flows
                .iter()
                .map(|flow| take_all(flow, messages, bytes))
                .collect();
            for (flow, held) in flows.iter().zip(&held) {
                let is_shared = flow.messages() >= 256 || flow.bytes() >= 8 << 20;
                assert!(is_shared, "{flow:?} of {messages} and {bytes}");
                assert!(!held.is_empty());
            }
            assert!(budget.bytes() <= LIMITS.max_bytes + bytes, "{budget:?}");
            assert!(budget.messages() <= LIMITS.max_messages * 2 + messages * 4);
        }
    }

    #[test]
    fn a_partition_alone_in_its_need_uses_what_is_planned_for() {
        let budget = Arc::new(Budget::default());
        let alone = flow(0, &budget);
        let held = take_all(&alone, 64, 64);
        assert_eq!(alone.messages(), LIMITS.max_messages);
        drop(held);
        let held = take_all(&alone, 1, 1 << 20);
        assert_eq!(alone.bytes(), LIMITS.max_bytes / 2);
        drop(held);
        assert_eq!((budget.messages(), budget.bytes()), (0, 0));
    }

    #[test]
    fn what_is_larger_than_everything_is_taken_alone() {
        let budget = Arc::new(Budget::default());
        let (one, other) = (flow(0, &budget), flow(1, &budget));
        let _held = one.admit(1, LIMITS.max_bytes * 2);
        assert!(!LIMITS.allow(&one) && !LIMITS.allow(&other));
    }
}
