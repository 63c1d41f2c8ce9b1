//! Signature files: which of them libclamav would load, and the identity of what was loaded.

mod builtin;
mod snapshot;

pub(crate) use builtin::{BUILTIN_NAME, builtin_text};
pub use snapshot::Digest;
pub(crate) use snapshot::{DigestBuilder, Source};
