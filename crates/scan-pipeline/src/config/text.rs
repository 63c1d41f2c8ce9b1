//! Small text files, read within bounds: a path may name a device that never ends.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The whole text of a file.
///
/// # Errors
/// It cannot be read, is no UTF-8, or is longer than `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(max_bytes + 1)
        .read_to_end(&mut bytes)?;
    // Before its letters: one that is cut in two would be blamed instead.
    if bytes.len() as u64 > max_bytes {
        let problem = format!("it is longer than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
