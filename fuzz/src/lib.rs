//! What must hold for any input: one module for each thing that reads bytes or text of strangers.
//!
//! Each has one function, `check(input)`, which panics if a promise is broken. The fuzzer calls it
//! (`targets/`), and so does a test, with every input that was worth writing (`seeds/`) or keeping (`corpus/`). A check does
//! not only look for crashes: it compares with a second way to the same answer, slow and obvious, that
//! shares no code with the first.
//!
//! `fuzz/run` runs them; `planted/` has a bug for each, which `fuzz/plant` wants found.

#![forbid(unsafe_code)]

pub mod config;
pub mod gate;
pub mod message;
pub mod rules;
pub mod signatures;
mod verdict;
pub mod views;
