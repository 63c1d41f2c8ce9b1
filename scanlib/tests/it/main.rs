//! The integration tests that can share a process. One program links once and runs its tests side by side.
//!
//! A test that changes or measures its whole process is a program of its own: see `[[test]]` in `Cargo.toml`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../corpus/mod.rs"]
mod corpus;
#[path = "../support/mod.rs"]
mod support;

mod changes;
mod databases;
mod examples;
mod leave_out;
mod libclamav_facts;
mod messages;
mod outside;
mod payloads;
mod pool;
mod prefilter;
mod profile;
mod progress;
mod reload;
mod rules;
mod scanner;
mod threads;
mod views;
