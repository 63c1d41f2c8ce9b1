//! Logical expressions: read as libclamav reads them, and what they need.

mod expression;
mod required;

pub(crate) use expression::read;
pub(crate) use required::required;
