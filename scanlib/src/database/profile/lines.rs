//! A file, line by line as libclamav reads it, without some of its lines.

use std::io::{self, BufRead, Read as _, Write};

use clamav_prefilter::formats::lines::chomp;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 16;

    fn copied(content: &[u8], mut left_out: impl FnMut(&[u8]) -> bool) -> (Vec<u8>, u64) {
        let mut to = Vec::new();
        let kept = copy(&mut &*content, &mut to, MOST, &mut left_out).unwrap();
        (to, kept)
    }

    #[test]
    fn a_line_that_is_left_out_leaves_its_number() {
        let content = b"one\r\n# two\n\nfour\nfive";
        let (text, kept) = copied(content, |line| line == b"one" || line == b"five");
        assert_eq!(text, b"#\n# two\n\nfour\n#\n");
        assert_eq!(kept, 1);
    }

    #[test]
    fn what_libclamav_would_not_read_as_one_line_stays() {
        let content =
            b"a line that is longer than the buffer, so it is several\nwith a \0 in it\nshort\n";
        let (text, kept) = copied(content, |_| true);
        assert_eq!(text, [&content[..content.len() - 6], b"#\n"].concat());
        assert_eq!(kept, 5);
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop::sample::select(&b"ab#\n\n\r\0 "[..]);
        prop::collection::vec(byte, 0..200)
    }

    proptest! {
        #[test]
        fn nothing_changes_where_nothing_is_left_out(content in content()) {
            prop_assert_eq!(copied(&content, |_| false).0, content);
        }

        #[test]
        fn each_line_keeps_its_number(content in content()) {
            let lines = |text: &[u8]| text.split_inclusive(|&byte| byte == b'\n').count();
            prop_assert_eq!(lines(&copied(&content, |_| true).0), lines(&content));
        }
    }
}
