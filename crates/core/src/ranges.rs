//! Sets of indexes as sorted, disjoint, half-open ranges. What is done of a data set is such a set; it stays small
//! because work is leased in ranges. Deliberately a plain vector: a run holds tens of ranges, not millions.

use serde::{Deserialize, Serialize};

/// A set of `u64` as sorted, disjoint, non-adjacent, half-open ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RangeSet(Vec<(u64, u64)>);

impl RangeSet {
    /// The set of one range; empty where `start >= end`.
    #[must_use]
    pub fn of(start: u64, end: u64) -> Self {
        let mut set = Self::default();
        set.insert(start, end);
        set
    }

    /// The ranges in order.
    #[must_use]
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// How many indexes are in the set.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `start..end`, and returns how many of these indexes were not in the set before.
    pub fn insert(&mut self, start: u64, end: u64) -> u64 {
        if start >= end {
            return 0;
        }
        let first = self.0.partition_point(|range| range.1 < start);
        let last = self.0.partition_point(|range| range.0 <= end);
        let touched = &self.0[first..last];
        let had: u64 = touched.iter().map(|range| range.1.min(end).saturating_sub(range.0.max(start))).sum();
        let merged = match (touched.first(), touched.last()) {
            (Some(low), Some(high)) => (low.0.min(start), high.1.max(end)),
            _ => (start, end),
        };
        self.0.splice(first..last, [merged]);
        (end - start) - had
    }

    /// Adds every range of `other`.
    pub fn extend(&mut self, other: &Self) {
        for &(start, end) in &other.0 {
            self.insert(start, end);
        }
    }

    /// Takes `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let mut kept = Vec::with_capacity(self.0.len() + 1);
        for &(low, high) in &self.0 {
            kept.push((low, high.min(start)));
            kept.push((low.max(end), high));
        }
        kept.retain(|range| range.0 < range.1);
        self.0 = kept;
    }

    /// Takes up to `want` indexes off the front, as one contiguous range that ends, where it can, on a multiple of
    /// `align`; `None` when the set is empty.
    pub fn carve(&mut self, want: u64, align: u64) -> Option<(u64, u64)> {
        let (start, end) = *self.0.first()?;
        let target = start.saturating_add(want.max(1));
        let aligned = target.checked_next_multiple_of(align.max(1)).unwrap_or(u64::MAX);
        let cut = aligned.min(end);
        self.remove(start, cut);
        Some((start, cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn carving_keeps_directories_whole() {
        let mut set = RangeSet::of(0, 1000);
        assert_eq!(set.carve(10, 193), Some((0, 193)));
        assert_eq!(set.carve(200, 193), Some((193, 579)));
        assert_eq!(set.carve(5000, 193), Some((579, 1000)));
        assert_eq!(set.carve(1, 1), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..64, 0u64..16), 0..40)) {
            let (mut ranges, mut model) = (RangeSet::default(), BTreeSet::new());
            for (add, start, length) in steps {
                let end = start + length;
                if add {
                    let fresh = (start..end).filter(|index| model.insert(*index)).count() as u64;
                    prop_assert_eq!(ranges.insert(start, end), fresh);
                } else {
                    ranges.remove(start, end);
                    model.retain(|index| !(start..end).contains(index));
                }
                let flat: Vec<u64> = ranges.ranges().iter().flat_map(|&(low, high)| low..high).collect();
                prop_assert_eq!(&flat, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.len(), model.len() as u64);
                prop_assert!(ranges.ranges().windows(2).all(|pair| pair[0].1 < pair[1].0));
            }
        }
    }
}
