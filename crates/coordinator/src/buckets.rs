//! Counts of durations within bounds, for whoever watches from outside: coarse, so that each costs a few bytes.
//!
//! All bounds are rungs of one ladder, so that what is counted here can be laid beside what is counted there.
//! Deliberately not [`lockstep_core::results::histogram`], whose buckets are fine enough to report percentiles.

/// The ladder of bounds, nanoseconds: 10 µs to 50 s in steps of 1, 2.5 and 5.
const LADDER_NS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    25_000_000_000,
    50_000_000_000,
];
/// Upper bounds of response times that are told apart, nanoseconds: 10 µs to 50 s.
pub const RESPONSE_BOUNDS_NS: &[u64] = &LADDER_NS;
/// Upper bounds of skews of starts that are told apart, nanoseconds: 100 µs to 10 s.
pub const SKEW_BOUNDS_NS: &[u64] = LADDER_NS.split_at(19).0.split_at(3).1;
/// Upper bounds of what takes time in an operator, nanoseconds: 1 ms to 50 s.
pub const TIME_BOUNDS_NS: &[u64] = LADDER_NS.split_at(6).1;

/// Counts of durations within bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// Within each bound and not within the one before; the last one is beyond all. Empty before the first.
    pub counts: Vec<u64>,
    /// Sum of all, nanoseconds.
    pub sum_ns: u64,
}

impl Buckets {
    /// Adds what was counted within the same bounds.
    pub fn add(&mut self, more: &Self) {
        self.counts.resize(self.counts.len().max(more.counts.len()), 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&more.counts) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.saturating_add(more.sum_ns);
    }

    /// Takes away what was counted within the same bounds, as far as it is there.
    pub fn take_away(&mut self, known: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&known.counts) {
            *mine = mine.saturating_sub(*theirs);
        }
        self.sum_ns = self.sum_ns.saturating_sub(known.sum_ns);
    }

    /// Counts one duration.
    pub fn observe(&mut self, ns: u64, bounds_ns: &[u64]) {
        self.counts.resize(bounds_ns.len() + 1, 0);
        self.counts[bounds_ns.partition_point(|bound| *bound < ns)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_within_the_first_bound_that_holds_it() {
        let mut buckets = Buckets::default();
        for ns in [100_000, 100_001, u64::MAX] {
            buckets.observe(ns, SKEW_BOUNDS_NS);
        }
        assert_eq!((buckets.counts[0], buckets.counts[1], buckets.counts.last()), (1, 1, Some(&1)));
    }

    #[test]
    fn bounds_are_the_rungs_that_they_say() {
        assert!(LADDER_NS.is_sorted_by(|below, above| below < above));
        let ends = |bounds: &[u64]| (bounds[0], bounds[bounds.len() - 1]);
        assert_eq!(ends(RESPONSE_BOUNDS_NS), (10_000, 50_000_000_000));
        assert_eq!(ends(SKEW_BOUNDS_NS), (100_000, 10_000_000_000));
        assert_eq!(ends(TIME_BOUNDS_NS), (1_000_000, 50_000_000_000));
    }

    #[test]
    fn what_is_taken_away_again_was_never_there() {
        let mut known = Buckets::default();
        known.observe(20_000, RESPONSE_BOUNDS_NS);
        let mut all = known.clone();
        all.observe(30_000, RESPONSE_BOUNDS_NS);
        let mut rest = all.clone();
        rest.take_away(&known);
        assert_eq!((rest.counts[1], rest.counts[2], rest.sum_ns), (0, 1, 30_000));
        rest.add(&known);
        assert_eq!(rest, all);
    }
}
