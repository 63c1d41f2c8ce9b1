//! What signatures are loaded into: an engine in this process, or one in a process of its own.

use std::ffi::CStr;
use std::path::{Path, PathBuf};

use clamav_sys as sys;

use super::engine::Place;
use super::handle::RawEngine;
use super::isolation::{Failure, Isolation, IsolationOptions, Processes, RemoteEngine, Watchers};
use super::library::Library;
use super::limits::Limits;
use super::log::{self, Log};
use super::names::Names;
use super::progress::{BuildStep, Listener};
use crate::error::{InitError, LoadErrorKind};

/// An engine that is being loaded.
pub(super) enum Loading {
    Here(Library, RawEngine),
    Apart(RemoteEngine),
}

impl Loading {
    /// Starts with no signatures. In a process of its own the engine may read `sources` and write to `tmp_dir`.
    pub(super) fn new(
        library: Library,
        isolation: Option<&Isolation>,
        sources: &[PathBuf],
        tmp_dir: &Path,
    ) -> Result<Loading, LoadErrorKind> {
        let Some(isolation) = isolation else {
            let engine = RawEngine::new(library).ok_or(InitError::NoEngine)?;
            return Ok(Loading::Here(library, engine));
        };
        let template = isolation.template();
        let mut engine = template.map_err(|error| LoadErrorKind::Ended(error.to_string()))?;
        // What is above it stays, should somebody remove the directory.
        let tmp_base = tmp_dir.parent().unwrap_or(tmp_dir);
        let confined = engine.confine(sources, tmp_base);
        confined.map_err(|failure| LoadErrorKind::Ended(failure.to_string()))?;
        Ok(Loading::Apart(engine))
    }

    pub(super) fn set_number(
        &mut self,
        field: sys::cl_engine_field,
        value: i64,
    ) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine) => Ok(engine.set_number(field, value)?),
            Loading::Apart(engine) => engine.set_number(field, value),
        }
    }

    pub(super) fn set_cache_entries(&mut self, entries: u32) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine) => Ok(engine.set_cache_entries(entries)?),
            Loading::Apart(engine) => engine.set_cache_entries(entries),
        }
    }

    pub(super) fn set_tmp_dir(&mut self, dir: &CStr) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine) => Ok(engine.set_text(sys::CL_ENGINE_TMPDIR, dir)?),
            Loading::Apart(engine) => engine.set_tmp_dir(dir),
        }
    }

    /// To be called before the first [`Loading::load`] that is given names.
    pub(super) fn name(&mut self, leave_out: &[String]) -> Result<(), Failure> {
        match self {
            Loading::Here(..) => Ok(()),
            Loading::Apart(engine) => engine.name(leave_out),
        }
    }

    /// Reads a container from its beginning to its end and checks it, and loads nothing of it.
    pub(super) fn verify(&mut self, path: &CStr, options: u32) -> (Result<(), Failure>, Log) {
        match self {
            Loading::Here(library, _) => {
                // Its own: what an engine has passed over once it may not load any more.
                let Some(mut engine) = RawEngine::new(*library) else {
                    let code = crate::error::ClamCode::new(sys::CL_EMEM);
                    return (Err(code.into()), Log::default());
                };
                let (verified, log) = log::capture(|| engine.load_nothing(path, options));
                (verified.map_err(Failure::Code), log)
            }
            Loading::Apart(engine) => {
                let mut log = Log::default();
                (engine.verify(path, options, &mut log), log)
            }
        }
    }

    /// Loads a file or a directory and returns the number of signatures.
    pub(super) fn load(
        &mut self,
        path: &CStr,
        options: u32,
        (listener, step): (&mut Listener, BuildStep<'_>),
        names: Option<&mut Names>,
    ) -> (Result<u64, Failure>, Log) {
        match self {
            Loading::Here(_, engine) => {
                let (loaded, log) = log::capture(|| {
                    listener.during(step, engine, |engine| {
                        let load = |engine: &mut RawEngine| engine.load(path, options);
                        match names {
                            Some(names) => names.during(engine, load),
                            None => load(engine),
                        }
                    })
                });
                (loaded.map_err(Failure::Code), log)
            }
            Loading::Apart(engine) => {
                let mut log = Log::default();
                let watchers = Watchers {
                    progress: &mut |done, total| listener.report(step, done, total),
                    names,
                    log: &mut log,
                };
                (engine.load(path, options, watchers), log)
            }
        }
    }

    pub(super) fn compile(&mut self, listener: &mut Listener) -> (Result<(), Failure>, Log) {
        let step = BuildStep::Compile;
        match self {
            Loading::Here(_, engine) => {
                let (compiled, log) =
                    log::capture(|| listener.during(step, engine, RawEngine::compile));
                (compiled.map_err(Failure::Code), log)
            }
            Loading::Apart(engine) => {
                let mut log = Log::default();
                let watchers = Watchers {
                    progress: &mut |done, total| listener.report(step, done, total),
                    names: None,
                    log: &mut log,
                };
                (engine.compile(watchers), log)
            }
        }
    }

    /// The compiled engine, where it is.
    pub(super) fn place(
        self,
        tmp_dir: &Path,
        options: IsolationOptions,
        limits: &Limits,
        caches: bool,
    ) -> Result<Place, Failure> {
        Ok(match self {
            Loading::Here(_, engine) => Place::Here {
                engine: engine.compiled(),
                caches,
            },
            Loading::Apart(engine) => Place::Apart(Box::new(Processes::start(
                engine, tmp_dir, options, *limits, caches,
            )?)),
        })
    }
}

impl Failure {
    /// What it means for a load.
    pub(super) fn kind(
        self,
        refused: impl FnOnce(crate::error::ClamCode) -> LoadErrorKind,
    ) -> LoadErrorKind {
        match self {
            Failure::Code(code) => refused(code),
            Failure::Ended(how) => LoadErrorKind::Ended(how),
        }
    }
}
