//! Who owns which objects, which object an operation takes next, and which operation comes next.
//!
//! All of it is arithmetic on indexes: no list, no table of ranks, no shared counter. Each worker has a
//! [`KeyChooser`] per operation and a random [`Stream`] of its own, and they need nothing from one another.
//!
//! This deliberately knows nothing of new objects: what stages put is leased (see the coordination of chunks).

use crate::dataset::domain;
use crate::plan::KeyChoice;
use crate::rng::{Permutation, Stream, word};
use std::ops::Range;

/// The part of `0..len` that belongs to `agent` (from 0) of `agents`. All parts together are the whole, none
/// overlaps another, and none is larger than another by more than 1. Empty for an agent beyond the last.
#[must_use]
pub fn share(len: u64, agents: u32, agent: u32) -> Range<u64> {
    if agent >= agents {
        return len..len;
    }
    let (agents, agent) = (u64::from(agents), u64::from(agent));
    let (each, more) = (len / agents, len % agents);
    let start = agent * each + agent.min(more);
    start..start + each + u64::from(agent < more)
}

/// The part of a range that belongs to `worker` (from 0) of `workers`; see [`share`].
#[must_use]
pub fn sub_share(range: &Range<u64>, workers: u32, worker: u32) -> Range<u64> {
    let part = share(range.end.saturating_sub(range.start), workers, worker);
    range.start + part.start..range.start + part.end
}

/// Chooses among existing objects, for one worker.
#[derive(Clone, Debug)]
pub struct KeyChooser {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Empty,
    Uniform { len: u64 },
    Zipf { zipf: Zipf, scatter: Permutation },
    HotSet { hot: u64, len: u64, operations: f64, scatter: Permutation },
    Walk { range: Range<u64>, next: u64, again: bool },
}

impl KeyChooser {
    /// For worker `worker` of `workers` in an agent that owns `share` of `len` objects. `seed` is the data
    /// set's: all agents must agree on which objects are popular.
    ///
    /// [`KeyChoice::Sequential`] and [`KeyChoice::Once`] walk the worker's [`sub_share`]. Where an agent has more
    /// workers than objects, those without any walk the agent's whole share for `Sequential`, and do nothing
    /// for `Once`.
    #[must_use]
    pub fn new(
        choice: KeyChoice,
        seed: u64,
        len: u64,
        share: &Range<u64>,
        workers: u32,
        worker: u32,
    ) -> Self {
        let scatter = || Permutation::new(word(seed, domain::POPULARITY), len);
        let kind = match choice {
            _ if len == 0 => Kind::Empty,
            KeyChoice::Uniform => Kind::Uniform { len },
            KeyChoice::Zipf { exponent } => Kind::Zipf { zipf: Zipf::new(len, exponent), scatter: scatter() },
            KeyChoice::HotSet { objects_percent, operations_percent } => {
                let hot = (u128::from(len) * u128::from(objects_percent)).div_ceil(100);
                Kind::HotSet {
                    hot: (hot as u64).clamp(1, len),
                    len,
                    operations: f64::from(operations_percent) / 100.0,
                    scatter: scatter(),
                }
            }
            KeyChoice::Sequential | KeyChoice::Once => {
                let again = choice == KeyChoice::Sequential;
                let mut range = sub_share(share, workers, worker);
                let mut next = range.start;
                if again && range.is_empty() && !share.is_empty() {
                    range = share.clone();
                    next = range.start + u64::from(worker) % (range.end - range.start);
                }
                Kind::Walk { range, next, again }
            }
        };
        Self { kind }
    }

    /// The index of the next object; `None` where there is none (left). Random choices take what they need from
    /// `random`.
    #[inline]
    pub fn next_index(&mut self, random: &mut Stream) -> Option<u64> {
        match &mut self.kind {
            Kind::Empty => None,
            Kind::Uniform { len } => Some(random.below(*len)),
            Kind::Zipf { zipf, scatter } => Some(scatter.apply(zipf.draw(random) - 1)),
            Kind::HotSet { hot, len, operations, scatter } => {
                let is_hot = random.unit() < *operations || hot == len;
                let rank = if is_hot { random.below(*hot) } else { *hot + random.below(*len - *hot) };
                Some(scatter.apply(rank))
            }
            Kind::Walk { range, next, again } => {
                if *next >= range.end {
                    if !*again || range.is_empty() {
                        return None;
                    }
                    *next = range.start;
                }
                *next += 1;
                Some(*next - 1)
            }
        }
    }
}

/// Ranks 1..=n with probability proportional to `rank^-exponent`, by rejection-inversion: constant time and memory
/// for any n, fewer than two tries on average. Above 2^53 ranks are as coarse as an `f64`.
///
/// Source: Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions"
/// (1996), in the numerically stable form of Apache Commons' `RejectionInversionZipfSampler`.
#[derive(Clone, Copy, Debug)]
struct Zipf {
    ranks: u64,
    exponent: f64,
    integral_first: f64,
    integral_last: f64,
    shortcut: f64,
}

impl Zipf {
    fn new(ranks: u64, exponent: f64) -> Self {
        // Beyond 100 all weight is on the first rank anyway; NaN and negative exponents become 0, uniform.
        let exponent = if exponent > 0.0 { exponent.min(100.0) } else { 0.0 };
        let mut zipf = Self { ranks, exponent, integral_first: 0.0, integral_last: 0.0, shortcut: 0.0 };
        zipf.integral_first = zipf.integral(1.5) - 1.0;
        zipf.integral_last = zipf.integral(ranks as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.integral_inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    #[inline]
    fn draw(&self, random: &mut Stream) -> u64 {
        loop {
            let u = self.integral_last + random.unit() * (self.integral_first - self.integral_last);
            let x = self.integral_inverse(u);
            let rank = ((x + 0.5) as u64).clamp(1, self.ranks);
            let k = rank as f64;
            if k - x <= self.shortcut || u >= self.integral(k + 0.5) - self.density(k) {
                return rank;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        libm::exp(-self.exponent * libm::log(x))
    }

    /// Integral of [`Zipf::density`] from 1 to `x`: `(x^(1-e) - 1) / (1 - e)`, or `ln x` for `e = 1`.
    fn integral(&self, x: f64) -> f64 {
        let log = libm::log(x);
        let t = (1.0 - self.exponent) * log;
        let ratio = if t.abs() > 1e-8 { libm::expm1(t) / t } else { 1.0 + t / 2.0 * (1.0 + t / 3.0) };
        ratio * log
    }

    fn integral_inverse(&self, x: f64) -> f64 {
        // Rounding may lead just below -1, where there is no logarithm.
        let t = (x * (1.0 - self.exponent)).max(-1.0);
        let ratio = if t.abs() > 1e-8 { libm::log1p(t) / t } else { 1.0 - t * (0.5 - t / 3.0) };
        libm::exp(ratio * x)
    }
}

/// Picks operations by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpMix {
    /// Sums of the weights up to and including each operation.
    sums: Vec<u64>,
}

impl OpMix {
    /// A mix of operations with these weights, in the order of the plan. `None` where no weight is positive.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut total = 0;
        let sums: Vec<u64> = weights
            .into_iter()
            .map(|weight| {
                total += u64::from(weight);
                total
            })
            .collect();
        (total > 0).then_some(Self { sums })
    }

    /// The position of the next operation in the plan's list. Lists are short: walking them beats a table.
    #[inline]
    pub fn pick(&self, random: &mut Stream) -> usize {
        let [.., total] = self.sums[..] else { return 0 };
        let drawn = random.below(total);
        self.sums.iter().take_while(|sum| **sum <= drawn).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chooser(choice: KeyChoice, len: u64) -> KeyChooser {
        KeyChooser::new(choice, 77, len, &(0..len), 1, 0)
    }

    fn counts(choice: KeyChoice, len: u64, draws: u64) -> Vec<u64> {
        let (mut chooser, mut random) = (chooser(choice, len), Stream::new(3, 0));
        let mut counts = vec![0; len as usize];
        for _ in 0..draws {
            counts[chooser.next_index(&mut random).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn uniform_is_uniform() {
        let counts = counts(KeyChoice::Uniform, 100, 1_000_000);
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_matches_theory() {
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.2, 3.0] {
            let draws = 1_000_000;
            let mut counts = counts(KeyChoice::Zipf { exponent }, 1000, draws);
            counts.sort_unstable_by(|one, other| other.cmp(one));
            let weights: Vec<_> = (1..=1000).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let total: f64 = weights.iter().sum();
            // Sorting pushes the counts of nearly equal ranks apart, so compare sums over the first ranks.
            for ranks in [1, 10, 100, 1000] {
                let expected = weights[..ranks].iter().sum::<f64>() / total;
                let got = counts[..ranks].iter().sum::<u64>() as f64 / draws as f64;
                assert!(
                    (got / expected - 1.0).abs() < if exponent < 0.4 { 0.15 } else { 0.03 },
                    "{exponent} {ranks}"
                );
            }
        }
    }

    #[test]
    fn zipf_takes_any_number_of_objects() {
        let mut random = Stream::new(3, 0);
        for (len, exponent) in
            [(1, 0.99), (2, 1.0), (1 << 63, 0.99), (1 << 63, 0.01), (u64::MAX, 100.0), (9, f64::NAN)]
        {
            let mut chooser = chooser(KeyChoice::Zipf { exponent }, len);
            assert!((0..10_000).all(|_| chooser.next_index(&mut random).unwrap() < len), "{len} {exponent}");
        }
    }

    #[test]
    fn popular_objects_are_scattered_and_agreed_upon() {
        let counts = counts(KeyChoice::Zipf { exponent: 1.2 }, 10_000, 100_000);
        let popular: Vec<_> = (0..10_000).filter(|index| counts[*index] > 300).collect();
        assert!(
            popular.len() > 10 && popular[0] < 3_000 && popular[popular.len() - 1] > 7_000,
            "{popular:?}"
        );
        let draw = |worker| {
            let choice = KeyChoice::Zipf { exponent: 100.0 };
            KeyChooser::new(choice, 77, 10_000, &(0..5), 9, worker)
                .next_index(&mut Stream::new(3, u64::from(worker)))
        };
        assert_eq!(draw(0), draw(8));
    }

    #[test]
    fn a_hot_set_gets_its_share() {
        let choice =
            |objects_percent, operations_percent| KeyChoice::HotSet { objects_percent, operations_percent };
        let mut sorted = counts(choice(20, 80), 100, 1_000_000);
        sorted.sort_unstable();
        assert!((795_000..805_000).contains(&sorted[80..].iter().sum::<u64>()), "{sorted:?}");
        assert!(sorted[0] > 2_000 && sorted[79] < 3_000 && sorted[80] > 38_000, "{sorted:?}");
        assert!(counts(choice(100, 50), 10, 10_000).iter().all(|count| *count > 800));
        assert_eq!(counts(choice(1, 100), 10, 100).iter().filter(|count| **count > 0).count(), 1);
    }

    #[test]
    fn walks_are_complete() {
        let mut random = Stream::new(3, 0);
        let own = share(103, 4, 2);
        let mut once: Vec<u64> = Vec::new();
        for worker in 0..5 {
            let mut chooser = KeyChooser::new(KeyChoice::Once, 1, 103, &own, 5, worker);
            once.extend(std::iter::from_fn(|| chooser.next_index(&mut random)));
            assert_eq!(chooser.next_index(&mut random), None);
        }
        assert_eq!(once, own.clone().collect::<Vec<_>>());
        let mut again = KeyChooser::new(KeyChoice::Sequential, 1, 103, &own, 13, 12);
        assert_eq!([0; 5].map(|_: u8| again.next_index(&mut random)), [76, 77, 76, 77, 76].map(Some));
        let mut crowd = KeyChooser::new(KeyChoice::Sequential, 1, 103, &(5..8), 10, 7);
        assert_eq!([0; 4].map(|_: u8| crowd.next_index(&mut random)), [6, 7, 5, 6].map(Some));
        let mut none = KeyChooser::new(KeyChoice::Sequential, 1, 103, &(5..5), 10, 7);
        assert_eq!(none.next_index(&mut random), None);
        assert_eq!(chooser(KeyChoice::Uniform, 0).next_index(&mut random), None);
    }

    #[test]
    fn mixes_follow_their_weights() {
        let mix = OpMix::new([70, 0, 20, 10]).unwrap();
        let (mut random, mut counts) = (Stream::new(3, 0), [0u32; 4]);
        for _ in 0..100_000 {
            counts[mix.pick(&mut random)] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, expected) in [(counts[0], 70_000), (counts[2], 20_000), (counts[3], 10_000)] {
            assert!(count.abs_diff(expected) < 500, "{counts:?}");
        }
        assert_eq!((OpMix::new([]), OpMix::new([0, 0])), (None, None));
    }

    proptest! {
        #[test]
        fn shares_are_disjoint_complete_and_balanced(
            len in prop_oneof![0..1000u64, any::<u64>()], agents in prop_oneof![1..50u32, 1..5000u32],
        ) {
            let mut end = 0;
            let (mut least, mut most) = (u64::MAX, 0);
            for agent in 0..agents {
                let part = share(len, agents, agent);
                prop_assert_eq!(part.start, end);
                end = part.end;
                let size = part.end - part.start;
                (least, most) = (least.min(size), most.max(size));
            }
            prop_assert_eq!(end, len);
            prop_assert!(most - least <= 1);
            prop_assert!(share(len, agents, agents).is_empty());
        }
    }
}
