//! Many texts, sixteen at a time: each has a lane of a vector.
//!
//! The crate `fearless_simd` makes vectors of sixteen words of whatever the processor has, found out when it runs: one of AVX-512, two of
//! AVX2, four of NEON or of what every x86-64 processor has. The sixteen go block by block together, so texts of about the same length are best
//! given one after the other: a lane whose text has ended waits for the others. Two such vectors take turns, as a step waits for the one before.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u32x16};

use super::{BLOCK, Digest, Padded, START, WORDS, compress, digest};

const LANES: usize = 16;
/// Vectors whose steps take turns where there are texts enough.
const TAKING_TURNS: usize = 2;

/// The state of each lane, word by word.
type States = [[u32; LANES]; 4];

/// A text and its number.
type Numbered<'t> = (usize, &'t [u8]);

/// Hands on the digest of each text, with the text's number; in no particular order.
pub(in super::super) fn each<'t>(
    texts: impl Iterator<Item = &'t [u8]>,
    take: impl FnMut(usize, Digest),
) {
    each_with(Level::new(), texts, take);
}

fn each_with<'t>(
    level: Level,
    texts: impl Iterator<Item = &'t [u8]>,
    mut take: impl FnMut(usize, Digest),
) {
    let mut texts = texts.enumerate();
    loop {
        let mut group: [Numbered<'t>; LANES * TAKING_TURNS] = [(0, &[]); LANES * TAKING_TURNS];
        let mut len = 0;
        for (to, text) in group.iter_mut().zip(&mut texts) {
            *to = text;
            len += 1;
        }
        match group.get_mut(..len).unwrap_or_default() {
            [] => return,
            // So few would leave most lanes idle.
            [(number, text)] => {
                let [digest, _] = super::pair(text, &[]);
                take(*number, digest);
            }
            [(first, text), (second, other)] => {
                let [of_first, of_second] = super::pair(text, other);
                take(*first, of_first);
                take(*second, of_second);
            }
            group if len <= LANES => in_lanes::<1>(level, group, &mut take),
            group => in_lanes::<TAKING_TURNS>(level, group, &mut take),
        }
    }
}

fn in_lanes<const VECTORS: usize>(
    level: Level,
    group: &mut [Numbered<'_>],
    take: &mut impl FnMut(usize, Digest),
) {
    group.sort_unstable_by_key(|(_, text)| text.len());
    let mut texts = [[Padded::NONE; LANES]; VECTORS];
    for (to, (_, text)) in texts.as_flattened_mut().iter_mut().zip(&*group) {
        to.set(text);
    }
    let mut states = [START.map(|word| [word; LANES]); VECTORS];
    // In the order in which they end.
    let mut next = group
        .iter()
        .zip(texts.as_flattened())
        .enumerate()
        .peekable();
    for done in 1.. {
        dispatch!(level, simd => compress_lanes(simd, &mut states, &texts, done - 1));
        let ends = |(_, (_, text)): &(usize, (_, &Padded<'_>))| text.blocks() == done;
        while let Some((lane, ((number, _), _))) = next.next_if(ends) {
            let state = states[lane / LANES].map(|words| words[lane % LANES]);
            take(*number, digest(state));
        }
        if next.peek().is_none() {
            return;
        }
    }
}

/// The block of this number of each text.
#[inline(always)]
fn compress_lanes<S: Simd, const VECTORS: usize>(
    simd: S,
    states: &mut [States; VECTORS],
    texts: &[[Padded<'_>; LANES]; VECTORS],
    number: usize,
) {
    let zero = u32x16::splat(simd, 0);
    let (mut work, mut blocks) = ([[zero; 4]; VECTORS], [[zero; WORDS]; VECTORS]);
    // Loops, as closures of arrays would be functions of their own, without the vectors of this one.
    for (work, states) in work.iter_mut().zip(&*states) {
        for (words, state) in work.iter_mut().zip(states) {
            *words = u32x16::load_array(simd, *state);
        }
    }
    for (block, texts) in blocks.iter_mut().zip(texts) {
        for (row, text) in block.iter_mut().zip(texts) {
            *row = words(simd, text.block(number));
        }
        transpose(block);
    }
    compress(&mut work, &blocks);
    for (states, work) in states.iter_mut().zip(work) {
        for (state, words) in states.iter_mut().zip(work) {
            *state = words.into();
        }
    }
}

/// The words of one lane's block.
#[inline(always)]
fn words<S: Simd>(simd: S, block: &[u8; BLOCK]) -> u32x16<S> {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    u32x16::load_array(simd, words)
}

/// Makes the first word of each row the first row, the second of each the second, and so on. Shuffles the rows like a deck of cards, the first
/// half into the second: that moves the highest bit of a row's number to the lowest of the place in the row, and after four times each has moved.
#[inline(always)]
fn transpose<S: Simd>(rows: &mut [u32x16<S>; WORDS]) {
    for _ in 0..WORDS.ilog2() {
        let before = *rows;
        let (first, second) = before.split_at(WORDS / 2);
        for ((low, high), rows) in first.iter().zip(second).zip(rows.as_chunks_mut().0) {
            *rows = [low.zip_low(*high), low.zip_high(*high)];
        }
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    fn digests(texts: &[Vec<u8>], level: Level) -> Vec<Digest> {
        let mut digests = vec![None; texts.len()];
        each_with(level, texts.iter().map(Vec::as_slice), |number, digest| {
            assert_eq!(digests[number].replace(digest), None)
        });
        digests.into_iter().map(Option::unwrap).collect()
    }

    /// The best that this processor has, and every other.
    fn levels() -> Vec<Level> {
        let best = Level::new();
        #[cfg(target_arch = "x86_64")]
        let others = [
            best.as_sse2().map(Simd::level),
            best.as_sse4_2().map(Simd::level),
            best.as_avx2().map(Simd::level),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let others = [None];
        others.into_iter().flatten().chain([best]).collect()
    }

    proptest! {
        #[test]
        fn as_the_crate_has_it(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..70)) {
            let expected: Vec<Digest> = texts.iter().map(|text| Md5::digest(text).into()).collect();
            for level in levels() {
                prop_assert_eq!(&digests(&texts, level), &expected, "{:?}", level);
            }
        }
    }

    #[test]
    fn every_length_around_the_ends_of_blocks() {
        let texts: Vec<Vec<u8>> = (0..200)
            .map(|len| (0..len).map(|n: u8| n.wrapping_mul(7)).collect())
            .collect();
        let expected: Vec<Digest> = texts.iter().map(|text| Md5::digest(text).into()).collect();
        for level in levels() {
            assert_eq!(digests(&texts, level), expected, "{level:?}");
        }
    }
}
