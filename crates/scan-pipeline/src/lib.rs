//! From the input topic to the output topic without losing a record: an offset is committed only
//! after the broker acknowledged what that record became.
//!
//! One thread owns the consumer ([`consumer`]), one owns the producer ([`egress`]), the workers of
//! the pool scan in between. They share nothing but bounded channels and, per owned partition, the few
//! atomics of a [`flow::Flow`].

#![forbid(unsafe_code)]

pub mod answers;
pub mod batch;
pub mod circuit;
mod client;
mod commit;
pub mod config;
pub mod consumer;
pub mod crash_guard;
pub mod dead_letter;
pub mod egress;
pub mod errors;
pub mod escape;
pub mod fair_queue;
#[cfg(feature = "chaos-faults")]
mod faults;
pub mod fetch_notes;
pub mod files;
pub mod flow;
pub mod health;
pub mod heartbeat;
pub mod json;
pub mod log;
pub mod membership;
pub mod memory;
pub mod metrics;
mod nudge;
mod partition;
mod producer;
pub mod quota;
pub mod random;
mod rebalance;
pub mod replay;
pub mod result;
pub mod sequencer;
pub mod shutdown;
pub mod skew;
pub mod status;
pub mod times;
pub mod topics;
pub mod transaction;
mod transactor;
pub mod unreadable;
pub mod work;
pub mod wrong;

use crate::batch::Batch;
use crate::metrics::Metrics;

/// Where the poll thread hands batches to. What becomes of them arrives at the egress thread.
pub trait Scanning {
    /// Hands a batch over if there is room now.
    ///
    /// # Errors
    /// There is none; the batch comes back.
    fn try_submit(&self, batch: Batch) -> Result<(), Refused>;

    /// False while scanning more would only produce errors.
    fn is_ready(&self) -> bool {
        true
    }

    /// Gives up what waits of leases that have ended, so that nobody waits for it. Does not wait for anything itself.
    fn release_ended(&self) {}

    /// Writes the gauges that only the other side of this trait knows.
    fn measure(&self, _metrics: &Metrics) {}
}

/// A batch that found no room.
#[derive(Debug)]
pub struct Refused(pub Batch);
