//! Two texts: their steps take turns.

use super::{BLOCK, Digest, Padded, START, WORDS, compress, digest};

/// The digests of both.
pub(in super::super) fn pair(left: &[u8], right: &[u8]) -> [Digest; 2] {
    let texts = [Padded::new(left), Padded::new(right)];
    let [a, b] = &texts;
    let mut states = [START; 2];
    let both = a.blocks().min(b.blocks());
    for block in 0..both {
        compress(&mut states, &[words(a.block(block)), words(b.block(block))]);
    }
    // The longer one goes on alone.
    let [first, second] = &mut states;
    let (longer, state) = match a.blocks() > b.blocks() {
        true => (a, first),
        false => (b, second),
    };
    for block in both..longer.blocks() {
        let mut alone = [*state];
        compress(&mut alone, &[words(longer.block(block))]);
        [*state] = alone;
    }
    states.map(digest)
}

fn words(block: &[u8; BLOCK]) -> [u32; WORDS] {
    let mut words = [0; WORDS];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_length_around_the_ends_of_blocks() {
        let text: Vec<u8> = (0..300).map(|n: u32| (n * 7) as u8).collect();
        for left in 0..=200 {
            for right in [0, 1, 55, 56, 63, 64, 119, 120, 128, 200, left, 300 - left] {
                let (left, right) = (&text[..left], &text[..right]);
                let digests = pair(left, right);
                assert_eq!(digests[0], *Md5::digest(left));
                assert_eq!(digests[1], *Md5::digest(right));
            }
        }
    }

    proptest! {
        #[test]
        fn as_the_crate_has_it(
            left in prop::collection::vec(any::<u8>(), 0..500),
            right in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let digests = pair(&left, &right);
            prop_assert_eq!(&digests[0][..], &Md5::digest(&left)[..]);
            prop_assert_eq!(&digests[1][..], &Md5::digest(&right)[..]);
        }
    }
}
