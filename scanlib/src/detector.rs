//! Engine, rules and prefilter of one generation, immutable and shared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::clam::Engine;
use crate::error::NothingEnabled;
use crate::message::{DecodeLimits, ViewSet};
use crate::prefilter::{AuditOptions, Prefilter};
use crate::report::Generation;
#[cfg(feature = "rules")]
use crate::rules::RuleSet;
use crate::scanner::{Scanner, VerdictCache};

/// Everything that judges a message, built together and never changed. Cheap to clone.
///
/// It has an engine, or rules, or both: what examines nothing may not say "clean".
#[derive(Clone, Debug)]
pub struct Detector {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    engine: Option<Engine>,
    #[cfg(feature = "rules")]
    rules: Option<RuleSet>,
    prefilter: Prefilter,
    views: ViewSet,
    decode_limits: DecodeLimits,
    audit: AuditOptions,
    verdict_cache: Option<VerdictCache>,
    generation: Generation,
}

/// Settings of a [`Detector`]; see [`Detector::builder`].
#[derive(Debug)]
pub struct DetectorBuilder {
    engine: Option<Engine>,
    #[cfg(feature = "rules")]
    rules: Option<RuleSet>,
    views: ViewSet,
    decode_limits: DecodeLimits,
    audit: AuditOptions,
    verdict_cache_entries: usize,
}

impl DetectorBuilder {
    /// Scans with libclamav.
    pub fn engine(mut self, engine: impl Into<Option<Engine>>) -> Self {
        self.engine = engine.into();
        self
    }

    /// Matches severity rules.
    #[cfg(feature = "rules")]
    pub fn rules(mut self, rules: impl Into<Option<RuleSet>>) -> Self {
        self.rules = rules.into();
        self
    }

    /// Which views of a message are examined. Default: all.
    pub fn views(mut self, views: ViewSet) -> Self {
        self.views = views;
        self
    }

    /// How far payloads are decoded for [`crate::View::Decoded`]. Default: [`DecodeLimits::default`].
    pub fn decode_limits(mut self, limits: DecodeLimits) -> Self {
        self.decode_limits = limits;
        self
    }

    /// How many buffers that the prefilter cleared are scanned all the same, as a check. Default: one in 1,000, for
    /// at most a hundredth of the time.
    pub fn audit(mut self, audit: AuditOptions) -> Self {
        self.audit = audit;
        self
    }

    /// Maximum number of verdicts of libclamav that the detector's scanners remember by the SHA-256 of what was scanned; about 200
    /// bytes each, and never more than a kilobyte. Default: 0, none.
    ///
    /// What libclamav has judged is not scanned again while it is remembered, with the same report but for
    /// [`crate::Report::engine_calls`]. A scan that ended for want of time, memory or temporary space, or that crashed, is not remembered.
    /// Whatever the prefilter clears needs no memory.
    pub fn verdict_cache_entries(mut self, entries: usize) -> Self {
        self.verdict_cache_entries = entries;
        self
    }

    /// The detector, as a generation of its own.
    ///
    /// # Errors
    /// Neither an engine nor rules are enabled.
    pub fn build(self) -> Result<Detector, NothingEnabled> {
        #[cfg(feature = "rules")]
        let has_rules = self.rules.is_some();
        #[cfg(not(feature = "rules"))]
        let has_rules = false;
        if self.engine.is_none() && !has_rules {
            return Err(NothingEnabled);
        }
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let generation = Generation(NEXT.fetch_add(1, Ordering::Relaxed));
        let DetectorBuilder {
            engine,
            #[cfg(feature = "rules")]
            rules,
            views,
            decode_limits,
            audit,
            verdict_cache_entries,
        } = self;
        let prefilter = match &engine {
            Some(engine) => engine.prefilter().clone(),
            None => Prefilter::disabled(),
        };
        Ok(Detector {
            parts: Arc::new(Parts {
                engine,
                #[cfg(feature = "rules")]
                rules,
                prefilter,
                views,
                decode_limits,
                audit,
                verdict_cache: VerdictCache::new(verdict_cache_entries),
                generation,
            }),
        })
    }
}

impl Detector {
    /// Starts with no engine, no rules and all views.
    pub fn builder() -> DetectorBuilder {
        DetectorBuilder {
            engine: None,
            #[cfg(feature = "rules")]
            rules: None,
            views: ViewSet::ALL,
            decode_limits: DecodeLimits::default(),
            audit: AuditOptions::default(),
            verdict_cache_entries: 0,
        }
    }

    /// The libclamav engine, if it is enabled.
    pub fn engine(&self) -> Option<&Engine> {
        self.parts.engine.as_ref()
    }

    /// The rules, if they are enabled.
    #[cfg(feature = "rules")]
    pub fn rules(&self) -> Option<&RuleSet> {
        self.parts.rules.as_ref()
    }

    /// Whether there are rules, which need an object in memory.
    pub(crate) fn has_rules(&self) -> bool {
        #[cfg(feature = "rules")]
        return self.parts.rules.is_some();
        #[cfg(not(feature = "rules"))]
        false
    }

    /// What proves buffers clean without libclamav.
    pub fn prefilter(&self) -> &Prefilter {
        &self.parts.prefilter
    }

    /// Which views of a message are examined.
    pub fn views(&self) -> ViewSet {
        self.parts.views
    }

    /// How far payloads are decoded.
    pub fn decode_limits(&self) -> DecodeLimits {
        self.parts.decode_limits
    }

    pub(crate) fn audit(&self) -> AuditOptions {
        self.parts.audit
    }

    pub(crate) fn verdict_cache(&self) -> Option<&VerdictCache> {
        self.parts.verdict_cache.as_ref()
    }

    /// Identity of this detector within the process.
    pub fn generation(&self) -> Generation {
        self.parts.generation
    }

    /// Leads back to it for as long as somebody uses it.
    pub(crate) fn downgrade(&self) -> WeakDetector {
        WeakDetector(Arc::downgrade(&self.parts))
    }

    /// A scanner for one thread.
    pub fn scanner(&self) -> Scanner {
        Scanner::new(self.clone())
    }
}

/// A detector that goes when nobody else uses it.
#[derive(Debug)]
pub(crate) struct WeakDetector(Weak<Parts>);

impl WeakDetector {
    /// The detector, if somebody still uses it.
    pub(crate) fn upgrade(&self) -> Option<Detector> {
        let parts = self.0.upgrade()?;
        Some(Detector { parts })
    }
}
