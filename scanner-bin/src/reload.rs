//! The signatures of a running service: the first load, and every one after it.
//!
//! A thread looks at the signature files every few seconds and loads them anew when they changed and
//! then stood still for one look, or at once on SIGHUP. The next detector is built and tried out beside
//! the one in use, which stays if anything goes wrong. The counts that the prefilter chooses by (`scan.text_model`) are one more
//! such file.
//!
//! It looks instead of being notified: inotify says nothing of another machine's writes to a network
//! file system, watches the target of a symlink that Kubernetes swaps rather than its name, and drops
//! events when its queue is full. A look costs one `stat` for each file.

mod files;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use scanlib::prefilter::{AuditOptions, Off, Prefilter};
use scanlib::{Detector, DetectorSlot, EngineInfo, NothingEnabled, RuleSet};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::ScanConfig;
use crate::engine::{self, EngineError, EngineSettings, SelfScanError};
use crate::ops::health::Check;
use crate::ops::metrics::ReloadLabel;
use crate::service::Watch;
use crate::shutdown::Shutdown;

pub use files::Fingerprint;
use schedule::{Due, Schedule};

/// How often the thread looks for SIGHUP and for the end.
const TICK: Duration = Duration::from_millis(100);
/// How long the service waits at its end for a load that is under way.
const JOIN: Duration = Duration::from_secs(5);

/// So many names are told of each list.
const TOLD: usize = 20;

const OFF: &str = "The prefilter is off: libclamav is asked about every message";

/// Why signatures and rules do not make a detector.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The files do not make an engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Neither an engine nor rules are enabled.
    #[error(transparent)]
    Nothing(#[from] NothingEnabled),
    /// What was loaded does not do its work.
    #[error(transparent)]
    SelfScan(#[from] SelfScanError),
    /// The code that loads panicked.
    #[error("the load panicked")]
    Panicked,
}

/// Loads and compiles the signatures that `scan` names, and scans with them once.
///
/// # Errors
/// Anything that keeps records from being scanned.
pub fn detector(scan: &ScanConfig) -> Result<Detector, DetectorError> {
    let engine = engine::build(&EngineSettings {
        database: scan.database.clone(),
        bytecode_unsigned: scan.bytecode_unsigned,
        tmp_dir: scan.tmp_dir.clone(),
        leave_out: scan.leave_out.clone(),
        no_prefilter: !scan.prefilter,
        text_model: scan.text_model.clone(),
        ..EngineSettings::default()
    })?;
    let detector = Detector::builder()
        .engine(engine)
        .rules(scan.rules.then(RuleSet::builtin))
        .views(scan.views)
        .audit(AuditOptions {
            one_in: scan.audit_one_in,
            ..AuditOptions::default()
        })
        .build()?;
    engine::self_scan(&detector)?;
    Ok(detector)
}

/// The files of which a change is a reason to load.
pub fn watched(scan: &ScanConfig) -> Fingerprint {
    Fingerprint::of(&watched_paths(scan))
}

fn watched_paths(scan: &ScanConfig) -> Vec<PathBuf> {
    let paths = scan.database.iter().chain(&scan.text_model);
    paths.cloned().collect()
}

/// Builds detectors from one configuration, and tells probes, metrics and log about them.
#[derive(Clone, Debug)]
pub struct Loader {
    scan: ScanConfig,
    watch: Watch,
    /// The text model in use, as its file was right before it was read: a change of it is loaded at the next look.
    model: Arc<Mutex<Model>>,
}

/// SHA-256 of a text model's file; `None` without one.
type Model = Option<[u8; 32]>;

impl Loader {
    /// Loads what `scan` names.
    pub fn new(scan: &ScanConfig, watch: &Watch) -> Loader {
        Loader {
            scan: scan.clone(),
            watch: watch.clone(),
            model: Arc::default(),
        }
    }

    /// The text model as it is now. One that cannot be read is none: then loading fails, too.
    fn model(&self) -> Model {
        let text = engine::read_text_model(self.scan.text_model.as_deref()?).ok()?;
        Some(Sha256::digest(text).into())
    }

    fn model_in_use(&self) -> std::sync::MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The detector to start with. The probes hear of each step.
    ///
    /// # Errors
    /// Anything that keeps records from being scanned.
    pub fn first(&self) -> Result<Detector, DetectorError> {
        let model = self.model();
        let detector = detector(&self.scan)?;
        *self.model_in_use() = model;
        self.watch.metrics.engine_ready.set(1);
        self.announce(&detector, "Signatures loaded");
        for check in [Check::Engine, Check::Rules, Check::SelfScan] {
            self.watch.health.pass(check);
        }
        Ok(detector)
    }

    /// Says which signatures are in use from now on.
    fn announce(&self, detector: &Detector, message: &str) {
        let Some(info) = detector.engine().map(scanlib::Engine::info) else {
            return;
        };
        for line in &info.load_log {
            tracing::warn!(libclamav = line, "A signature file is not perfect");
        }
        if info.builtin_only {
            tracing::warn!(
                db_mode = "builtin",
                "No signature database is configured: libclamav knows the built-in EICAR signature \
                 only; set scan.database"
            );
        }
        tracing::info!(
            signatures = info.signatures,
            digest = %info.digest,
            libclamav = info.library.text,
            tmp_dir = %info.tmp_dir.display(),
            "{message}"
        );
        announce_left_out(info);
        self.announce_prefilter(detector.prefilter());
        let version = if info.builtin_only {
            "builtin".to_owned()
        } else {
            info.digest.to_string()
        };
        let metrics = &self.watch.metrics;
        metrics.set_signatures(&version, info.signatures);
        let (_, librdkafka) = rdkafka::util::get_rdkafka_version();
        metrics.set_build(&librdkafka, &info.library.text);
    }

    /// Says whether most messages are spared libclamav, and if not, why.
    fn announce_prefilter(&self, prefilter: &Prefilter) {
        let summary = prefilter.summary();
        match prefilter.off() {
            Some(why @ Off::NotAskedFor) => tracing::info!(%why, "{OFF}"),
            Some(why) => tracing::warn!(%why, "{OFF}"),
            None => tracing::info!(
                texts = summary.texts,
                memory_bytes = summary.memory_bytes,
                build_ms = summary.build_time.as_millis(),
                "The prefilter is on"
            ),
        }
        self.watch.metrics.prefilter_enabled.watch(prefilter);
    }

    /// Puts the files as they are now in place of what `slot` holds, if they make a detector.
    fn reload(&self, slot: &DetectorSlot) -> Outcome {
        let start = Instant::now();
        let model = self.model();
        let swapped = slot.reload_with(|current| {
            // Other counts are no reason to trust a prefilter again that was wrong about these signatures.
            let was_wrong = matches!(current.prefilter().off(), Some(Off::Wrong { .. }));
            // Unwind safe: nothing outside is changed before the detector is complete.
            match catch_unwind(AssertUnwindSafe(|| detector(&self.scan))) {
                Ok(Ok(next))
                    if digest(&next) == digest(current)
                        && (was_wrong || model == *self.model_in_use()) =>
                {
                    Err(Kept::Unchanged)
                }
                Ok(Ok(next)) => Ok(next),
                Ok(Err(error)) => Err(Kept::Broken(error)),
                Err(_) => Err(Kept::Broken(DetectorError::Panicked)),
            }
        });
        let elapsed = start.elapsed();
        let in_use = slot.load();
        let current = digest(&in_use);
        let outcome = match swapped {
            Err(Kept::Unchanged) => {
                tracing::info!(digest = current, "Signatures are the same as before");
                self.watch.health.pass(Check::Database);
                Outcome::Unchanged
            }
            Ok(_) => {
                *self.model_in_use() = model;
                self.announce(&in_use, "Signatures reloaded");
                self.watch.health.pass(Check::Database);
                Outcome::Ok
            }
            Err(Kept::Broken(error)) => {
                let error = error.to_string();
                tracing::error!(
                    error,
                    digest = current,
                    "Signatures not reloaded: those of before stay in use"
                );
                self.watch.health.pass_with_note(
                    Check::Database,
                    format!(
                        "the signatures of before ({}) are in use, as the new files cannot be loaded: \
                         {error}; they are tried again",
                        current.get(..12).unwrap_or(&current)
                    ),
                );
                Outcome::Failed
            }
        };
        let metrics = &self.watch.metrics;
        metrics.reload_duration.observe(elapsed.as_secs_f64());
        metrics
            .reloads
            .get_or_create(&ReloadLabel {
                result: outcome.as_str(),
            })
            .inc();
        outcome
    }
}

/// Says what the engine was to go without.
fn announce_left_out(info: &EngineInfo) {
    if !info.left_out.is_empty() {
        tracing::info!(
            count = info.left_out.len(),
            names = told(&info.left_out),
            "Signatures are left out, as scan.leave_out says: what only they find is not found"
        );
    }
    for name in info.not_there.iter().take(TOLD) {
        tracing::warn!(%name, "scan.leave_out names what is not there");
    }
}

/// The first names of a list.
fn told(names: &[String]) -> String {
    let shown = names.len().min(TOLD);
    let first = names.get(..shown).unwrap_or_default().join(", ");
    match names.len() - shown {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Why the detector in use stays.
enum Kept {
    Unchanged,
    Broken(DetectorError),
}

fn digest(detector: &Detector) -> String {
    let engine = detector.engine();
    engine.map_or_else(String::new, |engine| engine.info().digest.to_string())
}

/// What a reload came to; the words of `scanner_engine_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Unchanged,
    Failed,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Unchanged => "unchanged",
            Outcome::Failed => "failed",
        }
    }
}

/// The thread that reloads. It ends when the service is asked to stop.
#[derive(Debug)]
pub struct Reloading {
    thread: JoinHandle<()>,
}

impl Reloading {
    /// Looks after `slot` from now on. `loaded` is what the files were when its detector was loaded;
    /// `hangup` is set by SIGHUP.
    ///
    /// # Errors
    /// The operating system refused the thread.
    pub fn start(
        loader: Loader,
        slot: DetectorSlot,
        loaded: Fingerprint,
        hangup: Arc<AtomicBool>,
        shutdown: Shutdown,
    ) -> std::io::Result<Reloading> {
        let thread = thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || watch(&loader, &slot, loaded, &hangup, &shutdown))?;
        Ok(Reloading { thread })
    }

    /// Waits for the end of the thread, but not for the end of a long load.
    pub fn wait(self) {
        let until = Instant::now() + JOIN;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        if !self.thread.is_finished() {
            tracing::warn!("signatures are still being loaded; the process ends without them");
        }
    }
}

fn watch(
    loader: &Loader,
    slot: &DetectorSlot,
    loaded: Fingerprint,
    hangup: &AtomicBool,
    shutdown: &Shutdown,
) {
    let paths = watched_paths(&loader.scan);
    let mut schedule = Schedule::new(loader.scan.reload_interval, loaded, Instant::now());
    while !shutdown.is_requested() {
        let asked = hangup.swap(false, Ordering::AcqRel);
        if asked && loader.scan.database.is_empty() {
            tracing::warn!("SIGHUP: no signature database is configured, so there is none to load");
        } else {
            if asked {
                tracing::info!("SIGHUP: loading the signatures anew");
                schedule.ask();
            }
            let look = || Fingerprint::of(&paths);
            if let Due::Load(seen) = schedule.look(Instant::now(), look) {
                let outcome = loader.reload(slot);
                schedule.loaded(seen, outcome != Outcome::Failed, Instant::now());
            }
        }
        thread::sleep(TICK);
    }
}
