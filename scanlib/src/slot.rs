//! The place where the current detector is found, and swapped while workers run.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::detector::Detector;
use crate::report::Generation;

/// Holds the current [`Detector`]. Clones share one place.
///
/// A worker loads it once for each job, so a swap takes effect with the next job, and what is
/// under way finishes on the detector it began with. The old detector is freed when its last user
/// is done.
#[derive(Clone, Debug)]
pub struct DetectorSlot {
    current: Arc<ArcSwap<Detector>>,
    /// Held by who builds the next one, so that an older build never replaces a newer one.
    reloading: Arc<Mutex<()>>,
}

impl DetectorSlot {
    /// A slot that holds `detector`.
    pub fn new(detector: Detector) -> DetectorSlot {
        DetectorSlot {
            current: Arc::new(ArcSwap::from_pointee(detector)),
            reloading: Arc::default(),
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

    /// Builds the next detector from the current one and puts it in place. Until then, and if the build fails or
    /// panics, everything goes on with the current one. One reload at a time: another waits for it.
    ///
    /// Both detectors are in memory while the next one is built.
    ///
    /// ```
    /// use scanlib::{Detector, DetectorSlot, RuleSet};
    ///
    /// let build = || Detector::builder().rules(RuleSet::builtin()).build();
    /// let slot = DetectorSlot::new(build()?);
    /// let before = slot.load().generation();
    /// slot.reload_with(|_| Err("the new database is broken")).unwrap_err();
    /// assert_eq!(slot.load().generation(), before);
    /// assert!(slot.reload_with(|_| build())? > before);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Those of `build`.
    pub fn reload_with<E>(
        &self,
        build: impl FnOnce(&Detector) -> Result<Detector, E>,
    ) -> Result<Generation, E> {
        // A build that panicked changed nothing.
        let _one = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let next = build(&self.load())?;
        let generation = next.generation();
        self.swap(next);
        Ok(generation)
    }
}
