//! The directory in which a replica keeps its generations: who may write there, and every file in it but the signatures.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use thiserror::Error;
use time::OffsetDateTime;

use super::Id;
use super::held::{Held, HeldList};
use super::history::{self, Event};
use super::manifest::Manifest;
use super::snapshot::{Snapshot, SnapshotError};
use crate::files::{replace, sync};
use crate::times::rfc3339_millis;

/// So many generations are kept: the one in use, and the one before it.
pub const KEPT: usize = 2;
/// Begins the names of copies that are not complete.
const STAGING: &str = "staging-";

/// Why the directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be read or written.
    #[error("scan.state_dir {}: {error}; name a directory that this user can write, one for each replica", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is where the signatures come from.
    #[error(
        "scan.state_dir {} and scan.database {} lie in one another: nothing is written where signatures come from, as other replicas read \
         there too; name a directory of this replica's own",
        state.display(), database.display()
    )]
    AmongSignatures {
        /// The directory.
        state: PathBuf,
        /// The path of the signatures.
        database: PathBuf,
    },
    /// Another process uses it.
    #[error("scan.state_dir {} is in use by process {owner}: each replica needs one of its own", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The process, as it wrote itself down.
        owner: String,
    },
}

/// What an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// This one of those that are kept.
    Generation(Id),
    /// What `scan.database` holds now, also if it was refused, and whatever it looks like beside the one before.
    Source,
}

/// Which files were being loaded, and in how many ends of the process in a row.
#[derive(Debug, Serialize, Deserialize)]
struct Attempt {
    id: Id,
    ends: u32,
}

/// The directory, in use by this process or only looked at.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    /// Held for as long as this process uses the directory.
    _lock: Option<File>,
}

/// A copy of signature files that nothing knows of yet; removed if it stays so.
#[derive(Debug)]
pub struct Staged {
    /// What was copied.
    pub snapshot: Snapshot,
    directory: TempDir,
}

impl Staged {
    /// What to load.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.snapshot.paths_in(self.directory.path())
    }
}

impl State {
    /// Takes the directory for this process alone, and makes it if need be. `database` is where signatures come from.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn own(dir: &Path, database: &[PathBuf]) -> Result<State, StateError> {
        let failed = |error| StateError::Io {
            path: dir.to_owned(),
            error,
        };
        // Before it is made: it may be a shared volume.
        keep_apart(dir, database)?;
        let generations = dir.join("generations");
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&generations).map_err(failed)?;
        let lock = lock(dir)?;
        let state = State {
            dir: dir.to_owned(),
            _lock: Some(lock),
        };
        state.sweep().map_err(failed)?;
        Ok(state)
    }

    /// Looks at the directory without using it.
    ///
    /// # Errors
    /// It is not there, or no service has used it.
    pub fn look(dir: &Path) -> Result<State, StateError> {
        fs::metadata(dir.join("lock")).map_err(|error| StateError::Io {
            path: dir.join("lock"),
            error,
        })?;
        Ok(State {
            dir: dir.to_owned(),
            _lock: None,
        })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process that uses it, if one does.
    pub fn owner(&self) -> Option<String> {
        let file = File::open(self.dir.join("lock")).ok()?;
        match file.try_lock_shared() {
            Ok(()) => None,
            Err(_) => Some(owner(file)),
        }
    }

    /// The generation that is in use, or was when the process ended.
    pub fn current(&self) -> Option<Id> {
        let target = fs::read_link(self.dir.join("current")).ok()?;
        Id::parse(target.file_name()?.to_str()?)
    }

    /// What is known of a generation that is kept.
    pub fn manifest(&self, id: &Id) -> Option<Manifest> {
        let manifest: Manifest = read(&self.generation(id).join("manifest.json")).ok()??;
        (manifest.snapshot.id == *id).then_some(manifest)
    }

    /// All that are kept: the one in use, then the one put in use last, and so on.
    pub fn kept(&self) -> Vec<Manifest> {
        let entries = fs::read_dir(self.dir.join("generations"));
        let ids = entries.into_iter().flatten().flatten();
        let ids = ids.filter_map(|entry| Id::parse(entry.file_name().to_str()?));
        let mut kept: Vec<_> = ids.filter_map(|id| self.manifest(&id)).collect();
        let current = self.current();
        kept.sort_by(|one, other| {
            let rank = |manifest: &Manifest| Some(&manifest.snapshot.id) == current.as_ref();
            (rank(other), &other.activated_at).cmp(&(rank(one), &one.activated_at))
        });
        kept
    }

    /// What to load of a generation that is kept, once its files were read and found as they were.
    ///
    /// # Errors
    /// The files are not those that were kept.
    pub fn whole(&self, manifest: &Manifest) -> Result<Vec<PathBuf>, SnapshotError> {
        let paths = manifest
            .snapshot
            .paths_in(&self.generation(&manifest.snapshot.id));
        match Snapshot::read(&paths)?.id == manifest.snapshot.id {
            true => Ok(paths),
            false => Err(SnapshotError::Changed),
        }
    }

    /// Copies the files that `paths` hold.
    ///
    /// # Errors
    /// They cannot be read, or the copy cannot be written.
    pub fn stage(&self, paths: &[PathBuf]) -> Result<Staged, SnapshotError> {
        let directory = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(&self.dir)
            .map_err(|error| SnapshotError::Write {
                path: self.dir.clone(),
                error,
            })?;
        let snapshot = Snapshot::copy(paths, directory.path())?;
        Ok(Staged {
            snapshot,
            directory,
        })
    }

    /// Makes a generation the one in use: a copy becomes one that is kept, the one before stays, older ones go.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn adopt(&self, staged: Option<Staged>, manifest: &Manifest) -> io::Result<()> {
        let id = &manifest.snapshot.id;
        let before = self.current();
        let home = self.generation(id);
        let text = serde_json::to_vec_pretty(manifest)?;
        match staged {
            Some(staged) => {
                replace(&staged.directory.path().join("manifest.json"), &text)?;
                // What stands there is damaged, or it would not have been copied again.
                remove(&home)?;
                fs::rename(staged.directory.keep(), &home)?;
            }
            None => replace(&home.join("manifest.json"), &text)?,
        }
        sync(&self.dir.join("generations"))?;
        let next = self.dir.join("current.next");
        remove(&next)?;
        symlink(Path::new("generations").join(id.as_str()), &next)?;
        fs::rename(next, self.dir.join("current"))?;
        sync(&self.dir)?;
        for (number, old) in self.kept().iter().enumerate() {
            let old = &old.snapshot.id;
            let is_before = before.as_ref() == Some(old) && before.as_ref() != Some(id);
            // `kept` has the one in use first, and the one before it next.
            if number >= KEPT && !is_before {
                remove(&self.generation(old))?;
            }
        }
        Ok(())
    }

    /// What is not tried again.
    pub fn held(&self) -> HeldList {
        let list = read(&self.dir.join("held.json"));
        list.ok().flatten().unwrap_or_default()
    }

    /// Changes what is not tried again.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn change_held(&self, change: impl FnOnce(&mut HeldList)) -> io::Result<()> {
        let _alone = self.alone()?;
        let mut list = self.held();
        change(&mut list);
        replace(
            &self.dir.join("held.json"),
            &serde_json::to_vec_pretty(&list)?,
        )
    }

    /// Does not try these files again with this.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn hold(&self, id: &Id, reason: &str, tried_with: Option<&str>) -> io::Result<()> {
        self.change_held(|list| {
            list.hold(Held {
                id: id.clone(),
                at: now(),
                reason: reason.to_owned(),
                tried_with: tried_with.map(str::to_owned),
            });
        })
    }

    /// Notes that these files are being loaded, which may end the process, as it did in so many `ends` of it in a row.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn attempt(&self, id: &Id, ends: u32) -> io::Result<()> {
        let attempt = Attempt {
            id: id.clone(),
            ends,
        };
        replace(
            &self.dir.join("attempt.json"),
            &serde_json::to_vec(&attempt)?,
        )
    }

    /// The load that was noted is over, whatever came of it.
    pub fn attempted(&self) {
        // If it stays, it counts as an end of the process: a load in vain at the worst.
        fs::remove_file(self.dir.join("attempt.json")).ok();
    }

    /// The files that were being loaded when the process ended, and in how many ends of it in a row; it is told once.
    pub fn ended_while_loading(&self) -> Option<(Id, u32)> {
        let attempt: Attempt = read(&self.dir.join("attempt.json")).ok()??;
        self.attempted();
        Some((attempt.id, attempt.ends.saturating_add(1)))
    }

    /// Asks the service, or the next one to start, for a generation.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn want(&self, wanted: &Wanted) -> io::Result<()> {
        replace(&self.dir.join("wanted.json"), &serde_json::to_vec(wanted)?)
    }

    /// Whether an operator asked for something.
    pub fn is_wanted(&self) -> bool {
        self.dir.join("wanted.json").exists()
    }

    /// What an operator asked for since the last time; it is asked for once.
    pub fn take_wanted(&self) -> Option<Wanted> {
        let path = self.dir.join("wanted.json");
        let wanted = read(&path).ok()?;
        fs::remove_file(&path).ok();
        wanted
    }

    /// Adds to the history.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn note(&self, event: &Event) -> io::Result<()> {
        let _alone = self.alone()?;
        history::append(&self.dir.join("history.jsonl"), event)
    }

    /// What happened, the oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn history(&self) -> io::Result<Vec<Event>> {
        history::read(&self.dir.join("history.jsonl"))
    }

    fn generation(&self, id: &Id) -> PathBuf {
        self.dir.join("generations").join(id.as_str())
    }

    /// Keeps the service and an operator's command from changing the same file at once.
    fn alone(&self) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.dir.join("change.lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Removes what a process that was killed left half done.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(STAGING.as_bytes())
            {
                remove(&entry.path())?;
            }
        }
        for entry in fs::read_dir(self.dir.join("generations"))? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(Id::parse);
            if id.is_none_or(|id| self.manifest(&id).is_none()) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Refuses a state directory that lies where signatures come from, or the other way round, whatever its name.
fn keep_apart(state: &Path, database: &[PathBuf]) -> Result<(), StateError> {
    let home = resolved(state);
    for path in database {
        let source = match path.is_dir() {
            true => resolved(path),
            false => resolved(path.parent().unwrap_or(Path::new("/"))),
        };
        // A file's directory may hold anything else; the directory of all signatures may not.
        let among = home.starts_with(&source) && (path.is_dir() || home == source);
        if among || source.starts_with(&home) || is_same(&home, &source) {
            return Err(StateError::AmongSignatures {
                state: state.to_owned(),
                database: path.clone(),
            });
        }
    }
    Ok(())
}

/// The same directory, mounted in two places.
fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// The path without symlinks, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for parent in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (parent.canonicalize(), absolute.strip_prefix(parent)) {
            return real.join(rest);
        }
    }
    absolute
}

fn lock(dir: &Path) -> Result<File, StateError> {
    let path = dir.join("lock");
    let failed = |error| StateError::Io {
        path: path.clone(),
        error,
    };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    // Who only looks holds it for a moment.
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).map_err(failed)?;
                write!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(file);
            }
            Err(fs::TryLockError::WouldBlock) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    Err(StateError::InUse {
        path: dir.to_owned(),
        owner: owner(file),
    })
}

/// The process that holds the lock, in its own words.
fn owner(file: File) -> String {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok();
    match text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "of another host".to_owned(),
        false => text,
    }
}

/// A file of ours; `None` if there is none.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file or a directory, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Now, as it is written down.
pub fn now() -> String {
    rfc3339_millis(OffsetDateTime::now_utc())
}
