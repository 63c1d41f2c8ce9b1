//! The lines of a signature file, cut as libclamav cuts them.
//!
//! It reads into a buffer of fixed size. What does not fit is read as the next line, even if the
//! first part was a comment; and it takes a NUL for the end of a line. Such lines are not followed,
//! they are handed on as not understood.

use std::io::{self, BufRead, Read as _};

/// Bytes of a line, its line feed among them, in most formats.
pub(crate) const SHORT: usize = 8191;

/// Bytes of a line of logical signatures.
pub(crate) const LONG: usize = 32768;

/// Is handed one line: its number, from 1, and what is in it or why it cannot be told.
pub(crate) type Taker<'t> = dyn FnMut(u64, Result<&[u8], &'static str>) + 't;

/// Hands on every line that is neither empty nor a comment, without its line end. Holds no more
/// than one line in memory, and of that no more than `most` bytes.
///
/// # Errors
///
/// The content cannot be read.
pub(crate) fn each(content: &mut dyn BufRead, most: usize, take: &mut Taker<'_>) -> io::Result<()> {
    let mut buffer = Vec::new();
    for number in 1.. {
        buffer.clear();
        let mut line = (&mut *content).take(most as u64);
        if line.read_until(b'\n', &mut buffer)? == 0 {
            break;
        }
        if !buffer.ends_with(b"\n") && buffer.len() >= most {
            content.skip_until(b'\n')?;
            take(number, Err("a line longer than libclamav's buffer"));
            continue;
        }
        match chomp(&buffer) {
            [] | [b'#', ..] => {}
            line if line.contains(&0) => take(number, Err("a line with a NUL byte")),
            line => take(number, Ok(line)),
        }
    }
    Ok(())
}

/// Without the line feeds and carriage returns at its end, however many.
fn chomp(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = line {
        line = rest;
    }
    line
}
