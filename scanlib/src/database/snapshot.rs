//! The files that libclamav loads from a path: their digest, and whether they changed while they were loaded.
//!
//! Each file is read once here. Its SHA-256 is computed on the way to whoever parses it ([`Contents::read`]); states of the files,
//! compared before and after ([`SourceState`]), prove that libclamav read the same bytes.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{LoadError, LoadErrorKind};
use crate::file_state::FileState;

/// SHA-256 that identifies loaded signatures; written in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// Collects names and contents. Lengths go in as well, so that no two lists look alike.
#[derive(Default)]
pub(crate) struct DigestBuilder(Sha256);

impl DigestBuilder {
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) {
        self.add_name(name.as_bytes());
        self.0.update(Sha256::digest(content));
    }

    pub(crate) fn add_digest(&mut self, digest: &Digest) {
        self.0.update(digest.0);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    fn add_name(&mut self, name: &[u8]) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name);
    }
}

/// Bytes that are read at a time.
const BUFFER: usize = 64 << 10;

/// SHA-256 of files, computed while they are read for another purpose.
#[derive(Debug, Default)]
pub(crate) struct Contents(HashMap<PathBuf, [u8; 32]>);

impl Contents {
    /// Hands a file's content to `read` and hashes all of it, whatever `read` leaves unread.
    ///
    /// # Errors
    /// The file cannot be read, or `read` failed.
    pub(crate) fn read<T>(
        &mut self,
        path: &Path,
        read: impl FnOnce(&mut dyn BufRead) -> io::Result<T>,
    ) -> io::Result<T> {
        let hashing = Hashing {
            file: File::open(path)?,
            sha256: Sha256::new(),
        };
        let mut content = BufReader::with_capacity(BUFFER, hashing);
        let result = read(&mut content);
        // What is in the buffer has been hashed.
        let mut rest = content.into_inner();
        let mut buffer = vec![0; BUFFER];
        while rest.read(&mut buffer)? > 0 {}
        self.0
            .insert(path.to_owned(), rest.sha256.finalize().into());
        result
    }

    /// Takes in the hashes of other files.
    pub(crate) fn merge(&mut self, other: Contents) {
        self.0.extend(other.0);
    }

    /// Hashes a file that nobody parses, unless that was done before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn hash(&mut self, path: &Path) -> io::Result<()> {
        match self.0.contains_key(path) {
            true => Ok(()),
            false => self.read(path, |_| Ok(())),
        }
    }
}

/// Hashes what is read from a file.
struct Hashing {
    file: File,
    sha256: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    let length = read?;
                    self.sha256.update(buffer.get(..length).unwrap_or_default());
                    return Ok(length);
                }
            }
        }
    }
}

/// The files of a source at one moment. Between two equal states no file was changed, added, removed or replaced, except through a
/// shared memory mapping: see [`FileState`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SourceState(Vec<(PathBuf, FileState)>);

impl SourceState {
    /// The files, sorted.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| &**path)
    }
}

/// A path to load: a file, or a directory of them.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
}

impl Source {
    /// Checks that there is something to load.
    pub(crate) fn new(path: &Path) -> Result<Source, LoadError> {
        let source = Source {
            path: path.to_owned(),
        };
        if source.files()?.is_empty() {
            return Err(source.error(LoadErrorKind::Empty));
        }
        Ok(source)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The state of every file. Waits up to 50 ms where a file changed this very moment.
    pub(crate) fn state(&self) -> Result<SourceState, LoadError> {
        let look = || {
            let files = self.list()?.into_iter();
            let states = files.map(|path| {
                let state = FileState::settled(&File::open(&path)?)?;
                Ok((path, state))
            });
            states.collect::<io::Result<_>>().map(SourceState)
        };
        look().map_err(|error| self.error(LoadErrorKind::Io(error)))
    }

    /// The digest of all files. Those that `contents` does not know are read. The directory's own name does not count.
    pub(crate) fn digest(
        &self,
        state: &SourceState,
        contents: &mut Contents,
    ) -> Result<Digest, LoadError> {
        let mut digest = DigestBuilder::default();
        for file in state.files() {
            contents
                .hash(file)
                .map_err(|error| self.error(LoadErrorKind::Io(error)))?;
            digest.add_name(file.file_name().unwrap_or_default().as_encoded_bytes());
            digest.0.update(contents.0.get(file).unwrap_or(&[0; 32]));
        }
        Ok(digest.finish())
    }

    /// The files that libclamav would load, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, LoadError> {
        self.list()
            .map_err(|error| self.error(LoadErrorKind::Io(error)))
    }

    fn list(&self) -> io::Result<Vec<PathBuf>> {
        if !fs::metadata(&self.path)?.is_dir() {
            // Fails here, with the system's reason, if it may not be read.
            File::open(&self.path)?;
            return Ok(vec![self.path.clone()]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if super::format_of(&path).is_loaded() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    pub(crate) fn error(&self, kind: LoadErrorKind) -> LoadError {
        LoadError {
            path: self.path.clone(),
            kind,
            log: Vec::new(),
        }
    }
}
