//! Signature files: which of them libclamav would load, what they say of themselves, and the identity of what was loaded.

mod builtin;
mod container;
mod profile;
mod snapshot;

use std::path::{Path, PathBuf};

use crate::error::LoadError;

pub use builtin::BUILTIN_SIGNATURE;
pub(crate) use builtin::{BUILTIN_NAME, builtin_text};
pub use container::Container;
pub(crate) use profile::kept::{Kept, Part, Store, is_signed};
pub use profile::{
    LONGEST_HASHED_BYTES, Outside, OutsideCount, OutsideKind, OutsideReason, Profile,
};
pub use snapshot::Digest;
pub(crate) use snapshot::{DigestBuilder, Source};

/// The files that libclamav would load from a path, sorted: the file itself, or those of a directory.
///
/// # Errors
/// The path cannot be read, or the directory holds no signature file.
pub fn signature_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, LoadError> {
    Source::new(path.as_ref())?.files()
}

/// Whether libclamav would load a file of this name from a directory.
pub fn is_signature_file(name: impl AsRef<Path>) -> bool {
    snapshot::is_database(name.as_ref())
}
