//! Pseudo-random numbers whose algorithms are named and frozen.
//!
//! Two kinds, because there are two needs. [`word`] is a function of (key, number), with which data sets compute
//! the size or the content of object *i* without looking at any other object; its results are part of what
//! `docs/data-sets.md` promises and change only together with [`crate::dataset::FUNCTION_VERSION`]. [`Stream`]
//! is a fast generator of which each worker has one, for draws that need to be repeatable but not addressable.
//! [`Permutation`] scatters numbers over a range without a table.
//!
//! Nothing here is fit for cryptography, and nothing here ever seeds itself.

/// 2^64 divided by the golden ratio, made odd: the increment of SplitMix64.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64, a bijection on 64 bits.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), with the constants of
/// David Stafford's variant 13.
#[must_use]
#[inline]
pub const fn mix64(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Output `number` (from 0) of SplitMix64 seeded with `key`. Chained, it is a function of several numbers:
/// `word(word(seed, a), b)`.
#[must_use]
#[inline]
pub const fn word(key: u64, number: u64) -> u64 {
    mix64(key.wrapping_add(GOLDEN.wrapping_mul(number.wrapping_add(1))))
}

/// The increment of wyrand, by which [`fold`]'s argument grows from one word to the next.
pub const FOLD_STEP: u64 = 0xa076_1d64_78bd_642f;

/// The output function of wyrand: the two halves of a 128-bit product, xored. Half the work of [`mix64`], for
/// contents, where speed is everything and a bijection is nothing.
///
/// Source: Wang Yi, wyhash (final version 3).
#[must_use]
#[inline]
pub const fn fold(state: u64) -> u64 {
    let product = state as u128 * (state ^ 0xe703_7ed1_a0b4_28db) as u128;
    (product >> 64) as u64 ^ product as u64
}

/// Maps 64 random bits to `0..bound` by multiplication (Lemire, "Fast random integer generation in an interval",
/// 2019, without the rejection step: the bias is below `bound / 2^64`). A bound of 0 gives 0.
#[must_use]
#[inline]
pub const fn scale(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

/// Maps 64 random bits to `[0, 1)`, a multiple of 2^-53.
#[must_use]
#[inline]
pub const fn unit(random: u64) -> f64 {
    (random >> 11) as f64 * UNIT_STEP
}

/// Maps 64 random bits to `(0, 1]`, a multiple of 2^-53: safe to take the logarithm of.
#[must_use]
#[inline]
pub const fn unit_positive(random: u64) -> f64 {
    ((random >> 11) + 1) as f64 * UNIT_STEP
}

/// 2^-53.
const UNIT_STEP: f64 = 1.0 / (1u64 << 53) as f64;

/// A worker's own generator: xoshiro256++ 1.0 (Blackman and Vigna, 2019), seeded through [`word`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    state: [u64; 4],
}

impl Stream {
    /// The stream of one lane (a worker, an agent, a purpose) under a seed. Different lanes are independent.
    #[must_use]
    pub const fn new(seed: u64, lane: u64) -> Self {
        let key = word(seed, lane);
        // SplitMix64 is a bijection on four distinct inputs, so the state cannot be all zero.
        Self { state: [word(key, 0), word(key, 1), word(key, 2), word(key, 3)] }
    }

    /// The next 64 bits.
    #[inline]
    pub const fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// The next number of `0..bound`; 0 where `bound` is 0. See [`scale`].
    #[inline]
    pub const fn below(&mut self, bound: u64) -> u64 {
        scale(self.next_u64(), bound)
    }

    /// The next number of `[0, 1)`.
    #[inline]
    pub const fn unit(&mut self) -> f64 {
        unit(self.next_u64())
    }

    /// The next number of `(0, 1]`.
    #[inline]
    pub const fn unit_positive(&mut self) -> f64 {
        unit_positive(self.next_u64())
    }
}

/// A bijection of `0..len` onto itself that looks random, in a few nanoseconds and without a table.
///
/// Rounds of odd multiplication, addition and xor-shift, each a bijection on the smallest power of two that
/// holds `len`, repeated until the value falls into the range ("cycle walking": fewer than two turns on average).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    len: u64,
    mask: u64,
    shift: u32,
    multipliers: [u64; Self::ROUNDS],
    addends: [u64; Self::ROUNDS],
}

impl Permutation {
    const ROUNDS: usize = 3;

    /// The permutation of `0..len` that `seed` stands for.
    #[must_use]
    pub fn new(seed: u64, len: u64) -> Self {
        let bits = if len > 1 { 64 - (len - 1).leading_zeros() } else { 1 };
        let mut multipliers = [0; Self::ROUNDS];
        let mut addends = [0; Self::ROUNDS];
        for round in 0..Self::ROUNDS {
            multipliers[round] = word(seed, 2 * round as u64) | 1;
            addends[round] = word(seed, 2 * round as u64 + 1);
        }
        Self { len, mask: u64::MAX >> (64 - bits), shift: bits.div_ceil(2), multipliers, addends }
    }

    /// Where `value` goes. Values of `len` and above go nowhere: they come back unchanged.
    #[must_use]
    #[inline]
    pub fn apply(&self, value: u64) -> u64 {
        if value >= self.len {
            return value;
        }
        let mut x = value;
        loop {
            for round in 0..Self::ROUNDS {
                x = x.wrapping_mul(self.multipliers[round]).wrapping_add(self.addends[round]) & self.mask;
                x ^= x >> self.shift;
            }
            // The walk follows the cycle that `value` lies on, so it meets the range again at the latest there.
            if x < self.len {
                return x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_splitmix64() {
        // Reference outputs of splitmix64.c for the seed 1234567.
        let expected = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        assert_eq!([0, 1, 2, 3].map(|number| word(1_234_567, number)), expected);
    }

    #[test]
    fn fold_is_pinned() {
        // wyrand seeded with 0, as docs/data-sets.md gives it.
        let expected = [0x111c_b3a7_8f59_a58e, 0xceab_d938_ff4e_856d];
        assert_eq!([fold(FOLD_STEP), fold(FOLD_STEP.wrapping_mul(2))], expected);
    }

    #[test]
    fn stream_is_xoshiro256_plus_plus() {
        // First outputs of xoshiro256plusplus.c for the state {1, 2, 3, 4}.
        let mut stream = Stream { state: [1, 2, 3, 4] };
        assert_eq!(
            [0; 4].map(|_: u8| stream.next_u64()),
            [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]
        );
    }

    #[test]
    fn lanes_differ() {
        let (mut one, mut other) = (Stream::new(7, 0), Stream::new(7, 1));
        assert_ne!(one.next_u64(), other.next_u64());
        assert_eq!(Stream::new(7, 1), Stream::new(7, 1));
    }

    #[test]
    fn draws_stay_in_bounds_and_fill_them() {
        let mut stream = Stream::new(1, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
            let (open, positive) = (stream.unit(), stream.unit_positive());
            assert!((0.0..1.0).contains(&open) && positive > 0.0 && positive <= 1.0);
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
        assert_eq!(stream.below(0), 0);
        assert_eq!((unit(u64::MAX) < 1.0, unit_positive(u64::MAX), unit(0)), (true, 1.0, 0.0));
    }

    #[test]
    fn permutation_is_a_bijection() {
        for len in [0, 1, 2, 3, 4, 5, 7, 8, 9, 100, 255, 256, 257, 1000, 4096, 10_007] {
            let permutation = Permutation::new(42, len);
            let mut seen = vec![false; len as usize];
            for value in 0..len {
                let place = permutation.apply(value) as usize;
                assert!(!std::mem::replace(&mut seen[place], true), "{place} twice of {len}");
            }
        }
    }

    #[test]
    fn permutation_scatters() {
        let len = 1_000_000;
        let permutation = Permutation::new(1, len);
        let mut tenths = [0u32; 10];
        for value in 0..1_000 {
            tenths[(permutation.apply(value) * 10 / len) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (50..150).contains(count)), "{tenths:?}");
        let huge = Permutation::new(1, u64::MAX);
        assert!(huge.apply(0) < u64::MAX);
    }
}
