//! The frozen engine, shared by every thread.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use super::call::{self, Input, Surroundings};
use super::exclusions::UnmatchedExclusion;
use super::handle::CompiledEngine;
use super::isolation::{IsolationStatus, Processes, Scanned};
use super::library::LibraryVersion;
use super::limits::Limits;
use super::map::MemoryMap;
use super::payload::{Payload, read_file};
use super::reaper;
use super::request::Request;
use super::tmp::ScratchDir;
use crate::database::{Digest, Excluded, Profile};
use crate::error::ScanError;
use crate::file_state::{Handle, Watch};
use crate::report::{FileFamily, Incomplete};
use clamav_prefilter::{NOT_LOOKED_AT_BYTES, Prefilter};

/// Compiled signatures and settings; cloning shares them.
///
/// # Thread safety
///
/// Any number of threads may scan at once. Nothing can be changed after
/// [`crate::EngineBuilder::compile`]; to use other signatures, build another engine.
///
/// The last clone to be dropped leaves the freeing of the signatures to a thread of its own.
#[derive(Clone, Debug)]
pub struct Engine(Arc<Frozen>);

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Number of signatures, as libclamav counts them; at least 1.
    pub signatures: u64,
    /// The files and directories that were loaded, in that order; the shipped signature is not among them.
    pub sources: Vec<PathBuf>,
    /// The shipped signature is loaded.
    pub builtin: bool,
    /// Nothing but the shipped signature is loaded.
    pub builtin_only: bool,
    /// The library that does the work.
    pub library: LibraryVersion,
    /// SHA-256 over the names and contents of the files that were loaded, the names of the excluded signatures, and the profile.
    pub digest: Digest,
    /// Warnings that libclamav logged while it loaded, oldest first, for example about a signature that it skipped.
    pub load_log: Vec<String>,
    /// Names of the signatures excluded with [`crate::EngineBuilder::exclude`], sorted, as libclamav reports them but without
    /// `.UNOFFICIAL`.
    pub excluded: Vec<String>,
    /// Exclusions that matched no signature.
    pub unmatched_exclusions: Vec<UnmatchedExclusion>,
    /// Which of the files' signatures are loaded.
    pub profile: Profile,
    /// Signatures that the profile excludes.
    pub excluded_by_profile: Excluded,
    /// The engine's own directory for temporary files. If it vanishes or is full, scans are incomplete.
    pub tmp_dir: PathBuf,
}

/// What libclamav said about one object.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineScan {
    /// Names of what was found, as libclamav gives them (`.UNOFFICIAL` included), each once, in the order found.
    pub names: Vec<String>,
    /// Why not everything was examined; `None` if everything was. With names and without
    /// [`crate::ScanOptions::all_matches`] there may be more to find either way.
    pub incomplete: Option<Incomplete>,
    /// libclamav gives this type of object (some audio and telephony formats, known by their first bytes) no
    /// examination at all, so finding nothing says nothing.
    pub type_ignored: bool,
    /// The family of the file that was being examined at the first error, if the scan is [`Incomplete::Malformed`] or
    /// [`Incomplete::EngineError`].
    pub failed_in: Option<FileFamily>,
}

impl EngineScan {
    pub(crate) fn nothing(incomplete: Option<Incomplete>) -> EngineScan {
        EngineScan {
            names: Vec::new(),
            incomplete,
            type_ignored: false,
            failed_in: None,
        }
    }
}

#[derive(Debug)]
struct Frozen {
    /// Given to the reaper on drop, and not touched after that.
    place: ManuallyDrop<Place>,
    info: EngineInfo,
    limits: Limits,
    prefilter: Prefilter,
    /// Goes when everything else is gone, also the engine's memory: it is the last field.
    alive: Arc<()>,
}

/// Where the engine is.
#[derive(Debug)]
pub(super) enum Place {
    /// In this process.
    Here {
        engine: CompiledEngine,
        /// libclamav remembers clean objects.
        caches: bool,
        scratch: ScratchDir,
    },
    /// In processes of its own.
    Apart(Box<Processes>),
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: taken once, here, and `self` is not used afterwards.
        let place = unsafe { ManuallyDrop::take(&mut self.place) };
        let alive = Arc::clone(&self.alive);
        match place {
            Place::Here {
                engine, scratch, ..
            } => {
                reaper::free(engine, alive);
                // On the thread that drops: it is empty, and a process may end right after.
                drop(scratch);
            }
            Place::Apart(processes) => reaper::free(processes, alive),
        }
    }
}

impl Engine {
    pub(super) fn new(
        place: Place,
        info: EngineInfo,
        limits: Limits,
        prefilter: Prefilter,
    ) -> Engine {
        Engine(Arc::new(Frozen {
            place: ManuallyDrop::new(place),
            alive: Arc::default(),
            info,
            limits,
            prefilter,
        }))
    }

    /// Outlives the engine; has no owner any more once the memory of the signatures is free.
    pub(crate) fn alive(&self) -> Weak<()> {
        Arc::downgrade(&self.0.alive)
    }

    /// What is loaded.
    pub fn info(&self) -> &EngineInfo {
        &self.0.info
    }

    /// The bounds for every scan.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What proves buffers clean without libclamav, built of the same files.
    pub fn prefilter(&self) -> &Prefilter {
        &self.0.prefilter
    }

    /// Whether a harmless object can be examined now; it is unpacked, which takes all that other objects need. Costs a scan.
    pub fn works(&self) -> bool {
        match &*self.0.place {
            Place::Here {
                engine,
                caches,
                scratch,
            } => call::works(self.surroundings(engine, *caches, scratch)),
            Place::Apart(processes) => processes.works(),
        }
    }

    /// How many processes have scanned for it so far; 0 if it is in this process.
    pub(crate) fn scanning_processes(&self) -> u64 {
        match &*self.0.place {
            Place::Here { .. } => 0,
            Place::Apart(processes) => processes.started(),
        }
    }

    /// What the engine's own processes have done and what confines them; `None` if it is in this process.
    pub fn isolation(&self) -> Option<IsolationStatus> {
        match &*self.0.place {
            Place::Here { .. } => None,
            Place::Apart(processes) => Some(processes.status()),
        }
    }

    /// Does in the directory for temporary files what a scan would do; for health checks.
    ///
    /// # Errors
    ///
    /// The directory is missing, read-only or full: scans will be [`Incomplete::EngineError`].
    pub fn check_tmp_dir(&self) -> io::Result<()> {
        match &*self.0.place {
            Place::Here { scratch, .. } => scratch.check(),
            Place::Apart(processes) => processes.check_tmp_dir(),
        }
    }

    /// Scans one object.
    ///
    /// Nothing found means "clean" only if [`EngineScan::incomplete`] is `None` and
    /// [`EngineScan::type_ignored`] is false. An object of five bytes or less is clean without a look.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or read. What keeps libclamav from looking is not an error but
    /// [`Incomplete::EngineError`], or [`Incomplete::Malformed`] if the object itself does: when libclamav reports an error, a
    /// harmless object is scanned at once, and shows which of the two it is.
    ///
    /// # Panics
    ///
    /// A panic inside a callback of this crate is carried around C and goes on here.
    pub fn scan(
        &self,
        payload: Payload<'_>,
        request: &Request<'_>,
    ) -> Result<EngineScan, ScanError> {
        let name = request.name;
        match payload {
            Payload::Bytes(data) => Ok(self.scan_bytes(data, name, request)),
            Payload::File { file, path } => self.scan_file(file, path, request),
            Payload::Path(path) => {
                let file = File::open(path).map_err(|source| read_error(path, source))?;
                self.scan_file(&file, path, request)
            }
        }
    }

    fn scan_bytes(&self, data: &[u8], name: Option<&str>, request: &Request<'_>) -> EngineScan {
        let len = data.len() as u64;
        if let Some(answer) = self.without_looking(len) {
            return answer;
        }
        let with = match &*self.0.place {
            Place::Here {
                engine,
                caches,
                scratch,
            } => self.surroundings(engine, *caches, scratch),
            Place::Apart(processes) => {
                return processes.scan(Scanned::Bytes(data), name, request);
            }
        };
        match MemoryMap::new(data) {
            Some(map) => call::examine(with, &Input::Memory(&map), name, request),
            None => EngineScan {
                failed_in: Some(FileFamily::Other),
                ..EngineScan::nothing(Some(Incomplete::EngineError {
                    code: Some(clamav_sys::CL_EMEM as i32),
                    log: vec!["no memory for a map".to_owned()],
                }))
            },
        }
    }

    fn scan_file(
        &self,
        file: &File,
        path: &Path,
        request: &Request<'_>,
    ) -> Result<EngineScan, ScanError> {
        let watch = Watch::start(Handle::Lent(file)).map_err(|source| read_error(path, source))?;
        let scan = self.scan_watched_file(file, path, request)?;
        Ok(EngineScan {
            incomplete: watch.end(scan.incomplete),
            ..scan
        })
    }

    fn scan_watched_file(
        &self,
        file: &File,
        path: &Path,
        request: &Request<'_>,
    ) -> Result<EngineScan, ScanError> {
        let metadata = file.metadata().map_err(|source| read_error(path, source))?;
        let path_name = path.to_string_lossy();
        let name = Some(request.name.unwrap_or(&path_name));
        // Pipes and the files of /proc have no length, and libclamav would call them clean.
        if !metadata.is_file() || metadata.len() <= NOT_LOOKED_AT_BYTES {
            let data = read_file(file, self.0.limits.max_file_bytes)
                .map_err(|source| read_error(path, source))?;
            return Ok(self.scan_bytes(&data, name, request));
        }
        if let Some(answer) = self.without_looking(metadata.len()) {
            return Ok(answer);
        }
        Ok(match &*self.0.place {
            Place::Here {
                engine,
                caches,
                scratch,
            } => {
                let with = self.surroundings(engine, *caches, scratch);
                call::examine(with, &Input::File(file), name, request)
            }
            Place::Apart(processes) => processes.scan(Scanned::File(file), name, request),
        })
    }

    fn surroundings<'e>(
        &'e self,
        engine: &'e CompiledEngine,
        caches: bool,
        scratch: &'e ScratchDir,
    ) -> Surroundings<'e> {
        Surroundings {
            engine,
            limits: &self.0.limits,
            scratch,
            caches,
        }
    }

    /// The answers that do not need libclamav. It would call a large object clean, too.
    fn without_looking(&self, len: u64) -> Option<EngineScan> {
        let max = self.0.limits.max_file_bytes;
        if len <= NOT_LOOKED_AT_BYTES {
            Some(EngineScan::nothing(None))
        } else if len > max {
            Some(EngineScan::nothing(Some(Incomplete::FileTooLarge {
                len,
                max,
            })))
        } else {
            None
        }
    }
}

fn read_error(path: &Path, error: io::Error) -> ScanError {
    ScanError::Read {
        path: path.to_owned(),
        error,
    }
}
