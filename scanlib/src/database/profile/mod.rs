//! Which of the signatures in the files are loaded: all of them, or those that can match a log message.
//!
//! A log message is a short text. Most signatures of a large database target executables, documents or whole files of several hundred
//! kilobytes. [`Profile::LogOnly`] excludes them, and [`Excluded`] counts them by reason.
//!
//! libclamav can only be told names, so the files are read line by line, by the [readers](crate::prefilter) that know what a signature
//! needs, and what stays is [written down](kept) for libclamav to load. What cannot be judged stays.

mod excluded;
mod judge;
pub(crate) mod kept;
mod lines;

use std::fmt;
use std::path::Path;

use crate::error::LoadError;

pub use excluded::{Excluded, ExcludedCount, ExcludedKind, ExcludedReason};

/// The longest file whose hash [`Profile::LogOnly`] keeps, in bytes: the longest message that rsyslog takes unless told otherwise.
///
/// Of ClamAV's own hashes one in ten is of a file this short, and three in five are of files of 64 KiB or less.
pub const LONGEST_HASHED_BYTES: u64 = 8192;

/// Which of the signatures in the files are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// All.
    #[default]
    Full,
    /// Those that can match a text of at most `max_message_bytes`. Excluded are:
    ///
    /// - signatures for types of files that are no text: executables, Office documents, PDF, graphics, Flash, Java
    ///   ([`ExcludedReason::FileType`]);
    /// - hashes of sections and of import tables, and icons ([`ExcludedReason::Executable`]);
    /// - hashes of whole files that are longer than [`LONGEST_HASHED_BYTES`], or than a message ([`ExcludedReason::LongFile`]);
    /// - signatures for longer texts, or for a place behind the end of the longest ([`ExcludedReason::LongText`]).
    ///
    /// Signatures for text, HTML, mail and any type, hashes for which no size is given, YARA rules, bytecode, and everything that takes detections
    /// away stay. So what is found is found with all signatures, too.
    LogOnly {
        /// The longest message that will be scanned.
        max_message_bytes: u64,
    },
}

impl Profile {
    /// Its name: `full` or `log-only`.
    pub fn name(&self) -> &'static str {
        match self {
            Profile::Full => "full",
            Profile::LogOnly { .. } => "log-only",
        }
    }

    /// Counts the signatures at a path that the profile excludes, without loading anything. Containers are not verified.
    ///
    /// # Errors
    /// The path or a file cannot be read, or a container is broken.
    ///
    /// ```
    /// use scanlib::database::{ExcludedReason, Profile};
    ///
    /// let dir = tempfile::tempdir()?;
    /// std::fs::write(dir.path().join("my.ndb"), "My.Text:7:*:6e6565646c65\nMy.Program:1:*:6e6565646c65\n")?;
    /// let excluded = Profile::LogOnly { max_message_bytes: 1 << 20 }.excluded(dir.path())?;
    /// assert_eq!(excluded.total(), 1);
    /// assert_eq!(excluded.because(ExcludedReason::FileType), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn excluded(&self, path: impl AsRef<Path>) -> Result<Excluded, LoadError> {
        match self {
            Profile::Full => Ok(Excluded::default()),
            Profile::LogOnly { max_message_bytes } => {
                kept::count(path.as_ref(), *max_message_bytes)
            }
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
