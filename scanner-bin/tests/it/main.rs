//! The integration tests that can share a process. One program links once, runs its tests side by side, and starts one broker.
//!
//! Tests that need a broker, real or embedded, are modules of [`kafka`]. A test that changes or measures its whole process is
//! a program of its own: see `[[test]]` in `Cargo.toml`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mock.rs"]
mod mock;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/threads.rs"]
mod threads;

mod config;
mod db;
mod deploy;
mod explain;
mod generated;
mod generations;
mod kafka;
mod licences;
mod log;
mod manifests;
mod ops;
mod prefilter;
mod prefilter_compare;
mod probe;
mod repository;
mod result_schema;
mod scan;
mod scan_compare;
mod scan_flags;
mod scan_hostile;
mod stages;
mod text_model_reload;
