//! MD5 of several texts side by side.
//!
//! Each step of MD5 waits for the one before it, and a processor could do several at a time. So it is given several texts: two, in
//! [`pair`], for a single message as it is and normalised; or sixteen, in vectors, in [`lanes`]. The algorithm is
//! RFC 1321's, and its steps stand here once for both. The crate `md-5` is the twin in the tests, and used where there is one text alone.

mod lanes;
mod pair;

use std::ops::{BitAnd, BitOr, BitXor, Not};

use fearless_simd::{Simd, u32x16};

pub(super) use lanes::each;
pub(super) use pair::pair;

const BLOCK: usize = 64;
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

const WORDS: usize = BLOCK / 4;

/// The 64 steps: what mixes; which words of the state are a, b, c and d; the word of the block; the rotation; the integer part of
/// 2³² × |sin(number of the step)|. Written out, so that every index and rotation is a constant and the state keeps to its registers.
macro_rules! steps {
    ($step:ident) => {
        $step!(choose, 0 1 2 3, 0, 7, 0xd76a_a478);
        $step!(choose, 3 0 1 2, 1, 12, 0xe8c7_b756);
        $step!(choose, 2 3 0 1, 2, 17, 0x2420_70db);
        $step!(choose, 1 2 3 0, 3, 22, 0xc1bd_ceee);
        $step!(choose, 0 1 2 3, 4, 7, 0xf57c_0faf);
        $step!(choose, 3 0 1 2, 5, 12, 0x4787_c62a);
        $step!(choose, 2 3 0 1, 6, 17, 0xa830_4613);
        $step!(choose, 1 2 3 0, 7, 22, 0xfd46_9501);
        $step!(choose, 0 1 2 3, 8, 7, 0x6980_98d8);
        $step!(choose, 3 0 1 2, 9, 12, 0x8b44_f7af);
        $step!(choose, 2 3 0 1, 10, 17, 0xffff_5bb1);
        $step!(choose, 1 2 3 0, 11, 22, 0x895c_d7be);
        $step!(choose, 0 1 2 3, 12, 7, 0x6b90_1122);
        $step!(choose, 3 0 1 2, 13, 12, 0xfd98_7193);
        $step!(choose, 2 3 0 1, 14, 17, 0xa679_438e);
        $step!(choose, 1 2 3 0, 15, 22, 0x49b4_0821);
        $step!(choose_by_last, 0 1 2 3, 1, 5, 0xf61e_2562);
        $step!(choose_by_last, 3 0 1 2, 6, 9, 0xc040_b340);
        $step!(choose_by_last, 2 3 0 1, 11, 14, 0x265e_5a51);
        $step!(choose_by_last, 1 2 3 0, 0, 20, 0xe9b6_c7aa);
        $step!(choose_by_last, 0 1 2 3, 5, 5, 0xd62f_105d);
        $step!(choose_by_last, 3 0 1 2, 10, 9, 0x0244_1453);
        $step!(choose_by_last, 2 3 0 1, 15, 14, 0xd8a1_e681);
        $step!(choose_by_last, 1 2 3 0, 4, 20, 0xe7d3_fbc8);
        $step!(choose_by_last, 0 1 2 3, 9, 5, 0x21e1_cde6);
        $step!(choose_by_last, 3 0 1 2, 14, 9, 0xc337_07d6);
        $step!(choose_by_last, 2 3 0 1, 3, 14, 0xf4d5_0d87);
        $step!(choose_by_last, 1 2 3 0, 8, 20, 0x455a_14ed);
        $step!(choose_by_last, 0 1 2 3, 13, 5, 0xa9e3_e905);
        $step!(choose_by_last, 3 0 1 2, 2, 9, 0xfcef_a3f8);
        $step!(choose_by_last, 2 3 0 1, 7, 14, 0x676f_02d9);
        $step!(choose_by_last, 1 2 3 0, 12, 20, 0x8d2a_4c8a);
        $step!(parity, 0 1 2 3, 5, 4, 0xfffa_3942);
        $step!(parity, 3 0 1 2, 8, 11, 0x8771_f681);
        $step!(parity, 2 3 0 1, 11, 16, 0x6d9d_6122);
        $step!(parity, 1 2 3 0, 14, 23, 0xfde5_380c);
        $step!(parity, 0 1 2 3, 1, 4, 0xa4be_ea44);
        $step!(parity, 3 0 1 2, 4, 11, 0x4bde_cfa9);
        $step!(parity, 2 3 0 1, 7, 16, 0xf6bb_4b60);
        $step!(parity, 1 2 3 0, 10, 23, 0xbebf_bc70);
        $step!(parity, 0 1 2 3, 13, 4, 0x289b_7ec6);
        $step!(parity, 3 0 1 2, 0, 11, 0xeaa1_27fa);
        $step!(parity, 2 3 0 1, 3, 16, 0xd4ef_3085);
        $step!(parity, 1 2 3 0, 6, 23, 0x0488_1d05);
        $step!(parity, 0 1 2 3, 9, 4, 0xd9d4_d039);
        $step!(parity, 3 0 1 2, 12, 11, 0xe6db_99e5);
        $step!(parity, 2 3 0 1, 15, 16, 0x1fa2_7cf8);
        $step!(parity, 1 2 3 0, 2, 23, 0xc4ac_5665);
        $step!(mixed, 0 1 2 3, 0, 6, 0xf429_2244);
        $step!(mixed, 3 0 1 2, 7, 10, 0x432a_ff97);
        $step!(mixed, 2 3 0 1, 14, 15, 0xab94_23a7);
        $step!(mixed, 1 2 3 0, 5, 21, 0xfc93_a039);
        $step!(mixed, 0 1 2 3, 12, 6, 0x655b_59c3);
        $step!(mixed, 3 0 1 2, 3, 10, 0x8f0c_cc92);
        $step!(mixed, 2 3 0 1, 10, 15, 0xffef_f47d);
        $step!(mixed, 1 2 3 0, 1, 21, 0x8584_5dd1);
        $step!(mixed, 0 1 2 3, 8, 6, 0x6fa8_7e4f);
        $step!(mixed, 3 0 1 2, 15, 10, 0xfe2c_e6e0);
        $step!(mixed, 2 3 0 1, 6, 15, 0xa301_4314);
        $step!(mixed, 1 2 3 0, 13, 21, 0x4e08_11a1);
        $step!(mixed, 0 1 2 3, 4, 6, 0xf753_7e82);
        $step!(mixed, 3 0 1 2, 11, 10, 0xbd3a_f235);
        $step!(mixed, 2 3 0 1, 2, 15, 0x2ad7_d2bb);
        $step!(mixed, 1 2 3 0, 9, 21, 0xeb86_d391);
    };
}

/// How a digest starts: all that is asked of it.
pub(super) type Digest = [u8; 16];

fn digest(state: [u32; 4]) -> Digest {
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// A text in whole blocks, with its end mark and its length in bits.
#[derive(Clone, Copy)]
struct Padded<'t> {
    whole: &'t [[u8; BLOCK]],
    /// The rest, in one block or two.
    end: [[u8; BLOCK]; 2],
    ends: usize,
}

impl<'t> Padded<'t> {
    /// No text at all, not even an empty one: it has no blocks.
    const NONE: Padded<'static> = Padded {
        whole: &[],
        end: [[0; BLOCK]; 2],
        ends: 0,
    };

    fn new(text: &'t [u8]) -> Padded<'t> {
        let mut padded = Padded::NONE;
        padded.set(text);
        padded
    }

    /// Makes of [`Padded::NONE`] this text.
    fn set(&mut self, text: &'t [u8]) {
        let (whole, rest) = text.as_chunks::<BLOCK>();
        let ends = match rest.len() < BLOCK - 8 {
            true => 1,
            false => 2,
        };
        let bytes = self.end.as_flattened_mut();
        if let Some((to, after)) = bytes.split_at_mut_checked(rest.len()) {
            to.copy_from_slice(rest);
            if let Some(mark) = after.first_mut() {
                *mark = 0x80;
            }
        }
        let bits = (text.len() as u64).wrapping_mul(8).to_le_bytes();
        if let Some(to) = bytes.get_mut(ends * BLOCK - bits.len()..ends * BLOCK) {
            to.copy_from_slice(&bits);
        }
        (self.whole, self.ends) = (whole, ends);
    }

    fn blocks(&self) -> usize {
        self.whole.len() + self.ends
    }

    /// Behind the last there is nothing but zeros.
    #[inline(always)]
    fn block(&self, number: usize) -> &[u8; BLOCK] {
        let block = match number.checked_sub(self.whole.len()) {
            None => self.whole.get(number),
            Some(end) => self.end.get(end),
        };
        block.unwrap_or(&[0; BLOCK])
    }
}

/// What a step computes with: one word, or the same word of several texts.
trait Word:
    Copy + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + Not<Output = Self>
{
    fn plus_constant(self, constant: u32) -> Self;
    fn plus(self, other: Self) -> Self;
    fn rotated<const LEFT: u32>(self) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn plus_constant(self, constant: u32) -> u32 {
        self.wrapping_add(constant)
    }

    #[inline(always)]
    fn plus(self, other: u32) -> u32 {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn rotated<const LEFT: u32>(self) -> u32 {
        self.rotate_left(LEFT)
    }
}

/// Its sums wrap.
impl<S: Simd> Word for u32x16<S> {
    #[inline(always)]
    fn plus_constant(self, constant: u32) -> u32x16<S> {
        self + constant
    }

    #[inline(always)]
    fn plus(self, other: u32x16<S>) -> u32x16<S> {
        self + other
    }

    #[inline(always)]
    fn rotated<const LEFT: u32>(self) -> u32x16<S> {
        self << LEFT | self >> (32 - LEFT)
    }
}

#[inline(always)]
fn choose<W: Word>(b: W, c: W, d: W) -> W {
    d ^ (b & (c ^ d))
}

/// The two halves have no bit in common: their sum is their union, and only one of the sums has to wait for `b`.
#[inline(always)]
fn choose_by_last<W: Word>(b: W, c: W, d: W) -> W {
    (c & !d).plus(d & b)
}

#[inline(always)]
fn parity<W: Word>(b: W, c: W, d: W) -> W {
    b ^ (c ^ d)
}

#[inline(always)]
fn mixed<W: Word>(b: W, c: W, d: W) -> W {
    c ^ (b | !d)
}

/// A block of each of several texts, or sets of texts. Their steps take turns.
#[inline(always)]
fn compress<W: Word, const N: usize>(states: &mut [[W; 4]; N], blocks: &[[W; WORDS]; N]) {
    let mut work = *states;
    macro_rules! step {
        ($mix:ident, $a:tt $b:tt $c:tt $d:tt, $word:literal, $rotation:literal, $sine:literal) => {
            for (state, block) in work.iter_mut().zip(blocks) {
                let (a, b, c, d) = (state[$a], state[$b], state[$c], state[$d]);
                // `b` is what the step before has just made: all that does not take it comes first.
                let sum = a
                    .plus(block[$word])
                    .plus_constant($sine)
                    .plus($mix(b, c, d));
                state[$a] = b.plus(sum.rotated::<$rotation>());
            }
        };
    }
    steps!(step);
    for (state, work) in states.iter_mut().zip(work) {
        for (word, more) in state.iter_mut().zip(work) {
            *word = word.plus(more);
        }
    }
}
