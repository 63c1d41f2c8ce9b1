//! x

mod error;
pub mod message;
mod report;
pub mod rules;

pub use error::*;
pub use report::*;
