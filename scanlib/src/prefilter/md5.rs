//! MD5 of two texts side by side.
//!
//! Each step of MD5 waits for the one before it, and a processor could do three at a time. Two digests at once take hardly longer than one,
//! and of a message there are two to take: as it is, and normalised. The algorithm is RFC 1321's; the crate `md-5` is the twin
//! in the tests, and used where there is only one.

/// What each step adds: the integer part of 2³² × |sin(step + 1)|.
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

const BLOCK: usize = 64;
type State = [u32; 4];
const START: State = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The digests of both.
pub(super) fn pair(left: &[u8], right: &[u8]) -> [[u8; 16]; 2] {
    let texts = [Padded::new(left), Padded::new(right)];
    let [a, b] = &texts;
    let mut states = [START; 2];
    let both = a.blocks().min(b.blocks());
    for block in 0..both {
        compress(&mut states, [&a.block(block), &b.block(block)]);
    }
    // The longer one goes on alone.
    let [first, second] = &mut states;
    let (longer, state) = match a.blocks() > b.blocks() {
        true => (a, first),
        false => (b, second),
    };
    for block in both..longer.blocks() {
        let mut alone = [*state];
        compress(&mut alone, [&longer.block(block)]);
        [*state] = alone;
    }
    states.map(|state| {
        let mut digest = [0; 16];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        digest
    })
}

/// A text in whole blocks, with its end mark and its length in bits.
struct Padded<'t> {
    whole: &'t [[u8; BLOCK]],
    /// The rest, in one block or two.
    end: [[u8; BLOCK]; 2],
    ends: usize,
}

impl<'t> Padded<'t> {
    fn new(text: &'t [u8]) -> Padded<'t> {
        let (whole, rest) = text.as_chunks::<BLOCK>();
        let mut end = [0; 2 * BLOCK];
        for (to, byte) in end.iter_mut().zip(rest.iter().chain(&[0x80])) {
            *to = *byte;
        }
        let ends = match rest.len() < BLOCK - 8 {
            true => 1,
            false => 2,
        };
        let bits = (text.len() as u64).wrapping_mul(8).to_le_bytes();
        for (to, byte) in end.iter_mut().skip(ends * BLOCK - 8).zip(bits) {
            *to = byte;
        }
        let mut blocks = [[0; BLOCK]; 2];
        for (to, from) in blocks.iter_mut().zip(end.chunks_exact(BLOCK)) {
            to.copy_from_slice(from);
        }
        Padded {
            whole,
            end: blocks,
            ends,
        }
    }

    fn blocks(&self) -> usize {
        self.whole.len() + self.ends
    }

    /// Those behind the last are empty; nobody asks for them.
    fn block(&self, number: usize) -> [u32; 16] {
        let bytes = match number.checked_sub(self.whole.len()) {
            None => self.whole.get(number),
            Some(end) => self.end.get(end),
        };
        let mut words = [0; 16];
        if let Some(bytes) = bytes {
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        words
    }
}

/// The same block of each of several texts.
#[inline(always)]
fn compress<const N: usize>(states: &mut [State; N], blocks: [&[u32; 16]; N]) {
    let mut work = *states;
    // Written out step by step: with every index and rotation a constant, the texts keep to their registers.
    macro_rules! step {
        ($mix:expr, $a:tt $b:tt $c:tt $d:tt, $word:literal, $rotation:literal, $sine:literal) => {
            for (state, block) in work.iter_mut().zip(blocks) {
                let (a, b, c, d) = (state[$a], state[$b], state[$c], state[$d]);
                // `b` is what the step before has just made: all that does not take it comes first.
                let sum = a.wrapping_add(block[$word]).wrapping_add(SINES[$sine]);
                let sum = sum.wrapping_add($mix(b, c, d));
                state[$a] = b.wrapping_add(sum.rotate_left($rotation));
            }
        };
    }
    macro_rules! steps {
        ($mix:expr, [$($rotation:literal)*], $($w0:literal $w1:literal $w2:literal $w3:literal, $s0:literal $s1:literal $s2:literal $s3:literal;)*) => {
            steps!(@ $mix, ($($rotation)*), $(($w0 $w1 $w2 $w3 $s0 $s1 $s2 $s3))*);
        };
        (@ $mix:expr, ($r0:literal $r1:literal $r2:literal $r3:literal), ) => {};
        (@ $mix:expr, ($r0:literal $r1:literal $r2:literal $r3:literal), ($w0:literal $w1:literal $w2:literal $w3:literal $s0:literal $s1:literal $s2:literal $s3:literal) $($rest:tt)*) => {
            step!($mix, 0 1 2 3, $w0, $r0, $s0);
            step!($mix, 3 0 1 2, $w1, $r1, $s1);
            step!($mix, 2 3 0 1, $w2, $r2, $s2);
            step!($mix, 1 2 3 0, $w3, $r3, $s3);
            steps!(@ $mix, ($r0 $r1 $r2 $r3), $($rest)*);
        };
    }
    steps!(|b: u32, c: u32, d: u32| d ^ (b & (c ^ d)), [7 12 17 22],
        0 1 2 3, 0 1 2 3; 4 5 6 7, 4 5 6 7; 8 9 10 11, 8 9 10 11; 12 13 14 15, 12 13 14 15;);
    steps!(|b: u32, c: u32, d: u32| (c & !d).wrapping_add(d & b), [5 9 14 20],
        1 6 11 0, 16 17 18 19; 5 10 15 4, 20 21 22 23; 9 14 3 8, 24 25 26 27; 13 2 7 12, 28 29 30 31;);
    steps!(|b: u32, c: u32, d: u32| b ^ (c ^ d), [4 11 16 23],
        5 8 11 14, 32 33 34 35; 1 4 7 10, 36 37 38 39; 13 0 3 6, 40 41 42 43; 9 12 15 2, 44 45 46 47;);
    steps!(|b: u32, c: u32, d: u32| c ^ (b | !d), [6 10 15 21],
        0 7 14 5, 48 49 50 51; 12 3 10 1, 52 53 54 55; 8 15 6 13, 56 57 58 59; 4 11 2 9, 60 61 62 63;);
    for (state, work) in states.iter_mut().zip(work) {
        for (word, more) in state.iter_mut().zip(work) {
            *word = word.wrapping_add(more);
        }
    }
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
