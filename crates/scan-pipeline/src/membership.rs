//! Who this replica is in its group, for the offsets of a transaction.
//!
//! The broker takes offsets only from a current member of the group. What proves that is the group's
//! metadata, and the moment at which it is taken matters: newer than the leases that the offsets belong
//! to, it would vouch for partitions that are another member's by now. Therefore the poll thread takes
//! it, which also ends leases, and its answer goes the way that the ends of leases go: whoever reads it
//! has read of every lease that ended before.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};

use rdkafka::consumer::ConsumerGroupMetadata;

/// What proves to the broker that we are a current member of the group.
pub struct Identity(pub(super) ConsumerGroupMetadata);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// Asks the poll thread. It answers with [`Command::Identity`](super::egress::Command::Identity).
#[derive(Debug, Default)]
pub struct Bell {
    is_rung: AtomicBool,
    listener: OnceLock<Thread>,
}

impl Bell {
    /// From now on this thread is woken.
    pub(super) fn listen(&self) {
        // Set once; a second poll thread would be a defect that shows as a slow answer.
        let _second = self.listener.set(thread::current());
    }

    /// Asks.
    pub(super) fn ring(&self) {
        self.is_rung.store(true, Ordering::Release);
        if let Some(thread) = self.listener.get() {
            thread.unpark();
        }
    }

    /// Whether somebody asked since the last look.
    pub(super) fn take(&self) -> bool {
        self.is_rung.load(Ordering::Acquire) && self.is_rung.swap(false, Ordering::AcqRel)
    }
}
