//! Splits a stream at line feeds into batches of messages, with bounded memory.
//!
//! Nothing but the line feed is removed: a carriage return before it belongs to the message.

use std::io::{self, BufRead};
use std::ops::Range;

/// Most lines of a batch.
const BATCH_LINES: usize = 256;
/// A batch is handed on once it holds this many bytes.
const BATCH_BYTES: usize = 256 << 10;

/// Several lines of one stream, in one buffer.
#[derive(Debug)]
pub(super) struct LineBatch {
    /// Number of the first line, from 1.
    pub(super) first: u64,
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    range: Range<usize>,
    len: u64,
}

impl LineBatch {
    /// Each line's number, its bytes up to the limit, and its full length in bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[u8], u64)> {
        (self.first..)
            .zip(&self.lines)
            .map(|(n, line)| (n, &self.bytes[line.range.clone()], line.len))
    }

    /// What the lines took of the stream, in bytes.
    pub(super) fn stream_bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.len + 1).sum()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Reads batches from a stream.
#[derive(Debug)]
pub(super) struct LineBatches<R> {
    reader: R,
    max_line_bytes: usize,
    longest: u64,
    next: u64,
    /// To be reported once the lines before it have been.
    failed: Option<io::Error>,
}

impl<R: BufRead> LineBatches<R> {
    /// Of a line longer than `max_line_bytes` only that many bytes are kept.
    pub(super) fn new(reader: R, max_line_bytes: usize) -> LineBatches<R> {
        LineBatches {
            reader,
            max_line_bytes,
            longest: u64::MAX,
            next: 1,
            failed: None,
        }
    }

    /// Makes a line of more than `bytes` an error, with which the stream ends: a few bytes may unpack to a line without an
    /// end.
    pub(super) fn longest(self, bytes: u64) -> LineBatches<R> {
        LineBatches {
            longest: bytes,
            ..self
        }
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// The stream cannot be read. What came before that has been handed out, the beginning of a line included.
    pub(super) fn next_batch(&mut self) -> io::Result<Option<LineBatch>> {
        let mut batch = LineBatch {
            first: self.next,
            bytes: Vec::new(),
            lines: Vec::new(),
        };
        while self.failed.is_none()
            && batch.lines.len() < BATCH_LINES
            && batch.bytes.len() < BATCH_BYTES
        {
            let Some(line) = self.read_line(&mut batch.bytes) else {
                break;
            };
            batch.lines.push(line);
        }
        self.next += batch.lines.len() as u64;
        if !batch.lines.is_empty() {
            return Ok(Some(batch));
        }
        self.failed.take().map_or(Ok(None), Err)
    }

    fn read_line(&mut self, into: &mut Vec<u8>) -> Option<Line> {
        let start = into.len();
        let mut len = 0u64;
        let mut ended = false;
        let mut seen = false;
        while !ended {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
                Ok(available) => available,
            };
            if available.is_empty() {
                break;
            }
            seen = true;
            let end = memchr::memchr(b'\n', available);
            let part = &available[..end.unwrap_or(available.len())];
            let room = self.max_line_bytes - (into.len() - start);
            into.extend_from_slice(&part[..part.len().min(room)]);
            len += part.len() as u64;
            let used = part.len() + usize::from(end.is_some());
            ended = end.is_some();
            self.reader.consume(used);
            if len > self.longest {
                let longest = self.longest;
                self.failed = Some(io::Error::other(format!(
                    "a line is longer than {longest} bytes, and what follows was not read: see --max-scansize"
                )));
                break;
            }
        }
        seen.then_some(Line {
            range: start..into.len(),
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8], max: usize, buffer: usize) -> Vec<(u64, Vec<u8>, u64)> {
        let mut batches = LineBatches::new(io::BufReader::with_capacity(buffer, text), max);
        let mut out = Vec::new();
        while let Some(batch) = batches.next_batch().expect("memory can be read") {
            out.extend(batch.iter().map(|(n, line, len)| (n, line.to_vec(), len)));
        }
        out
    }

    #[test]
    fn only_the_line_feed_is_removed() {
        let got = split(b"a\r\n\nb \n\xff", 100, 3);
        let want: [(u64, &[u8]); 4] = [(1, b"a\r"), (2, b""), (3, b"b "), (4, b"\xff")];
        let want: Vec<_> = want.map(|(n, l)| (n, l.to_vec(), l.len() as u64)).to_vec();
        assert_eq!(got, want);
        assert!(split(b"", 10, 3).is_empty());
    }

    #[test]
    fn an_endless_line_is_cut_and_its_length_kept() {
        let got = split(b"0123456789\nx", 4, 3);
        assert_eq!(got, [(1, b"0123".to_vec(), 10), (2, b"x".to_vec(), 1)]);
    }

    #[test]
    fn what_came_before_an_error_is_handed_out_first() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let reader = io::BufReader::new(io::Read::chain(&b"one\ntw"[..], Broken));
        let mut batches = LineBatches::new(reader, 10);
        let batch = batches.next_batch().expect("lines").expect("a batch");
        let lines: Vec<_> = batch.iter().map(|(_, line, _)| line.to_vec()).collect();
        assert_eq!(lines, [b"one".to_vec(), b"tw".to_vec()]);
        assert!(batches.next_batch().is_err());
    }

    #[test]
    fn a_line_past_the_longest_ends_the_stream() {
        let mut batches = LineBatches::new(&b"one\n0123456789\ntwo\n"[..], 2).longest(5);
        let batch = batches.next_batch().expect("lines").expect("a batch");
        assert_eq!(batch.lines.len(), 2);
        assert!(batches.next_batch().is_err());
    }

    #[test]
    fn numbers_run_on_over_batches() {
        let text = "x\n".repeat(1000);
        let got = split(text.as_bytes(), 10, 64);
        assert_eq!(got.len(), 1000);
        assert!(got.iter().zip(1..).all(|(line, n)| line.0 == n));
    }
}
