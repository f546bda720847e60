//! The directories of a data set, numbered: to create those that a chunk needs, and to remove them afterwards.
//!
//! Number 0 is the first directory of level 1, then come the others of that level, then level 2, and so on: parents
//! always have lower numbers than their children. So mkdir goes up through the numbers and rmdir goes down, and
//! a set of directories is a few ranges of numbers, never a table.
//!
//! Prefixes of a flat layout count as directories; for an object store that is harmless.

use super::names::{Names, Place, Shape, TreeShape};
use std::ops::Range;

impl Names {
    /// Number of directories below the root, empty ones included.
    #[must_use]
    pub fn directories(&self) -> u64 {
        match &self.shape {
            Shape::Flat { shards, .. } => *shards,
            Shape::Tree(tree) => tree.directories,
        }
    }

    /// Appends the path of directory `number`, without a slash at its end. Numbers from
    /// [`Names::directories`] on name no directory; nothing is appended for them.
    pub fn write_directory(&self, number: u64, path: &mut String) {
        if number >= self.directories() {
            return;
        }
        match &self.shape {
            Shape::Flat { shard_digits, .. } => Self::write_shard(number, *shard_digits, path),
            Shape::Tree(tree) => Self::write_place(tree, tree.place(number), path),
        }
    }

    /// The number of the directory in which object `index` lies; `None` where that is the root.
    #[must_use]
    pub fn directory_of(&self, index: u64) -> Option<u64> {
        match &self.shape {
            Shape::Flat { shards, .. } => index.checked_rem(*shards),
            Shape::Tree(tree) => {
                let place = tree.place_of(index);
                (place.level > 0).then(|| tree.first_of(place.level) + place.position)
            }
        }
    }

    /// Appends the path of the directory in which object `index` lies, without a slash at its end; nothing where
    /// that is the root.
    pub fn write_directory_of(&self, index: u64, path: &mut String) {
        if let Some(number) = self.directory_of(index) {
            self.write_directory(number, path);
        }
    }

    /// The directory above directory `number`; `None` where that is the root.
    #[must_use]
    pub fn parent_of(&self, number: u64) -> Option<u64> {
        match &self.shape {
            Shape::Flat { .. } => None,
            Shape::Tree(tree) => {
                let place = tree.place(number);
                (place.level > 1).then(|| tree.first_of(place.level - 1) + place.position / tree.width)
            }
        }
    }

    /// Numbers of all directories that these objects lie in, with all directories above them: disjoint ranges,
    /// ascending, a few per level whatever the number of objects. The root is not among them.
    #[must_use]
    pub fn directories_of(&self, objects: Range<u64>) -> Vec<Range<u64>> {
        if objects.is_empty() {
            return Vec::new();
        }
        let ranges = match &self.shape {
            Shape::Flat { shards: 0, .. } => Vec::new(),
            Shape::Flat { shards, .. } => around(&objects, *shards),
            Shape::Tree(tree) => around(&objects, tree.period)
                .into_iter()
                .flat_map(|slots| {
                    let first = tree.holder(slots.start / tree.files_per_directory);
                    let last = tree.holder((slots.end - 1) / tree.files_per_directory);
                    tree.with_ancestors(first, last)
                })
                .collect(),
        };
        merged(ranges)
    }
}

impl TreeShape {
    /// The number of the first directory of a level.
    fn first_of(&self, level: u32) -> u64 {
        let (mut first, mut directories) = (0u64, self.width);
        for _ in 1..level {
            first = first.saturating_add(directories);
            directories = directories.saturating_mul(self.width);
        }
        first
    }

    /// The directories from `first` to `last`, in the order of their numbers, and all above them.
    fn with_ancestors(&self, first: Place, last: Place) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        for level in first.level..=last.level {
            let in_level = self.width.saturating_pow(level);
            let mut low = if level == first.level { first.position } else { 0 };
            let mut high = if level == last.level { last.position } else { in_level - 1 };
            for above in (1..=level).rev() {
                let base = self.first_of(above);
                ranges.push(base + low..base + high + 1);
                low /= self.width;
                high /= self.width;
            }
        }
        ranges
    }
}

/// Where a range of numbers falls when counting begins anew after `period`: up to two ranges below it.
fn around(range: &Range<u64>, period: u64) -> Vec<Range<u64>> {
    let (start, last) = (range.start % period, (range.end - 1) % period);
    let pieces = if range.end - range.start >= period {
        [0..period, 0..0]
    } else if start <= last {
        [start..last + 1, 0..0]
    } else {
        [0..last + 1, start..period]
    };
    pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
}

/// The same numbers as ascending, disjoint ranges.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut result: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match result.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => result.push(range),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::super::{FilesIn, Layout, Tree};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tree(width: u32, depth: u32, files_per_directory: u64, files: FilesIn) -> Layout {
        Layout::Tree(Tree { width, depth, files_per_directory, files })
    }

    fn path(names: &Names, number: u64) -> String {
        let mut path = String::new();
        names.write_directory(number, &mut path);
        path
    }

    fn ends(names: &Names, objects: Range<u64>) -> Vec<(u64, u64)> {
        names.directories_of(objects).into_iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn directories_are_numbered_level_by_level() {
        let names = tree(2, 2, 1, FilesIn::Leaves).names();
        assert_eq!(names.directories(), 6);
        let all: Vec<_> = (0..7).map(|number| path(&names, number)).collect();
        assert_eq!(all, ["d1-00", "d1-01", "d1-00/d2-00", "d1-00/d2-01", "d1-01/d2-00", "d1-01/d2-01", ""]);
        assert_eq!(
            (0..6).map(|number| names.parent_of(number)).collect::<Vec<_>>(),
            [None, None, Some(0), Some(0), Some(1), Some(1)]
        );
    }

    #[test]
    fn prefixes_are_directories() {
        let names = Layout::Flat { objects: 100, prefix_shards: 20 }.names();
        assert_eq!(
            (names.directories(), path(&names, 19), path(&names, 20)),
            (20, "13".into(), String::new())
        );
        assert_eq!(names.directories_of(18..22), [0..2, 18..20]);
        assert_eq!(ends(&names, 5..1000), [(0, 20)]);
        assert_eq!(Layout::Flat { objects: 9, prefix_shards: 0 }.names().directories_of(0..9), []);
    }

    #[test]
    fn a_huge_tree_has_few_ranges() {
        let names = tree(100, 5, 1, FilesIn::Leaves).names();
        assert_eq!(ends(&names, 0..10_000_000_000), [(0, 10_101_010_100)]);
        assert_eq!(names.directories_of(9_999_999_999..9_999_999_999), []);
        assert_eq!(names.directories_of(0..1).len(), 5);
        let names = tree(24, 4, 193, FilesIn::AllLevels).names();
        assert_eq!(ends(&names, 0..u64::MAX), [(0, names.directories())]);
        assert_eq!(tree(5, 0, 9, FilesIn::Leaves).names().directories_of(0..9), []);
    }

    proptest! {
        #[test]
        fn directories_of_a_range_are_those_in_its_names(
            width in 1..5u32, depth in 0..5u32, files in 0..4u64, all_levels in any::<bool>(), flat in any::<bool>(),
            start in 0..3000u64, len in 0..200u64,
        ) {
            let files_in = if all_levels { FilesIn::AllLevels } else { FilesIn::Leaves };
            let layout = if flat {
                Layout::Flat { objects: 100, prefix_shards: width * depth }
            } else {
                tree(width, depth, files, files_in)
            };
            let names = layout.names();
            let mut expected = BTreeSet::new();
            for index in start..start + len {
                let mut name = String::new();
                names.write_name(index, &mut name);
                let mut directory = String::new();
                names.write_directory_of(index, &mut directory);
                prop_assert_eq!(name.rsplit_once('/').map_or("", |(directory, _)| directory), &directory);
                for (end, _) in name.match_indices('/') {
                    expected.insert(name[..end].to_owned());
                }
            }
            let ranges = names.directories_of(start..start + len);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            let numbers: Vec<_> = ranges.into_iter().flatten().collect();
            for number in &numbers {
                let parent = names.parent_of(*number).map(|parent| path(&names, parent));
                let own = path(&names, *number);
                prop_assert_eq!(own.rsplit_once('/').map(|(parent, _)| parent.to_owned()), parent);
                prop_assert!(names.parent_of(*number).is_none_or(|parent| parent < *number));
            }
            let found: BTreeSet<_> = numbers.into_iter().map(|number| path(&names, number)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn files_of_a_directory_are_contiguous(width in 1..5u32, depth in 1..4u32, files in 1..5u64) {
            let layout = tree(width, depth, files, FilesIn::AllLevels);
            let names = layout.names();
            let order: Vec<_> = (0..layout.objects_checked().unwrap())
                .map(|index| names.directory_of(index).unwrap()).collect();
            let expected: Vec<_> = (0..names.directories())
                .flat_map(|number| std::iter::repeat_n(number, files as usize)).collect();
            prop_assert_eq!(order, expected);
        }
    }
}
