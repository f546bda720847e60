//! Data sets as functions: name, size and content of object *i* are computed from the seed and *i*.
//!
//! Architecture invariant: a data set is a function. There is no list of names, no manifest and no tree in
//! memory, here or anywhere; a tree of 331,776 leaves or of 10^10 costs the same: nothing. `docs/data-sets.md`
//! defines these functions well enough to write them again in another language; change both together, and
//! [`FUNCTION_VERSION`] with them.
//!
//! This module deliberately neither validates (the API does, with [`Layout::objects_checked`] and its kin) nor
//! knows who owns which part ([`crate::keys::share`]).

pub mod content;
pub mod directories;
pub mod marker;
pub mod names;
pub mod size;
pub mod verify;

use crate::rng::word;
use content::{ContentSpec, Contents};
use names::Names;
use serde::{Deserialize, Serialize};
use size::SizeSpec;

/// Version of the functions from (parameters, index) to names, sizes and contents. Data written under another
/// version is another data set.
pub const FUNCTION_VERSION: u32 = 1;

/// Numbers that keep the uses of one seed apart: the key of each use is `word(seed, number)`.
pub(crate) mod domain {
    /// Sizes.
    pub(crate) const SIZE: u64 = 1;
    /// Contents.
    pub(crate) const CONTENT: u64 = 2;
    /// Seeds of the agents' own data sets.
    pub(crate) const AGENT: u64 = 3;
    /// Which objects are popular.
    pub(crate) const POPULARITY: u64 = 4;
}

/// Parameters of a data set. Everything about it follows from these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataSet {
    /// Seed of sizes and contents.
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
    /// Those of all levels, but not the root.
    AllLevels,
}

/// How many bytes something has or is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteEstimate {
    /// Expectation in bytes, exact where [`ByteEstimate::std_dev_bytes`] is 0.
    pub mean_bytes: u128,
    /// Standard deviation in bytes.
    pub std_dev_bytes: u128,
}

impl ByteEstimate {
    /// Three standard deviations: what to show behind the ±.
    #[must_use]
    pub const fn three_sigma_bytes(&self) -> u128 {
        self.std_dev_bytes.saturating_mul(3)
    }

    /// Whether there is nothing to estimate.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.std_dev_bytes == 0
    }
}

impl Layout {
    /// The most objects of a data set. Indexes up to twice as high are left for what stages put.
    pub const OBJECTS_MAX: u64 = 1 << 62;

    /// Number of objects; `None` where it exceeds [`Layout::OBJECTS_MAX`], or the tree's directories
    /// cannot be numbered ([`Layout::directories_checked`]).
    #[must_use]
    pub fn objects_checked(&self) -> Option<u64> {
        let objects = match self {
            Self::Flat { objects, .. } => *objects,
            Self::Tree(tree) => tree.holders_checked()?.checked_mul(tree.files_per_directory)?,
        };
        (objects <= Self::OBJECTS_MAX).then_some(objects)
    }

    /// Number of directories below the root, empty ones included; `None` where it exceeds
    /// [`Layout::OBJECTS_MAX`] or the tree is deeper than [`Tree::DEPTH_MAX`].
    #[must_use]
    pub fn directories_checked(&self) -> Option<u64> {
        match self {
            Self::Flat { prefix_shards, .. } => Some(u64::from(*prefix_shards)),
            Self::Tree(tree) => tree.directories_checked(),
        }
    }

    /// Names of this layout, resolved for speed.
    #[must_use]
    pub fn names(&self) -> Names {
        Names::new(self)
    }
}

impl Tree {
    /// The most levels of a tree. A path of so many components still fits the 1024 bytes of an S3 key.
    pub const DEPTH_MAX: u32 = 64;

    /// `width^level`; `None` on overflow.
    fn level_checked(&self, level: u32) -> Option<u64> {
        u64::from(self.width).checked_pow(level)
    }

    /// Directories of all levels; `None` as in [`Layout::directories_checked`].
    fn directories_checked(&self) -> Option<u64> {
        if self.depth > Self::DEPTH_MAX {
            return None;
        }
        let total =
            (1..=self.depth).try_fold(0u64, |sum, level| sum.checked_add(self.level_checked(level)?))?;
        (total <= Layout::OBJECTS_MAX).then_some(total)
    }

    /// Directories that hold files. A tree of depth 0 is its root alone, which then holds them.
    fn holders_checked(&self) -> Option<u64> {
        let directories = self.directories_checked()?;
        match self.files {
            _ if self.depth == 0 => Some(1),
            FilesIn::Leaves => self.level_checked(self.depth),
            FilesIn::AllLevels => Some(directories),
        }
    }
}

impl DataSet {
    /// Number of objects. Saturates at [`Layout::OBJECTS_MAX`], which validation refuses to go beyond.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.layout.objects_checked().unwrap_or(Layout::OBJECTS_MAX)
    }

    /// Whether there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names, resolved for speed: keep it where many are written.
    #[must_use]
    pub fn names(&self) -> Names {
        self.layout.names()
    }

    /// The contents, resolved for speed: keep it where many are written.
    #[must_use]
    pub fn contents(&self) -> Contents {
        Contents::new(self)
    }

    /// Appends the name of object `index`; see [`Names::write_name`].
    pub fn write_name(&self, index: u64, name: &mut String) {
        self.names().write_name(index, name);
    }

    /// The index of the object of this name; see [`Names::index_of`].
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u64> {
        self.names().index_of(name)
    }

    /// Size of object `index` in bytes.
    #[must_use]
    pub fn size_of(&self, index: u64) -> u64 {
        self.size.size_of(self.seed, index)
    }

    /// Fills a buffer with the content of object `index` from `offset` on; see [`Contents::fill`].
    pub fn fill_content(&self, index: u64, version: u32, offset: u64, buffer: &mut [u8]) {
        self.contents().fill(index, version, offset, buffer);
    }

    /// Bytes of all objects together.
    #[must_use]
    pub fn expected_bytes(&self) -> ByteEstimate {
        self.size.expected_total(self.len())
    }

    /// The data set of one agent where each has its own: the same parameters, another seed. Without that,
    /// a deduplicating store would keep one copy for all agents.
    #[must_use]
    pub fn for_agent(&self, agent: u32) -> Self {
        Self { seed: word(word(self.seed, domain::AGENT), u64::from(agent)), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(width: u32, depth: u32, files_per_directory: u64, files: FilesIn) -> Layout {
        Layout::Tree(Tree { width, depth, files_per_directory, files })
    }

    #[test]
    fn counts_what_users_write() {
        let leaves = |width, depth, files| tree(width, depth, files, FilesIn::Leaves).objects_checked();
        assert_eq!(leaves(24, 4, 193), Some(331_776 * 193));
        assert_eq!(leaves(0, 3, 5), Some(0));
        assert_eq!(leaves(9, 0, 5), Some(5));
        assert_eq!(tree(2, 3, 10, FilesIn::AllLevels).objects_checked(), Some(140));
        assert_eq!(tree(24, 4, 1, FilesIn::Leaves).directories_checked(), Some(24 + 576 + 13_824 + 331_776));
        assert_eq!(Layout::Flat { objects: 5, prefix_shards: 3 }.directories_checked(), Some(3));
    }

    #[test]
    fn refuses_what_cannot_be_numbered() {
        assert_eq!(tree(10, 20, 1, FilesIn::Leaves).objects_checked(), None);
        assert_eq!(tree(10, 10, 10_000_000_000, FilesIn::Leaves).objects_checked(), None);
        assert_eq!(tree(1, 65, 1, FilesIn::Leaves).objects_checked(), None);
        assert_eq!(tree(u32::MAX, 2, 1, FilesIn::Leaves).objects_checked(), None);
        assert_eq!(Layout::Flat { objects: u64::MAX, prefix_shards: 0 }.objects_checked(), None);
        assert!(tree(1, 64, 1, FilesIn::AllLevels).objects_checked().is_some());
    }

    #[test]
    fn agents_of_their_own_have_other_seeds() {
        let data_set = DataSet {
            seed: 1,
            layout: Layout::Flat { objects: 5, prefix_shards: 0 },
            size: SizeSpec::Fixed(10),
            content: ContentSpec::default(),
        };
        assert_ne!(data_set.for_agent(0).seed, data_set.for_agent(1).seed);
        assert_ne!(data_set.for_agent(0).seed, data_set.seed);
        assert_eq!(data_set.for_agent(3).layout, data_set.layout);
    }
}
