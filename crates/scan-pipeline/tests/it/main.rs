//! Tests of the parts that need neither Kafka nor libclamav: the state machines against their models, and the dependencies of
//! the crate.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dependencies;
mod fair_queue;
mod sequencer;
mod transaction;
