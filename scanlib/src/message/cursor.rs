//! Reading position in bytes that may be anything. Every reader either takes something and moves,
//! or returns `None` and stays.

#[derive(Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t [u8]) -> Self {
        Cursor { text, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Moves on by `count` bytes, at most to the end.
    pub(super) fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.text.len());
    }

    pub(super) fn skip_while(&mut self, accept: impl Fn(u8) -> bool) -> usize {
        let count = self.rest().iter().take_while(|&&b| accept(b)).count();
        self.at += count;
        count
    }

    pub(super) fn skip_blanks(&mut self) -> usize {
        self.skip_while(|b| b == b' ' || b == b'\t')
    }

    pub(super) fn eat(&mut self, byte: u8) -> Option<()> {
        self.eat_any(&[byte]).map(drop)
    }

    /// Takes one byte out of `bytes`.
    pub(super) fn eat_any(&mut self, bytes: &[u8]) -> Option<u8> {
        let found = self.peek().filter(|b| bytes.contains(b))?;
        self.at += 1;
        Some(found)
    }

    /// Takes the longest run of `min` to `max` digits (`max` at most 9).
    pub(super) fn number(&mut self, min: usize, max: usize) -> Option<u32> {
        let digits = self
            .rest()
            .iter()
            .take(max)
            .take_while(|b| b.is_ascii_digit())
            .count();
        if digits < min {
            return None;
        }
        let number = self.rest()[..digits]
            .iter()
            .fold(0, |n, b| n * 10 + u32::from(b - b'0'));
        self.at += digits;
        Some(number)
    }

    /// Takes a word: bytes that are neither blanks nor controls, up to one that is or to the end.
    pub(super) fn word(&mut self) -> Option<&'t [u8]> {
        let length = self
            .rest()
            .iter()
            .take_while(|&&b| b > b' ' && b != 0x7f)
            .count();
        if length == 0 {
            return None;
        }
        let word = &self.rest()[..length];
        self.at += length;
        Some(word)
    }
}
