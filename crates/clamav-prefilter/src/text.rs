//! What libclamav makes of a text: its byte classes, its normalised form, its look for UTF-16.
//!
//! Slow and obvious; the gate has a fast form of it, and tests hold the two together.

/// Bytes that libclamav does not accept in text.
pub(crate) const fn is_foreign(byte: u8) -> bool {
    matches!(byte, 0..=0x06 | 0x0b | 0x0e..=0x1a | 0x1c..=0x1f | 0x7f)
}

/// What becomes of a byte in the normalised text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normal {
    /// This byte.
    Byte(u8),
    /// A space, unless the byte before it came from white space, too.
    Space,
    /// Nothing; white space goes on across it.
    Dropped,
}

/// libclamav's table, byte by byte.
pub(crate) const fn normal(byte: u8) -> Normal {
    match byte {
        b'\t'..=b'\r' | b' ' => Normal::Space,
        b'A'..=b'Z' => Normal::Byte(byte + 32),
        0x21..=0x7f => Normal::Byte(byte),
        _ => Normal::Dropped,
    }
}

/// Appends the normalised text.
pub(crate) fn normalise(text: &[u8], out: &mut Vec<u8>) {
    let mut after_space = false;
    for &byte in text {
        match normal(byte) {
            Normal::Byte(byte) => {
                out.push(byte);
                after_space = false;
            }
            Normal::Space if !after_space => {
                out.push(b' ');
                after_space = true;
            }
            Normal::Space | Normal::Dropped => {}
        }
    }
}

/// libclamav looks for file types in so many bytes from the start.
pub(crate) const TYPE_BYTES: usize = 1024;

/// The text that a UTF-16 reading of the start would give, as libclamav computes it: one byte of each
/// pair, with the low half of the other one on top.
pub(crate) fn pre_decode(text: &[u8]) -> impl ExactSizeIterator<Item = u8> + '_ {
    let start = &text[..text.len().min(TYPE_BYTES)];
    let (pairs, _) = start.as_chunks::<2>();
    // As one number, so that the compiler has vectors of them.
    let pairs = pairs.iter().map(|pair| u16::from_le_bytes(*pair));
    pairs.map(|pair| pair.wrapping_add(pair >> 8 << 4) as u8)
}

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(crate) const EMPTY: ByteSet = ByteSet([0; 4]);
    pub(crate) const ANY: ByteSet = ByteSet([u64::MAX; 4]);
    /// Every byte of a plain message.
    pub(crate) const PLAIN: ByteSet = ByteSet::plain();
    /// Every byte of a normalised text.
    pub(crate) const NORMALISED: ByteSet = ByteSet::normalised();

    pub(crate) fn one(byte: u8) -> ByteSet {
        ByteSet::EMPTY.with(byte)
    }

    pub(crate) const fn with(mut self, byte: u8) -> ByteSet {
        self.0[(byte >> 6) as usize] |= 1 << (byte & 63);
        self
    }

    pub(crate) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] & (1 << (byte & 63)) != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == ByteSet::EMPTY
    }

    pub(crate) fn union(self, other: ByteSet) -> ByteSet {
        self.zip(other, |a, b| a | b)
    }

    pub(crate) fn and(self, other: ByteSet) -> ByteSet {
        self.zip(other, |a, b| a & b)
    }

    pub(crate) fn complement(self) -> ByteSet {
        ByteSet(self.0.map(|word| !word))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = u8> {
        (0..=255).filter(move |byte| self.contains(*byte))
    }

    fn zip(self, other: ByteSet, with: impl Fn(u64, u64) -> u64) -> ByteSet {
        let mut words = self.0;
        for (word, other) in words.iter_mut().zip(other.0) {
            *word = with(*word, other);
        }
        ByteSet(words)
    }

    const fn plain() -> ByteSet {
        let mut set = ByteSet::EMPTY;
        let mut byte = 0;
        while byte < 256 {
            if !is_foreign(byte as u8) {
                set = set.with(byte as u8);
            }
            byte += 1;
        }
        set
    }

    const fn normalised() -> ByteSet {
        let mut set = ByteSet::EMPTY;
        let mut byte = 0;
        while byte < 256 {
            if let Normal::Byte(image) = normal(byte as u8) {
                set = set.with(image);
            }
            byte += 1;
        }
        set.with(b' ')
    }
}

impl std::fmt::Debug for ByteSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.iter().map(|byte| byte as char))
            .finish()
    }
}
