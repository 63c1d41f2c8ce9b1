//! The conclusion of a scan: clean, infected or incomplete.

use super::detection::{Detection, Detections};
use super::incomplete::Incomplete;

/// What is known about an object after a scan.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every enabled engine examined everything, and nothing matched.
    Clean,
    /// Something was found.
    Infected(Detections),
    /// Not everything was examined.
    Incomplete {
        /// Why.
        cause: Incomplete,
        /// What was found in the part that was examined.
        so_far: Vec<Detection>,
    },
}

impl Verdict {
    /// Everything that was found, also by an incomplete scan.
    pub fn detections(&self) -> &[Detection] {
        match self {
            Verdict::Clean => &[],
            Verdict::Infected(found) => found.as_slice(),
            Verdict::Incomplete { so_far, .. } => so_far,
        }
    }

    /// The verdict on a file that changed while it was scanned: [`Incomplete::Changed`], with what was found. An earlier reason
    /// stays, unless it is an error, which is most likely due to the change.
    pub fn changed(self) -> Verdict {
        match self {
            Verdict::Incomplete { ref cause, .. }
                if !matches!(cause, Incomplete::EngineError { .. }) =>
            {
                self
            }
            verdict => Verdict::Incomplete {
                cause: Incomplete::Changed,
                so_far: verdict.detections().to_vec(),
            },
        }
    }
}
