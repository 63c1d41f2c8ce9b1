//! What a profile leaves out, counted.

use std::collections::BTreeMap;
use std::fmt;

/// What a signature that is left out was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OutsideKind {
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

impl OutsideKind {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            OutsideKind::Hash => "hash",
            OutsideKind::Section => "section",
            OutsideKind::Body => "body",
            OutsideKind::Logical => "logical",
            OutsideKind::Icon => "icon",
        }
    }
}

impl fmt::Display for OutsideKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a signature cannot match a log message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OutsideReason {
    /// It is for a type of file that is no text.
    FileType,
    /// It is about the inside of an executable.
    Executable,
    /// It is the hash of a file that is longer than log messages.
    LongFile,
    /// It is for longer texts than may be scanned, or for a place behind their end.
    LongText,
}

impl OutsideReason {
    /// All of them.
    pub const ALL: &'static [OutsideReason] = &[
        OutsideReason::FileType,
        OutsideReason::Executable,
        OutsideReason::LongFile,
        OutsideReason::LongText,
    ];

    /// In one word, for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            OutsideReason::FileType => "file_type",
            OutsideReason::Executable => "executable",
            OutsideReason::LongFile => "long_file",
            OutsideReason::LongText => "long_text",
        }
    }
}

impl fmt::Display for OutsideReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutsideReason::FileType => "for a type of file that is no text",
            OutsideReason::Executable => "about the inside of an executable",
            OutsideReason::LongFile => "hash of a file longer than log messages",
            OutsideReason::LongText => "for longer texts than are scanned",
        })
    }
}

/// So many signatures of one kind are left out for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutsideCount {
    /// What they were written as.
    pub kind: OutsideKind,
    /// Why they are left out.
    pub reason: OutsideReason,
    /// How many: lines of files, of which libclamav may load fewer.
    pub signatures: u64,
}

/// What a profile leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside(BTreeMap<(OutsideReason, OutsideKind), u64>);

impl Outside {
    pub(super) fn add(&mut self, kind: OutsideKind, reason: OutsideReason) {
        *self.0.entry((reason, kind)).or_default() += 1;
    }

    /// Takes in what is left out elsewhere.
    pub fn merge(&mut self, other: &Outside) {
        for (key, count) in &other.0 {
            *self.0.entry(*key).or_default() += count;
        }
    }

    /// All signatures that are left out.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those that are left out for this reason.
    pub fn because(&self, reason: OutsideReason) -> u64 {
        self.counts()
            .filter(|count| count.reason == reason)
            .map(|count| count.signatures)
            .sum()
    }

    /// Each kind and reason that occurs.
    pub fn counts(&self) -> impl Iterator<Item = OutsideCount> + '_ {
        let count =
            |(&(reason, kind), &signatures): (&(OutsideReason, OutsideKind), &u64)| OutsideCount {
                kind,
                reason,
                signatures,
            };
        self.0.iter().map(count)
    }
}
