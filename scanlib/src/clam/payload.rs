//! What is scanned.

use std::fs::File;
use std::path::Path;

use crate::error::ScanError;

/// What is scanned.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'d> {
    /// Bytes in memory; they are not copied.
    Bytes(&'d [u8]),
    /// An open file, from its beginning to its end wherever its cursor stands. Something that is not a regular
    /// file (a pipe, a device) is read into memory from where it stands, up to the limit.
    File {
        /// Opened for reading.
        file: &'d File,
        /// Its name: for errors, and for the few signatures that look at it.
        path: &'d Path,
    },
    /// A file to open.
    Path(&'d Path),
}

impl Payload<'_> {
    /// Length of the object in bytes, as far as it is known before it is read.
    pub(crate) fn len_bytes(&self) -> Result<u64, ScanError> {
        let (metadata, path) = match *self {
            Payload::Bytes(bytes) => return Ok(bytes.len() as u64),
            Payload::File { file, path } => (file.metadata(), path),
            Payload::Path(path) => (path.metadata(), path),
        };
        metadata
            .map(|metadata| metadata.len())
            .map_err(|source| ScanError::Read {
                path: path.to_owned(),
                source,
            })
    }
}
