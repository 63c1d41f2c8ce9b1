//! Internal: the parts of the `scanner-bin` program, as a library so that tests can reach them. The
//! stable interface is the command line, the configuration, the results and the metrics; to embed the
//! scanner in a program, use the crate `scanlib`.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod confine;
pub mod engine;
pub mod generation;
pub mod log;
pub mod ops;
pub mod reload;
pub mod service;
pub mod sync;

pub use scan_pipeline::{escape, files, json, random, result, shutdown, status, times, wrong};
