//! The lines of a signature file, cut as libclamav cuts them.
//!
//! It reads into a buffer of fixed size. What does not fit is read as the next line, even if the
//! first part was a comment; and it takes a NUL for the end of a line. Such lines are not followed,
//! they are handed on as not understood.

use std::io::{self, BufRead, Read as _};

/// Bytes of a line, its line feed among them, in most formats.
pub const SHORT: usize = 8191;

/// Bytes of a line of logical signatures.
pub const LONG: usize = 32768;

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
pub fn chomp(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = line {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Seen = Vec<(u64, Option<Vec<u8>>)>;

    fn seen(mut content: &[u8], most: usize) -> Seen {
        let mut seen = Seen::new();
        each(&mut content, most, &mut |number, line| {
            seen.push((number, line.ok().map(<[u8]>::to_vec)));
        })
        .unwrap();
        seen
    }

    /// The same, over all of the content at once.
    fn naive(content: &[u8], most: usize) -> Seen {
        content
            .split_inclusive(|&byte| byte == b'\n')
            .zip(1..)
            .filter_map(|(line, number)| {
                let full = line.len();
                let long = full > most || (full == most && line.last() != Some(&b'\n'));
                let end = line
                    .iter()
                    .rposition(|byte| !matches!(byte, b'\r' | b'\n'))
                    .map_or(0, |at| at + 1);
                let line = &line[..end];
                match line.first() {
                    _ if long => Some((number, None)),
                    None | Some(b'#') => None,
                    _ if line.contains(&0) => Some((number, None)),
                    _ => Some((number, Some(line.to_vec()))),
                }
            })
            .collect()
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over() {
        let content = b"#a\n\none\r\n\r\n two # no comment\r\r\n\xff\n#";
        let expected: Seen = vec![
            (3, Some(b"one".to_vec())),
            (5, Some(b" two # no comment".to_vec())),
            (6, Some(b"\xff".to_vec())),
        ];
        assert_eq!(seen(content, SHORT), expected);
        assert_eq!(seen(b"", SHORT), Seen::new());
    }

    #[test]
    fn a_line_that_does_not_fit_into_the_buffer_or_holds_a_nul_is_refused() {
        for most in [SHORT, LONG] {
            let line = |bytes: usize| [vec![b'n'; bytes - 1], b"\n".to_vec()].concat();
            assert!(matches!(seen(&line(most), most)[..], [(1, Some(_))]));
            assert!(matches!(seen(&line(most + 1), most)[..], [(1, None)]));
            // libclamav reads what does not fit of a comment as a line of its own.
            let comment = [vec![b'#'; most], line(100)].concat();
            assert_eq!(seen(&comment, most), [(1, None)]);
        }
        assert_eq!(
            seen(b"Judge.A:0:*:6e6565646c65\0junk\n", SHORT),
            [(1, None)]
        );
    }

    proptest! {
        #[test]
        fn as_a_naive_reader(
            content in prop::collection::vec(prop::sample::select(&b"\n\n\r#\0ab"[..]), 0..80),
            most in 1..12_usize,
        ) {
            prop_assert_eq!(seen(&content, most), naive(&content, most));
        }

        #[test]
        fn of_any_bytes(content in prop::collection::vec(any::<u8>(), 0..400), most in 1..50_usize) {
            prop_assert_eq!(seen(&content, most), naive(&content, most));
        }

        #[test]
        fn whatever_pieces_the_content_comes_in(
            content in prop::collection::vec(prop::sample::select(&b"\n#\0ab"[..]), 0..80),
            most in 1..12_usize,
            piece in 1..9_usize,
        ) {
            let mut reader = std::io::BufReader::with_capacity(piece, &content[..]);
            let mut pieces = Seen::new();
            each(&mut reader, most, &mut |number, line| {
                pieces.push((number, line.ok().map(<[u8]>::to_vec)));
            })
            .unwrap();
            prop_assert_eq!(pieces, naive(&content, most));
        }
    }
}
