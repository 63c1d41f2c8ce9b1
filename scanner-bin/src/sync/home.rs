//! The directory that services read: where a sync works in it, what it remembers there, and how a file gets its name.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::answer::Validators;
use super::name;
use super::part::{Part, remove};
use crate::files::{replace, sync};

/// Where a sync works. Neither libclamav nor the service looks into a directory below.
const WORK: &str = ".scanner-sync";
/// Files that have no name yet, in a directory of their own: libclamav 1.5 looks for a `.sign` beside the container that it verifies.
const INCOMING: &str = "incoming";

/// Why the directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// It is not there, or is something else.
    #[error("--to {}: {error}; it has to be there, and this user has to be able to write it", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another sync is at work.
    #[error("--to {}: another sync is at work there ({owner}); this one has done nothing", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
        /// Who, in its own words.
        owner: String,
    },
    /// The file system knows no locks.
    #[error("--to {}: cannot be locked: {error}; two syncs at once would spoil each other's work, so the file system has to know flock", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// What was learnt of a file when it was asked for last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Where.
    pub url: String,
    /// What its content is known by.
    #[serde(flatten)]
    pub validators: Validators,
    /// Its content.
    pub sha256: String,
    /// Why that was not taken, if it was not.
    pub refused: Option<Refusal>,
}

/// Why a content was not taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// For people.
    pub why: String,
    /// The version of the container.
    pub version: Option<u32>,
    /// Which libclamav looked: another may see it otherwise.
    pub library: String,
    /// The file that was there then.
    pub beside: Option<String>,
    /// The digest that was demanded of it then.
    #[serde(default)]
    pub demanded: Option<String>,
}

/// The directory, for this process alone.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    records: BTreeMap<String, Record>,
    _lock: File,
}

impl Home {
    /// Takes the directory.
    ///
    /// # Errors
    /// See [`HomeError`].
    pub fn take(dir: &Path) -> Result<Home, HomeError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |error| HomeError::Io { path, error }
        };
        let dir = dir.canonicalize().map_err(failed(dir))?;
        let work = dir.join(WORK);
        // Not with its parents: a directory that is missing may be a volume that is not mounted.
        match fs::create_dir(&work) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&dir)(error));
            }
            _ => {}
        }
        let lock = lock(&dir, &work.join("lock"))?;
        // What a process that was killed left half written.
        sweep(&work).map_err(failed(&work))?;
        let incoming = work.join(INCOMING);
        fs::create_dir_all(&incoming).map_err(failed(&incoming))?;
        sweep(&incoming).map_err(failed(&incoming))?;
        // What cannot be read is learnt anew.
        let records = fs::read(work.join("records.json")).ok();
        let records = records.and_then(|text| serde_json::from_slice(&text).ok());
        Ok(Home {
            dir,
            records: records.unwrap_or_default(),
            _lock: lock,
        })
    }

    /// Where a file is when it has its name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where a file is on its way.
    pub fn incoming(&self, name: &str) -> PathBuf {
        self.dir.join(WORK).join(INCOMING).join(name)
    }

    /// Opens a file on its way.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn part(&self, name: &str, is_resumable: bool) -> io::Result<Part> {
        Part::open(&self.incoming(name), is_resumable)
    }

    /// What was learnt of a file.
    pub fn record(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// Remembers what was learnt of a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn remember(&mut self, name: &str, record: Record) -> io::Result<()> {
        self.records.insert(name.to_owned(), record);
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let path = self.dir.join(WORK).join("records.json");
        replace(&path, &serde_json::to_vec(&self.records)?)
    }

    /// Gives a file, which is on the disk, its name: readers see the old one or the new one, also after the end of the machine.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn publish(&self, name: &str) -> io::Result<()> {
        fs::rename(self.incoming(name), self.path(name))?;
        sync(&self.dir)
    }

    /// Throws away what was on its way.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn discard(&self, name: &str) -> io::Result<()> {
        Part::discard(&self.incoming(name))
    }

    /// Removes the detached signatures of other versions of a container that an earlier sync brought.
    ///
    /// # Errors
    /// One cannot be removed.
    pub fn remove_other_signs(&mut self, container: &str, keep: &str) -> io::Result<()> {
        let is_old = |name: &&String| name::is_sign_of(name, container) && *name != keep;
        let old: Vec<String> = self.records.keys().filter(is_old).cloned().collect();
        for name in old {
            remove(&self.path(&name))?;
            self.records.remove(&name);
            self.save()?;
        }
        Ok(())
    }
}

/// Removes what [`replace`] leaves if it is killed.
fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn lock(dir: &Path, path: &Path) -> Result<File, HomeError> {
    let failed = |error| HomeError::Io {
        path: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    let mut file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(failed)?;
            let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            write!(file, "process {} on {}", std::process::id(), host.trim()).map_err(failed)?;
            Ok(file)
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.take(200).read_to_string(&mut owner).ok();
            Err(HomeError::Busy {
                path: dir.to_owned(),
                owner: crate::escape::Escaped(owner.as_bytes()).to_string(),
            })
        }
        Err(fs::TryLockError::Error(error)) => Err(HomeError::Lock {
            path: dir.to_owned(),
            error,
        }),
    }
}
