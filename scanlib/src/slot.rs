//! The place where the current detector is found, and swapped while workers run.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::detector::Detector;

/// Holds the current [`Detector`]. Clones share one place.
///
/// A worker loads it once for each job, so a swap takes effect with the next job, and what is
/// under way finishes on the detector it began with. The old detector is freed when its last user
/// is done.
#[derive(Clone, Debug)]
pub struct DetectorSlot {
    current: Arc<ArcSwap<Detector>>,
}

impl DetectorSlot {
    /// A slot that holds `detector`.
    pub fn new(detector: Detector) -> DetectorSlot {
        DetectorSlot {
            current: Arc::new(ArcSwap::from_pointee(detector)),
        }
    }

    /// The current detector.
    pub fn load(&self) -> Detector {
        Detector::clone(&self.current.load())
    }

    /// Puts `next` in place and returns the one before it.
    pub fn swap(&self, next: Detector) -> Detector {
        Arc::unwrap_or_clone(self.current.swap(Arc::new(next)))
    }
}
