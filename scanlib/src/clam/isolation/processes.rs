//! The scanning processes of one engine, as the main process sees them: lanes to the present one, and what happens when it ends.
//!
//! ```text
//! scan → a free lane → the answer                             the usual case
//!                   └─ too late → the process is killed        the limit is the verdict
//!                   └─ it ended → once more, alone, in a new one
//!                                  └─ that ended too → Incomplete::Crashed
//! ```
//!
//! Objects that were scanned beside one whose scan ended the process are scanned once more, too, each alone: any of them may be to blame.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, OFlags, SealFlags};

use super::channel::{Channel, MAX_BODY_BYTES, MAX_DESCRIPTORS};
use super::child;
use super::confine::Confinement;
use super::remote::{Failure, RemoteEngine};
use super::wire::{self, Answer, Bounds, Object, Task};
use crate::clam::call;
use crate::clam::engine::EngineScan;
use crate::clam::limits::Limits;
use crate::clam::request::Request;
use crate::clam::tmp::Identity;
use crate::report::{FileFamily, Incomplete};

/// A scan that takes no longer is waited for without sleeping.
const SHORT_SCAN: Duration = Duration::from_micros(100);
/// How often a waiting caller looks whether its scan is still wanted.
const LOOK: Duration = Duration::from_millis(20);
/// How long a cancelled scan may go on before its process is killed.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);
/// How long a new scanning process may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a scanning process may leave what it is sent unread: it has room for more than one object.
const SEND_PATIENCE: Duration = Duration::from_secs(5);
/// Names that one scan may report, and bytes of them; more come from no engine.
const MAX_NAMES: usize = 1 << 16;
const MAX_NAMES_BYTES: usize = 8 << 20;
/// How many processes an object is given for itself, if they are killed by somebody else.
const ALONE: usize = 3;

/// How scans are isolated; see [`crate::EngineBuilder::isolation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolationOptions {
    /// Threads of the scanning process: how many scans run at a time; others wait. At most 128. Default: one for each processor that
    /// this process may use.
    pub threads: NonZeroUsize,
    /// Memory that a scanning process may take beyond the engine that it shares, in bytes. Default: 512 MiB.
    pub memory_bytes: u64,
}

impl Default for IsolationOptions {
    fn default() -> Self {
        IsolationOptions {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory_bytes: 512 << 20,
        }
    }
}

impl IsolationOptions {
    /// Sets [`IsolationOptions::threads`].
    pub fn threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets [`IsolationOptions::memory_bytes`].
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }
}

/// What an isolated engine has done; see [`crate::Engine::isolation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IsolationStatus {
    /// What confines the scanning process that was started last.
    pub confinement: Confinement,
    /// Scanning processes that were started.
    pub started: u64,
    /// Scanning processes that ended by themselves: crashes.
    pub crashed: u64,
    /// Scanning processes that were killed because a scan took too long.
    pub killed: u64,
    /// Objects that were scanned once more, alone.
    pub repeated: u64,
    /// Time from a scanning process's end to the next one's being ready, for the last one.
    pub last_outage: Duration,
    /// The longest such time.
    pub longest_outage: Duration,
    /// Memory that the process which holds the signatures takes, in bytes; 0 if it is not known.
    pub engine_bytes: u64,
    /// The process that holds the signatures has ended: every scan is incomplete until another engine is built.
    pub is_lost: bool,
}

/// What is scanned.
#[derive(Clone, Copy)]
pub(in crate::clam) enum Scanned<'s> {
    Bytes(&'s [u8]),
    /// A regular file.
    File(&'s File),
}

/// The scanning processes of one engine.
#[derive(Debug)]
pub(in crate::clam) struct Processes {
    template: Mutex<RemoteEngine>,
    state: Mutex<State>,
    /// A lane is free, or there are new ones.
    freed: Condvar,
    tmp_dir: PathBuf,
    options: IsolationOptions,
    limits: Limits,
    caches: bool,
    engine_bytes: u64,
    counters: Counters,
}

#[derive(Debug, Default)]
struct State {
    present: Option<Present>,
    /// Somebody starts the next process.
    is_starting: bool,
    /// Since when there is none.
    gone_since: Option<Instant>,
    confinement: Confinement,
}

#[derive(Debug)]
struct Present {
    pid: i32,
    number: u64,
    free: Vec<Lane>,
}

#[derive(Debug, Default)]
struct Counters {
    started: AtomicU64,
    crashed: AtomicU64,
    killed: AtomicU64,
    repeated: AtomicU64,
    last_outage_micros: AtomicU64,
    longest_outage_micros: AtomicU64,
    is_lost: AtomicBool,
}

/// A connection to one thread of a scanning process.
#[derive(Debug)]
struct Lane {
    pid: i32,
    /// Of its process, in the order of their starts.
    number: u64,
    /// The directory that its process may write to; `None` if it was gone at once.
    directory: Option<Identity>,
    channel: Channel,
    buffer: Vec<u8>,
    /// What the last scan took.
    last: Duration,
}

/// Why a scanning process is of no use any more.
#[derive(Clone, Copy)]
enum End {
    Late,
    Crashed,
    /// It still runs.
    Unusable,
    NoDirectory,
}

/// What came of an object that was handed to a lane.
enum Outcome {
    Scanned(EngineScan),
    /// It took too long, for this reason.
    Late(Incomplete),
    /// The process ended.
    Ended,
    /// It does not keep to the protocol, or reads nothing.
    Unusable,
    /// A callback in the other process panicked.
    Panicked(String),
}

impl Processes {
    /// Starts the first scanning process of a compiled engine. Each has a directory of its own in the engine's.
    pub(in crate::clam) fn start(
        template: RemoteEngine,
        options: IsolationOptions,
        limits: Limits,
        caches: bool,
    ) -> Result<Processes, Failure> {
        let processes = Processes {
            engine_bytes: template.resident_bytes(),
            tmp_dir: template.tmp_dir().to_owned(),
            template: Mutex::new(template),
            state: Mutex::default(),
            freed: Condvar::new(),
            options,
            limits,
            caches,
            counters: Counters::default(),
        };
        processes.renew()?;
        Ok(processes)
    }

    /// Scanning processes that were started.
    pub(in crate::clam) fn started(&self) -> u64 {
        self.counters.started.load(Relaxed)
    }

    pub(in crate::clam) fn status(&self) -> IsolationStatus {
        let counters = &self.counters;
        let time = |micros: &AtomicU64| Duration::from_micros(micros.load(Relaxed));
        IsolationStatus {
            confinement: self.state().confinement,
            started: counters.started.load(Relaxed),
            crashed: counters.crashed.load(Relaxed),
            killed: counters.killed.load(Relaxed),
            repeated: counters.repeated.load(Relaxed),
            last_outage: time(&counters.last_outage_micros),
            longest_outage: time(&counters.longest_outage_micros),
            engine_bytes: self.engine_bytes,
            is_lost: counters.is_lost.load(Relaxed),
        }
    }

    /// Does in the directory for temporary files what a scan does.
    pub(in crate::clam) fn check_tmp_dir(&self) -> io::Result<()> {
        let mut template = self.template();
        let checked = template.check();
        if !template.is_alive() {
            self.counters.is_lost.store(true, Relaxed);
        }
        Ok(checked?)
    }

    /// Whether a harmless object can be examined now.
    pub(in crate::clam) fn works(&self) -> bool {
        let object = call::trial_object();
        let scan = self.scan(Scanned::Bytes(&object), None, &Request::new());
        scan.incomplete.is_none()
    }

    /// Scans one object in the present scanning process; a second time, alone, if that ends.
    pub(in crate::clam) fn scan(
        &self,
        object: Scanned<'_>,
        name: Option<&str>,
        request: &Request<'_>,
    ) -> EngineScan {
        if let Some(reason) = call::stop_reason(request) {
            return EngineScan::nothing(Some(reason));
        }
        let mut lane = match self.lane(request) {
            Ok(lane) => lane,
            Err(incomplete) => return EngineScan::nothing(Some(incomplete)),
        };
        let outcome = self.exchange(&mut lane, object, name, request);
        match outcome {
            Outcome::Scanned(scan) => {
                let has_failed = matches!(scan.incomplete, Some(Incomplete::EngineError { .. }));
                if has_failed && Identity::of(&self.directory(lane.number)).ok() != lane.directory {
                    // Its rights belong to the directory that it was started with. Another one gets another directory.
                    self.retire(lane, End::NoDirectory);
                } else {
                    self.give_back(lane);
                }
                scan
            }
            Outcome::Panicked(text) => {
                self.give_back(lane);
                std::panic::resume_unwind(Box::new(text))
            }
            Outcome::Late(incomplete) => {
                self.retire(lane, End::Late);
                EngineScan::nothing(Some(incomplete))
            }
            Outcome::Ended => {
                self.retire(lane, End::Crashed);
                self.counters.repeated.fetch_add(1, Relaxed);
                self.scan_alone(object, name, request)
            }
            Outcome::Unusable => {
                self.retire(lane, End::Unusable);
                self.counters.repeated.fetch_add(1, Relaxed);
                self.scan_alone(object, name, request)
            }
        }
    }

    fn scan_alone(
        &self,
        object: Scanned<'_>,
        name: Option<&str>,
        request: &Request<'_>,
    ) -> EngineScan {
        for attempt in 1..=ALONE {
            if let Some(reason) = call::stop_reason(request) {
                return EngineScan::nothing(Some(reason));
            }
            let mut lane = match self.fork(1).map(|mut lanes| lanes.pop()) {
                Ok(Some(lane)) => lane,
                Err(failure) if attempt == ALONE || self.counters.is_lost.load(Relaxed) => {
                    return EngineScan::nothing(None).lost(&failure.to_string());
                }
                Ok(None) | Err(_) => continue,
            };
            let outcome = self.exchange(&mut lane, object, name, request);
            // Before its lane is gone, at which it would end by itself.
            let how = self.end(lane.pid, lane.number);
            drop(lane);
            match outcome {
                Outcome::Scanned(scan) => return scan,
                Outcome::Panicked(text) => std::panic::resume_unwind(Box::new(text)),
                Outcome::Late(incomplete) => {
                    self.counters.killed.fetch_add(1, Relaxed);
                    return EngineScan::nothing(Some(incomplete));
                }
                Outcome::Unusable => {
                    self.counters.crashed.fetch_add(1, Relaxed);
                    let how = "killed, as it did not keep to the protocol".to_owned();
                    return EngineScan::nothing(Some(Incomplete::Crashed { how }));
                }
                Outcome::Ended => {
                    self.counters.crashed.fetch_add(1, Relaxed);
                    // It may not have been the object: the system may be short of memory, or somebody kills at random.
                    if how != child::KILLED || attempt == ALONE {
                        return EngineScan::nothing(Some(Incomplete::Crashed { how }));
                    }
                }
            }
        }
        EngineScan::nothing(None).lost("no lane")
    }

    /// Waits for a free lane, and starts a scanning process if there is none.
    fn lane(&self, request: &Request<'_>) -> Result<Lane, Incomplete> {
        let mut state = self.state();
        loop {
            if let Some(present) = &mut state.present {
                if let Some(lane) = present.free.pop() {
                    return Ok(lane);
                }
            } else if !state.is_starting {
                drop(state);
                self.renew().map_err(|failure| lost(&failure.to_string()))?;
                state = self.state();
                continue;
            }
            if let Some(reason) = call::stop_reason(request) {
                return Err(reason);
            }
            let waited = self.freed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn give_back(&self, lane: Lane) {
        let mut state = self.state();
        if let Some(present) = &mut state.present
            && present.pid == lane.pid
        {
            present.free.push(lane);
            self.freed.notify_one();
        }
    }

    /// The process of this lane is of no use any more. Ends it, once.
    fn retire(&self, lane: Lane, end: End) {
        let (pid, number) = (lane.pid, lane.number);
        drop(lane);
        let retired = {
            let mut state = self.state();
            let is_present = state.present.as_ref().is_some_and(|it| it.pid == pid);
            if is_present {
                state.gone_since = Some(Instant::now());
            }
            is_present.then(|| state.present.take()).flatten()
        };
        if retired.is_none() {
            return;
        }
        match end {
            End::Late => self.counters.killed.fetch_add(1, Relaxed),
            End::Crashed | End::Unusable => self.counters.crashed.fetch_add(1, Relaxed),
            End::NoDirectory => 0,
        };
        drop(retired);
        if matches!(end, End::Crashed) {
            // First of all: others wait for the next process, and nobody for what is left of this one.
            let _tried_again_by_the_next_scan = self.renew();
        }
        self.end(pid, number);
    }

    /// Starts the next scanning process, unless somebody else does.
    fn renew(&self) -> Result<(), Failure> {
        {
            let mut state = self.state();
            if state.is_starting || state.present.is_some() {
                return Ok(());
            }
            state.is_starting = true;
        }
        let lanes = self.fork(self.options.threads.get());
        let mut state = self.state();
        state.is_starting = false;
        self.freed.notify_all();
        let free = lanes?;
        if let Some(since) = state.gone_since.take() {
            let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.counters.last_outage_micros.store(micros, Relaxed);
            self.counters
                .longest_outage_micros
                .fetch_max(micros, Relaxed);
        }
        let first = free.first().map(|lane| (lane.pid, lane.number));
        state.present = first.map(|(pid, number)| Present { pid, number, free });
        Ok(())
    }

    /// Forks a scanning process and waits until it serves.
    fn fork(&self, threads: usize) -> Result<Vec<Lane>, Failure> {
        let system = |error: io::Error| Failure::Ended(error.to_string());
        let threads = threads.clamp(1, MAX_DESCRIPTORS);
        let pairs: io::Result<Vec<_>> = (0..threads).map(|_| Channel::pair()).collect();
        let (ours, theirs): (Vec<Channel>, Vec<Channel>) =
            pairs.map_err(system)?.into_iter().unzip();
        let descriptors: Vec<BorrowedFd<'_>> = theirs.iter().map(Channel::descriptor).collect();
        let number = self.counters.started.fetch_add(1, Relaxed);
        let pid = {
            let mut template = self.template();
            let bounds = Bounds {
                memory_bytes: self.options.memory_bytes,
                max_file_bytes: self.limits.max_file_bytes,
                max_scan_time: self.limits.max_scan_time,
                caches: self.caches,
            };
            let started = template.start(&descriptors, number, bounds);
            if !template.is_alive() {
                self.counters.is_lost.store(true, Relaxed);
            }
            started?
        };
        drop(descriptors);
        drop(theirs);
        let ready = || -> io::Result<Option<Answer>> {
            let Some(first) = ours.first() else {
                return Ok(None);
            };
            first.receive_at_most_for(Some(START_PATIENCE))?;
            let answer = first.receive_header(&mut Vec::new());
            ours.iter().try_for_each(|lane| {
                lane.receive_at_most_for(Some(LOOK))?;
                lane.send_at_most_for(SEND_PATIENCE)
            })?;
            answer
        };
        match ready() {
            Ok(Some(Answer::Ready(confinement))) => self.state().confinement = confinement,
            Ok(_) => {
                let how = self.end(pid, number);
                let problem = format!("a scanning process ended before it served: {how}");
                return Err(Failure::Ended(problem));
            }
            Err(error) => {
                self.end(pid, number);
                let problem = format!("a scanning process does not serve: {error}");
                return Err(Failure::Ended(problem));
            }
        }
        let directory = Identity::of(&self.directory(number)).ok();
        let lane = |channel| Lane {
            pid,
            number,
            directory,
            channel,
            buffer: Vec::new(),
            last: Duration::ZERO,
        };
        Ok(ours.into_iter().map(lane).collect())
    }

    fn directory(&self, number: u64) -> PathBuf {
        self.tmp_dir.join(wire::directory(number))
    }

    /// Ends a scanning process if it has not ended, and says how it did.
    fn end(&self, pid: i32, number: u64) -> String {
        let mut template = self.template();
        let how = template.end(pid, number);
        if !template.is_alive() {
            self.counters.is_lost.store(true, Relaxed);
        }
        how.unwrap_or_else(|failure| failure.to_string())
    }

    /// Hands an object to a lane and waits for what comes of it.
    fn exchange(
        &self,
        lane: &mut Lane,
        object: Scanned<'_>,
        name: Option<&str>,
        request: &Request<'_>,
    ) -> Outcome {
        let started = Instant::now();
        match hand_over(&lane.channel, object, name, request) {
            Ok(()) => {}
            // No memory or descriptor for the object: nothing is wrong with the process.
            Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
                return Outcome::Scanned(EngineScan::nothing(None).lost(&error.to_string()));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Outcome::Unusable,
            Err(_) => return Outcome::Ended,
        }
        // Where the last scan was short this one may be, too, and is over before this thread could be woken.
        let expected = match lane.last {
            last if last <= SHORT_SCAN => last + SHORT_SCAN,
            _ => Duration::ZERO,
        };
        lane.channel.expect(expected);
        let limit = self.limits.max_scan_time;
        // libclamav looks at its limit between two steps, and a step may be long.
        let latest = started + limit + limit / 2;
        let deadline = request.deadline.map(|at| at.max(started) + limit / 4);
        let mut cancelled: Option<Instant> = None;
        let mut names = Vec::new();
        let mut names_bytes = 0;
        loop {
            let answer: io::Result<Option<Answer>> = lane.channel.receive_header(&mut lane.buffer);
            // Whatever it sends meanwhile: a process that was taken over may send for ever.
            if !matches!(answer, Ok(Some(Answer::Scanned { .. }))) {
                let now = Instant::now();
                if now >= latest {
                    return Outcome::Late(Incomplete::EngineTimeLimit);
                }
                if deadline.is_some_and(|deadline| now >= deadline) {
                    return Outcome::Late(Incomplete::Deadline);
                }
                if cancelled.is_some_and(|since| since.elapsed() >= CANCEL_PATIENCE) {
                    return Outcome::Late(Incomplete::Cancelled);
                }
                if cancelled.is_none() && request.is_cancelled() {
                    cancelled = Some(now);
                    if lane.channel.send(&Task::Cancel, &[], &[]).is_err() {
                        return Outcome::Ended;
                    }
                }
            }
            match answer {
                Ok(Some(Answer::Found(found))) => {
                    names_bytes += found.iter().map(String::len).sum::<usize>();
                    if names.len() + found.len() > MAX_NAMES || names_bytes > MAX_NAMES_BYTES {
                        return Outcome::Unusable;
                    }
                    names.extend(found);
                }
                Ok(Some(Answer::Scanned {
                    incomplete,
                    type_ignored,
                    failed_in,
                })) => {
                    lane.last = started.elapsed();
                    let scan = EngineScan {
                        names,
                        incomplete: incomplete.map(Incomplete::from),
                        type_ignored,
                        failed_in: failed_in
                            .and_then(|place| FileFamily::ALL.get(usize::from(place)).copied()),
                    };
                    return Outcome::Scanned(scan);
                }
                Ok(Some(Answer::Panicked(text))) => return Outcome::Panicked(text),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(None) => return Outcome::Ended,
                Ok(Some(Answer::Ready(_))) | Err(_) => return Outcome::Unusable,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn template(&self) -> MutexGuard<'_, RemoteEngine> {
        self.template.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let present = self.state().present.take();
        if let Some(Present { pid, number, .. }) = present {
            self.end(pid, number);
        }
    }
}

impl EngineScan {
    /// The same, incomplete because the scanning processes are not to be had.
    fn lost(mut self, problem: &str) -> EngineScan {
        self.incomplete = Some(lost(problem));
        self
    }
}

fn lost(problem: &str) -> Incomplete {
    Incomplete::EngineError {
        code: None,
        log: vec![format!("no process scans: {problem}")],
    }
}

fn hand_over(
    channel: &Channel,
    object: Scanned<'_>,
    name: Option<&str>,
    request: &Request<'_>,
) -> io::Result<()> {
    // A name that is too long for a packet is cut: few signatures look at it.
    let name = name.map(|name| name.get(..name.floor_char_boundary(4096)).unwrap_or(name));
    let task = |object| Task::Scan {
        name,
        options: request.options.into(),
        time_left: request
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now())),
        object,
    };
    match object {
        Scanned::Bytes(bytes) if bytes.len() <= MAX_BODY_BYTES => {
            channel.send(&task(Object::Body), bytes, &[])
        }
        Scanned::Bytes(bytes) => {
            let memory =
                memory(bytes).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
            let len = bytes.len() as u64;
            channel.send(&task(Object::Memory { len }), &[], &[memory.as_fd()])
        }
        Scanned::File(file) => {
            let file = read_only(file);
            let file = file.map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
            channel.send(&task(Object::File), &[], &[file.as_fd()])
        }
    }
}

/// The same file, opened anew: with the caller's own descriptor a process that was taken over could write to it, if the caller can,
/// and move its position.
fn read_only(file: &File) -> io::Result<File> {
    let anew = File::open(format!("/proc/self/fd/{}", file.as_raw_fd()));
    anew.or_else(|_| {
        // Open for reading, but not to be opened by this user.
        let flags = rustix::fs::fcntl_getfl(file)?;
        match flags & OFlags::RWMODE == OFlags::RDONLY {
            true => file.try_clone(),
            false => copy(file),
        }
    })
}

fn copy(file: &File) -> io::Result<File> {
    let memory = rustix::fs::memfd_create(c"object", MemfdFlags::CLOEXEC)?;
    let mut memory = File::from(memory);
    let mut buffer = vec![0; 1 << 16];
    let length = file.metadata()?.len();
    let mut at = 0;
    while at < length {
        let read = file.read_at(&mut buffer, at)?;
        let Some(piece) = buffer.get(..read).filter(|piece| !piece.is_empty()) else {
            break;
        };
        memory.write_all(piece)?;
        at += read as u64;
    }
    Ok(memory)
}

/// A copy that can be passed on and does not change.
fn memory(bytes: &[u8]) -> io::Result<File> {
    let memory =
        rustix::fs::memfd_create(c"object", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut memory = File::from(memory);
    memory.write_all(bytes)?;
    rustix::fs::fcntl_add_seals(
        &memory,
        SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL,
    )?;
    Ok(memory)
}
