//! Sizes as a function of (seed, index), and what they add up to.
//!
//! The logarithms and cosines come from the `libm` crate, never from the platform, so that every machine computes
//! the same bytes. Formulas are in `docs/data-sets.md`. Sums over random sizes are given as an expectation with
//! its deviation, computed in closed form: adding up 10^10 sizes would take minutes.

use super::{ByteEstimate, domain};
use crate::rng::{scale, unit, unit_positive, word};
use serde::{Deserialize, Serialize};
use std::f64::consts::{SQRT_2, TAU};

/// Distribution of object sizes, in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SizeSpec {
    /// All alike.
    Fixed(u64),
    /// Uniform over `min..=max`.
    Uniform {
        /// Smallest size.
        min: u64,
        /// Largest size.
        max: u64,
    },
    /// Lognormal with linear mean and deviation, clamped.
    Lognormal {
        /// Mean of the distribution before clamping.
        mean: u64,
        /// Standard deviation of the distribution before clamping.
        std_dev: u64,
        /// Smallest size.
        min: u64,
        /// Largest size.
        max: u64,
    },
    /// A few sizes with weights.
    Buckets(Vec<Bucket>),
}

/// One size of [`SizeSpec::Buckets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Size in bytes.
    pub bytes: u64,
    /// Share against the sum of weights.
    pub weight: u32,
}

impl SizeSpec {
    /// Size of object `index` in bytes: a pure function of this, the seed and the index. A specification that
    /// validation refuses (an empty range, no weights) gives some size within it, or 0, but no panic.
    #[must_use]
    pub fn size_of(&self, seed: u64, index: u64) -> u64 {
        let key = word(word(seed, domain::SIZE), index);
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, max } => match max.saturating_sub(*min).checked_add(1) {
                Some(sizes) => min + scale(word(key, 0), sizes),
                None => word(key, 0),
            },
            Self::Lognormal { mean, std_dev, min, max } => {
                let bytes = match LogNormal::new(*mean, *std_dev) {
                    // Casting saturates at both ends, and no deviation is infinite.
                    Some(normal) => (libm::exp(normal.mu + normal.sigma * deviate(key)) + 0.5) as u64,
                    None => *mean,
                };
                bytes.min(*max).max(*min)
            }
            Self::Buckets(buckets) => {
                let drawn = scale(word(key, 0), weights(buckets));
                let mut below = 0;
                for bucket in buckets {
                    below += u64::from(bucket.weight);
                    if drawn < below {
                        return bucket.bytes;
                    }
                }
                0
            }
        }
    }

    /// The largest size that can come out, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, max } | Self::Lognormal { min, max, .. } => *max.max(min),
            Self::Buckets(buckets) => drawable(buckets).map(|bucket| bucket.bytes).max().unwrap_or(0),
        }
    }

    /// The smallest size that can come out, in bytes.
    #[must_use]
    pub fn min_bytes(&self) -> u64 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { min, .. } | Self::Lognormal { min, .. } => *min,
            Self::Buckets(buckets) => drawable(buckets).map(|bucket| bucket.bytes).min().unwrap_or(0),
        }
    }

    /// Expectation of one size in bytes, clamping included.
    #[must_use]
    pub fn mean_bytes(&self) -> f64 {
        match self {
            Self::Fixed(bytes) => *bytes as f64,
            Self::Uniform { min, max } => *min as f64 + max.saturating_sub(*min) as f64 / 2.0,
            Self::Lognormal { mean, std_dev, min, max } => match LogNormal::new(*mean, *std_dev) {
                Some(normal) => normal.clamped_mean(*min, *max),
                None => (*mean).min(*max).max(*min) as f64,
            },
            Self::Buckets(buckets) => {
                let total = weights(buckets).max(1) as f64;
                drawable(buckets).map(|bucket| bucket.bytes as f64 * f64::from(bucket.weight) / total).sum()
            }
        }
    }

    /// Variance of one size in bytes squared, clamping included.
    #[must_use]
    pub fn variance_bytes2(&self) -> f64 {
        match self {
            Self::Fixed(_) => 0.0,
            Self::Uniform { min, max } => {
                let sizes = max.saturating_sub(*min) as f64 + 1.0;
                (sizes * sizes - 1.0) / 12.0
            }
            Self::Lognormal { mean, std_dev, min, max } => {
                LogNormal::new(*mean, *std_dev).map_or(0.0, |normal| normal.clamped_variance(*min, *max))
            }
            Self::Buckets(buckets) => {
                let (mean, total) = (self.mean_bytes(), weights(buckets).max(1) as f64);
                drawable(buckets)
                    .map(|bucket| (bucket.bytes as f64 - mean).powi(2) * f64::from(bucket.weight) / total)
                    .sum()
            }
        }
    }

    /// Bytes of `objects` sizes together: exact where all sizes are alike.
    #[must_use]
    pub fn expected_total(&self, objects: u64) -> ByteEstimate {
        if self.min_bytes() == self.max_bytes() {
            return ByteEstimate {
                mean_bytes: u128::from(self.min_bytes()) * u128::from(objects),
                std_dev_bytes: 0,
            };
        }
        let count = objects as f64;
        ByteEstimate {
            mean_bytes: (self.mean_bytes() * count + 0.5) as u128,
            // Never 0 where sizes differ: that would claim to be exact.
            std_dev_bytes: (libm::ceil(libm::sqrt(self.variance_bytes2() * count)) as u128)
                .max(u128::from(objects > 0)),
        }
    }
}

/// Buckets that can be drawn at all.
fn drawable(buckets: &[Bucket]) -> impl Iterator<Item = &Bucket> {
    buckets.iter().filter(|bucket| bucket.weight > 0)
}

/// Sum of the weights.
fn weights(buckets: &[Bucket]) -> u64 {
    buckets.iter().map(|bucket| u64::from(bucket.weight)).sum()
}

/// A standard normal deviate by the method of Box and Muller (1958), from words 0 and 1 of `key`.
fn deviate(key: u64) -> f64 {
    let (u, v) = (unit_positive(word(key, 0)), unit(word(key, 1)));
    libm::sqrt(-2.0 * libm::log(u)) * libm::cos(TAU * v)
}

/// Distribution function of the standard normal; `erfc` keeps the digits of small results.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / SQRT_2)
}

/// A lognormal distribution by the parameters of its logarithm.
#[derive(Clone, Copy, Debug)]
struct LogNormal {
    mean: f64,
    std_dev: f64,
    mu: f64,
    sigma: f64,
}

impl LogNormal {
    /// From linear mean and deviation. `None` where one of them is 0: all sizes are then the mean.
    fn new(mean: u64, std_dev: u64) -> Option<Self> {
        if mean == 0 || std_dev == 0 {
            return None;
        }
        let (mean, std_dev) = (mean as f64, std_dev as f64);
        let ratio = std_dev / mean;
        let sigma2 = libm::log1p(ratio * ratio);
        Some(Self { mean, std_dev, mu: libm::log(mean) - sigma2 / 2.0, sigma: libm::sqrt(sigma2) })
    }

    /// The clamp in standard deviations of the logarithm.
    fn standardised(&self, bytes: u64) -> f64 {
        if bytes == 0 { f64::NEG_INFINITY } else { (libm::log(bytes as f64) - self.mu) / self.sigma }
    }

    /// `E[clamp(X)] = min Φ(a) + max Φ(-b) + E[X] (Φ(b-σ) - Φ(a-σ))`. Rounding to bytes is left out.
    fn clamped_mean(&self, min: u64, max: u64) -> f64 {
        let (a, b) = (self.standardised(min), self.standardised(max.max(min)));
        let middle = self.mean * (normal_cdf(b - self.sigma) - normal_cdf(a - self.sigma));
        min as f64 * normal_cdf(a) + max.max(min) as f64 * normal_cdf(-b) + middle
    }

    /// `Var[clamp(X)]`, as the unclamped variance plus what the two tails change about it: written so that a narrow
    /// distribution around a large mean does not cancel to nothing.
    fn clamped_variance(&self, min: u64, max: u64) -> f64 {
        let (low, high) = (min as f64, max.max(min) as f64);
        let (a, b) = (self.standardised(min), self.standardised(max.max(min)));
        let (mean, sigma) = (self.mean, self.sigma);
        // E[X²] of the whole distribution is mean² (1 + ratio²).
        let square = mean * mean + self.std_dev * self.std_dev;
        // The part of E[(X - mean)²] in a tail with mass p0, first moment mean·p1 and second moment square·p2.
        let tail = |p0: f64, p1: f64, p2: f64| square * p2 - 2.0 * mean * mean * p1 + mean * mean * p0;
        let below = tail(normal_cdf(a), normal_cdf(a - sigma), normal_cdf(a - 2.0 * sigma));
        let above = tail(normal_cdf(-b), normal_cdf(sigma - b), normal_cdf(2.0 * sigma - b));
        let clamped = (low - mean).powi(2) * normal_cdf(a) + (high - mean).powi(2) * normal_cdf(-b);
        let shift = self.clamped_mean(min, max) - mean;
        (self.std_dev * self.std_dev - below - above + clamped - shift * shift).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Mean and variance of the first sizes.
    fn observed(spec: &SizeSpec, count: u64) -> (f64, f64) {
        let mean = (0..count).map(|index| spec.size_of(9, index) as f64).sum::<f64>() / count as f64;
        let square = (0..count).map(|index| (spec.size_of(9, index) as f64 - mean).powi(2)).sum::<f64>();
        (mean, square / count as f64)
    }

    fn buckets() -> SizeSpec {
        SizeSpec::Buckets(vec![
            Bucket { bytes: 4096, weight: 7 },
            Bucket { bytes: 9, weight: 0 },
            Bucket { bytes: 65_536, weight: 2 },
            Bucket { bytes: 0, weight: 1 },
        ])
    }

    #[test]
    fn expectations_match_what_is_drawn() {
        let lognormal = |mean, std_dev, min, max| SizeSpec::Lognormal { mean, std_dev, min, max };
        for spec in [
            SizeSpec::Fixed(77),
            SizeSpec::Uniform { min: 10, max: 20 },
            SizeSpec::Uniform { min: 0, max: MIB },
            lognormal(8 * MIB, MIB, MIB, 16 * MIB),
            lognormal(8 * MIB, MIB, 8 * MIB, 9 * MIB),
            lognormal(64 * 1024, 256 * 1024, 0, MIB),
            lognormal(1_000_000, 1, 0, u64::MAX),
            lognormal(1_000_000, 0, 0, 5),
            buckets(),
        ] {
            let (mean, variance) = observed(&spec, 200_000);
            let (expected_mean, expected) = (spec.mean_bytes(), spec.variance_bytes2());
            // Rounding to bytes moves a mean by up to half a byte and adds a twelfth to the variance.
            assert!(
                (mean - expected_mean).abs() <= expected_mean * 0.02 + 0.5,
                "{spec:?} {mean} {expected_mean}"
            );
            assert!((variance - expected).abs() <= expected * 0.05 + 0.1, "{spec:?} {variance} {expected}");
        }
    }

    #[test]
    fn lognormal_is_near_its_spec() {
        let spec = SizeSpec::Lognormal { mean: 8 * MIB, std_dev: MIB, min: 0, max: u64::MAX };
        let (mean, variance) = observed(&spec, 100_000);
        assert!((mean / (8 * MIB) as f64 - 1.0).abs() < 0.003, "{mean}");
        assert!((variance.sqrt() / MIB as f64 - 1.0).abs() < 0.02, "{variance}");
        assert!((spec.mean_bytes() / (8 * MIB) as f64 - 1.0).abs() < 1e-12);
        assert!((spec.variance_bytes2().sqrt() / MIB as f64 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn sizes_stay_within_limits() {
        for spec in [
            SizeSpec::Uniform { min: 5, max: 6 },
            SizeSpec::Uniform { min: 0, max: u64::MAX },
            SizeSpec::Uniform { min: u64::MAX, max: u64::MAX },
            SizeSpec::Lognormal { mean: 100, std_dev: 1000, min: 3, max: 300 },
            SizeSpec::Lognormal { mean: u64::MAX, std_dev: u64::MAX, min: 1, max: u64::MAX },
            buckets(),
        ] {
            let sizes: Vec<_> = (0..10_000).map(|index| spec.size_of(1, index)).collect();
            let (min, max) = (spec.min_bytes(), spec.max_bytes());
            assert!(sizes.iter().all(|size| (min..=max).contains(size)), "{spec:?}");
            assert!(spec.variance_bytes2().is_finite() && spec.mean_bytes().is_finite());
            assert!(min == max || sizes.iter().any(|size| *size != sizes[0]), "{spec:?}");
        }
    }

    #[test]
    fn what_validation_refuses_does_not_panic() {
        for spec in [
            SizeSpec::Uniform { min: 9, max: 3 },
            SizeSpec::Lognormal { mean: 0, std_dev: 5, min: 9, max: 3 },
            SizeSpec::Lognormal { mean: 7, std_dev: 5, min: 9, max: 3 },
        ] {
            assert_eq!((spec.size_of(1, 1), spec.max_bytes()), (9, 9));
            assert!(spec.mean_bytes().is_finite());
        }
        assert_eq!(SizeSpec::Buckets(vec![]).size_of(1, 1), 0);
        assert_eq!(SizeSpec::Buckets(vec![]).max_bytes(), 0);
    }

    #[test]
    fn totals_say_whether_they_are_exact() {
        let total = SizeSpec::Fixed(u64::MAX).expected_total(1 << 40);
        assert_eq!((total.mean_bytes, total.is_exact()), (u128::from(u64::MAX) << 40, true));
        assert!(buckets().expected_total(0).is_exact());
        let spec = SizeSpec::Lognormal { mean: 8 * MIB, std_dev: MIB, min: MIB, max: 16 * MIB };
        let total = spec.expected_total(10_000);
        let drawn: u128 = (0..10_000).map(|index| u128::from(spec.size_of(3, index))).sum();
        assert!(drawn.abs_diff(total.mean_bytes) <= total.three_sigma_bytes(), "{drawn} {total:?}");
        // 100 deviations of about 1 MiB.
        assert!((95 * u128::from(MIB)..105 * u128::from(MIB)).contains(&total.std_dev_bytes), "{total:?}");
    }
}
