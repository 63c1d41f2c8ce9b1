//! The outcome of a scan: [`Report`], [`Verdict`], [`Detection`] and the reasons for [`Incomplete`].

mod detection;
mod file_family;
mod incomplete;
mod verdict;

use std::fmt;
use std::time::Duration;

pub use detection::{
    Detection, DetectionSource, Detections, MAX_SAMPLE_BYTES, Severity, ThreatType, View, headline,
};
pub use file_family::FileFamily;
pub use incomplete::Incomplete;
pub use verdict::Verdict;

/// The stage of the scanner that decided the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// A limit on the length, before anything was scanned.
    Limits,
    /// Our rules.
    Rules,
    /// The prefilter proved that libclamav would find nothing.
    Prefilter,
    /// libclamav.
    Engine,
}

/// Identity of one loaded detector; grows by one with each that a process builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The outcome of one scan.
#[must_use]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The conclusion.
    pub verdict: Verdict,
    /// The stage that decided the verdict.
    pub decided_by: Stage,
    /// Generation of the detector that made the report.
    pub generation: Generation,
    /// Length of the object in bytes.
    pub input_bytes: u64,
    /// How many buffers (views) were examined.
    pub views: u32,
    /// How many of them went to libclamav.
    pub engine_calls: u32,
    /// libclamav gives the object's type no examination at all, so its "clean" says nothing;
    /// true only if the view `guarded` was not asked for.
    pub type_ignored: bool,
    /// The family of the file that libclamav was examining at the first error, if the verdict is [`Incomplete::Malformed`]
    /// or [`Incomplete::EngineError`].
    pub failed_in: Option<FileFamily>,
    /// Wall time of the scan.
    pub elapsed: Duration,
}
