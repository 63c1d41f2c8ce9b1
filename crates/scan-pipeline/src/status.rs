//! The one word that sums up what became of a record, file or line.

use scanlib::{Incomplete, Verdict};
use serde::Serialize;

/// The verdict of a scan, as results and the command line name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every enabled engine examined everything, and nothing matched.
    Clean,
    /// Something was found, whatever else happened.
    Threat,
    /// Nothing was found, and a limit kept part of it from being examined.
    Partial,
    /// It could not be examined.
    Error,
    /// There is nothing in it to examine.
    Skipped,
}

impl Status {
    /// The lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Clean => "clean",
            Status::Threat => "threat",
            Status::Partial => "partial",
            Status::Error => "error",
            Status::Skipped => "skipped",
        }
    }

    /// Sums up a verdict. A threat stays one, whatever else was not examined.
    pub fn of(verdict: &Verdict) -> Status {
        match verdict {
            Verdict::Clean => Status::Clean,
            verdict if !verdict.detections().is_empty() => Status::Threat,
            Verdict::Incomplete {
                cause: Incomplete::EngineError { .. } | Incomplete::Crashed { .. },
                ..
            } => Status::Error,
            // Also what a later version of the library may add: not clean before it is known here.
            _ => Status::Partial,
        }
    }
}
