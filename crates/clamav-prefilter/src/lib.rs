// The crate's documentation is its README, whose example is a test.
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]
#![deny(missing_docs)]

mod audit;
mod cover;
mod digests;
mod explain;
mod fields;
pub mod format;
pub mod formats;
mod frequency;
mod gate;
mod hashes;
mod logic;
mod md5;
pub mod names;
mod normaliser;
mod pattern;
mod plan;
mod quick;
mod read;
mod required;
pub mod signature;
mod summary;
mod text;
mod types;
mod yara;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

pub use audit::{Audit, AuditOptions, AuditTicket};
pub use explain::{CandidateSignature, Explanation};
pub use frequency::TextModel;
pub use gate::Scratch;
pub use pattern::Offset;
use plan::{Plan, Refusal};
pub use read::{Doubt, Reading};
pub use summary::{Kinds, Summary};

/// libclamav does not look at an object of this length or less: no signature is that short. Such an object is clean.
pub const NOT_LOOKED_AT_BYTES: u64 = 5;

/// The limits of libclamav that bound how long a message may be for a decision without it. The defaults are libclamav's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanLimits {
    /// Bytes of one object (`MaxFileSize`).
    pub max_file_bytes: u64,
    /// Bytes that are examined for one object, with what is extracted from it (`MaxScanSize`).
    pub max_scan_bytes: u64,
}

impl Default for ScanLimits {
    fn default() -> ScanLimits {
        ScanLimits {
            max_file_bytes: 100 << 20,
            max_scan_bytes: 400 << 20,
        }
    }
}

/// Decides for one signature set. Cloning is cheap: clones share the tables, and [`Prefilter::report_false_negative`] disables all of them.
#[derive(Clone, Debug)]
pub struct Prefilter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    plan: Result<Plan, DisabledReason>,
    summary: Summary,
    doubts: Vec<Doubt>,
    /// What libclamav found in a message that had been cleared.
    wrong: OnceLock<DisabledReason>,
}

/// Why the prefilter clears nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisabledReason {
    /// The caller asked for an engine without a prefilter.
    NotAskedFor,
    /// The prefilter was never compared with this version of libclamav.
    Library {
        /// The version that is loaded.
        version: String,
    },
    /// A loaded signature was not understood.
    NotUnderstood {
        /// The first that was not.
        first: Doubt,
        /// How many more there are.
        more: u64,
    },
    /// Signatures that may match any message at all: a negated condition, for example. Who can do without them
    /// has them left out: the exclusion of signatures.
    Anything {
        /// Their names.
        signatures: Vec<String>,
    },
    /// The literals to search for do not fit into an automaton.
    TooMuch {
        /// What the automaton's builder said.
        why: String,
    },
    /// An audit found something in a message that had been cleared. It is a bug; please report it with the message.
    FalseNegative {
        /// The message, or view of one.
        message: Vec<u8>,
        /// What libclamav found in it.
        names: Vec<String>,
    },
}

/// What to do about signatures that turn it off.
const LEAVE_OUT: &str = "; leave_out keeps a signature out of the engine, if you can do without it";

impl fmt::Display for DisabledReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DisabledReason::NotAskedFor => f.write_str("the prefilter is not asked for"),
            DisabledReason::Library { version } => write!(
                f,
                "libclamav {version} was never compared with the prefilter, only 1.4 was"
            ),
            DisabledReason::NotUnderstood { first, more } => {
                write!(f, "not understood: {first}")?;
                if *more > 0 {
                    write!(f, "; and {more} more")?;
                }
                match first.signature {
                    Some(_) => f.write_str(LEAVE_OUT),
                    None => Ok(()),
                }
            }
            DisabledReason::Anything { signatures } => {
                let shown = signatures.len().min(3);
                let names = signatures.get(..shown).unwrap_or_default().join(", ");
                write!(f, "may match any message: {names}")?;
                if signatures.len() > shown {
                    write!(f, " and {} more", signatures.len() - shown)?;
                }
                f.write_str(LEAVE_OUT)
            }
            DisabledReason::TooMuch { why } => f.write_str(why),
            DisabledReason::FalseNegative { names, .. } => write!(
                f,
                "an audit found {} in a message that had been cleared: please report it",
                names.join(", ")
            ),
        }
    }
}

/// The decision for one buffer.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The message must be scanned.
    MustScan(Cause),
    /// libclamav would report nothing.
    Cleared,
}

/// Why a message must be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// The prefilter is off; [`Prefilter::off`] says why.
    Off,
    /// The message is longer than what is judged, 64 KiB if no limit of the engine is lower.
    Length,
    /// It holds bytes that are not text to libclamav.
    Bytes,
    /// It starts with a byte-order mark.
    ByteOrderMark,
    /// It starts like another type of file.
    Magic,
    /// Something in it may make it another type of file: a tag of HTML, for example.
    FileType,
    /// It may be HTML in UTF-16.
    Utf16,
    /// Its digest may be that of a known file.
    Digest,
    /// It has all that some signature is known to need.
    Signature,
    /// A signature may match any message of this length.
    Unprovable,
}

impl Cause {
    /// Every cause.
    pub const ALL: &'static [Cause] = &[
        Cause::Off,
        Cause::Length,
        Cause::Bytes,
        Cause::ByteOrderMark,
        Cause::Magic,
        Cause::FileType,
        Cause::Utf16,
        Cause::Digest,
        Cause::Signature,
        Cause::Unprovable,
    ];

    /// In a word, for metrics and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Off => "off",
            Cause::Length => "length",
            Cause::Bytes => "bytes",
            Cause::ByteOrderMark => "byte_order_mark",
            Cause::Magic => "magic",
            Cause::FileType => "file_type",
            Cause::Utf16 => "utf16",
            Cause::Digest => "digest",
            Cause::Signature => "signature",
            Cause::Unprovable => "unprovable",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Off => "the prefilter is off",
            Cause::Length => "it is too long to be judged",
            Cause::Bytes => "it holds bytes that are not text",
            Cause::ByteOrderMark => "it starts with a byte-order mark",
            Cause::Magic => "it starts like another type of file",
            Cause::FileType => "something in it may make it another type of file",
            Cause::Utf16 => "it may be HTML in UTF-16",
            Cause::Digest => "its digest may be that of a known file",
            Cause::Signature => "it has all that a signature is known to need",
            Cause::Unprovable => "a signature may match any message of this length",
        })
    }
}

impl Prefilter {
    /// Returns a prefilter that clears nothing.
    pub fn disabled() -> Prefilter {
        Prefilter::new(
            Err(DisabledReason::NotAskedFor),
            Summary::default(),
            Vec::new(),
        )
    }

    /// From one file alone, for tests of how files are read. Nothing holds it to what libclamav loads: what it clears is not
    /// proven clean.
    #[doc(hidden)]
    pub fn unproven(name: &str, content: &[u8]) -> Prefilter {
        let mut reading = Reading::new();
        reading.text(name, content);
        Prefilter::build(
            reading,
            &ScanLimits::default(),
            "1.4.0",
            TextModel::built_in(),
        )
    }

    /// Builds the tables from parsed signatures, after [`Reading::compare`]. `library` is the version of libclamav that loaded them; the
    /// prefilter is disabled for any other than 1.4.
    pub fn build(
        reading: Reading,
        limits: &ScanLimits,
        library: &str,
        model: &TextModel,
    ) -> Prefilter {
        let started = Instant::now();
        let mut summary = Summary::of(&reading);
        let (doubts, took) = (reading.doubts.clone(), reading.took);
        let plan = Self::plan(reading, limits, library, model);
        if let Ok(plan) = &plan {
            summary.add(plan);
        }
        summary.build_time = took + started.elapsed();
        Prefilter::new(plan, summary, doubts)
    }

    fn plan(
        reading: Reading,
        limits: &ScanLimits,
        library: &str,
        model: &TextModel,
    ) -> Result<Plan, DisabledReason> {
        if !library.starts_with("1.4.") {
            let version = library.to_owned();
            return Err(DisabledReason::Library { version });
        }
        if let Some(first) = reading.doubts.first() {
            return Err(DisabledReason::NotUnderstood {
                first: first.clone(),
                more: reading.doubts.len() as u64 - 1 + reading.doubts_not_told,
            });
        }
        // A message near a limit of the engine has to meet it; the message and its normalised form count together.
        let most = limits.max_file_bytes.min(limits.max_scan_bytes / 4);
        let longest = usize::try_from(most).unwrap_or(usize::MAX);
        let longest = longest.min(hashes::LARGEST as usize);
        Plan::new(reading, longest, model).map_err(|refusal| match refusal {
            Refusal::Anything(signatures) => DisabledReason::Anything {
                signatures: signatures.into_iter().map(String::from).collect(),
            },
            Refusal::Automaton(why) => DisabledReason::TooMuch { why },
        })
    }

    fn new(plan: Result<Plan, DisabledReason>, summary: Summary, doubts: Vec<Doubt>) -> Prefilter {
        Prefilter {
            shared: Arc::new(Shared {
                plan,
                summary,
                doubts,
                wrong: OnceLock::new(),
            }),
        }
    }

    /// Why the prefilter clears nothing; `None` if it is in use.
    pub fn off(&self) -> Option<&DisabledReason> {
        let shared = &*self.shared;
        shared.wrong.get().or(shared.plan.as_ref().err())
    }

    /// What it was built of.
    pub fn summary(&self) -> &Summary {
        &self.shared.summary
    }

    /// What is not understood, the first twenty; [`DisabledReason::NotUnderstood`] counts the others.
    pub fn doubts(&self) -> &[Doubt] {
        &self.shared.doubts
    }

    /// Decides whether `buffer` must be scanned. Pass exactly the bytes that libclamav would get.
    pub fn check(&self, buffer: &[u8], scratch: &mut Scratch) -> Gate {
        match (&self.shared.plan, self.shared.wrong.get()) {
            (Ok(plan), None) => plan.decide(buffer, scratch),
            _ => Gate::MustScan(Cause::Off),
        }
    }

    /// Judges several buffers, each as [`check`](Prefilter::check) would: `gates` then holds one for each, in their order. It is faster the
    /// more there are, up to some twenty, because the digests of several are taken side by side.
    pub fn check_each(&self, buffers: &[&[u8]], scratch: &mut Scratch, gates: &mut Vec<Gate>) {
        gates.clear();
        match (&self.shared.plan, self.shared.wrong.get()) {
            (Ok(plan), None) => plan.decide_each(buffers, scratch, gates),
            _ => gates.resize(buffers.len(), Gate::MustScan(Cause::Off)),
        }
    }

    /// Tells that libclamav found something in a message that had been cleared. From now on nothing is cleared, by
    /// any clone of this prefilter. A scanner that audits says so itself; who compares in another way can say it here.
    pub fn report_false_negative(&self, message: &[u8], names: &[String]) {
        self.shared
            .wrong
            .get_or_init(|| DisabledReason::FalseNegative {
                message: message.to_vec(),
                names: names.to_vec(),
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_wrong_it_clears_nothing_more() {
        let mut reading = Reading::new();
        reading.text("a.ndb", "My.Needle:0:*:6e6565646c65\n");
        let model = TextModel::built_in();
        let prefilter = Prefilter::build(reading, &ScanLimits::default(), "1.4.6", model);
        let clone = prefilter.clone();
        let check = || clone.check(b"an ordinary line", &mut Scratch::default());
        assert_eq!((check(), clone.off()), (Gate::Cleared, None));
        prefilter.report_false_negative(b"a message", &["My.Other".to_owned()]);
        assert_eq!(check(), Gate::MustScan(Cause::Off));
        assert_eq!(
            clone.off().map(DisabledReason::to_string).as_deref(),
            Some("an audit found My.Other in a message that had been cleared: please report it")
        );
    }

    #[test]
    fn a_libclamav_that_was_never_compared_is_not_trusted() {
        let build = |version| {
            let (limits, model) = (ScanLimits::default(), TextModel::built_in());
            Prefilter::build(Reading::new(), &limits, version, model)
        };
        assert_eq!(build("1.4.3").off(), None);
        for version in ["1.5.0", "1.40.0", "1.3.9", "", "devel-1.4.3"] {
            let off = build(version).off().cloned();
            assert!(
                matches!(off, Some(DisabledReason::Library { .. })),
                "{version}"
            );
        }
    }
}
