//! Which expressions can match a text at all: one pass for all anchors.

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError};
use memchr::{memchr, memchr2};

/// A set of rules holds at most so many expressions.
pub(super) const MAX_PATTERNS: usize = 512;

/// The expressions whose anchor was seen.
#[derive(Clone, Copy, Default)]
pub(super) struct Candidates([u64; MAX_PATTERNS / 64]);

impl Candidates {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn contains(&self, pattern: usize) -> bool {
        self.0[pattern / 64] & (1 << (pattern % 64)) != 0
    }

    fn add(&mut self, patterns: &[u16]) {
        for &pattern in patterns {
            let pattern = usize::from(pattern);
            self.0[pattern / 64] |= 1 << (pattern % 64);
        }
    }
}

#[derive(Debug)]
pub(super) struct Gate {
    /// Anchors of two bytes and more.
    words: AhoCorasick,
    /// For each of them the expressions it admits.
    word_patterns: Vec<Vec<u16>>,
    /// Anchors of one byte: as a word, each occurrence of a common byte would be a match to handle.
    bytes: Vec<(ByteAnchor, Vec<u16>)>,
}

impl Gate {
    /// From pairs of anchor (in lower case) and expression.
    pub(super) fn new(mut pairs: Vec<(String, u16)>) -> Result<Gate, BuildError> {
        pairs.sort();
        pairs.dedup();
        let mut words = Vec::new();
        let mut word_patterns: Vec<Vec<u16>> = Vec::new();
        let mut bytes: Vec<(ByteAnchor, Vec<u16>)> = Vec::new();
        let mut previous = None;
        for (anchor, pattern) in pairs {
            let is_new = previous.as_ref() != Some(&anchor);
            if let [byte] = anchor.as_bytes() {
                if is_new {
                    bytes.push((ByteAnchor::new(*byte), Vec::new()));
                }
                if let Some((_, patterns)) = bytes.last_mut() {
                    patterns.push(pattern);
                }
            } else {
                if is_new {
                    words.push(anchor.clone());
                    word_patterns.push(Vec::new());
                }
                if let Some(patterns) = word_patterns.last_mut() {
                    patterns.push(pattern);
                }
            }
            previous = Some(anchor);
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)?;
        Ok(Gate {
            words,
            word_patterns,
            bytes,
        })
    }

    pub(super) fn candidates(&self, data: &[u8]) -> Candidates {
        let mut found = Candidates::default();
        for hit in self.words.find_overlapping_iter(data) {
            found.add(&self.word_patterns[hit.pattern().as_usize()]);
        }
        for (byte, patterns) in &self.bytes {
            if byte.occurs(data) {
                found.add(patterns);
            }
        }
        found
    }
}

/// One byte; a letter in either case.
#[derive(Clone, Copy, Debug)]
struct ByteAnchor(u8);

impl ByteAnchor {
    fn new(byte: u8) -> ByteAnchor {
        ByteAnchor(byte.to_ascii_lowercase())
    }

    fn occurs(self, data: &[u8]) -> bool {
        let upper = self.0.to_ascii_uppercase();
        if upper == self.0 {
            memchr(self.0, data).is_some()
        } else {
            memchr2(self.0, upper, data).is_some()
        }
    }
}
