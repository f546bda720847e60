//! Contents as a function of (seed, index, offset).

use serde::{Deserialize, Serialize};

/// What is in the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentSpec {
    /// What blocks are filled with.
    pub fill: Fill,
    /// One block in this many is unique; 1 is no duplicates.
    pub dedup: u32,
    /// A block compresses by this factor; 1 is incompressible.
    pub compress: u32,
    /// Whether blocks carry a header that lets any reader check them.
    pub verify: bool,
}

impl Default for ContentSpec {
    fn default() -> Self {
        Self { fill: Fill::Random, dedup: 1, compress: 1, verify: false }
    }
}

/// What blocks are filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fill {
    /// Pseudo-random bytes.
    #[default]
    Random,
    /// Zeroes.
    Zero,
}
