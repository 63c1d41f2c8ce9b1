//! Signature files: which of them libclamav would load, what they say of themselves, and the identity of what was loaded.

mod builtin;
mod container;
mod profile;
mod snapshot;

use std::path::{Path, PathBuf};

use clamav_prefilter::format::Format;

use crate::error::LoadError;

pub use builtin::BUILTIN_SIGNATURE;
pub(crate) use builtin::{BUILTIN_NAME, builtin_text};
pub use container::Container;
pub(crate) use profile::kept::{Kept, Part, Store};
pub use profile::{
    Excluded, ExcludedCount, ExcludedKind, ExcludedReason, LONGEST_HASHED_BYTES, Profile,
};
pub use snapshot::Digest;
pub(crate) use snapshot::{Contents, DigestBuilder, Source, SourceState};

/// The files that libclamav would load from a path, sorted: the file itself, or those of a directory.
///
/// # Errors
/// The path cannot be read, or the directory holds no signature file.
pub fn signature_files(path: impl AsRef<Path>) -> Result<Vec<PathBuf>, LoadError> {
    Source::new(path.as_ref())?.files()
}

/// Whether libclamav would load a file of this name from a directory.
pub fn is_signature_file(name: impl AsRef<Path>) -> bool {
    format_of(name.as_ref()).is_loaded()
}

/// Whether a file of this name is a container of signature files: `.cvd`, `.cld` or `.cud`.
pub fn is_container(name: impl AsRef<Path>) -> bool {
    format_of(name.as_ref()).is_container()
}

/// Whether a file of this name carries a digital signature of all that it holds, as `.cvd` does. [`crate::Library::verify`] checks it.
///
/// A `.cld` carries none, as an updater changed it after it was signed; libclamav takes its signatures for official all the same.
pub fn has_digital_signature(name: impl AsRef<Path>) -> bool {
    format_of(name.as_ref()).has_digital_signature()
}

/// Whether a file of this name holds YARA rules.
pub fn is_yara(name: impl AsRef<Path>) -> bool {
    format_of(name.as_ref()) == Format::Yara
}

/// What a file holds, by its name.
pub(crate) fn format_of(path: &Path) -> Format {
    Format::of(path.file_name().unwrap_or_default().as_encoded_bytes())
}
