//! A template as the main process sees it: an engine whose calls are carried out elsewhere.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clamav_sys as sys;

use super::channel::Channel;
use super::spawner::Isolation;
use super::wire::{self, Bounds, Child, Event, Order};
use crate::clam::log::Log;
use crate::clam::names::Names;
use crate::error::ClamCode;
use clamav_prefilter::names::Named;

/// How long a template may take to fork, or to end a scanning process and remove its files.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a call of a remote engine failed.
#[derive(Debug)]
pub(in crate::clam) enum Failure {
    /// libclamav refused.
    Code(ClamCode),
    /// The template ended, or something happened to the connection.
    Ended(String),
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
        }
    }

    pub(in crate::clam) fn confine(
        &mut self,
        sources: &[PathBuf],
        tmp_base: &Path,
    ) -> Result<(), Failure> {
        // Links are followed once, here: the files behind them are what is read.
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let sources = sources.iter().flat_map(|path| [path.clone(), real(path)]);
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        self.order(&Order::Confine {
            sources: sources.map(|path| bytes(&path)).collect(),
            tmp_base: bytes(tmp_base),
        })
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
            self.order(&Order::LeaveOut(name.clone()))?;
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
        tmp_dir: &Path,
        bounds: Bounds,
    ) -> Result<i32, Failure> {
        let order = Order::Start {
            tmp_dir: tmp_dir.as_os_str().as_bytes().to_vec(),
            bounds,
        };
        match self.ask(&order, lanes)? {
            Child::Started { pid } => Ok(pid),
            Child::NotStarted { error } => Err(Failure::Ended(error)),
            Child::Ended { .. } => Err(self.ended("an answer of the wrong kind")),
        }
    }

    /// Ends a scanning process if it has not ended, removes its directory, and says how it ended.
    pub(super) fn end(&mut self, pid: i32, tmp_dir: &Path) -> Result<String, Failure> {
        let tmp_dir = tmp_dir.as_os_str().as_bytes().to_vec();
        match self.ask(&Order::End { pid, tmp_dir }, &[])? {
            Child::Ended { how } => Ok(how),
            _ => Err(self.ended("an answer of the wrong kind")),
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
            let bounded = control.receive_at_most_for(PATIENCE);
            bounded.map_err(|error| self.ended(&error.to_string()))?;
        }
        self.send(order, descriptors)?;
        self.receive()
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
        loop {
            match self.receive()? {
                Event::Named(named) => {
                    let Some(names) = &mut watchers.names else {
                        continue;
                    };
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
                        for _ in 0..count {
                            names.leave_out.takes(kind, &name);
                        }
                    }
                }
                Event::Progress { done, total } => (watchers.progress)(done, total),
                Event::Log { line, error } => {
                    watchers.log.lines.push(line);
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

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        if self.control.take().is_some() {
            // Its scanning processes end with it: the kernel sees to that.
            let _how = self.isolation.end(self.pid);
        }
    }
}
