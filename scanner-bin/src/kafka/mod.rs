//! From the input topic to the output topic without losing a record: an offset is committed only
//! after the broker acknowledged what that record became.
//!
//! One thread owns the consumer, one owns the producer, the workers of the pool scan in between. They
//! share nothing but bounded channels and, per owned partition, the few atomics of a [`flow::Flow`].

pub mod answers;
pub mod batch;
mod client;
pub mod dead_letter;
pub mod egress;
pub mod flow;
mod producer;
pub mod sequencer;
