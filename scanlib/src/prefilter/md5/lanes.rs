//! Many texts, sixteen at a time: each has a lane of a vector.
//!
//! Vectors of four words are what every x86-64 and AArch64 processor has. Two of them take turns, as a step waits for the one before, and
//! there are no registers for more. The sixteen go block by block together, so texts of about the same length are best given one after the other: a
//! lane whose text has ended waits for the others. Measured on texts as long as log lines, a text takes less than a third of the time that it takes
//! in a [`pair`](super::pair). Wider vectors, or those that rotate in one step, brought a twentieth of the gate's time.

use std::array;

use wide::u32x4;

use super::{BLOCK, Digest, Padded, START, WORDS, compress, digest};

const LANES: usize = 4;
const VECTORS: usize = 4;
const TAKING_TURNS: usize = 2;
const TOGETHER: usize = LANES * VECTORS;

/// A text and its number.
type Numbered<'t> = (usize, &'t [u8]);

/// Hands on the digest of each text, with the text's number; in no particular order.
pub(in super::super) fn each<'t>(
    texts: impl Iterator<Item = &'t [u8]>,
    mut take: impl FnMut(usize, Digest),
) {
    let mut texts = texts.enumerate();
    loop {
        let mut group: [Numbered<'t>; TOGETHER] = [(0, &[]); TOGETHER];
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
            group => in_lanes(group, &mut take),
        }
    }
}

fn in_lanes(group: &mut [Numbered<'_>], take: &mut impl FnMut(usize, Digest)) {
    group.sort_unstable_by_key(|(_, text)| text.len());
    let mut texts = [Padded::NONE; TOGETHER];
    for (to, (_, text)) in texts.iter_mut().zip(&*group) {
        to.set(text);
    }
    let mut states = [START.map(u32x4::splat); VECTORS];
    // In the order in which they end.
    let mut next = group.iter().zip(&texts).enumerate().peekable();
    for done in 1.. {
        let (texts, _) = texts.as_chunks::<LANES>();
        for (states, texts) in in_turns(&mut states).zip(texts.chunks_exact(TAKING_TURNS)) {
            let words = array::from_fn(|vector| words(&texts[vector], done - 1));
            compress::<u32x4, TAKING_TURNS>(states, &words);
        }
        let ends = |(_, (_, text)): &(usize, (_, &Padded<'_>))| text.blocks() == done;
        while let Some((lane, ((number, _), _))) = next.next_if(ends) {
            let state = states[lane / LANES].map(|words| words.to_array()[lane % LANES]);
            take(*number, digest(state));
        }
        if next.peek().is_none() {
            return;
        }
    }
}

/// The states of those vectors that take turns.
fn in_turns(
    states: &mut [[u32x4; 4]; VECTORS],
) -> impl Iterator<Item = &mut [[u32x4; 4]; TAKING_TURNS]> {
    states.as_chunks_mut().0.iter_mut()
}

/// The first word of each lane's block, the second of each, and so on.
#[inline(always)]
fn words(texts: &[Padded<'_>; LANES], block: usize) -> [u32x4; WORDS] {
    let blocks: [_; LANES] = array::from_fn(|lane| texts[lane].block(block));
    let mut words = [u32x4::ZERO; WORDS];
    for (at, words) in words.as_chunks_mut().0.iter_mut().enumerate() {
        *words = u32x4::transpose(array::from_fn(|lane| row(blocks[lane], at)));
    }
    words
}

/// Four words of a block.
#[inline(always)]
fn row(block: &[u8; BLOCK], at: usize) -> u32x4 {
    let (words, _) = block.as_chunks::<4>();
    u32x4::new(array::from_fn(|n| {
        u32::from_le_bytes(words[LANES * at + n])
    }))
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    fn digests(texts: &[Vec<u8>], each: impl Fn(&mut dyn FnMut(usize, Digest))) -> Vec<Digest> {
        let mut digests = vec![None; texts.len()];
        each(&mut |number, digest| assert_eq!(digests[number].replace(digest), None));
        digests.into_iter().map(Option::unwrap).collect()
    }

    proptest! {
        #[test]
        fn as_the_crate_has_it(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
            let expected: Vec<Digest> = texts.iter().map(|text| Md5::digest(text).into()).collect();
            let texts_ = || texts.iter().map(Vec::as_slice);
            prop_assert_eq!(&digests(&texts, |take| each(texts_(), take)), &expected);
                    }
    }

    #[test]
    fn every_length_around_the_ends_of_blocks() {
        let texts: Vec<Vec<u8>> = (0..200)
            .map(|len| (0..len).map(|n: u8| n.wrapping_mul(7)).collect())
            .collect();
        let expected: Vec<Digest> = texts.iter().map(|text| Md5::digest(text).into()).collect();
        assert_eq!(
            digests(&texts, |take| each(texts.iter().map(Vec::as_slice), take)),
            expected
        );
    }
}
