//! Random numbers: those that differ in every process, and those that are the same everywhere.

use std::ops::Range;
use std::time::Duration;

/// A share of `pause` that is drawn from the range.
pub fn jitter(pause: Duration, share: Range<f64>) -> Duration {
    pause.mul_f64(share.start + (share.end - share.start) * fastrand::f64())
}

/// SplitMix64 (Steele, Lea, Flood 2014): a seed gives the same numbers on every machine and with every version.
#[derive(Clone, Debug)]
pub struct SplitMix(u64);

impl SplitMix {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> SplitMix {
        SplitMix(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the seed 1234567 as the authors' own implementation gives them.
    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        let mut random = SplitMix::new(1_234_567);
        let numbers: Vec<_> = (0..3).map(|_| random.number()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
        assert_eq!(random.below(0), 0);
    }

    #[test]
    fn jitter_stays_within_its_range_and_varies() {
        let pause = Duration::from_secs(8);
        let drawn: Vec<_> = (0..100).map(|_| jitter(pause, 0.5..1.0)).collect();
        assert!(drawn.iter().all(|wait| (pause / 2..=pause).contains(wait)));
        assert!(drawn.iter().any(|wait| *wait != drawn[0]));
    }
}
