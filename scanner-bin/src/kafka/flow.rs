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

    /// Counts records as in flight until the returned guard is dropped, whatever becomes of them.
    pub fn admit(self: &Arc<Self>, messages: u64, bytes: u64) -> InFlight {
        self.messages.fetch_add(messages, Ordering::Relaxed);
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
