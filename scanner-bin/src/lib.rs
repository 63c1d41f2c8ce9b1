//! The service around `scanlib`: records come from a Kafka topic, verdicts go to another.
#![deny(unsafe_code)]

pub mod kafka;
