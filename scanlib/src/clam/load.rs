//! What signatures are loaded into: an engine in this process, or one in a process of its own.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
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
use super::tmp::ScratchDir;
use crate::database::Store;
use crate::error::{InitError, LoadErrorKind};

/// An engine that is being loaded.
pub(super) enum Loading {
    Here(Library, RawEngine, ScratchDir),
    Apart(RemoteEngine),
}

impl Loading {
    /// Starts with no signatures. Its directory for temporary files is in the first of `bases` where one can be created. In a process of its
    /// own the engine may read `sources` and write below that base.
    pub(super) fn new(
        library: Library,
        isolation: Option<&Isolation>,
        sources: &[PathBuf],
        bases: &[PathBuf],
    ) -> Result<Loading, LoadErrorKind> {
        let Some(isolation) = isolation else {
            let scratch = in_first(bases, ScratchDir::create).map_err(LoadErrorKind::TmpDir)?;
            let engine = RawEngine::new(library).ok_or(InitError::NoEngine)?;
            return Ok(Loading::Here(library, engine, scratch));
        };
        let template = isolation.template();
        let mut engine = template.map_err(|error| LoadErrorKind::Ended(error.to_string()))?;
        let confined = in_first(bases, |base| engine.confine(sources, base));
        confined.map_err(|failure| failure.kind(LoadErrorKind::Refused))?;
        Ok(Loading::Apart(engine))
    }

    /// The engine's directory for temporary files.
    pub(super) fn tmp_dir(&self) -> &Path {
        match self {
            Loading::Here(_, _, scratch) => scratch.path(),
            Loading::Apart(engine) => engine.tmp_dir(),
        }
    }

    pub(super) fn set_number(
        &mut self,
        field: sys::cl_engine_field,
        value: i64,
    ) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine, _) => Ok(engine.set_number(field, value)?),
            Loading::Apart(engine) => engine.set_number(field, value),
        }
    }

    pub(super) fn set_cache_entries(&mut self, entries: u32) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine, _) => Ok(engine.set_cache_entries(entries)?),
            Loading::Apart(engine) => engine.set_cache_entries(entries),
        }
    }

    pub(super) fn set_tmp_dir(&mut self, dir: &CStr) -> Result<(), Failure> {
        match self {
            Loading::Here(_, engine, _) => Ok(engine.set_text(sys::CL_ENGINE_TMPDIR, dir)?),
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
            Loading::Here(library, ..) => {
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
            Loading::Here(_, engine, _) => {
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
            Loading::Here(_, engine, _) => {
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
        options: IsolationOptions,
        limits: &Limits,
        caches: bool,
    ) -> Result<Place, Failure> {
        Ok(match self {
            Loading::Here(_, engine, scratch) => Place::Here {
                engine: engine.compiled(),
                caches,
                scratch,
            },
            Loading::Apart(engine) => Place::Apart(Box::new(Processes::start(
                engine, options, *limits, caches,
            )?)),
        })
    }
}

impl Store for Loading {
    fn create(&mut self, path: &Path) -> io::Result<File> {
        match self {
            Loading::Here(..) => {
                if let Some(directory) = path.parent() {
                    fs::create_dir_all(directory)?;
                }
                File::create_new(path)
            }
            Loading::Apart(engine) => Ok(engine.create(path)?),
        }
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        match self {
            Loading::Here(..) if path.is_dir() => fs::remove_dir_all(path),
            Loading::Here(..) => fs::remove_file(path),
            Loading::Apart(engine) => Ok(engine.remove(path)?),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> io::Error {
        match failure {
            Failure::TmpDir(error) => error,
            failure => io::Error::other(failure.to_string()),
        }
    }
}

/// What succeeds first, or the last error.
fn in_first<T, E: From<io::Error>>(
    bases: &[PathBuf],
    mut create: impl FnMut(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let mut last = io::Error::from(io::ErrorKind::NotFound).into();
    for base in bases {
        match create(base) {
            Ok(created) => return Ok(created),
            Err(error) => last = error,
        }
    }
    Err(last)
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
            Failure::TmpDir(error) => LoadErrorKind::TmpDir(error),
        }
    }
}
