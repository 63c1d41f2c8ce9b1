//! What is scanned.

use std::fs::File;
use std::path::Path;

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
