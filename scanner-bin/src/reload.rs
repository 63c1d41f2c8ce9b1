//! The signatures of a running service: the first load, and every one after it.
//!
//! A thread looks at the signature files every few seconds and loads them anew when they changed and
//! then stood still for one look, or at once on SIGHUP. The next detector is built and tried out beside
//! the one in use, which stays if anything goes wrong. The counts that the prefilter chooses by (`scan.text_model`) are one more
//! such file.
//!
//! ```text
//! discover → stage (a copy, with scan.state_dir) → verify → load → canary → swap → keep the last two
//! ```
//!
//! What was refused for what it holds is not tried again until it changes; what failed for its surroundings is, after a pause.
//!
//! It looks, and does not rely on being notified: a look costs one `stat` for each file. Where inotify tells of a change the looks
//! come sooner.

mod announce;
mod aside;
mod candidate;
mod drain;
mod files;
mod first;
mod isolated;
mod notice;
pub(crate) mod room;
mod schedule;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use scanlib::prefilter::{AuditOptions, DisabledReason};
use scanlib::{
    Detector, DetectorSlot, Isolation, IsolationOptions, LoadError, LoadErrorKind, NothingEnabled,
    RuleSet,
};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::config::{ReloadMode, ScanConfig};
use crate::engine::{self, EngineError, EngineSettings};
use crate::generation::Id;
use crate::generation::canary::{self, CanaryError, Measure};
use crate::generation::held::{Held, HeldList};
use crate::generation::history::{Event, What};
use crate::generation::manifest::Manifest;
use crate::generation::snapshot::{Snapshot, SnapshotError};
use crate::generation::state::{State, StateError, Wanted, now};
use crate::ops::health::Check;
use crate::ops::metrics::ReloadLabel;
use crate::service::Watch;
use crate::shutdown::Shutdown;

use announce::announce;
use aside::aside;
use candidate::{Candidate, Files, Tried, load};
pub use files::Fingerprint;
use notice::Notice;
use room::Plan;
use schedule::{Due, Schedule};

/// How often the thread looks for SIGHUP and for the end.
const TICK: Duration = Duration::from_millis(100);
/// How long the service waits at its end for a load that is under way.
const JOIN: Duration = Duration::from_secs(5);

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
    /// What was loaded does not do its work, or not as well as what is in use.
    #[error(transparent)]
    Canary(#[from] CanaryError),
    /// The files hold no signature.
    #[error(
        "scan.database holds files, but not one signature: put signatures there, or remove the setting"
    )]
    NoSignatures,
    /// The files cannot be read or copied.
    #[error(transparent)]
    Files(#[from] SnapshotError),
    /// The directory of this replica's generations cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The generation that was asked for is not there.
    #[error("generation {0} is not kept here: see 'scanner-bin db status'")]
    NotKept(Id),
    /// A copy of the files makes no detector; told in terms of the files.
    #[error("{text}")]
    InCopy {
        /// What went wrong.
        text: String,
        /// The files are to blame, whatever the surroundings.
        is_in_the_files: bool,
    },
    /// What is in use cannot be freed.
    #[error(
        "a scan does not end, so the signatures in use cannot be freed, and memory has no room for others beside them"
    )]
    StillInUse,
    /// The code that loads panicked.
    #[error("the load panicked")]
    Panicked,
}

impl From<LoadError> for DetectorError {
    fn from(error: LoadError) -> DetectorError {
        DetectorError::Engine(error.into())
    }
}

impl DetectorError {
    /// True if the files are to blame, whatever the surroundings: they need not be tried again.
    fn is_in_the_files(&self) -> bool {
        match self {
            DetectorError::Engine(EngineError::Load(error)) => match error.kind() {
                LoadErrorKind::Refused(code) => !is_of_the_machine(code.number),
                LoadErrorKind::Unverified(code) => !is_of_the_machine(code.number),
                LoadErrorKind::Compile(code) => !is_of_the_machine(code.number),
                LoadErrorKind::AllExcluded(_) => true,
                _ => false,
            },
            DetectorError::Canary(error) => !error.may_pass(),
            DetectorError::InCopy {
                is_in_the_files, ..
            } => *is_in_the_files,
            DetectorError::NoSignatures | DetectorError::Panicked => true,
            _ => false,
        }
    }
}

/// libclamav's codes for what a file cannot be blamed for: no file, no memory, no room for temporary files, and the like.
fn is_of_the_machine(code: i32) -> bool {
    // CL_EOPEN to CL_EMEM: open, create, unlink, stat, read, seek, write, dup, access, temporary file and directory, map, memory.
    (8..=20).contains(&code)
}

/// Loads and compiles the signatures that `scan` names, and scans with them once.
///
/// # Errors
/// Anything that keeps records from being scanned.
pub fn detector(
    scan: &ScanConfig,
    isolation: Option<&Isolation>,
) -> Result<Detector, DetectorError> {
    build(scan, &scan.database, isolation)
}

/// The same with the files of these paths.
fn build(
    scan: &ScanConfig,
    database: &[PathBuf],
    isolation: Option<&Isolation>,
) -> Result<Detector, DetectorError> {
    let options = IsolationOptions::default()
        .threads(scan.threads)
        .memory_bytes(scan.isolation_memory_bytes);
    let engine = engine::build(&EngineSettings {
        database: database.to_vec(),
        bytecode_unsigned: scan.bytecode_unsigned,
        tmp_dir: scan.tmp_dir.clone(),
        limits: scan.limits,
        profile: scan.signatures(),
        leave_out: scan.leave_out.clone(),
        no_prefilter: !scan.prefilter,
        text_model: scan.text_model.clone(),
        isolation: isolation.map(|isolation| (isolation.clone(), options)),
        ..EngineSettings::default()
    })?;
    if engine.info().signatures == 0 {
        return Err(DetectorError::NoSignatures);
    }
    let detector = Detector::builder()
        .engine(engine)
        .rules(scan.rules.then(RuleSet::builtin))
        .views(scan.views)
        .decode_limits(scan.decode_limits)
        .verdict_cache_entries(scan.verdict_cache_entries)
        .audit(AuditOptions {
            one_in: scan.audit_one_in,
            ..AuditOptions::default()
        })
        .build()?;
    canary::eicar(&detector)?;
    Ok(detector)
}

/// Verifies, loads and tries out what `scan` names, and says how it did.
///
/// # Errors
/// A service would not take it, whatever is in use.
pub fn examine(scan: &ScanConfig) -> Result<Measure, DetectorError> {
    Ok(load(scan, &scan.database, None)?.measure)
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
    /// Where libclamav runs; `None` for this process.
    isolation: Option<Isolation>,
    /// Where generations are kept, if anywhere.
    state: Option<Arc<State>>,
    in_use: Arc<Mutex<InUse>>,
}

/// SHA-256 of a text model's file; `None` without one.
type Model = Option<[u8; 32]>;

/// What the detector in use was made of.
#[derive(Debug, Default)]
struct InUse {
    /// The files; `None` for the built-in signature, and for files that changed while they were loaded.
    id: Option<Id>,
    /// The text model, as its file was right before it was read: a change of it is loaded at the next look.
    model: Model,
    /// The most memory that loading an engine took, in bytes.
    memory: u64,
    /// The files whose load ended the last process, and how many in a row.
    ended: Option<(Id, u32)>,
    /// At the start something failed that may do another time.
    is_to_be_tried_again: bool,
    /// What was refused, where no directory remembers it.
    held: HeldList,
}

impl Loader {
    /// Loads what `scan` names. Nothing is kept, wherever it says to.
    pub fn new(scan: &ScanConfig, watch: &Watch) -> Loader {
        Loader {
            scan: scan.clone(),
            watch: watch.clone(),
            isolation: None,
            state: None,
            in_use: Arc::default(),
        }
    }

    /// Loads what `scan` names, and keeps generations in `scan.state_dir` if that is set.
    ///
    /// # Errors
    /// The directory cannot be used by this process alone.
    pub fn keeping(scan: &ScanConfig, watch: &Watch) -> Result<Loader, StateError> {
        let own = |dir: &PathBuf| State::own(dir, &scan.database);
        let state = scan.state_dir.as_ref().map(own).transpose()?;
        Ok(Loader {
            state: state.map(Arc::new),
            ..Loader::new(scan, watch)
        })
    }

    /// Has libclamav run in processes of its own.
    pub fn isolated(self, isolation: Option<Isolation>) -> Loader {
        Loader { isolation, ..self }
    }

    /// The text model as it is now. One that cannot be read is none: then loading fails, too.
    fn model(&self) -> Model {
        let text = engine::read_text_model(self.scan.text_model.as_deref()?).ok()?;
        Some(Sha256::digest(text).into())
    }

    fn in_use(&self) -> MutexGuard<'_, InUse> {
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files are now, read in whole while they stood still.
    fn discover(&self) -> Result<(Snapshot, Fingerprint), DetectorError> {
        let paths = &self.scan.database;
        let before = Fingerprint::of(paths);
        let snapshot = Snapshot::read(paths)?;
        match Fingerprint::of(paths) == before {
            true => Ok((snapshot, before)),
            false => Err(SnapshotError::Changed.into()),
        }
    }

    /// Makes what was discovered ready to be loaded: a copy that does not change any more, if there is a place for one.
    fn prepare(&self, snapshot: Snapshot, seen: Fingerprint) -> Result<Candidate, DetectorError> {
        let paths = &self.scan.database;
        let Some(state) = &self.state else {
            let files = Files::InPlace(paths.clone(), seen);
            return Ok(Candidate { snapshot, files });
        };
        let kept = state.manifest(&snapshot.id);
        if let Some(Ok(paths)) = kept.map(|kept| state.whole(&kept)) {
            let files = Files::Kept(paths);
            return Ok(Candidate { snapshot, files });
        }
        match state.stage(paths) {
            Ok(staged) if staged.snapshot.id == snapshot.id => Ok(Candidate {
                snapshot,
                files: Files::Staged(staged),
            }),
            Ok(_) => Err(SnapshotError::Changed.into()),
            Err(error @ SnapshotError::Write { .. }) => {
                tracing::warn!(%error, "No copy of the signature files: they are loaded from where they are, and not kept");
                let files = Files::InPlace(paths.clone(), seen);
                Ok(Candidate { snapshot, files })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A generation that is kept, if it is as it was.
    fn kept(&self, id: &Id) -> Result<Candidate, DetectorError> {
        let not_kept = || DetectorError::NotKept(id.clone());
        let state = self.state.as_ref().ok_or_else(not_kept)?;
        let manifest = state.manifest(id).ok_or_else(not_kept)?;
        let files = Files::Kept(state.whole(&manifest)?);
        Ok(Candidate {
            snapshot: manifest.snapshot,
            files,
        })
    }

    /// Verifies, loads and tries out. `before` is what it is to be compared with.
    fn try_out(&self, candidate: &Candidate, before: &Before) -> Result<Tried, DetectorError> {
        let is_new = !matches!(candidate.files, Files::Kept(_));
        if let (true, Some(state)) = (is_new, &self.state) {
            let id = &candidate.snapshot.id;
            let ended = self.in_use().ended.clone();
            let ends = ended.filter(|(ended, _)| ended == id);
            self.written(state.attempt(id, ends.map_or(0, |(_, ends)| ends)));
        }
        let held = room::held();
        let tried = load(&self.scan, &candidate.paths(), self.isolation.as_ref());
        let apart = tried
            .as_ref()
            .ok()
            .and_then(|it| it.detector.engine()?.isolation());
        let apart = apart.map_or(0, |status| status.engine_bytes);
        self.took(room::held().saturating_sub(held) + apart);
        let tried = tried.and_then(|mut tried| {
            before.compare(&mut tried)?;
            Ok(tried)
        });
        if let (true, Some(state)) = (is_new, &self.state) {
            state.attempted();
        }
        tried.map_err(|error| candidate.of_the_files(error))
    }

    /// Takes note of what loading an engine took. A later load may take what an earlier one gave back, and seem small.
    fn took(&self, bytes: u64) {
        let mut in_use = self.in_use();
        in_use.memory = in_use.memory.max(bytes);
        let memory = i64::try_from(in_use.memory).unwrap_or(i64::MAX);
        self.watch.metrics.engine_memory.set(memory);
    }

    /// Takes note of what is in use from now on, and keeps it. What it returns belongs in the history once it really is in use.
    fn adopted(&self, candidate: Candidate, tried: &Tried, model: Model, since: Instant) -> Event {
        let Candidate { snapshot, files } = candidate;
        let engine = tried.detector.engine();
        let db_digest = engine.map(|engine| engine.info().digest.to_string());
        // What was loaded is whole, as the engine's digest shows, but maybe not what was discovered: then the next look tells.
        let is_it = match &files {
            Files::InPlace(paths, seen) => Fingerprint::of(paths) == *seen,
            _ => true,
        };
        {
            let mut in_use = self.in_use();
            in_use.id = is_it.then(|| snapshot.id.clone());
            in_use.model = model;
            in_use.held.release(&snapshot.id);
        }
        self.watch.metrics.set_built(snapshot.built());
        let event = Event {
            at: now(),
            event: What::Activated,
            generation: Some(snapshot.id.clone()),
            db_digest: db_digest.clone(),
            signatures: Some(tried.measure.signatures),
            seconds: Some(since.elapsed().as_secs_f64()),
            reason: None,
        };
        let Some(state) = &self.state else {
            return event;
        };
        let staged = match files {
            Files::InPlace(..) => return event,
            Files::Staged(staged) => Some(staged),
            Files::Kept(_) => None,
        };
        if state.held().of(&snapshot.id).is_some() {
            self.written(state.change_held(|held| held.release(&snapshot.id)));
        }
        let manifest = Manifest {
            snapshot,
            db_digest: db_digest.unwrap_or_default(),
            libclamav: engine.map_or_else(String::new, |engine| engine.info().library.text.clone()),
            activated_at: now(),
            measure: tried.measure.clone(),
        };
        self.written(state.adopt(staged, &manifest));
        self.watch
            .metrics
            .generations_kept
            .set(state.kept().len() as i64);
        event
    }

    /// Takes note of what may not take over: what is wrong with the files themselves is not tried again.
    fn not_adopted(&self, id: Option<&Id>, error: &DetectorError, since: Instant) -> bool {
        let reason = error.to_string();
        let held = id.filter(|_| error.is_in_the_files());
        if let Some(id) = held {
            self.hold(id, &reason);
        }
        self.note(Event {
            at: now(),
            event: if held.is_some() {
                What::Refused
            } else {
                What::Failed
            },
            generation: id.cloned(),
            db_digest: None,
            signatures: None,
            seconds: Some(since.elapsed().as_secs_f64()),
            reason: Some(reason),
        });
        held.is_some()
    }

    fn hold(&self, id: &Id, reason: &str) {
        let tried_with = self.tried_with();
        match &self.state {
            Some(state) => self.written(state.hold(id, reason, Some(&tried_with))),
            None => self.in_use().held.hold(Held {
                id: id.clone(),
                at: now(),
                reason: reason.to_owned(),
                tried_with: Some(tried_with),
            }),
        }
    }

    /// Why these files are not tried by themselves, if they are not.
    fn held(&self, id: &Id) -> Option<Held> {
        let tried_with = self.tried_with();
        match &self.state {
            Some(state) => state.held().find(id, &tried_with).cloned(),
            None => self.in_use().held.find(id, &tried_with).cloned(),
        }
    }

    /// What decides whether files are refused, besides the files.
    fn tried_with(&self) -> String {
        let scan = &self.scan;
        let library = scanlib::Library::init().map(|library| library.version().text);
        let settings = format!(
            "{} {:?} {} {:?}",
            scan.bytecode_unsigned,
            scan.leave_out,
            scan.views,
            scan.signatures()
        );
        let digest = hex::encode(Sha256::digest(settings));
        format!(
            "scanner-bin {}, libclamav {}, settings {}",
            env!("CARGO_PKG_VERSION"),
            library.unwrap_or_default(),
            digest.get(..12).unwrap_or_default()
        )
    }

    fn note_all(&self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.note(event));
    }

    fn note(&self, event: Event) {
        if let Some(state) = &self.state {
            self.written(state.note(&event));
        }
    }

    /// What is not kept is only less safe: the service goes on.
    fn written(&self, result: std::io::Result<()>) {
        if let (Err(error), Some(state)) = (result, &self.state) {
            tracing::warn!(dir = %state.dir().display(), %error, "scan.state_dir cannot be written");
        }
    }

    /// Puts the files as they are now, or those that were asked for, in place of what `slot` holds, if they make a detector.
    fn reload(&self, slot: &DetectorSlot, trigger: &Trigger, shutdown: &Shutdown) -> Outcome {
        let start = Instant::now();
        self.watch.metrics.reload_in_progress.set(1);
        let outcome = self.replace(slot, trigger, start, shutdown);
        self.watch.metrics.reload_in_progress.set(0);
        self.watch
            .metrics
            .signature_db_up_to_date
            .set(i64::from(matches!(
                outcome,
                Outcome::Ok | Outcome::Unchanged
            )));
        if outcome == Outcome::Held {
            return outcome;
        }
        let metrics = &self.watch.metrics;
        metrics
            .reload_duration
            .observe(start.elapsed().as_secs_f64());
        metrics
            .reloads
            .get_or_create(&ReloadLabel {
                result: outcome.as_str(),
            })
            .inc();
        outcome
    }

    fn replace(
        &self,
        slot: &DetectorSlot,
        trigger: &Trigger,
        start: Instant,
        shutdown: &Shutdown,
    ) -> Outcome {
        let model = self.model();
        let candidate = match trigger {
            Trigger::Wanted(Wanted::Generation(id)) => self.kept(id).map_err(|error| (None, error)),
            _ => match self.discover() {
                Err(error) => Err((None, error)),
                Ok((snapshot, _))
                    if *trigger != Trigger::Lost && self.is_in_use(slot, &snapshot.id, model) =>
                {
                    return self.unchanged(&snapshot.id, trigger);
                }
                Ok((snapshot, seen)) => {
                    if let Some(held) = self
                        .held(&snapshot.id)
                        .filter(|_| *trigger == Trigger::Change)
                    {
                        return self.still_held(&held);
                    }
                    let id = snapshot.id.clone();
                    self.prepare(snapshot, seen)
                        .map_err(|error| (Some(id), error))
                }
            },
        };
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err((id, error)) => return self.not_reloaded(id.as_ref(), &error, start),
        };
        let id = candidate.snapshot.id.clone();
        // An operator who asks for what the files hold now knows how it differs.
        let is_compared = *trigger != Trigger::Lost
            && *trigger != Trigger::Wanted(Wanted::Source)
            && !matches!(candidate.files, Files::Kept(_));
        let before = match is_compared {
            // Measured as the new ones will be.
            true => aside(|| Before::beside(&slot.load())),
            false => Ok(Before::default()),
        };
        let before = match before {
            Ok(before) => before,
            Err(error) => return self.not_reloaded(Some(&id), &error.into(), start),
        };
        if self.plan() == Plan::Drain {
            return self.drain(slot, candidate, &before, (model, start), shutdown);
        }
        let mut event = None;
        let swapped = slot.reload_with(|_| {
            let tried = aside(|| self.try_out(&candidate, &before))?;
            event = Some(self.adopted(candidate, &tried, model, start));
            Ok::<_, DetectorError>(tried.detector)
        });
        match swapped {
            Err(error) => self.not_reloaded(Some(&id), &error, start),
            Ok(_) => {
                announce(&self.watch, &slot.load(), "Signatures reloaded");
                self.watch.health.pass(Check::Database);
                self.note_all(event);
                Outcome::Ok
            }
        }
    }

    fn plan(&self) -> Plan {
        let mode = self.scan.reload;
        let (memory, free) = (self.in_use().memory, room::free());
        let plan = room::plan(
            mode,
            mode != ReloadMode::Swap && self.has_way_back(),
            memory,
            free,
        );
        if plan == Plan::Swap && room::plan(mode, true, memory, free) == Plan::Drain {
            tracing::warn!(
                memory,
                free,
                "Two engines are in memory at once, for which there may be no room: set scan.state_dir, so that one can be freed first"
            );
        }
        plan
    }

    /// Whether the detector in use is made of these files, and nothing else is a reason to build another.
    fn is_in_use(&self, slot: &DetectorSlot, id: &Id, model: Model) -> bool {
        // Other counts are no reason to trust a prefilter again that was wrong about these signatures.
        let was_wrong = matches!(
            slot.load().prefilter().off(),
            Some(DisabledReason::FalseNegative { .. })
        );
        let in_use = self.in_use();
        in_use.id.as_ref() == Some(id) && (was_wrong || in_use.model == model)
    }

    fn unchanged(&self, id: &Id, trigger: &Trigger) -> Outcome {
        if let Trigger::Wanted(_) = trigger {
            // Who asked waits for an answer.
            self.note(Event {
                at: now(),
                event: What::Unchanged,
                generation: Some(id.clone()),
                db_digest: None,
                signatures: None,
                seconds: None,
                reason: None,
            });
        }
        tracing::info!(
            generation = id.as_str(),
            "Signatures are the same as before"
        );
        self.watch.health.pass(Check::Database);
        Outcome::Unchanged
    }

    fn still_held(&self, held: &Held) -> Outcome {
        tracing::warn!(
            generation = held.id.as_str(),
            reason = held.reason,
            "These signature files were turned down before, and are not tried again"
        );
        self.note_old(&held.reason, false);
        Outcome::Held
    }

    fn not_reloaded(&self, id: Option<&Id>, error: &DetectorError, start: Instant) -> Outcome {
        let refused = self.not_adopted(id, error, start);
        let in_use = self.in_use().id.clone();
        let error = error.to_string();
        tracing::error!(
            error,
            generation = id.map(Id::as_str),
            in_use = in_use.as_ref().map(Id::as_str),
            "Signatures not reloaded: those of before stay in use"
        );
        self.note_old(&error, !refused);
        Outcome::Failed { again: !refused }
    }

    /// Says in the probe that the files are not in use, and why.
    fn note_old(&self, reason: &str, again: bool) {
        let in_use = self.in_use().id.clone();
        let in_use = in_use.as_ref().map_or("?", Id::short);
        let next = match again {
            true => "they are tried again",
            false => "they are not tried again until they change, or on SIGHUP",
        };
        self.watch.health.pass_with_note(
            Check::Database,
            format!("the signatures of before ({in_use}) are in use, as the new files cannot be loaded: {reason}; {next}"),
        );
    }
}

/// What new signatures are compared with.
#[derive(Debug, Default)]
struct Before {
    measure: Option<Measure>,
    /// Measured a moment ago, so that times can be compared.
    is_fresh: bool,
}

impl Before {
    /// The signatures in use.
    fn beside(detector: &Detector) -> Result<Before, CanaryError> {
        Ok(Before {
            measure: Some(Measure::of(detector)?),
            is_fresh: true,
        })
    }

    fn compare(&self, tried: &mut Tried) -> Result<(), CanaryError> {
        let Some(before) = &self.measure else {
            return Ok(());
        };
        tried.measure.beside(before)?;
        if self.is_fresh && tried.measure.as_fast_as(before).is_err() {
            // Once more: it may have been the machine.
            tried.measure = Measure::of(&tried.detector)?;
            tried.measure.as_fast_as(before)?;
        }
        Ok(())
    }
}

/// Why signatures are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trigger {
    /// The files changed.
    Change,
    /// SIGHUP.
    Hangup,
    /// An operator asked for it.
    Wanted(Wanted),
    /// The process that holds those in use has ended.
    Lost,
}

/// What a reload came to; the words of `scanner_engine_reloads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Unchanged,
    /// Nothing was tried, as the same was refused before.
    Held,
    Failed {
        /// The files may do another time.
        again: bool,
    },
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Unchanged => "unchanged",
            Outcome::Held | Outcome::Failed { .. } => "failed",
        }
    }
}

/// The thread that reloads. It ends when the service is asked to stop.
#[derive(Debug)]
pub struct Reloading {
    thread: JoinHandle<()>,
    state: Option<Arc<State>>,
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
        let state = loader.state.clone();
        let thread = thread::Builder::new()
            .name("reload".to_owned())
            .stack_size(scanlib::SCAN_STACK_BYTES)
            .spawn(move || watch(&loader, &slot, loaded, &hangup, &shutdown))?;
        Ok(Reloading { thread, state })
    }

    /// Waits for the end of the thread, but not for the end of a long load.
    pub fn wait(self) {
        let until = Instant::now() + JOIN;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        if !self.thread.is_finished() {
            tracing::warn!("signatures are still being loaded; the process ends without them");
            if let Some(state) = &self.state {
                // The files are not to blame for this end.
                state.attempted();
            }
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
    let mut schedule = Schedule::new(loader.scan.reload_interval, loaded.clone(), Instant::now());
    if loader.in_use().is_to_be_tried_again {
        schedule.loaded(loaded, false, Instant::now());
    }
    let listens = !loader.scan.reload_interval.is_zero();
    let mut notice = Notice::of(if listens { &paths } else { &[] });
    // What changed since the files were loaded nobody tells of.
    schedule.hurry(Instant::now());
    let mut isolated = isolated::Watch::default();
    while !shutdown.is_requested() {
        if isolated.look(loader, slot) {
            isolated.restored(loader.restore(slot, shutdown));
        }
        if loader.isolation.as_ref().is_some_and(Isolation::is_lost) {
            tracing::error!(
                "The process that starts scanning processes has ended: the service stops"
            );
            shutdown.request();
        }
        let wanted = loader.state.as_ref().filter(|state| state.is_wanted());
        let wanted = wanted.and_then(|state| state.take_wanted());
        let asked = hangup.swap(false, Ordering::AcqRel);
        if (asked || wanted.is_some()) && loader.scan.database.is_empty() {
            tracing::warn!("SIGHUP: no signature database is configured, so there is none to load");
        } else if let Some(wanted) = wanted {
            tracing::info!(?wanted, "An operator asks for other signatures");
            loader.reload(slot, &Trigger::Wanted(wanted), shutdown);
        } else {
            if asked {
                tracing::info!("SIGHUP: loading the signatures anew");
                schedule.ask();
            }
            if notice.heard() {
                schedule.hurry(Instant::now());
            }
            let look = || {
                notice.follow();
                Fingerprint::of(&paths)
            };
            if let Due::Load(seen) = schedule.look(Instant::now(), look) {
                let trigger = if asked {
                    Trigger::Hangup
                } else {
                    Trigger::Change
                };
                let outcome = loader.reload(slot, &trigger, shutdown);
                let again = outcome == Outcome::Failed { again: true };
                schedule.loaded(seen, !again, Instant::now());
            }
        }
        thread::sleep(TICK);
    }
}
