//! Logical expressions: read as libclamav reads them, and what they need.

mod expression;
mod need;

pub(crate) use expression::read;
pub(crate) use need::need;
