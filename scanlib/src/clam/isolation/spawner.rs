//! The spawner: forked before the program has threads or secrets, it forks a template for each engine.

use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Pid;
use thiserror::Error;

use super::channel::Channel;
use super::charsets;
use super::child;
use super::confine;
use super::mapped;
use super::remote::RemoteEngine;
use super::template;
use super::wire::{Child, Nursery};
use crate::clam::Library;
use crate::clam::allocator;
use crate::error::InitError;

/// How long the spawner may take for an answer: it forks a small process, or waits for the end of a large one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why scans cannot be isolated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// A process with several threads cannot be copied.
    #[error(
        "the process runs {0} threads already: call Isolation::start first thing in main, before any thread is started"
    )]
    Threads(usize),
    /// libclamav cannot be used.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The system refused a process or a socket.
    #[error("the process that scans cannot be started: {0}")]
    System(#[from] io::Error),
}

/// Lets libclamav run in processes of their own, which may crash and are confined.
///
/// Pass it to [`crate::EngineBuilder::isolation`]. Clones are the same; when the last one is gone, with the last engine that was built
/// with it, all processes end. They also end when this process does, however it does.
///
/// ```no_run
/// use scanlib::{EngineBuilder, Isolation, IsolationOptions, Library, Payload, Request};
///
/// // First thing in main.
/// let isolation = Isolation::start()?;
/// let engine = EngineBuilder::new(Library::init()?)?
///     .isolation(&isolation, IsolationOptions::default())
///     .builtin_signatures()?
///     .compile()?;
/// let scan = engine.scan(Payload::Bytes(b"a harmless line"), &Request::new())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Isolation(Arc<Spawner>);

#[derive(Debug)]
struct Spawner {
    pid: Pid,
    control: Mutex<Option<Channel>>,
}

impl Isolation {
    /// Forks the spawner.
    ///
    /// Call this first thing in `main`: the memory of this process at this moment is what an attacker could read who takes over a process
    /// that scans. Environment variables are overwritten there, but for a few that hold no secrets.
    ///
    /// # Errors
    /// This process has threads already, or the system refuses.
    pub fn start() -> Result<Isolation, IsolationError> {
        // Here, so that the memory it takes is shared.
        let library = Library::init()?;
        match child::threads() {
            Some(1) => {}
            Some(threads) => return Err(IsolationError::Threads(threads)),
            None => return Err(io::Error::other("/proc is not mounted").into()),
        }
        let (control, other) = Channel::pair()?;
        control.receive_at_most_for(Some(PATIENCE))?;
        // SAFETY: this process has one thread: it was counted.
        let pid = unsafe { child::fork(c"scan-spawner", move || spawn(&other, library)) }?;
        Ok(Isolation(Arc::new(Spawner {
            pid,
            control: Mutex::new(Some(control)),
        })))
    }

    /// Whether the process that starts the others has ended: no engine can be built any more, and those that were built are lost.
    pub fn is_lost(&self) -> bool {
        // It speaks only when it is asked, so what there is to read while nobody asks is its end.
        self.0.lock().as_ref().is_none_or(Channel::is_readable)
    }

    /// Forks a template without signatures.
    pub(in crate::clam) fn template(&self) -> io::Result<RemoteEngine> {
        let (control, other) = Channel::pair()?;
        match self.0.ask(&Nursery::Start, &[other.descriptor()])? {
            Child::Started { pid } => Ok(RemoteEngine::new(self.clone(), pid, control)),
            Child::NotStarted { error } => Err(io::Error::other(error)),
            _ => Err(io::Error::other("an answer of the wrong kind")),
        }
    }

    /// Ends a template, if it has not ended, and says how it ended.
    pub(super) fn end(&self, pid: i32) -> String {
        match self.0.ask(&Nursery::End { pid }, &[]) {
            Ok(Child::Ended { how }) => how,
            Ok(_) => "an answer of the wrong kind".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the process that starts others has ended",
    )
}

impl Spawner {
    fn lock(&self) -> MutexGuard<'_, Option<Channel>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, what: &Nursery, descriptors: &[BorrowedFd<'_>]) -> io::Result<Child> {
        let mut control = self.lock();
        let spawner = control.as_ref().ok_or_else(gone)?;
        let answer = spawner
            .send(what, &[], descriptors)
            .and_then(|()| spawner.receive_header(&mut Vec::new()))
            .and_then(|answer| answer.ok_or_else(gone));
        if answer.is_err() {
            // An answer that comes late would be taken for that to another question. Its children end with it.
            *control = None;
            child::end(self.pid);
        }
        answer
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        if self.lock().take().is_some() {
            child::end(self.pid);
        }
    }
}

/// The life of the spawner.
fn spawn(control: &Channel, library: Library) -> io::Result<Infallible> {
    child::ignore_signals();
    child::close_all_but(&[control.descriptor()]);
    child::silence(false)?;
    // SAFETY: this process has one thread, and nothing of it looks at the environment from here on but for what is kept.
    unsafe { child::scrub_environment() };
    confine::give_up_privileges();
    charsets::load();
    // Every process that is forked from this one starts with what it holds.
    allocator::give_back();
    mapped::give_back();
    // Should a template be killed, its scanning processes end, too, and become children of this one.
    let _reaper = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    // How templates ended before anybody asked. At most as many as there are engines: each is asked for.
    let mut ended: Vec<(Pid, String)> = Vec::new();
    let mut templates: Vec<Pid> = Vec::new();
    let mut buffer = Vec::new();
    loop {
        let Some(mut packet) = control.receive(&mut buffer, true)? else {
            child::exit(0);
        };
        let reply = match packet.parse()?.0 {
            Nursery::Start => {
                let channel = packet.descriptors.pop().map(Channel::from);
                let channel = channel.ok_or_else(|| io::Error::other("no channel"))?;
                let live = move || template::run(channel, library);
                // SAFETY: this process has one thread: it never starts one.
                match unsafe { child::fork(c"scan-template", live) } {
                    Ok(pid) => {
                        templates.push(pid);
                        Child::Started {
                            pid: pid.as_raw_nonzero().get(),
                        }
                    }
                    Err(error) => Child::NotStarted {
                        error: error.to_string(),
                    },
                }
            }
            Nursery::End { pid } => {
                let before = ended
                    .iter()
                    .position(|(it, _)| it.as_raw_nonzero().get() == pid)
                    .map(|at| ended.swap_remove(at).1);
                let how = before
                    .unwrap_or_else(|| Pid::from_raw(pid).map_or_else(String::new, child::end));
                templates.retain(|it| it.as_raw_nonzero().get() != pid);
                // Scanning processes of a template that was killed, which nobody asks for, and templates, which somebody will.
                let gone = child::ended();
                ended.extend(gone.into_iter().filter(|(pid, _)| templates.contains(pid)));
                Child::Ended { how }
            }
        };
        control.send(&reply, &[], &[])?;
    }
}
