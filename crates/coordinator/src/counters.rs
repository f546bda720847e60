//! What this coordinator has done since it began, over all runs: numbers that only grow, for whoever watches it.
//!
//! Operations come from the seconds that agents report, and from their results where those say more, so that a run's
//! share is what its report says. Deliberately nothing by run: names of runs are as many as people make them.

use crate::buckets::{Buckets, RESPONSE_BOUNDS_NS};
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::results::totals::Totals;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Operations of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Those that succeeded.
    pub count: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Those that failed, by [`ErrorClass::index`].
    pub errors: [u64; ErrorClass::ALL.len()],
    /// Response times within [`RESPONSE_BOUNDS_NS`].
    pub response: Buckets,
}

impl Operations {
    fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.errors.iter_mut().zip(more.errors).for_each(|(mine, theirs)| *mine += theirs);
        self.response.add(&more.response);
    }

    /// What this has and `known` has not.
    fn beyond(mut self, known: &Self) -> Self {
        self.count = self.count.saturating_sub(known.count);
        self.bytes = self.bytes.saturating_sub(known.bytes);
        self.errors
            .iter_mut()
            .zip(known.errors)
            .for_each(|(mine, theirs)| *mine = mine.saturating_sub(theirs));
        self.response.take_away(&known.response);
        self
    }
}

/// Operations by what they are.
type ByOp = BTreeMap<Op, Operations>;

fn by_op(totals: &Totals) -> ByOp {
    let mut by_op = ByOp::new();
    for (op, _, cell) in totals.iter() {
        let response = cell.response();
        by_op.entry(op).or_default().add(&Operations {
            count: cell.count(),
            bytes: cell.bytes,
            errors: cell.errors,
            response: Buckets {
                counts: response.histogram.counts_within(RESPONSE_BOUNDS_NS),
                sum_ns: response.sum_ns,
            },
        });
    }
    by_op
}

/// Everything that is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Operations by kind of stage (`prepare`, `execute`, `cleanup`) and by what they are.
    pub operations: BTreeMap<(&'static str, Op), Operations>,
    /// Skews of starts within [`crate::buckets::SKEW_BOUNDS_NS`], one per stage that was started together.
    pub start_skew: Buckets,
    /// Sessions that are open now.
    pub sessions_open: u64,
    /// Sessions of attempts that had one before.
    pub reconnects: u64,
    /// Calls that were refused: not proven, or of no run here.
    pub calls_refused: u64,
    /// Seconds of agents that were taken in.
    pub seconds_reported: u64,
}

/// Counts, shared by all runs.
#[derive(Debug, Default)]
pub struct Counters(Mutex<Counted>);

impl Counters {
    /// All of it, now.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Counted)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a session for as long as the answer lives.
    pub(crate) fn session(self: &Arc<Self>) -> OpenSession {
        self.change(|counted| counted.sessions_open += 1);
        OpenSession(Arc::clone(self))
    }
}

/// An open session.
#[derive(Debug)]
pub(crate) struct OpenSession(Arc<Counters>);

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.change(|counted| counted.sessions_open = counted.sessions_open.saturating_sub(1));
    }
}

/// One attempt of one agent in one stage.
type Key = (u32, u32, u32);

/// The share of one run: what of each attempt was counted, so that nothing counts twice.
#[derive(Debug)]
pub(crate) struct Tally {
    counters: Arc<Counters>,
    /// Kind of each stage of the plan.
    kinds: Vec<&'static str>,
    /// `None`: its result is in, and nothing follows.
    counted: HashMap<Key, Option<ByOp>>,
}

impl Tally {
    pub(crate) fn new(counters: Arc<Counters>, kinds: Vec<&'static str>) -> Self {
        Self { counters, kinds, counted: HashMap::new() }
    }

    /// A second was reported.
    pub(crate) fn second(&mut self, key: Key, totals: &Totals) {
        let known = self.counted.entry(key).or_insert_with(|| Some(ByOp::new()));
        let Some(known) = known else { return };
        let more = by_op(totals);
        for (op, operations) in &more {
            known.entry(*op).or_default().add(operations);
        }
        self.add(key.0, &more);
        self.counters.change(|counted| counted.seconds_reported += 1);
    }

    /// What a coordinator before has counted already: nothing more of it counts here.
    pub(crate) fn counted_before(&mut self, key: Key) {
        self.counted.insert(key, None);
    }

    /// What an attempt has reported to a coordinator before: only what comes beyond that counts here.
    pub(crate) fn restored(&mut self, key: Key, totals: &Totals) {
        self.counted.entry(key).or_insert_with(|| Some(by_op(totals)));
    }

    /// The result itself is in: what was not reported of it counts now.
    pub(crate) fn result(&mut self, key: Key, totals: &Totals) {
        let known = self.counted.insert(key, None).unwrap_or_else(|| Some(ByOp::new()));
        let Some(mut known) = known else { return };
        let more = by_op(totals).into_iter();
        let more = more.map(|(op, all)| (op, all.beyond(&known.remove(&op).unwrap_or_default()))).collect();
        self.add(key.0, &more);
    }

    fn add(&self, stage: u32, more: &ByOp) {
        let kind = self.kinds.get(stage as usize).copied().unwrap_or("other");
        self.counters.change(|counted| {
            for (op, operations) in more {
                counted.operations.entry((kind, *op)).or_default().add(operations);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::results::cell::Sample;

    fn totals(gets: u64, each_ns: u64) -> Totals {
        let mut totals = Totals::new();
        for _ in 0..gets {
            let sample = Sample {
                op: Op::Get,
                size_bytes: 100,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns: each_ns,
            };
            totals.record_ok(&sample, false, false);
        }
        totals
    }

    #[test]
    fn what_was_reported_and_what_only_the_result_says_counts_once() {
        let counters = Arc::new(Counters::default());
        let mut tally = Tally::new(Arc::clone(&counters), vec!["prepare", "execute"]);
        tally.second((1, 0, 0), &totals(3, 40_000));
        tally.second((1, 1, 0), &totals(2, 40_000));
        tally.result((1, 0, 0), &totals(10, 40_000));
        // Neither a second that comes late nor the result once more adds anything.
        tally.second((1, 0, 0), &totals(5, 40_000));
        tally.result((1, 0, 0), &totals(10, 40_000));
        let counted = counters.counted();
        let gets = &counted.operations[&("execute", Op::Get)];
        assert_eq!((gets.count, gets.bytes), (12, 1_200));
        assert_eq!(gets.response.counts[2], 12, "40 µs are within 50 µs: {:?}", gets.response);
        assert_eq!(gets.response.sum_ns, 12 * 40_000);
        assert_eq!(counted.seconds_reported, 2);
    }

    #[test]
    fn a_session_counts_while_it_lives() {
        let counters = Arc::new(Counters::default());
        let session = counters.session();
        assert_eq!(counters.counted().sessions_open, 1);
        drop(session);
        assert_eq!(counters.counted().sessions_open, 0);
    }
}
