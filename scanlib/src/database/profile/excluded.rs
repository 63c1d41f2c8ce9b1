//! Counts of the signatures that a profile excludes.

use std::collections::BTreeMap;
use std::fmt;

/// The format of an excluded signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExcludedKind {
    /// The hash of a whole file (`.hdb`, `.hsb` and the like).
    Hash,
    /// The hash of a section of an executable, or of its imports (`.mdb`, `.msb`, `.imp` and the like).
    Section,
    /// A body signature (`.ndb` and the like).
    Body,
    /// A logical signature (`.ldb` and the like).
    Logical,
    /// An icon (`.idb`).
    Icon,
}

impl ExcludedKind {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            ExcludedKind::Hash => "hash",
            ExcludedKind::Section => "section",
            ExcludedKind::Body => "body",
            ExcludedKind::Logical => "logical",
            ExcludedKind::Icon => "icon",
        }
    }
}

impl fmt::Display for ExcludedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a signature cannot match a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ExcludedReason {
    /// Its target is a file type other than text.
    FileType,
    /// It examines the structure of an executable.
    Executable,
    /// It is the hash of a file that is longer than log messages.
    LongFile,
    /// It needs a longer text than the maximum message size, or matches at an offset beyond it.
    LongText,
}

impl ExcludedReason {
    /// Every reason.
    pub const ALL: &'static [ExcludedReason] = &[
        ExcludedReason::FileType,
        ExcludedReason::Executable,
        ExcludedReason::LongFile,
        ExcludedReason::LongText,
    ];

    /// In one word, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            ExcludedReason::FileType => "file_type",
            ExcludedReason::Executable => "executable",
            ExcludedReason::LongFile => "long_file",
            ExcludedReason::LongText => "long_text",
        }
    }
}

impl fmt::Display for ExcludedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExcludedReason::FileType => "for a type of file that is no text",
            ExcludedReason::Executable => "about the inside of an executable",
            ExcludedReason::LongFile => "hash of a file longer than log messages",
            ExcludedReason::LongText => "for longer texts than are scanned",
        })
    }
}

/// Number of excluded signatures of one kind for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExcludedCount {
    /// Their format.
    pub kind: ExcludedKind,
    /// Why they are excluded.
    pub reason: ExcludedReason,
    /// Number of lines in the files. libclamav may load fewer.
    pub signatures: u64,
}

/// The signatures that a profile excludes, by kind and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excluded(BTreeMap<(ExcludedReason, ExcludedKind), u64>);

impl Excluded {
    pub(super) fn add(&mut self, kind: ExcludedKind, reason: ExcludedReason) {
        *self.0.entry((reason, kind)).or_default() += 1;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Excluded) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    /// Total number of excluded signatures.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Number of signatures excluded for this reason.
    pub fn because(&self, reason: ExcludedReason) -> u64 {
        self.counts()
            .filter(|count| count.reason == reason)
            .map(|count| count.signatures)
            .sum()
    }

    /// The count for each combination of kind and reason that occurs.
    pub fn counts(&self) -> impl Iterator<Item = ExcludedCount> + '_ {
        let count = |(&(reason, kind), &signatures): (&(ExcludedReason, ExcludedKind), &u64)| {
            ExcludedCount {
                kind,
                reason,
                signatures,
            }
        };
        self.0.iter().map(count)
    }
}
