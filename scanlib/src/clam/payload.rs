//! What is scanned.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::ScanError;
use crate::file_state::{Handle, Watch};

/// What is scanned.
///
/// | you have | use |
/// |---|---|
/// | bytes | [`Payload::Bytes`] |
/// | a path | [`Payload::Path`] |
/// | an open file, a pipe | [`Payload::File`] |
/// | a reader, or pieces over time | [`Spool::payload`](crate::Spool::payload) |
/// | a file in shared memory | [`FileMap`](crate::FileMap), as bytes |
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Payload<'d> {
    /// Bytes in memory; they are not copied.
    Bytes(&'d [u8]),
    /// An open file, from its beginning to its end wherever its cursor stands. Something that is not a regular
    /// file (a pipe, a device) is read into memory from where it stands, up to the limit. A file that changes meanwhile is
    /// [`Incomplete::Changed`](crate::Incomplete::Changed); libclamav reads it and does not map it, so one that becomes
    /// shorter does no harm.
    File {
        /// Opened for reading.
        file: &'d File,
        /// Its name: for errors, and for the few signatures that look at it.
        path: &'d Path,
    },
    /// A file to open.
    Path(&'d Path),
}

impl<'d> Payload<'d> {
    /// Length of the object in bytes, as far as it is known before it is read.
    pub(crate) fn len_bytes(&self) -> Result<u64, ScanError> {
        let (metadata, path) = match *self {
            Payload::Bytes(bytes) => return Ok(bytes.len() as u64),
            Payload::File { file, path } => (file.metadata(), path),
            Payload::Path(path) => (path.metadata(), path),
        };
        metadata
            .map(|metadata| metadata.len())
            .map_err(|error| ScanError::Read {
                path: path.to_owned(),
                error,
            })
    }

    /// The object in memory, or its first `max_bytes` and one more, which tells "too large" from "just fits"; and what tells
    /// whether the file changed since.
    pub(crate) fn read(&self, max_bytes: u64) -> Result<(Vec<u8>, Option<Watch<'d>>), ScanError> {
        let (file, path) = match *self {
            Payload::Bytes(bytes) => return Ok((bytes.to_owned(), None)),
            Payload::File { file, path } => (Ok(Handle::Lent(file)), path),
            Payload::Path(path) => (File::open(path).map(Handle::Owned), path),
        };
        let read = |watch: Watch<'d>| Ok((read_file(watch.file(), max_bytes)?, Some(watch)));
        file.and_then(Watch::start)
            .and_then(read)
            .map_err(|error| ScanError::Read {
                path: path.to_owned(),
                error,
            })
    }
}

/// As [`Payload::read`], for an open file.
pub(super) fn read_file(file: &File, max_bytes: u64) -> io::Result<Vec<u8>> {
    let max = max_bytes.saturating_add(1);
    let mut data = Vec::new();
    if file.metadata()?.is_file() {
        FromStart { file, offset: 0 }
            .take(max)
            .read_to_end(&mut data)?;
    } else {
        file.take(max).read_to_end(&mut data)?;
    }
    Ok(data)
}

/// A regular file, wherever its cursor stands.
struct FromStart<'f> {
    file: &'f File,
    offset: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
