//! `spec.dataset`: what lies at the target, as parameters of a function; never a list of objects.

use super::words::{Existing, FilesIn, Fill, Sharing};
use crate::quantity::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What lies at the target; exactly one of `objects` and `tree` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct DatasetSpec {
    /// How many objects, all in one place or over `prefixShards` prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub objects: Option<u64>,
    /// A tree of directories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<TreeSpec>,
    /// How large objects are.
    pub size: SizeSpec,
    /// What is in them.
    #[serde(default)]
    pub content: ContentSpec,
    /// Who owns which part.
    #[serde(default = "shared")]
    pub sharing: Sharing,
    /// What prepare does about objects that are already there.
    #[serde(default = "fill_gaps")]
    pub existing: Existing,
    /// Spreads `objects` over this many prefixes; 0 is none.
    #[serde(default)]
    #[schemars(range(max = 65_536))]
    pub prefix_shards: u32,
}

const fn shared() -> Sharing {
    Sharing::Shared
}

const fn fill_gaps() -> Existing {
    Existing::FillGaps
}

/// A tree of directories: width^level of them on each level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct TreeSpec {
    /// Directories in each directory.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub width: u32,
    /// Levels of directories.
    #[schemars(range(min = 1, max = 32))]
    pub depth: u32,
    /// Files in each directory that holds files.
    #[schemars(range(min = 1, max = 1_000_000_000_u64))]
    pub files_per_directory: u64,
    /// Which directories hold files.
    #[serde(default = "leaves")]
    pub files: FilesIn,
}

const fn leaves() -> FilesIn {
    FilesIn::Leaves
}

/// How large objects are, in bytes; exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct SizeSpec {
    /// All alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed: Option<ByteSize>,
    /// Uniform over min..=max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform: Option<UniformSize>,
    /// Lognormal with linear mean and deviation, clamped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lognormal: Option<LognormalSize>,
    /// A few sizes with weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub buckets: Option<Vec<BucketSize>>,
}

/// Sizes uniform over a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct UniformSize {
    /// Smallest size.
    pub min: ByteSize,
    /// Largest size.
    pub max: ByteSize,
}

/// Lognormal sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct LognormalSize {
    /// Mean, before sizes are clamped.
    pub mean: ByteSize,
    /// Standard deviation, before sizes are clamped.
    pub std_dev: ByteSize,
    /// Smallest size; smaller ones are clamped to it.
    pub min: ByteSize,
    /// Largest size; larger ones are clamped to it.
    pub max: ByteSize,
}

/// One size with its weight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct BucketSize {
    /// The size.
    pub size: ByteSize,
    /// Share against the sum of weights.
    #[schemars(range(max = 10_000))]
    pub weight: u32,
}

/// What is in the objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ContentSpec {
    /// What blocks are filled with.
    #[serde(default = "random")]
    pub fill: Fill,
    /// One block in this many is unique; 1 is no duplicates.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub dedup: u32,
    /// A block compresses by this factor; 1 is incompressible.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub compress: u32,
    /// Writes a header into each block, so that any reader can check it.
    #[serde(default)]
    pub verify: bool,
}

const fn random() -> Fill {
    Fill::Random
}

const fn one() -> u32 {
    1
}

impl Default for ContentSpec {
    fn default() -> Self {
        Self { fill: Fill::Random, dedup: 1, compress: 1, verify: false }
    }
}
