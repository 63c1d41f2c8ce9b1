//! The place where the current detector is found, and swapped while workers run.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::detector::Detector;
use crate::error::DrainError;
use crate::report::Generation;

/// How often [`DetectorSlot::drain_with`] looks whether the old detector is gone.
const LOOK: Duration = Duration::from_millis(5);

/// Holds the current [`Detector`]. Clones share one place.
///
/// A worker loads it once for each job, so a swap takes effect with the next job, and what is
/// under way finishes on the detector it began with. The old detector is freed when its last user
/// is done.
#[derive(Clone, Debug)]
pub struct DetectorSlot {
    /// `None` while [`DetectorSlot::drain_with`] builds.
    current: Arc<ArcSwapOption<Detector>>,
    /// Where [`DetectorSlot::load`] waits for a detector.
    filled: Arc<(Mutex<()>, Condvar)>,
    /// Held by who builds the next one, so that an older build never replaces a newer one.
    reloading: Arc<Mutex<()>>,
}

impl DetectorSlot {
    /// A slot that holds `detector`.
    pub fn new(detector: Detector) -> DetectorSlot {
        DetectorSlot {
            current: Arc::new(ArcSwapOption::from_pointee(detector)),
            filled: Arc::default(),
            reloading: Arc::default(),
        }
    }

    /// The current detector. While there is none (see [`DetectorSlot::drain_with`]) this waits for the next.
    pub fn load(&self) -> Detector {
        loop {
            if let Some(detector) = self.load_now() {
                return detector;
            }
            let (lock, filled) = &*self.filled;
            let held = lock.lock().unwrap_or_else(PoisonError::into_inner);
            // Who fills it takes the lock after that, so either this sees it, or that wakes us.
            if self.current.load().is_none() {
                drop(filled.wait(held).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// The current detector, if there is one at this moment.
    pub fn load_now(&self) -> Option<Detector> {
        self.current.load().as_deref().cloned()
    }

    /// Puts `next` in place and returns the one before it, if there was one.
    pub fn swap(&self, next: Detector) -> Option<Detector> {
        let before = self.current.swap(Some(Arc::new(next)));
        let (lock, filled) = &*self.filled;
        drop(lock.lock().unwrap_or_else(PoisonError::into_inner));
        filled.notify_all();
        before.map(Arc::unwrap_or_clone)
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

    /// As [`DetectorSlot::reload_with`] where memory has no room for two detectors: takes the current one out of its place, waits until
    /// its last user is done and its signatures are freed, and only then builds the next. Meanwhile [`DetectorSlot::load`] waits, so
    /// that jobs of a [`crate::Pool`] wait, too: nothing is lost, and nothing is judged.
    ///
    /// A `build` that fails or panics leaves the place empty, and everybody waiting: it should come back with the old signatures instead.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use scanlib::{Detector, DetectorSlot, RuleSet};
    ///
    /// let build = || Detector::builder().rules(RuleSet::builtin()).build();
    /// let slot = DetectorSlot::new(build()?);
    /// slot.drain_with(Duration::from_secs(10), || {
    ///     assert!(slot.load_now().is_none());
    ///     build()
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`DrainError::InUse`] if it is still used after `patience`: it is back in its place. [`DrainError::Build`] with the error of
    /// `build`.
    pub fn drain_with<E>(
        &self,
        patience: Duration,
        build: impl FnOnce() -> Result<Detector, E>,
    ) -> Result<Generation, DrainError<E>> {
        let _one = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // An earlier one may have left it empty.
        if let Some(current) = self.current.swap(None) {
            let memory = current.engine().map(|engine| engine.alive());
            let before = current.downgrade();
            drop(current);
            let until = Instant::now() + patience;
            let is_used = || {
                before.upgrade().is_some()
                    || memory
                        .as_ref()
                        .is_some_and(|memory| memory.strong_count() > 0)
            };
            while is_used() {
                if Instant::now() >= until
                    && let Some(before) = before.upgrade()
                {
                    self.swap(before);
                    return Err(DrainError::InUse);
                }
                thread::sleep(LOOK);
            }
        }
        let next = build().map_err(DrainError::Build)?;
        let generation = next.generation();
        self.swap(next);
        Ok(generation)
    }
}
