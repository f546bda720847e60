//! Names as a function of the index, and back.
//!
//! Flat objects are `obj-00000012`, or `0c/obj-00000012` over prefixes; files of a tree are
//! `d1-07/d2-23/file-00000012`. The number in a name is always the index in the whole data set, so that any
//! name tells which object it is and no two objects can share one. Numbers grow naturally past their padding.
//!
//! Indexes from the number of objects on are as good as those below: stages put their own objects there. They
//! lie in the directory of `index mod objects`.
//!
//! Writing a name neither allocates (beyond growing the caller's buffer once) nor goes through `format!`: it is
//! on the hot path of every operation. This module deliberately knows nothing of URIs and key prefixes.

use super::{FilesIn, Layout};

/// Digits that the number of an object is padded to.
const INDEX_DIGITS: usize = 8;
/// Digits that the number of a directory within its parent, or of a prefix, is padded to at least.
const CHILD_DIGITS_MIN: usize = 2;
/// Digits that the number of an agent is padded to.
const AGENT_DIGITS: usize = 5;
/// The longest name: 64 components `d64-4294967295/` and `file-18446744073709551615`.
pub const NAME_BYTES_MAX: usize = 1024;
/// Names of usual trees fit here; the buffer for the others costs more to clear.
const NAME_BYTES_USUAL: usize = 128;

/// The names of one layout, with everything computed that does not depend on the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Names {
    pub(super) shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Flat { shards: u64, shard_digits: usize },
    Tree(TreeShape),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TreeShape {
    /// Children per directory, at least 1.
    pub(super) width: u64,
    pub(super) depth: u32,
    /// Digits of a child's number.
    child_digits: usize,
    /// At least 1, so that objects beyond an empty data set have a place too.
    pub(super) files_per_directory: u64,
    /// Directories below the root.
    pub(super) directories: u64,
    /// After so many indexes the directories begin anew; at least 1.
    pub(super) period: u64,
    pub(super) files: FilesIn,
}

/// A directory of a tree: the root is level 0, position 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) level: u32,
    pub(super) position: u64,
}

impl Names {
    /// Resolves a layout. One that validation refuses gives names that make no sense, but no panic.
    #[must_use]
    pub fn new(layout: &Layout) -> Self {
        let shape = match layout {
            Layout::Flat { prefix_shards, .. } => {
                let shards = u64::from(*prefix_shards);
                let digits = hex_digits(shards.saturating_sub(1)).max(CHILD_DIGITS_MIN);
                Shape::Flat { shards, shard_digits: digits }
            }
            Layout::Tree(tree) => {
                let width = u64::from(tree.width.max(1));
                let files_per_directory = tree.files_per_directory.max(1);
                let holders = tree.holders_checked().unwrap_or(Layout::OBJECTS_MAX).max(1);
                Shape::Tree(TreeShape {
                    width,
                    depth: tree.depth.min(super::Tree::DEPTH_MAX),
                    child_digits: decimal_digits(width - 1).max(CHILD_DIGITS_MIN),
                    files_per_directory,
                    directories: tree.directories_checked().unwrap_or(Layout::OBJECTS_MAX),
                    period: holders.saturating_mul(files_per_directory),
                    files: tree.files,
                })
            }
        };
        Self { shape }
    }

    /// Appends the name of object `index`, which may lie beyond the data set.
    #[inline]
    pub fn write_name(&self, index: u64, name: &mut String) {
        let mut file = Backwards::<NAME_BYTES_USUAL>::new();
        match &self.shape {
            Shape::Flat { shards, shard_digits } => {
                file.index(index, b"obj-");
                if *shards > 0 {
                    file.byte(b'/');
                    file.hex(index % shards, *shard_digits);
                }
                file.append_to(name);
            }
            Shape::Tree(tree) => {
                let place = tree.place_of(index);
                if tree.path_bytes(place.level) + 32 <= NAME_BYTES_USUAL {
                    file.index(index, b"file-");
                    file.path(tree, place);
                    file.append_to(name);
                } else {
                    let mut long = Backwards::<NAME_BYTES_MAX>::new();
                    long.index(index, b"file-");
                    long.path(tree, place);
                    long.append_to(name);
                }
            }
        }
    }

    /// The index of the object of this name: the exact inverse of [`Names::write_name`]. `None` for a name that
    /// this layout never writes, also where only the padding or the directory is wrong.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<u64> {
        let (_, digits) = name.rsplit_once('-')?;
        let index = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        let mut expected = String::with_capacity(name.len());
        self.write_name(index, &mut expected);
        (expected == name).then_some(index)
    }

    /// Appends the path of a tree's directory, without a slash at its end.
    pub(super) fn write_place(tree: &TreeShape, place: Place, name: &mut String) {
        let mut path = Backwards::<NAME_BYTES_MAX>::new();
        path.path(tree, place);
        path.append_to(name);
        if place.level > 0 {
            name.pop();
        }
    }

    /// Appends the name of prefix `shard`, without a slash at its end.
    pub(super) fn write_shard(shard: u64, shard_digits: usize, name: &mut String) {
        let mut path = Backwards::<NAME_BYTES_USUAL>::new();
        path.hex(shard, shard_digits);
        path.append_to(name);
    }
}

/// Appends the prefix under which an agent keeps a data set of its own, e.g. `agent-00003/`.
pub fn write_agent_prefix(agent: u32, name: &mut String) {
    let mut prefix = Backwards::<NAME_BYTES_USUAL>::new();
    prefix.byte(b'/');
    prefix.decimal(u64::from(agent), AGENT_DIGITS);
    prefix.bytes(b"agent-");
    prefix.append_to(name);
}

impl TreeShape {
    /// The directory of an object.
    #[inline]
    pub(super) fn place_of(&self, index: u64) -> Place {
        let slot = if index < self.period { index } else { index % self.period };
        self.holder(slot / self.files_per_directory)
    }

    /// The directory that holds files and has this number among those that do.
    #[inline]
    pub(super) fn holder(&self, holder: u64) -> Place {
        match self.files {
            FilesIn::Leaves => Place { level: self.depth, position: holder },
            FilesIn::AllLevels => self.place(holder),
        }
    }

    /// The directory of a number, counted level by level.
    #[inline]
    pub(super) fn place(&self, number: u64) -> Place {
        let (mut level, mut position, mut directories) = (1, number, self.width);
        while level < self.depth && position >= directories {
            position -= directories;
            directories = directories.saturating_mul(self.width);
            level += 1;
        }
        Place { level: level.min(self.depth), position }
    }

    /// The longest path to a directory of this level, in bytes, with a slash at its end.
    fn path_bytes(&self, level: u32) -> usize {
        // 'd', two digits of the level, '-', the child, '/'.
        level as usize * (self.child_digits + 5)
    }
}

/// Digits of a number, at least 1.
const fn decimal_digits(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Hexadecimal digits of a number, at least 1.
const fn hex_digits(number: u64) -> usize {
    match number.checked_ilog2() {
        Some(log) => log as usize / 4 + 1,
        None => 1,
    }
}

/// The last two decimal digits of a number below 100.
#[inline]
const fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}

/// A buffer that is filled from its end: the digits of a number, and the components of a path, come out last first.
struct Backwards<const N: usize> {
    bytes: [u8; N],
    start: usize,
}

impl<const N: usize> Backwards<N> {
    #[inline]
    const fn new() -> Self {
        Self { bytes: [0; N], start: N }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.start;
        self.start -= bytes.len();
        self.bytes[self.start..end].copy_from_slice(bytes);
    }

    #[inline]
    fn decimal(&mut self, number: u64, digits_min: usize) {
        let padded = self.start - digits_min;
        let mut rest = number;
        while rest >= 10 || self.start >= padded + 2 {
            self.bytes(&two_digits(rest % 100));
            rest /= 100;
        }
        if rest > 0 || self.start > padded {
            self.byte(b'0' + rest as u8);
        }
    }

    #[inline]
    fn hex(&mut self, number: u64, digits_min: usize) {
        let padded = self.start - digits_min;
        let mut rest = number;
        while rest > 0 {
            self.byte(b"0123456789abcdef"[(rest % 16) as usize]);
            rest /= 16;
        }
        while self.start > padded {
            self.byte(b'0');
        }
    }

    #[inline]
    fn index(&mut self, index: u64, prefix: &[u8]) {
        self.decimal(index, INDEX_DIGITS);
        self.bytes(prefix);
    }

    #[inline]
    fn path(&mut self, tree: &TreeShape, place: Place) {
        let mut position = place.position;
        for level in (1..=place.level).rev() {
            let child = position % tree.width;
            position /= tree.width;
            if tree.child_digits == 2 && level < 10 {
                // Nearly every tree: one copy instead of five small ones.
                let [tens, ones] = two_digits(child);
                self.bytes(&[b'd', b'0' + level as u8, b'-', tens, ones, b'/']);
            } else {
                self.byte(b'/');
                self.decimal(child, tree.child_digits);
                self.byte(b'-');
                self.decimal(u64::from(level), 1);
                self.byte(b'd');
            }
        }
    }

    #[inline]
    fn append_to(&self, name: &mut String) {
        // Only ASCII was written, so this never fails; the check is cheaper than an argument for doing without.
        if let Ok(text) = std::str::from_utf8(&self.bytes[self.start..]) {
            name.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tree;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn name(names: &Names, index: u64) -> String {
        let mut name = String::new();
        names.write_name(index, &mut name);
        name
    }

    fn tree(width: u32, depth: u32, files_per_directory: u64, files: FilesIn) -> Layout {
        Layout::Tree(Tree { width, depth, files_per_directory, files })
    }

    #[test]
    fn names_are_pinned() {
        let check =
            |layout: Layout, index, expected: &str| assert_eq!(name(&layout.names(), index), expected);
        let flat = |prefix_shards| Layout::Flat { objects: 1000, prefix_shards };
        check(flat(0), 12, "obj-00000012");
        check(flat(0), 123_456_789, "obj-123456789");
        check(flat(0), u64::MAX, "obj-18446744073709551615");
        check(flat(16), 12, "0c/obj-00000012");
        check(flat(4096), 0x2d3f, "d3f/obj-00011583");
        check(tree(24, 4, 193, FilesIn::Leaves), 0, "d1-00/d2-00/d3-00/d4-00/file-00000000");
        check(tree(24, 4, 193, FilesIn::Leaves), 64_032_767, "d1-23/d2-23/d3-23/d4-23/file-64032767");
        check(tree(24, 4, 193, FilesIn::Leaves), 64_032_768, "d1-00/d2-00/d3-00/d4-00/file-64032768");
        check(tree(2, 2, 3, FilesIn::AllLevels), 5, "d1-01/file-00000005");
        check(tree(2, 2, 3, FilesIn::AllLevels), 17, "d1-01/d2-01/file-00000017");
        check(tree(1001, 1, 1, FilesIn::Leaves), 7, "d1-0007/file-00000007");
        check(tree(3, 0, 2, FilesIn::AllLevels), 3, "file-00000003");
        let mut prefix = String::from("run/");
        write_agent_prefix(3, &mut prefix);
        assert_eq!(prefix, "run/agent-00003/");
    }

    #[test]
    fn the_longest_name_fits() {
        // 64 levels of the widest children cannot be numbered, but what is written for them must still fit.
        let names = tree(u32::MAX, 99, u64::MAX, FilesIn::Leaves).names();
        let longest = name(&names, u64::MAX);
        assert!(
            longest.len() <= NAME_BYTES_MAX && longest.ends_with("/file-18446744073709551615"),
            "{longest}"
        );
        let deep = tree(1, 64, 1, FilesIn::Leaves).names();
        assert_eq!(deep.index_of(&name(&deep, u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn other_names_are_nobodys() {
        let flat = Layout::Flat { objects: 10, prefix_shards: 16 }.names();
        assert_eq!(flat.index_of("0c/obj-00000012"), Some(12));
        for wrong in [
            "obj-00000012",
            "0d/obj-00000012",
            "0c/obj-12",
            "0C/obj-00000012",
            "0c/obj-+0000012",
            "0c/obj-",
            "-",
            "",
        ] {
            assert_eq!(flat.index_of(wrong), None, "{wrong}");
        }
        assert_eq!(flat.index_of("0c/obj-99999999999999999999"), None);
    }

    #[test]
    fn a_tree_of_ten_billion_leaves_costs_nothing() {
        let layout = tree(100, 5, 1, FilesIn::Leaves);
        assert_eq!(layout.objects_checked(), Some(10_000_000_000));
        let names = layout.names();
        assert_eq!(name(&names, 9_876_543_210), "d1-98/d2-76/d3-54/d4-32/d5-10/file-9876543210");
        assert_eq!(names.index_of("d1-98/d2-76/d3-54/d4-32/d5-10/file-9876543210"), Some(9_876_543_210));
        assert!(size_of::<Names>() <= 80);
    }

    #[test]
    fn names_are_unique() {
        let layouts = [
            Layout::Flat { objects: 50, prefix_shards: 0 },
            Layout::Flat { objects: 50, prefix_shards: 7 },
            tree(3, 3, 4, FilesIn::Leaves),
            tree(3, 3, 4, FilesIn::AllLevels),
            tree(3, 2, 0, FilesIn::Leaves),
            tree(0, 2, 5, FilesIn::AllLevels),
        ];
        for layout in layouts {
            let names = layout.names();
            let all: HashSet<_> = (0..1000).map(|index| name(&names, index)).collect();
            assert_eq!(all.len(), 1000, "{layout:?}");
        }
    }

    fn any_layout() -> impl Strategy<Value = Layout> {
        prop_oneof![
            (any::<u64>(), prop_oneof![0..20u32, any::<u32>()])
                .prop_map(|(objects, prefix_shards)| Layout::Flat { objects, prefix_shards }),
            (
                prop_oneof![0..30u32, any::<u32>()],
                0..70u32,
                prop_oneof![0..300u64, any::<u64>()],
                any::<bool>()
            )
                .prop_map(|(width, depth, files, all)| tree(
                    width,
                    depth,
                    files,
                    if all { FilesIn::AllLevels } else { FilesIn::Leaves }
                )),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(layout in any_layout(), index in prop_oneof![0..5000u64, any::<u64>()]) {
            let names = layout.names();
            let text = name(&names, index);
            prop_assert!(text.len() <= NAME_BYTES_MAX);
            prop_assert_eq!(names.index_of(&text), Some(index));
        }
    }
}
