//! Whether any of many texts may stand in a message: the answer "no" for nearly every message, at a fraction of what an
//! automaton costs.
//!
//! A text of seven bytes or more covers, wherever it stands, four bytes that start at a multiple of four. So the message is read
//! four bytes at a time, and each four are looked up in a set that holds four neighbouring pieces of each text, one for each
//! place at which it may start. Pieces are taken where they are rarest. A piece that is there is held to the whole text, so the answer
//! is exact. Shorter texts are left to a search of their own.

use aho_corasick::{AhoCorasick, MatchKind};

use super::frequency::TextModel;

/// Bytes that are looked up at a time, and the distance between two looks.
const PIECE: usize = 4;
/// So long a text has a whole piece in it, wherever it starts.
const LONG: usize = 2 * PIECE - 1;
/// Bits of the set for each piece in it, which has two of them: of those that are not there, one in a thousand looks as if it were.
const BITS_A_PIECE: usize = 64;
const MULTIPLIERS: [u32; 2] = [0x9e37_79b1, 0x85eb_ca77];

/// Many texts.
#[derive(Debug)]
pub(super) struct Quick {
    /// Two bits for every piece in the set.
    bits: Box<[u64]>,
    shift: u32,
    /// The pieces and where they are from, sorted.
    pieces: Box<[Piece]>,
    texts: Box<[Box<[u8]>]>,
    short: Option<AhoCorasick>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Piece {
    bytes: u32,
    text: u32,
    /// Where in the text it stands.
    at: u32,
}

impl Quick {
    pub(super) fn new<'t>(
        texts: impl IntoIterator<Item = &'t [u8]>,
        model: &TextModel,
    ) -> Result<Quick, String> {
        let (long, short): (Vec<&[u8]>, Vec<&[u8]>) =
            texts.into_iter().partition(|text| text.len() >= LONG);
        let mut pieces = Vec::new();
        for (text, number) in long.iter().zip(0..) {
            let start = rarest(text, model);
            for (piece, at) in text.windows(PIECE).zip(0..).skip(start).take(PIECE) {
                if let Ok(bytes) = piece.try_into() {
                    pieces.push(Piece {
                        bytes: u32::from_le_bytes(bytes),
                        text: number,
                        at,
                    });
                }
            }
        }
        pieces.sort_unstable();
        let bits = (pieces.len() * BITS_A_PIECE).next_power_of_two().max(64);
        let shift = 32 - bits.trailing_zeros().min(31);
        let mut quick = Quick {
            bits: vec![0; bits / 64].into(),
            shift,
            pieces: pieces.into(),
            texts: long.into_iter().map(Into::into).collect(),
            short: match short.is_empty() {
                true => None,
                // In this form few texts are searched with vector instructions.
                false => Some(
                    AhoCorasick::builder()
                        .match_kind(MatchKind::LeftmostFirst)
                        .build(&short)
                        .map_err(|error| error.to_string())?,
                ),
            },
        };
        for piece in &quick.pieces {
            for multiplier in MULTIPLIERS {
                let (word, bit) = place(piece.bytes, shift, multiplier);
                if let Some(word) = quick.bits.get_mut(word) {
                    *word |= 1 << bit;
                }
            }
        }
        Ok(quick)
    }

    /// Whether any of the texts stands in the message.
    pub(super) fn is_match(&self, message: &[u8]) -> bool {
        let (chunks, _) = message.as_chunks::<PIECE>();
        for (number, chunk) in chunks.iter().enumerate() {
            let bytes = u32::from_le_bytes(*chunk);
            if self.has(bytes, MULTIPLIERS[0])
                && self.has(bytes, MULTIPLIERS[1])
                && self.stands(bytes, number * PIECE, message)
            {
                return true;
            }
        }
        let short = self.short.as_ref();
        short.is_some_and(|short| short.is_match(message))
    }

    /// Whether a bit of this piece is set. A word that is not there is none of the set's.
    #[inline]
    fn has(&self, bytes: u32, multiplier: u32) -> bool {
        let (word, bit) = place(bytes, self.shift, multiplier);
        self.bits.get(word).is_some_and(|word| word >> bit & 1 != 0)
    }

    /// Whether a text of which this is a piece stands around it.
    #[cold]
    fn stands(&self, bytes: u32, at: usize, message: &[u8]) -> bool {
        let first = self.pieces.partition_point(|piece| piece.bytes < bytes);
        let of_these = self.pieces.get(first..).unwrap_or_default();
        of_these
            .iter()
            .take_while(|piece| piece.bytes == bytes)
            .any(|piece| {
                let start = at.checked_sub(piece.at as usize);
                let rest = start.and_then(|start| message.get(start..));
                let text = self.texts.get(piece.text as usize);
                matches!((rest, text), (Some(rest), Some(text)) if rest.starts_with(text))
            })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let texts = self.texts.iter().map(|text| text.len() + size_of_val(text));
        size_of_val(&*self.bits)
            + size_of_val(&*self.pieces)
            + texts.sum::<usize>()
            + self.short.as_ref().map_or(0, AhoCorasick::memory_usage)
    }
}

/// Where four neighbouring pieces of the text are rarest, taken together.
fn rarest(text: &[u8], model: &TextModel) -> usize {
    let costs: Vec<f32> = text
        .windows(PIECE)
        .map(|piece| model.expected(piece))
        .collect();
    let four = |four: &[f32]| four.iter().sum::<f32>();
    let sums = costs.windows(PIECE).map(four).enumerate();
    sums.min_by(|(_, a), (_, b)| a.total_cmp(b))
        .map_or(0, |(at, _)| at)
}

/// A bit of a piece: its word, and its place there.
#[inline]
fn place(bytes: u32, shift: u32, multiplier: u32) -> (usize, u32) {
    let hash = bytes.wrapping_mul(multiplier) >> shift;
    ((hash >> 6) as usize, hash & 63)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

        #[test]
        fn it_is_found_where_a_naive_search_finds_it(
            texts in prop::collection::vec("[ab]{1,12}|[a-d]{7,20}", 0..12),
            message in "[ab]{0,40}|[a-d]{0,80}",
            at in any::<prop::sample::Index>(),
            planted in any::<prop::sample::Index>(),
            plant in any::<bool>(),
        ) {
            let mut message = message;
            if plant && !texts.is_empty() {
                message.insert_str(at.index(message.len() + 1), &texts[planted.index(texts.len())]);
            }
            let quick = Quick::new(texts.iter().map(String::as_bytes), TextModel::built_in()).unwrap();
            let naive = texts.iter().any(|text| message.contains(text));
            prop_assert_eq!(quick.is_match(message.as_bytes()), naive, "{:?} {}", texts, message);
        }
    }

    #[test]
    fn nothing_stands_nowhere() {
        let model = TextModel::built_in();
        let none = Quick::new([], model).unwrap();
        assert!(!none.is_match(b"") && !none.is_match(b"anything at all"));
        let long = Quick::new([&b"needle-in-a-haystack"[..]], model).unwrap();
        for start in 0..9 {
            let message = format!("{}needle-in-a-haystack", "x".repeat(start));
            assert!(long.is_match(message.as_bytes()), "{start}");
            assert!(
                !long.is_match(&message.as_bytes()[..message.len() - 1]),
                "{start}"
            );
        }
    }
}
