//! Signature files: each line becomes what it needs, or a reason why nothing is known of it.

mod body;
mod logical;

pub(crate) use body::{body, plain};
pub(crate) use logical::logical;
