//! Which files some paths hold, their contents by digest, and a copy of them.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use scanlib::LoadError;
use scanlib::database::{self, Container};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::Id;

/// How a detached signature of a container ends; libclamav 1.5 looks for it beside the container.
const SIGN: &str = "sign";

/// The signature files of some paths at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What they are together.
    pub id: Id,
    /// One for each path, in their order.
    pub parts: Vec<Part>,
}

/// What one path holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The path, as it was given.
    pub path: PathBuf,
    /// It is a directory of files, not a file.
    pub is_directory: bool,
    /// Sorted by name.
    pub files: Vec<FileInfo>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its name, without a directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its content.
    pub sha256: String,
    /// What it says of itself, if it is a container.
    pub container: Option<ContainerInfo>,
}

/// What a container's header says; see [`Container`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Version of the container.
    pub version: u32,
    /// Number of signatures.
    pub signatures: u32,
    /// When it was built, in seconds since 1970.
    pub built: Option<u64>,
}

/// Why there is no snapshot.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is nothing to load.
    #[error(transparent)]
    Source(#[from] LoadError),
    /// A file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The copy cannot be written.
    #[error("{}: cannot be written: {error}; make room there, or choose another scan.state_dir", path.display())]
    Write {
        /// The copy.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Files changed while they were read.
    #[error("the signature files change while they are read; they are looked at again")]
    Changed,
}

impl Snapshot {
    /// Reads every file once.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn read(paths: &[PathBuf]) -> Result<Snapshot, SnapshotError> {
        take(paths, None)
    }

    /// Reads every file once, and writes what was read into `to`: a directory for each path, 0, 1, and so on.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn copy(paths: &[PathBuf], to: &Path) -> Result<Snapshot, SnapshotError> {
        take(paths, Some(to))
    }

    /// What to load where a copy of it lies in `directory`.
    pub fn paths_in(&self, directory: &Path) -> Vec<PathBuf> {
        let path = |(number, part): (usize, &Part)| {
            let directory = directory.join(number.to_string());
            let signatures = part.files.iter().find(|file| !is_sign(&file.name));
            match (part.is_directory, signatures) {
                (false, Some(file)) => directory.join(&file.name),
                _ => directory,
            }
        };
        self.parts.iter().enumerate().map(path).collect()
    }

    /// Every file.
    pub fn files(&self) -> impl Iterator<Item = &FileInfo> {
        self.parts.iter().flat_map(|part| &part.files)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|file| file.bytes).sum()
    }

    /// When the newest container was built, in seconds since 1970.
    pub fn built(&self) -> Option<u64> {
        let built = |file: &FileInfo| file.container.as_ref()?.built;
        self.files().filter_map(built).max()
    }
}

fn is_sign(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|ending| ending == SIGN)
}

fn take(paths: &[PathBuf], to: Option<&Path>) -> Result<Snapshot, SnapshotError> {
    let mut parts = Vec::new();
    let mut all = Sha256::new();
    for (number, path) in paths.iter().enumerate() {
        let to = to.map(|to| to.join(number.to_string()));
        let part = part(path, to.as_deref())?;
        all.update([u8::from(part.is_directory)]);
        all.update((part.files.len() as u64).to_le_bytes());
        for file in &part.files {
            all.update((file.name.len() as u64).to_le_bytes());
            all.update(&file.name);
            all.update(&file.sha256);
        }
        parts.push(part);
    }
    Ok(Snapshot {
        id: Id(hex::encode(all.finalize())),
        parts,
    })
}

fn part(path: &Path, to: Option<&Path>) -> Result<Part, SnapshotError> {
    let read_error = |path: &Path| {
        let path = path.to_owned();
        |error| SnapshotError::Read { path, error }
    };
    let is_directory = fs::metadata(path).map_err(read_error(path))?.is_dir();
    let mut paths = database::signature_files(path)?;
    let signs = match is_directory {
        true => signs(path, None),
        false => signs(path.parent().unwrap_or(Path::new("")), path.file_stem()),
    };
    paths.extend(signs.map_err(read_error(path))?);
    paths.sort();
    if let Some(to) = to {
        fs::create_dir(to).map_err(|error| SnapshotError::Write {
            path: to.to_owned(),
            error,
        })?;
    }
    let mut files = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default();
        let to = to.map(|to| to.join(name));
        let (bytes, sha256) = digest(&path, to.as_deref())?;
        let container =
            Container::read(to.as_deref().unwrap_or(&path)).map_err(read_error(&path))?;
        files.push(FileInfo {
            name: name.to_string_lossy().into_owned(),
            bytes,
            sha256,
            container: container.map(|found| ContainerInfo {
                version: found.version,
                signatures: found.signatures,
                built: found.built,
            }),
        });
    }
    Ok(Part {
        path: path.to_owned(),
        is_directory,
        files,
    })
}

/// The detached signatures in a directory: all, or those of a container, which begin like it (`main-62.cvd.sign`).
fn signs(directory: &Path, of: Option<&OsStr>) -> io::Result<Vec<PathBuf>> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let begins = |of: &OsStr| {
            let rest = name.strip_prefix(of.as_encoded_bytes());
            rest.is_some_and(|rest| rest.starts_with(b"-"))
        };
        if path.extension().is_some_and(|ending| ending == SIGN) && of.is_none_or(begins) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Length and SHA-256 of a file, which is copied on the way.
pub(crate) fn digest(path: &Path, to: Option<&Path>) -> Result<(u64, String), SnapshotError> {
    let read_error = |error| SnapshotError::Read {
        path: path.to_owned(),
        error,
    };
    let write_error = |error| SnapshotError::Write {
        path: to.unwrap_or(path).to_owned(),
        error,
    };
    // Before it is opened: a pipe would never end.
    if !fs::metadata(path).map_err(read_error)?.is_file() {
        return Err(read_error(io::Error::other("it is no regular file")));
    }
    let mut file = File::open(path).map_err(read_error)?;
    let mut copy = match to {
        None => None,
        Some(to) => {
            let copy = OpenOptions::new().write(true).create_new(true).open(to);
            Some(copy.map_err(write_error)?)
        }
    };
    let (mut bytes, mut sha256) = (0, Sha256::new());
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(read_error)?,
        };
        let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else {
            break;
        };
        bytes += length as u64;
        sha256.update(read);
        if let Some(copy) = &mut copy {
            copy.write_all(read).map_err(write_error)?;
        }
    }
    if let Some(copy) = copy {
        copy.sync_all().map_err(write_error)?;
    }
    Ok((bytes, hex::encode(sha256.finalize())))
}
