//! Data sets as functions: name, size and content of object *i* are computed from the seed and *i*.

pub mod content;
pub mod size;

use content::ContentSpec;
use serde::{Deserialize, Serialize};
use size::SizeSpec;

/// Parameters of a data set. Everything about it follows from these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSet {
    /// Seed of names' permutations, sizes and contents.
    pub seed: u64,
    /// How objects are named.
    pub layout: Layout,
    /// How large they are.
    pub size: SizeSpec,
    /// What is in them.
    pub content: ContentSpec,
}

/// How objects are named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// All in one place, or over `prefix_shards` prefixes (0 is none).
    Flat {
        /// How many objects.
        objects: u64,
        /// How many prefixes.
        prefix_shards: u32,
    },
    /// A tree of directories.
    Tree(Tree),
}

/// A tree of directories: `width^level` of them on each level 1..=depth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Directories in each directory.
    pub width: u32,
    /// Levels of directories.
    pub depth: u32,
    /// Files in each directory that holds files.
    pub files_per_directory: u64,
    /// Which directories hold files.
    pub files: FilesIn,
}

/// Which directories of a tree hold files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilesIn {
    /// Those of the deepest level.
    #[default]
    Leaves,
    /// Those of all levels.
    AllLevels,
}
