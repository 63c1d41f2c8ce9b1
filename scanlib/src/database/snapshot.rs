//! What libclamav would load from a path, and a digest of it.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::error::{LoadError, LoadErrorKind};

/// File name endings that libclamav loads from a directory, in any case. A directory's `.info` files are not among
/// them, nor is a `.cdiff`.
const ENDINGS: [&str; 38] = [
    ".cat", ".cbc", ".cdb", ".cfg", ".cld", ".crb", ".cud", ".cvd", ".db", ".fp", ".ftm", ".gdb",
    ".hdb", ".hdu", ".hsb", ".hsu", ".idb", ".ign", ".ign2", ".imp", ".ioc", ".ldb", ".ldu",
    ".mdb", ".mdu", ".msb", ".msu", ".ndb", ".ndu", ".pdb", ".pwdb", ".rmd", ".sdb", ".sfp",
    ".wdb", ".yar", ".yara", ".zmd",
];

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

    /// Reads everything once. The directory's own name does not count.
    pub(crate) fn digest(&self) -> Result<Digest, LoadError> {
        let read = || -> io::Result<Digest> {
            let mut digest = DigestBuilder::default();
            for file in self.list()? {
                digest.add_name(file.file_name().unwrap_or_default().as_encoded_bytes());
                digest.0.update(hash_file(&file)?);
            }
            Ok(digest.finish())
        };
        read().map_err(|error| self.error(LoadErrorKind::Io(error)))
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
            if is_database(&path) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn error(&self, kind: LoadErrorKind) -> LoadError {
        LoadError {
            path: self.path.clone(),
            kind,
            log: Vec::new(),
        }
    }
}

pub(super) fn is_database(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    ENDINGS.iter().any(|ending| {
        let start = name.len().saturating_sub(ending.len());
        name[start..].eq_ignore_ascii_case(ending.as_bytes())
    })
}

fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
