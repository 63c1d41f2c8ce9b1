//! A file that is on its way, and what is known of it, so that a broken download goes on where it broke.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::answer::Validators;
use crate::files::replace;

/// Of which file these are the first bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begun {
    /// Where it comes from.
    pub url: String,
    /// Its `ETag`, a strong one.
    pub etag: String,
    /// Its length.
    pub total: u64,
}

/// The file and its note.
#[derive(Debug)]
pub struct Part {
    path: PathBuf,
    note: PathBuf,
    file: File,
    bytes: u64,
    received: u64,
    is_resumable: bool,
}

impl Part {
    /// Opens what is there, if anything is. What is not resumable begins anew each time.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path, is_resumable: bool) -> io::Result<Part> {
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let file = options.open(path)?;
        let part = Part {
            bytes: file.metadata()?.len(),
            path: path.to_owned(),
            note: note(path),
            file,
            received: 0,
            is_resumable,
        };
        if !is_resumable {
            part.forget()?;
        }
        Ok(part)
    }

    /// How much of which file is there, if it can be gone on with from `url`.
    pub fn begun(&self, url: &str) -> Option<(Begun, u64)> {
        let begun: Begun = serde_json::from_slice(&fs::read(&self.note).ok()?).ok()?;
        let is_some = begun.url == url && (1..begun.total).contains(&self.bytes);
        is_some.then_some((begun, self.bytes))
    }

    /// Begins anew. `total` is there if the length is known.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn start(
        &mut self,
        url: &str,
        validators: &Validators,
        total: Option<u64>,
    ) -> io::Result<()> {
        // In this order: at no time does the note speak of bytes of another file.
        self.forget()?;
        self.file.set_len(0)?;
        self.bytes = 0;
        if let (true, Some(etag), Some(total)) = (self.is_resumable, validators.strong(), total) {
            let begun = Begun {
                url: url.to_owned(),
                etag: etag.to_owned(),
                total,
            };
            replace(&self.note, &serde_json::to_vec(&begun)?)?;
        }
        Ok(())
    }

    /// The next bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        self.received += bytes.len() as u64;
        Ok(())
    }

    /// How many came since it was opened.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many are there.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It cannot be gone on with any more.
    ///
    /// # Errors
    /// The note cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        remove(&self.note)
    }

    /// All of it is there: on the disk, too.
    ///
    /// # Errors
    /// The disk says so.
    pub fn finish(self) -> io::Result<PathBuf> {
        self.file.sync_all()?;
        self.forget()?;
        Ok(self.path)
    }

    /// Removes a part and its note, if they are there.
    ///
    /// # Errors
    /// They cannot be removed.
    pub fn discard(path: &Path) -> io::Result<()> {
        remove(&note(path))?;
        remove(path)
    }
}

fn note(path: &Path) -> PathBuf {
    let mut note = path.as_os_str().to_owned();
    note.push(".begun");
    note.into()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
