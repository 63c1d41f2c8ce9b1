//! x

pub mod message;
pub mod report;
pub mod error;

pub use report::{View, Severity};
