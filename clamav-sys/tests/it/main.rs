//! The integration tests, in one program.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod abi;
mod build_errors;
mod documented;
