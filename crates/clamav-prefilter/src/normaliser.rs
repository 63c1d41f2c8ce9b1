//! One pass over a message: its byte classes and its normalised text.
//!
//! The fast form of [`super::text`]: blocks in which nothing but upper case changes are copied as a whole, in loops that the
//! compiler turns into vector instructions; the rest goes byte by byte.

use super::text::{Normal, is_foreign, normal};

const BLOCK: usize = 32;

/// Fills up the last block: a byte that stays as it is, wherever it stands.
const FILLER: u8 = b'.';

/// A buffer that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Normalised {
    /// As large as the largest text so far; only the first `len` bytes mean something.
    bytes: Vec<u8>,
    len: usize,
    /// Nothing was lost: it is the text in lower case.
    whole: bool,
}

/// What to do with a byte: what to write, and whether it is one of these.
#[derive(Clone, Copy)]
struct Step {
    byte: u8,
    is_space: bool,
    is_dropped: bool,
    is_foreign: bool,
}

const STEPS: [Step; 256] = {
    let mut steps = [Step {
        byte: b' ',
        is_space: false,
        is_dropped: false,
        is_foreign: false,
    }; 256];
    let mut byte = 0;
    while byte < 256 {
        let step = &mut steps[byte];
        match normal(byte as u8) {
            Normal::Byte(image) => step.byte = image,
            Normal::Space => step.is_space = true,
            Normal::Dropped => step.is_dropped = true,
        }
        step.is_foreign = is_foreign(byte as u8);
        byte += 1;
    }
    steps
};

impl Normalised {
    /// Takes in a text. False, and nothing of use in the buffer, if a byte of it is foreign to text.
    pub(crate) fn fill(&mut self, text: &[u8]) -> bool {
        // The last block is written as a whole.
        if self.bytes.len() < text.len() + BLOCK {
            self.bytes.resize(text.len() + BLOCK, 0);
        }
        (self.len, self.whole) = (0, true);
        let (mut foreign, mut after_space) = (false, false);
        let (blocks, rest) = text.as_chunks::<BLOCK>();
        for block in blocks {
            foreign |= self.block(block, BLOCK, &mut after_space);
        }
        if !rest.is_empty() {
            let mut block = [FILLER; BLOCK];
            for (to, byte) in block.iter_mut().zip(rest) {
                *to = *byte;
            }
            foreign |= self.block(&block, rest.len(), &mut after_space);
        }
        !foreign
    }

    /// The first bytes of a block, so many of them; what is behind them stays as it is. Whether one is foreign.
    #[inline(always)]
    fn block(&mut self, block: &[u8; BLOCK], len: usize, after_space: &mut bool) -> bool {
        let to = self.bytes.get_mut(self.len..);
        let to = to.and_then(<[u8]>::first_chunk_mut);
        let bytes = block.get(..len).unwrap_or_default();
        if to.is_some_and(|to| lower(block, to, *after_space)) {
            self.len += len;
            *after_space = bytes.ends_with(b" ");
            false
        } else {
            self.slowly(bytes, after_space)
        }
    }

    /// Takes in bytes of any kind.
    pub(crate) fn fill_any(&mut self, text: impl ExactSizeIterator<Item = u8>) {
        if self.bytes.len() < text.len() {
            self.bytes.resize(text.len(), 0);
        }
        (self.len, self.whole) = (0, true);
        let mut after_space = false;
        for byte in text {
            self.push(byte, &mut after_space);
        }
    }

    /// Byte by byte; whether one is foreign.
    fn slowly(&mut self, text: &[u8], after_space: &mut bool) -> bool {
        let mut foreign = false;
        for &byte in text {
            foreign |= self.push(byte, after_space);
        }
        foreign
    }

    #[inline]
    fn push(&mut self, byte: u8, after_space: &mut bool) -> bool {
        let step = STEPS[usize::from(byte)];
        // Written in any case, and kept by going on behind it.
        if let Some(to) = self.bytes.get_mut(self.len) {
            *to = step.byte;
        }
        let kept = !step.is_dropped & !(step.is_space & *after_space);
        self.len += usize::from(kept);
        self.whole &= kept & (!step.is_space | (byte == b' '));
        *after_space = step.is_space | (step.is_dropped & *after_space);
        step.is_foreign
    }

    pub(crate) fn text(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Whether it is the text in lower case.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }
}

/// The block in lower case, if that is its normal form.
#[inline]
fn lower(block: &[u8; BLOCK], to: &mut [u8; BLOCK], after_space: bool) -> bool {
    let mut other = 0_u8;
    for (to, &byte) in to.iter_mut().zip(block) {
        *to = byte.to_ascii_lowercase();
        other |= u8::from(!(b' '..=b'~').contains(&byte));
    }
    let mut double = u8::from(after_space && block[0] == b' ');
    for (&left, &right) in block.iter().zip(&block[1..]) {
        double |= u8::from(left == b' ') & u8::from(right == b' ');
    }
    other | double == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::text;
    use super::*;

    /// Bytes of logs mostly, in runs long enough for whole blocks.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            6 => "[ -~]{1,50}".prop_map(String::into_bytes),
            3 => "[a-zA-Z0-9]( ?[a-zA-Z0-9:.]{1,9}){0,9}".prop_map(String::into_bytes),
            1 => prop::collection::vec(any::<u8>(), 1..4),
            2 => prop::collection::vec(prop::sample::select(&b"  \t\r\n\x0c\x80\xff\x1b\x08"[..]), 1..4),
        ];
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

        #[test]
        fn the_fast_form_is_the_slow_one(messages in prop::collection::vec(message(), 1..4)) {
            let mut fast = Normalised::default();
            for message in &messages {
                let accepted = fast.fill(message);
                prop_assert_eq!(accepted, !message.iter().any(|byte| text::is_foreign(*byte)));
                let mut slow = Vec::new();
                text::normalise(message, &mut slow);
                prop_assert_eq!(fast.text(), &slow[..]);
                prop_assert_eq!(fast.is_whole(), slow == message.to_ascii_lowercase());
                fast.fill_any(message.iter().copied());
                prop_assert_eq!(fast.text(), &slow[..]);
            }
        }
    }
}
