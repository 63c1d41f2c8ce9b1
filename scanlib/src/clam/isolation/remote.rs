//! A template as the main process sees it: an engine whose calls are carried out elsewhere.

use std::ffi::{CStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use clamav_sys as sys;

use super::channel::Channel;
use super::spawner::Isolation;
use super::wire::{self, Bounds, Child, Event, Order};
use crate::clam::log::Log;
use crate::clam::names::Names;
use crate::clam::tmp;
use crate::error::ClamCode;
use clamav_prefilter::names::Named;

/// Memory for the names of one load, in bytes: of the official set, 8.7 million, they take about half a gigabyte.
const MAX_NAMED_BYTES: usize = 4 << 30;
/// Lines of libclamav's log that are kept of one order.
const MAX_LOG_LINES: usize = 10_000;
/// How long a template may take to fork, or to end a scanning process and remove its files.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call of a remote engine failed.
#[derive(Debug)]
pub(in crate::clam) enum Failure {
    /// libclamav refused.
    Code(ClamCode),
    /// The template ended, or something happened to the connection.
    Ended(String),
    /// A directory for temporary files cannot be used.
    TmpDir(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::TmpDir(error)
    }
}

impl From<ClamCode> for Failure {
    fn from(code: ClamCode) -> Failure {
        Failure::Code(code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Code(code) => code.fmt(f),
            Failure::Ended(how) => f.write_str(how),
            Failure::TmpDir(error) => error.fmt(f),
        }
    }
}

/// Ends the template, with all its scanning processes, when dropped.
#[derive(Debug)]
pub(in crate::clam) struct RemoteEngine {
    isolation: Isolation,
    pid: i32,
    /// `None` once it has ended.
    control: Option<Channel>,
    buffer: Vec<u8>,
    resident_bytes: u64,
    /// The engine's directory for temporary files; empty until it is created.
    tmp_dir: PathBuf,
}

/// What happens while an order is carried out.
pub(in crate::clam) struct Watchers<'w> {
    pub(in crate::clam) progress: &'w mut dyn FnMut(u64, u64),
    pub(in crate::clam) names: Option<&'w mut Names>,
    pub(in crate::clam) log: &'w mut Log,
}

impl RemoteEngine {
    pub(super) fn new(isolation: Isolation, pid: i32, control: Channel) -> RemoteEngine {
        RemoteEngine {
            isolation,
            pid,
            control: Some(control),
            buffer: Vec::new(),
            resident_bytes: 0,
            tmp_dir: PathBuf::new(),
        }
    }

    /// Has the template create a directory for temporary files in `tmp_base` and give up its other rights. It does so itself because the
    /// rights of this process may be those of another directory that was at this path before.
    pub(in crate::clam) fn confine(
        &mut self,
        sources: &[PathBuf],
        tmp_base: &Path,
    ) -> Result<(), Failure> {
        // Links are followed once, here: the files behind them are what is read.
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let sources = sources.iter().flat_map(|path| [path.clone(), real(path)]);
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        let order = Order::Confine {
            sources: sources.map(|path| bytes(&path)).collect(),
            tmp_base: bytes(tmp_base),
        };
        // Without a limit on time: what killed processes left is removed on this occasion, and there may be much of it.
        self.send(&order, &[])?;
        match self.receive()? {
            Child::Directory { path } => {
                let path = PathBuf::from(OsString::from_vec(path));
                // It is removed in the end, by a process that may do more than the template.
                if !is_directly_below(&path, tmp_base) {
                    return Err(self.ended("it claims a directory that is not its own"));
                }
                self.tmp_dir = path;
                Ok(())
            }
            answer => Err(self.refused(answer)),
        }
    }

    /// The engine's directory for temporary files.
    pub(in crate::clam) fn tmp_dir(&self) -> &Path {
        &self.tmp_dir
    }

    /// Creates a file below [`RemoteEngine::tmp_dir`], with the directories above it.
    pub(in crate::clam) fn create(&mut self, path: &Path) -> Result<File, Failure> {
        let path = self.below_tmp_dir(path)?;
        let (answer, descriptor) = self.ask_for_file(&Order::Create { path })?;
        match (answer, descriptor) {
            (Child::Done, Some(file)) => Ok(File::from(file)),
            (answer, _) => Err(self.refused(answer)),
        }
    }

    /// Removes a file or a directory below [`RemoteEngine::tmp_dir`].
    pub(in crate::clam) fn remove(&mut self, path: &Path) -> Result<(), Failure> {
        let path = self.below_tmp_dir(path)?;
        self.done(&Order::Remove { path })
    }

    /// Does in the directory for temporary files what a scan does.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.done(&Order::Check)
    }

    fn below_tmp_dir(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        let below = path.strip_prefix(&self.tmp_dir).ok();
        let below = below.ok_or_else(|| Failure::TmpDir(io::ErrorKind::InvalidInput.into()))?;
        Ok(below.as_os_str().as_bytes().to_vec())
    }

    fn done(&mut self, order: &Order) -> Result<(), Failure> {
        match self.ask(order, &[])? {
            Child::Done => Ok(()),
            answer => Err(self.refused(answer)),
        }
    }

    fn ask_for_file(&mut self, order: &Order) -> Result<(Child, Option<OwnedFd>), Failure> {
        self.send(order, &[])?;
        let received = match &self.control {
            Some(control) => control.receive(&mut self.buffer, true),
            None => Ok(None),
        };
        let parsed = received.and_then(|packet| match packet {
            Some(mut packet) => {
                let file = packet.descriptors.pop();
                Ok((packet.parse()?.0, file))
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        });
        parsed.map_err(|error| self.ended(&error.to_string()))
    }

    /// What an answer other than the expected one means.
    fn refused(&mut self, answer: Child) -> Failure {
        match answer {
            Child::Failed { error } | Child::NotStarted { error } => {
                Failure::TmpDir(io::Error::other(error))
            }
            // Its rights cannot grow: another template has to be started.
            Child::Replaced { error } => self.ended(&error),
            _ => self.ended("an answer of the wrong kind"),
        }
    }

    pub(in crate::clam) fn set_number(
        &mut self,
        field: sys::cl_engine_field,
        value: i64,
    ) -> Result<(), Failure> {
        self.order(&Order::Number { field, value })
    }

    pub(in crate::clam) fn set_cache_entries(&mut self, entries: u32) -> Result<(), Failure> {
        self.order(&Order::CacheEntries(entries))
    }

    pub(in crate::clam) fn set_tmp_dir(&mut self, dir: &CStr) -> Result<(), Failure> {
        self.order(&Order::TmpDir(dir.to_bytes().to_vec()))
    }

    /// Names the signatures that are loaded from now on, and keeps these out.
    pub(in crate::clam) fn name(&mut self, leave_out: &[String]) -> Result<(), Failure> {
        for name in leave_out {
            self.order(&Order::Exclude(name.clone()))?;
        }
        self.order(&Order::Names)
    }

    pub(in crate::clam) fn verify(
        &mut self,
        path: &CStr,
        options: u32,
        log: &mut Log,
    ) -> Result<(), Failure> {
        let path = path.to_bytes().to_vec();
        let watchers = Watchers {
            progress: &mut |_, _| (),
            names: None,
            log,
        };
        self.carry_out(&Order::Verify { path, options }, watchers)
            .map(drop)
    }

    pub(in crate::clam) fn load(
        &mut self,
        path: &CStr,
        options: u32,
        watchers: Watchers<'_>,
    ) -> Result<u64, Failure> {
        let path = path.to_bytes().to_vec();
        self.carry_out(&Order::Load { path, options }, watchers)
    }

    pub(in crate::clam) fn compile(&mut self, watchers: Watchers<'_>) -> Result<(), Failure> {
        self.resident_bytes = self.carry_out(&Order::Compile, watchers)?;
        Ok(())
    }

    /// Forks a scanning process for these lanes; returns its identifier.
    pub(super) fn start(
        &mut self,
        lanes: &[BorrowedFd<'_>],
        number: u64,
        bounds: Bounds,
    ) -> Result<i32, Failure> {
        let order = Order::Start { number, bounds };
        match self.ask(&order, lanes)? {
            Child::Started { pid } => Ok(pid),
            answer => Err(self.refused(answer)),
        }
    }

    /// Ends a scanning process if it has not ended, removes its directory, and says how it ended.
    pub(super) fn end(&mut self, pid: i32, number: u64) -> Result<String, Failure> {
        match self.ask(&Order::End { pid, number }, &[])? {
            Child::Ended { how } => Ok(how),
            answer => Err(self.refused(answer)),
        }
    }

    /// Memory that it took once it was compiled, in bytes; 0 if it does not know. Its own word: `/proc` may hide it from others.
    pub(super) fn resident_bytes(&self) -> u64 {
        self.resident_bytes
    }

    /// Whether it can still fork.
    pub(super) fn is_alive(&self) -> bool {
        self.control.is_some()
    }

    fn ask(&mut self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> Result<Child, Failure> {
        // Scans wait for this, other than for a load.
        if let Some(control) = &self.control {
            let bounded = control.receive_at_most_for(Some(PATIENCE));
            bounded.map_err(|error| self.ended(&error.to_string()))?;
        }
        self.send(order, descriptors)?;
        let answer = self.receive()?;
        if let Some(control) = &self.control {
            let unbounded = control.receive_at_most_for(None);
            unbounded.map_err(|error| self.ended(&error.to_string()))?;
        }
        Ok(answer)
    }

    fn order(&mut self, order: &Order) -> Result<(), Failure> {
        let watchers = Watchers {
            progress: &mut |_, _| (),
            names: None,
            log: &mut Log::default(),
        };
        self.carry_out(order, watchers).map(drop)
    }

    fn carry_out(&mut self, order: &Order, mut watchers: Watchers<'_>) -> Result<u64, Failure> {
        self.send(order, &[])?;
        let mut named_bytes = 0;
        loop {
            match self.receive()? {
                Event::Named(named) => {
                    let Some(names) = &mut watchers.names else {
                        continue;
                    };
                    let bytes = named
                        .iter()
                        .map(|(_, name)| name.len() + size_of::<Named>());
                    named_bytes += bytes.sum::<usize>();
                    if named_bytes > MAX_NAMED_BYTES {
                        return Err(self.ended("it names more signatures than there can be"));
                    }
                    let named = named.into_iter().map(|(kind, name)| Named {
                        kind: kind.into(),
                        name: name.into_boxed_slice(),
                    });
                    names.loaded.signatures.extend(named);
                }
                Event::NamesIncomplete => {
                    if let Some(names) = &mut watchers.names {
                        names.loaded.incomplete = true;
                    }
                }
                Event::LeftOut(kind, name, count) => {
                    if let Some(names) = &mut watchers.names {
                        let kind = kind.map(Into::into);
                        names.exclusions.excludes(kind, &name, count);
                    }
                }
                Event::Progress { done, total } => (watchers.progress)(done, total),
                Event::Log { line, error } => {
                    if watchers.log.lines.len() < MAX_LOG_LINES {
                        watchers.log.lines.push(line);
                    }
                    watchers.log.error |= error;
                }
                Event::Done { code, signatures } => {
                    ClamCode::check(wire::code(code))?;
                    return Ok(signatures);
                }
            }
        }
    }

    fn send(&mut self, order: &Order, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let sent = match &self.control {
            Some(control) => control.send(order, &[], descriptors),
            None => return Err(Failure::Ended("it has ended before".to_owned())),
        };
        sent.map_err(|error| self.ended(&error.to_string()))
    }

    fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let received = match &self.control {
            Some(control) => control.receive_header(&mut self.buffer),
            None => Ok(None),
        };
        match received {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(self.ended("it has ended")),
            Err(error) => Err(self.ended(&error.to_string())),
        }
    }

    /// Takes leave of it.
    fn ended(&mut self, why: &str) -> Failure {
        let how = match self.control.take() {
            Some(_) => self.isolation.end(self.pid),
            None => io::Error::from(io::ErrorKind::BrokenPipe).to_string(),
        };
        Failure::Ended(format!("{why}: {how}"))
    }
}

/// Whether this is the path of something in `base` itself, however that is written.
fn is_directly_below(path: &Path, base: &Path) -> bool {
    let has_name = matches!(path.components().next_back(), Some(Component::Normal(_)));
    has_name
        && path.parent().is_some_and(|parent| {
            let real = |path: &Path| path.canonicalize().ok();
            parent == base || (real(base).is_some() && real(parent) == real(base))
        })
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        if self.control.is_some() {
            let _left = self.ask(&Order::Leave, &[]);
        }
        if self.control.take().is_some() {
            // Its scanning processes end with it: the kernel sees to that.
            let _how = self.isolation.end(self.pid);
        }
        // It had no time to: it was killed. What this process cannot remove either is removed by the next template after some time.
        if !self.tmp_dir.as_os_str().is_empty() {
            let _gone = tmp::remove_tree(&self.tmp_dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_can_claim_a_directory_in_its_place_and_no_other() {
        let base = Path::new("/nowhere/tmp");
        let is_own = |path: &str| is_directly_below(Path::new(path), base);
        assert!(is_own("/nowhere/tmp/engine-1"));
        for other in [
            "/nowhere/tmp",
            "/nowhere/tmp/..",
            "/nowhere/tmp/a/b",
            "/nowhere/tmp/../etc",
            "/etc",
            "/",
            "",
            "engine-1",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
