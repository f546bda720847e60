//! The pool of leased work of one stage: who holds what, what is done, how large the next lease is.
//!
//! Architecture invariant: what is leased, what is free and what is done partition the work. A lease that is
//! returned is free again, so that loss, resume, rebalancing and stragglers are one mechanism.

use super::standing::FinishedWork;
use crate::lease::{Lease, LeaseDone, LeaseKind};
use crate::pairs;
use crate::ranges::RangeSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How long an agent should work on one lease: short enough that little is done again after a loss, long enough
/// that asking costs nothing.
const LEASE_TARGET_NS: u64 = 1_000_000_000;
/// How much larger than the one before a lease may be.
const LEASE_GROWTH_MAX: u64 = 4;
/// Leases that an agent holds at a time, so that it never waits for the next.
pub const LEASES_IN_HAND: usize = 2;

/// Who holds a lease: index and attempt.
pub type Holder = (u32, u32);

/// What one holder said of the leases that it finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Objects that are done, by key space.
    #[serde(with = "pairs")]
    pub done: BTreeMap<Option<u32>, RangeSet>,
    /// Objects that it wrote or deleted.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Bytes that it wrote.
    pub bytes: u64,
}

/// The pool of one stage, or the put ranges of one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pool {
    kind: LeaseKind,
    #[serde(with = "pairs")]
    free: BTreeMap<Option<u32>, RangeSet>,
    open: BTreeMap<u64, (Holder, Lease)>,
    #[serde(with = "pairs")]
    done: BTreeMap<Option<u32>, RangeSet>,
    #[serde(with = "pairs")]
    given: BTreeMap<Option<u32>, RangeSet>,
    #[serde(with = "pairs")]
    finished: BTreeMap<Holder, Finished>,
    next_size: BTreeMap<u32, u64>,
    /// Put ranges are given out only below these bounds, which the places' markers bear.
    #[serde(with = "pairs")]
    allowed: BTreeMap<Option<u32>, u64>,
    first_size: u64,
    align: u64,
    total: u64,
    /// Where the first of what may be given out begins.
    base: u64,
    /// Objects that were written or deleted.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// Indexes that went back to the pool from a lost or straggling agent, and so may be done twice.
    pub returned: u64,
}

impl Pool {
    /// A pool over `free` ranges per key space. `first_size`: size of an agent's first lease; `align`: leases end on
    /// multiples of this where they can (files of a directory stay together).
    #[must_use]
    pub fn new(kind: LeaseKind, free: BTreeMap<Option<u32>, RangeSet>, first_size: u64, align: u64) -> Self {
        // Put ranges of many key spaces are more than a word can count.
        let total = free.values().map(RangeSet::len).fold(0, u64::saturating_add);
        let firsts = free.values().filter_map(|set| set.ranges().first());
        let base = firsts.map(|(start, _)| *start).min().unwrap_or(0);
        Self {
            kind,
            free,
            open: BTreeMap::new(),
            done: BTreeMap::new(),
            given: BTreeMap::new(),
            finished: BTreeMap::new(),
            next_size: BTreeMap::new(),
            allowed: BTreeMap::new(),
            first_size: first_size.max(1),
            align: align.max(1),
            total,
            base,
            changed: 0,
            unchanged: 0,
            bytes: 0,
            returned: 0,
        }
    }

    /// How much there is in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How much is done.
    #[must_use]
    pub fn done_len(&self) -> u64 {
        self.done.values().map(RangeSet::len).sum()
    }

    /// What is done, per key space.
    #[must_use]
    pub fn done(&self) -> &BTreeMap<Option<u32>, RangeSet> {
        &self.done
    }

    /// What may exist on storage, per key space: everything that was ever given out. For put ranges, less what
    /// their holders said they did not use.
    #[must_use]
    pub fn touched(&self) -> BTreeMap<Option<u32>, RangeSet> {
        self.given.clone()
    }

    /// Where the last of [`Pool::touched`] in `space` ends; 0 where there is nothing.
    #[must_use]
    pub fn touched_below(&self, space: Option<u32>) -> u64 {
        self.given.get(&space).and_then(|set| set.ranges().last()).map_or(0, |(_, end)| *end)
    }

    /// What `holder` said of the leases that it finished: exact also when it is lost before it hands in its result.
    /// Kept for objects of the data set; put ranges are no part of it.
    #[must_use]
    pub fn finished_by(&self, holder: Holder) -> Option<&Finished> {
        self.finished.get(&holder)
    }

    /// Whether something of `space` is left to be given out.
    #[must_use]
    pub fn has_free(&self, space: Option<u32>) -> bool {
        self.free.get(&space).is_some_and(|free| !free.is_empty())
    }

    /// Whether nothing is free and nothing is open.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.open.is_empty() && self.free.values().all(RangeSet::is_empty)
    }

    /// The marker of a place bears this bound now: puts of `space` may use what lies below it.
    pub fn allow(&mut self, space: Option<u32>, below: u64) {
        let allowed = self.allowed.entry(space).or_default();
        *allowed = below.max(*allowed);
    }

    /// The bound that the marker of a place is known to bear; 0 where it bears none.
    #[must_use]
    pub fn allowed_below(&self, space: Option<u32>) -> u64 {
        self.allowed.get(&space).copied().unwrap_or(0)
    }

    /// Whether there is something in `space` that puts may use.
    #[must_use]
    pub fn is_allowed(&self, space: Option<u32>) -> bool {
        self.free.get(&space).is_some_and(|free| self.room(space, free) > 0)
    }

    /// How much of the first free range of `space` may be given out.
    fn room(&self, space: Option<u32>, free: &RangeSet) -> u64 {
        let Some(&(start, end)) = free.ranges().first() else { return 0 };
        let below = match self.kind {
            LeaseKind::Put => self.allowed_below(space),
            LeaseKind::Prepare | LeaseKind::Cleanup | LeaseKind::Operations => u64::MAX,
        };
        end.min(below).saturating_sub(start)
    }

    /// Nothing below this index of `space` is given out: another run used it.
    pub fn skip(&mut self, space: Option<u32>, below: u64) {
        if let Some(free) = self.free.get_mut(&space) {
            free.remove(0, below);
        }
    }

    /// Below which index everything lies that was ever given out in `space`; 0 where nothing was.
    #[must_use]
    pub fn given_below(&self, space: Option<u32>) -> u64 {
        // Given in ascending order, and never twice: what is in front of the free rest was given.
        let first = self.free.get(&space).and_then(|free| free.ranges().first());
        first.map_or(0, |(start, _)| *start)
    }

    /// Size of a holder's first lease.
    #[must_use]
    pub fn first_size(&self) -> u64 {
        self.first_size
    }

    /// Objects a second, of everybody together, as the last leases showed; 0 before the first one is finished.
    #[must_use]
    pub fn speed(&self) -> u64 {
        // Leases are sized to last a second each.
        self.next_size.values().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// How many leases `index` holds.
    #[must_use]
    pub fn held_by(&self, holder: Holder) -> usize {
        self.open.values().filter(|(by, _)| *by == holder).count()
    }

    /// A lease for `holder`, if it holds fewer than [`LEASES_IN_HAND`] and there is work for it. `agents`: how many
    /// share a key space that nobody owns; near its end leases shrink so that all end together. `adopt`: key spaces of agents that are
    /// gone for good, which others may finish.
    pub fn lease(
        &mut self,
        holder: Holder,
        id: u64,
        stage: u32,
        agents: u32,
        adopt: &[u32],
    ) -> Option<Lease> {
        if self.held_by(holder) >= LEASES_IN_HAND {
            return None;
        }
        let spaces = [None, Some(holder.0)].into_iter().chain(adopt.iter().map(|index| Some(*index)));
        let free = |space: &Option<u32>| self.free.get(space);
        let space =
            spaces.into_iter().find(|space| free(space).is_some_and(|set| self.room(*space, set) > 0))?;
        let room = free(&space).map_or(0, |set| self.room(space, set));
        let free = self.free.get_mut(&space)?;
        let sharing = if space.is_none() { agents.max(1) } else { 1 };
        let fair = free.len().div_ceil(u64::from(sharing) * 2);
        let want = self.next_size.get(&holder.0).copied().unwrap_or(self.first_size).min(fair).min(room);
        let (start, end) = free.carve(want, self.align)?;
        let lease = Lease { id, stage, kind: self.kind, space, start, end };
        self.given.entry(space).or_default().insert(start, end);
        self.open.insert(id, (holder, lease.clone()));
        Some(lease)
    }

    /// Takes a finished lease in. `false` when nobody holds it any more: it was returned, and its work is or will be
    /// done again; counters of it are dropped so that nothing counts twice.
    pub fn finish(&mut self, holder: Holder, report: &LeaseDone) -> bool {
        let Some((by, lease)) = self.open.get(&report.id).cloned() else { return false };
        if by != holder {
            return false;
        }
        self.open.remove(&report.id);
        let done = self.done.entry(lease.space).or_default();
        let mut rest = RangeSet::of(lease.start, lease.end);
        for &(start, end) in &report.done {
            let (start, end) = (start.max(lease.start), end.min(lease.end));
            done.insert(start, end);
            rest.remove(start, end);
        }
        if matches!(lease.kind, LeaseKind::Prepare | LeaseKind::Cleanup) {
            let finished = self.finished.entry(holder).or_default();
            let done = finished.done.entry(lease.space).or_default();
            for &(start, end) in &report.done {
                done.insert(start.max(lease.start), end.min(lease.end));
            }
            finished.changed = finished.changed.saturating_add(report.changed);
            finished.unchanged = finished.unchanged.saturating_add(report.unchanged);
            finished.bytes = finished.bytes.saturating_add(report.bytes);
        }
        if lease.kind == LeaseKind::Put {
            for &(start, end) in rest.ranges() {
                self.given.entry(lease.space).or_default().remove(start, end);
            }
        } else {
            self.free.entry(lease.space).or_default().extend(&rest);
        }
        self.changed = self.changed.saturating_add(report.changed);
        self.unchanged = self.unchanged.saturating_add(report.unchanged);
        self.bytes = self.bytes.saturating_add(report.bytes);
        self.learn_speed(holder, lease.end - lease.start, rest.len(), report.took_ns);
        true
    }

    /// Sizes the next lease by how fast this one went. One that was hardly begun says nothing.
    fn learn_speed(&mut self, holder: Holder, size: u64, left: u64, took_ns: u64) {
        let did = size - left;
        if did == 0 || took_ns == 0 {
            return;
        }
        let wanted = u128::from(did) * u128::from(LEASE_TARGET_NS) / u128::from(took_ns.max(1_000));
        let bounded = wanted.min(u128::from(size.saturating_mul(LEASE_GROWTH_MAX))).max(1) as u64;
        self.next_size.insert(holder.0, bounded);
    }

    /// Takes back what `holder`, which is given up, holds. It is free again, but for put ranges: what was given for
    /// those may have been written, and is never given twice. Returns how much went back.
    pub fn take_back(&mut self, holder: Holder) -> u64 {
        let ids: Vec<u64> =
            self.open.iter().filter(|(_, (by, _))| *by == holder).map(|(id, _)| *id).collect();
        let mut back = 0;
        for id in ids {
            let Some((_, lease)) = self.open.remove(&id) else { continue };
            if lease.kind != LeaseKind::Put {
                let free = self.free.entry(lease.space).or_default();
                free.insert(lease.start, lease.end);
                // Of a lease that was recorded, others may have done a part since.
                for &(start, end) in self.done.get(&lease.space).map_or(&[][..], RangeSet::ranges) {
                    free.remove(start, end);
                }
            }
            back += lease.end - lease.start;
        }
        self.returned += back;
        back
    }

    /// `holder` tells which leases it holds and what it finished, to a coordinator that has an older record of it. Only
    /// what is of this pool counts: of `stage`, or put ranges.
    pub fn retell(&mut self, holder: Holder, stage: Option<u32>, held: &[Lease], finished: &[FinishedWork]) {
        let kind = self.kind;
        let is_here = |of: u32, what: LeaseKind| what == kind && stage.is_none_or(|stage| stage == of);
        let recorded: Vec<u64> =
            self.open.iter().filter(|(_, (by, _))| *by == holder).map(|(id, _)| *id).collect();
        for (_, lease) in recorded.iter().filter_map(|id| self.open.remove(id)) {
            if kind != LeaseKind::Put {
                self.free.entry(lease.space).or_default().insert(lease.start, lease.end);
            }
        }
        for work in finished.iter().filter(|work| is_here(work.stage, work.kind)) {
            for &(start, end) in work.done.ranges() {
                self.claim(work.space, start, end);
                self.done.entry(work.space).or_default().insert(start, end);
            }
            let before = self.finished.entry(holder).or_default();
            before.done.insert(work.space, work.done.clone());
            // Told in all, since the stage began.
            let add =
                |sum: &mut u64, all: u64, known: u64| *sum = sum.saturating_add(all.saturating_sub(known));
            add(&mut self.changed, work.changed, before.changed);
            add(&mut self.unchanged, work.unchanged, before.unchanged);
            add(&mut self.bytes, work.bytes, before.bytes);
            before.changed = before.changed.max(work.changed);
            before.unchanged = before.unchanged.max(work.unchanged);
            before.bytes = before.bytes.max(work.bytes);
        }
        for lease in held.iter().filter(|lease| is_here(lease.stage, lease.kind)) {
            self.claim(lease.space, lease.start, lease.end);
            self.open.insert(lease.id, (holder, lease.clone()));
        }
    }

    /// This range was given out, whatever the record says. Put ranges are given in ascending order.
    fn claim(&mut self, space: Option<u32>, start: u64, end: u64) {
        let first = if self.kind == LeaseKind::Put { 0 } else { start };
        self.free.entry(space).or_default().remove(first, end);
        self.given.entry(space).or_default().insert(start, end);
    }

    /// Somebody who may have written whatever was left when the record was written is gone without a word. All of that may exist,
    /// and of put ranges nothing is given out again.
    pub fn assume_written(&mut self) {
        match self.kind {
            LeaseKind::Put => {
                for (space, below) in self.allowed.clone() {
                    self.claim(space, self.base.min(below), below);
                }
            }
            LeaseKind::Prepare => {
                for (space, free) in &self.free {
                    let given = self.given.entry(*space).or_default();
                    given.extend(free);
                }
            }
            LeaseKind::Operations | LeaseKind::Cleanup => {}
        }
    }

    /// Nobody will do what is left of `space`: it no longer counts as work.
    pub fn abandon(&mut self, space: Option<u32>) {
        if let Some(set) = self.free.remove(&space) {
            self.total = self.total.saturating_sub(set.len());
        }
    }

    /// The leases that `holder` holds.
    pub fn leases_of(&self, holder: Holder) -> impl Iterator<Item = &Lease> {
        self.open.values().filter(move |(by, _)| *by == holder).map(|(_, lease)| lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(len: u64) -> Pool {
        Pool::new(LeaseKind::Prepare, [(None, RangeSet::of(0, len))].into(), 64, 7)
    }

    fn whole(lease: &Lease) -> LeaseDone {
        LeaseDone {
            id: lease.id,
            done: vec![(lease.start, lease.end)],
            changed: lease.end - lease.start,
            took_ns: 1_000_000,
            ..LeaseDone::default()
        }
    }

    #[test]
    fn what_a_lost_holder_finished_stays_known() {
        let (lost, other) = ((1, 0), (2, 0));
        let mut pool = pool(100);
        let lease = pool.lease(lost, 1, 1, 1, &[]).expect("work");
        assert!(pool.finish(lost, &whole(&lease)));
        pool.lease(lost, 2, 1, 1, &[]).expect("more work");
        pool.take_back(lost);
        let finished = pool.finished_by(lost).expect("it finished something");
        assert_eq!(finished.done, [(None, RangeSet::of(lease.start, lease.end))].into());
        assert_eq!((finished.changed, finished.unchanged), (lease.end - lease.start, 0));
        assert_eq!(pool.finished_by(other), None);
    }

    proptest! {
        /// Whatever is lost, returned or half done: everything is done in the end, and counted once.
        #[test]
        fn work_is_complete(len in 1u64..5_000, fates in prop::collection::vec(0u8..4, 1..200)) {
            let mut pool = pool(len);
            let mut next_id = 0;
            for fate in fates.into_iter().chain(std::iter::repeat_n(0, 100_000)) {
                if pool.is_finished() { break; }
                next_id += 1;
                let holder = ((next_id % 3) as u32, 0);
                pool.lease(holder, next_id, 1, 3, &[]);
                let Some(lease) = pool.leases_of(holder).next().cloned() else { continue };
                match fate {
                    0 => { prop_assert!(pool.finish(holder, &whole(&lease))); }
                    1 => { pool.take_back(holder); prop_assert!(!pool.finish(holder, &whole(&lease))); }
                    2 => {
                        let middle = u64::midpoint(lease.start, lease.end);
                        let report = LeaseDone { done: vec![(lease.start, middle)], changed: middle - lease.start, ..whole(&lease) };
                        prop_assert!(pool.finish(holder, &report));
                    }
                    _ => {}
                }
            }
            prop_assert!(pool.is_finished());
            prop_assert_eq!(pool.done_len(), len);
            prop_assert_eq!(pool.changed, len);
        }
    }
}
