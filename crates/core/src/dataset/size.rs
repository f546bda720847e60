//! Sizes as a function of (seed, index).

use serde::{Deserialize, Serialize};

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
