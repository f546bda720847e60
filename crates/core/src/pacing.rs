//! Open loop: when operations are meant to start.
//!
//! A rate is asked of the whole cluster. [`split_rate`] gives each agent, and each worker within it, an exact part,
//! and [`Arrivals`] turns that part into intended starts in nanoseconds since the stage's start. They depend on
//! nothing that happens: a slow answer never postpones the next start, which is what makes the loop open. How late
//! an operation really starts is for the engine to measure.
//!
//! Deliberately without a clock and without sleeping.

use crate::keys::share;
use crate::plan::Arrival;
use crate::rng::Stream;
use std::collections::VecDeque;

/// Thousandths of an operation per second, times nanoseconds per operation.
const MILLI_NS: u128 = 1_000_000_000_000;

/// The part of a rate, in thousandths of an operation per second, that falls to `agent` (from 0) of `agents`. The
/// parts add up to the whole exactly. The same function splits an agent's part over its workers.
#[must_use]
pub fn split_rate(milli_ops_per_s: u64, agents: u32, agent: u32) -> u64 {
    let part = share(milli_ops_per_s, agents, agent);
    part.end - part.start
}

/// By how much part `ordinal` (from 0) of a split rate should start later, in nanoseconds, so that deterministic
/// arrivals of all parts interleave instead of coming in bursts. A rate of 0 needs no offset.
#[must_use]
pub fn stagger_ns(milli_ops_per_s: u64, ordinal: u64) -> u64 {
    let offset = (u128::from(ordinal) * MILLI_NS).checked_div(u128::from(milli_ops_per_s)).unwrap_or(0);
    u64::try_from(offset).unwrap_or(u64::MAX)
}

/// The intended starts of one worker, in nanoseconds since the start of the stage, in ascending order.
///
/// As an iterator it is endless while the rate is positive; a rate of 0 gives `None` until it is changed.
#[derive(Clone, Debug)]
pub struct Arrivals {
    arrival: Arrival,
    random: Stream,
    milli_ops_per_s: u64,
    /// The next start.
    next_ns: Option<u64>,
    /// The last one handed out.
    last_ns: u64,
    /// Deterministic: where counting began, and how far it is. So no error ever adds up.
    base_ns: u64,
    count: u64,
    /// Random: what rounding to nanoseconds has left over so far, in [0, 1).
    remainder_ns: f64,
    /// Changes of the rate that are not reached yet: from when on, and to what.
    changes: VecDeque<(u64, u64)>,
}

impl Arrivals {
    /// Arrivals at a rate in thousandths per second. `seed` and `lane` make them repeatable; each worker of each
    /// agent needs a lane of its own. Deterministic arrivals begin at 0 exactly, random ones a gap later.
    #[must_use]
    pub fn new(arrival: Arrival, milli_ops_per_s: u64, seed: u64, lane: u64) -> Self {
        let mut arrivals = Self {
            arrival,
            random: Stream::new(seed, lane),
            milli_ops_per_s: 0,
            next_ns: None,
            last_ns: 0,
            base_ns: 0,
            count: 0,
            remainder_ns: 0.0,
            changes: VecDeque::new(),
        };
        arrivals.change(0, milli_ops_per_s);
        arrivals
    }

    /// The same arrivals, all of them later; see [`stagger_ns`].
    #[must_use]
    pub fn starting_at(mut self, offset_ns: u64) -> Self {
        self.base_ns = self.base_ns.saturating_add(offset_ns);
        self.next_ns = self.next_ns.map(|next| next.saturating_add(offset_ns));
        self
    }

    /// Changes the rate from `at_ns` on: starts that were due before keep their times, even where they have not been
    /// handed out yet, and the wait that is left at that instant is stretched by the ratio of the rates.
    /// What has been handed out is never taken back, and changes take effect in the order in which they were made.
    pub fn rebase(&mut self, at_ns: u64, milli_ops_per_s: u64) {
        let earliest = self.changes.back().map_or(0, |(at, _)| *at);
        self.changes.push_back((at_ns.max(earliest), milli_ops_per_s));
    }

    fn change(&mut self, at_ns: u64, milli_ops_per_s: u64) {
        let at_ns = at_ns.max(self.last_ns);
        let old = std::mem::replace(&mut self.milli_ops_per_s, milli_ops_per_s);
        self.next_ns = match self.next_ns {
            _ if milli_ops_per_s == 0 => None,
            Some(next) => {
                let left = u128::from(next.saturating_sub(at_ns));
                let stretched = left.saturating_mul(u128::from(old)) / u128::from(milli_ops_per_s);
                u64::try_from(stretched).ok().and_then(|left| at_ns.checked_add(left))
            }
            None if self.arrival == Arrival::Deterministic => Some(at_ns),
            None => self.after_gap(at_ns),
        };
        self.base_ns = self.next_ns.unwrap_or(at_ns);
        self.count = 0;
    }

    /// The start that follows one at `from_ns`, with a random gap.
    fn after_gap(&mut self, from_ns: u64) -> Option<u64> {
        let mean_ns = MILLI_NS as f64 / self.milli_ops_per_s as f64;
        let gap_ns = match self.arrival {
            Arrival::Poisson => -libm::log(self.random.unit_positive()) * mean_ns,
            Arrival::Uniform => 2.0 * self.random.unit() * mean_ns,
            Arrival::Deterministic => mean_ns,
        };
        let exact_ns = gap_ns + self.remainder_ns;
        let whole_ns = libm::floor(exact_ns);
        self.remainder_ns = exact_ns - whole_ns;
        // Nothing comes after the end of time, 584 years from the start.
        if whole_ns < u64::MAX as f64 { from_ns.checked_add(whole_ns as u64) } else { None }
    }

    /// The start that follows `at_ns`.
    fn following(&mut self, at_ns: u64) -> Option<u64> {
        if self.arrival != Arrival::Deterministic {
            return self.after_gap(at_ns);
        }
        self.count += 1;
        let since_base = u128::from(self.count) * MILLI_NS / u128::from(self.milli_ops_per_s);
        u64::try_from(since_base).ok().and_then(|since| self.base_ns.checked_add(since))
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    #[inline]
    fn next(&mut self) -> Option<u64> {
        while let Some((at_ns, milli_ops_per_s)) = self.changes.front().copied() {
            if self.next_ns.is_some_and(|next| next < at_ns) {
                break;
            }
            self.changes.pop_front();
            self.change(at_ns, milli_ops_per_s);
        }
        let next = self.next_ns?;
        self.last_ns = next;
        self.next_ns = self.following(next);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn deterministic_arrivals_are_exact() {
        let starts: Vec<_> = Arrivals::new(Arrival::Deterministic, 3_000, 1, 0).take(7).collect();
        assert_eq!(
            starts,
            [0, 333_333_333, 666_666_666, SECOND_NS, 1_333_333_333, 1_666_666_666, 2 * SECOND_NS]
        );
        let slow: Vec<_> = Arrivals::new(Arrival::Deterministic, 1, 1, 0).take(3).collect();
        assert_eq!(slow, [0, 1000 * SECOND_NS, 2000 * SECOND_NS]);
        assert_eq!(Arrivals::new(Arrival::Deterministic, 0, 1, 0).next(), None);
    }

    #[test]
    fn deterministic_arrivals_do_not_drift() {
        // 7 per second: no gap is a whole number of nanoseconds.
        let mut arrivals = Arrivals::new(Arrival::Deterministic, 7_000, 1, 0);
        arrivals.next();
        arrivals.count = 7_000_000_000 - 1;
        arrivals.next();
        assert_eq!(arrivals.next(), Some(1_000_000_000 * SECOND_NS));
    }

    #[test]
    fn random_arrivals_keep_their_mean_rate() {
        for (arrival, variance) in [(Arrival::Poisson, 1.0), (Arrival::Uniform, 1.0 / 3.0)] {
            for milli_ops_per_s in [50_000, 3_000_000_000, 3_000_000_000_000] {
                let count = 300_000;
                let mut previous = 0;
                let mean = MILLI_NS as f64 / milli_ops_per_s as f64;
                let mut squares = 0.0;
                for start in Arrivals::new(arrival, milli_ops_per_s, 1, 0).take(count) {
                    let gap = (start - previous) as f64;
                    squares += (gap / mean - 1.0).powi(2);
                    previous = start;
                }
                let ratio = previous as f64 / (mean * count as f64);
                assert!((ratio - 1.0).abs() < 0.01, "{arrival:?} {ratio}");
                // Below a few nanoseconds, rounding is most of the variance.
                if mean > 100.0 {
                    assert!((squares / count as f64 / variance - 1.0).abs() < 0.03, "{arrival:?} {squares}");
                }
            }
        }
    }

    #[test]
    fn lanes_are_independent_and_repeatable() {
        let first = |lane| Arrivals::new(Arrival::Poisson, 1_000_000, 9, lane).take(5).collect::<Vec<_>>();
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn staggered_parts_interleave() {
        let (parts, rate) = (12, 120_000);
        let mut all = Vec::new();
        for ordinal in 0..parts {
            let part = split_rate(rate, parts, ordinal);
            let offset = stagger_ns(rate, u64::from(ordinal));
            all.extend(Arrivals::new(Arrival::Deterministic, part, 1, 0).starting_at(offset).take(10));
        }
        all.sort_unstable();
        let expected: Vec<_> = Arrivals::new(Arrival::Deterministic, rate, 1, 0).take(120).collect();
        assert_eq!(all, expected);
        assert_eq!(stagger_ns(0, 5), 0);
    }

    #[test]
    fn a_changed_rate_holds_from_its_instant_on() {
        let mut arrivals = Arrivals::new(Arrival::Deterministic, 10_000, 1, 0);
        assert_eq!(arrivals.next(), Some(0));
        // Made early, and while the reader lags behind: what was due before still comes.
        arrivals.rebase(250_000_000, 20_000);
        arrivals.rebase(400_000_000, 0);
        arrivals.rebase(SECOND_NS, 1_000);
        let starts: Vec<_> = arrivals.by_ref().take(8).collect();
        assert_eq!(
            starts.iter().map(|ns| ns / 1_000_000).collect::<Vec<_>>(),
            [100, 200, 275, 325, 375, 1000, 2000, 3000]
        );
        // What has been handed out stays: the change comes into effect after it.
        arrivals.rebase(0, 10_000);
        assert_eq!(arrivals.next(), Some(3_100_000_000));
    }

    #[test]
    fn a_changed_random_rate_keeps_its_mean() {
        let mut arrivals = Arrivals::new(Arrival::Poisson, 1_000_000, 1, 0);
        arrivals.rebase(10 * SECOND_NS, 4_000_000);
        let starts: Vec<_> = arrivals.take_while(|ns| *ns < 20 * SECOND_NS).collect();
        let before = starts.iter().filter(|ns| **ns < 10 * SECOND_NS).count();
        assert!(before.abs_diff(10_000) < 400 && (starts.len() - before).abs_diff(40_000) < 800, "{before}");
        assert!(starts.is_sorted());
    }

    proptest! {
        #[test]
        fn parts_of_a_rate_add_up(rate in any::<u64>(), agents in 1..2000u32) {
            let parts: Vec<_> = (0..agents).map(|agent| split_rate(rate, agents, agent)).collect();
            prop_assert_eq!(parts.iter().sum::<u64>(), rate);
            prop_assert!(parts.iter().max().unwrap() - parts.iter().min().unwrap() <= 1);
        }
    }
}
