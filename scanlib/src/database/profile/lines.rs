//! A file, line by line as libclamav reads it, without some of its lines.

use std::io::{self, BufRead, Read as _, Write};

use crate::prefilter::formats::lines::chomp;

/// What is written in place of a line, so that libclamav's messages name the lines of the file: a comment.
const PLACEHOLDER: &[u8] = b"#\n";

/// Copies the lines that are not `left_out`, byte for byte; what libclamav would not read as one line is copied as well. Says how many
/// lines with something in them were copied.
///
/// # Errors
/// Of the content, or of who writes.
pub(super) fn copy(
    content: &mut dyn BufRead,
    to: &mut dyn Write,
    most: usize,
    left_out: &mut dyn FnMut(&[u8]) -> bool,
) -> io::Result<u64> {
    let mut kept = 0;
    let mut buffer = Vec::new();
    // Inside of a line that is longer than libclamav's buffer.
    let mut goes_on = false;
    loop {
        buffer.clear();
        let mut line = (&mut *content).take(most as u64);
        if line.read_until(b'\n', &mut buffer)? == 0 {
            return Ok(kept);
        }
        let is_cut = !buffer.ends_with(b"\n") && buffer.len() >= most;
        let text = chomp(&buffer);
        let is_whole = !goes_on && !is_cut && !text.contains(&0);
        goes_on = is_cut;
        match text {
            [] | [b'#', ..] if is_whole => to.write_all(&buffer)?,
            text if is_whole && left_out(text) => to.write_all(PLACEHOLDER)?,
            _ => {
                kept += 1;
                to.write_all(&buffer)?;
            }
        }
    }
}
