//! Leased work: which pools a stage has, and who gets the next piece.
//!
//! It exists so that loss, resume, rebalancing and stragglers stay one mechanism; it deliberately knows nothing of
//! starts and barriers but which stage is under way.

use super::message::Directive;
use super::pool::Pool;
use super::{Current, Phase, Run, Start};
use crate::dataset::Layout;
use crate::lease::LeaseKind;
use crate::op::Op;
use crate::plan::{ExecutePlan, Existing, Plan, Scheme, Sharing, StageKind, StagePlan};
use crate::ranges::RangeSet;
use std::collections::BTreeMap;

/// First size of a put lease: a few milliseconds of the fastest target, so that the first ones are not all used up
/// before the next arrives. Unused indexes cost a look-up each where a later run cleans up after a killed one.
const PUT_LEASE_FIRST: u64 = 16_384;
/// The same where each put crosses a network.
const PUT_LEASE_FIRST_REMOTE: u64 = 1_024;
/// End of the indexes that puts may use.
pub(super) const PUT_END: u64 = 1 << 62;

/// The fresh indexes of a run that has puts: everything behind the data set, in every key space.
pub(super) fn put_pool(plan: &Plan) -> Option<Pool> {
    plan.stages.iter().filter_map(|stage| stage.kind.execute()).any(has_puts).then(|| {
        let fresh = RangeSet::of(plan.dataset.len(), PUT_END);
        let free = spaces(plan).map(|space| (space, fresh.clone())).collect();
        let first = match plan.target.scheme {
            Scheme::S3 => PUT_LEASE_FIRST_REMOTE,
            Scheme::File | Scheme::Mem | Scheme::Null => PUT_LEASE_FIRST,
        };
        Pool::new(LeaseKind::Put, free, first, 1)
    })
}

pub(super) fn has_puts(execute: &ExecutePlan) -> bool {
    execute.operations_mix.iter().any(|op| op.op == Op::Put)
}

/// The key spaces of a plan.
pub(super) fn spaces(plan: &Plan) -> impl Iterator<Item = Option<u32>> {
    let count = match plan.sharing {
        Sharing::Shared => 1,
        Sharing::PerAgent => plan.replicas,
    };
    let sharing = plan.sharing;
    (0..count).map(move |index| (sharing == Sharing::PerAgent).then_some(index))
}

impl Run {
    /// Gives work to everybody who has less than two leases in hand; returns whether anybody got some.
    pub(super) fn grant_leases(&mut self, current: &Current, now_ns: u64) -> bool {
        // What an agent gives back at the end of its window is not given out again: nobody would use it, and
        // cleanup would look for what puts may have made of it.
        // Nor while somebody holds work that only it knows of.
        if self.is_window_over(current, now_ns) || self.awaits_anyone() {
            return false;
        }
        let live = self.live();
        self.abandon_memory(current);
        let adopted = self.adopt_places(current, now_ns);
        let mut granted = false;
        for index in 0..self.plan.replicas {
            if !self.may_hold_work(index, current) {
                continue;
            }
            let holder = (index, self.seats[index as usize].attempt);
            let mut leases = Vec::new();
            for stage in current.first..=current.last {
                let put = self.plan.stages[stage as usize].kind.execute().is_some_and(has_puts);
                let puts = self.puts.as_mut().filter(|_| put);
                for pool in self.pools.get_mut(&stage).into_iter().chain(puts) {
                    while let Some(lease) = pool.lease(holder, self.next_lease, stage, live, &adopted) {
                        self.next_lease += 1;
                        leases.push(lease);
                    }
                }
            }
            granted |= leases.iter().any(|lease| lease.kind != LeaseKind::Put);
            for lease in leases {
                self.send(index, Directive::Lease(lease));
            }
        }
        if granted && let Phase::Stage(current) = &mut self.phase {
            current.idle_since_ns = None;
        }
        granted
    }

    fn may_hold_work(&self, index: u32, current: &Current) -> bool {
        let seat = &self.seats[index as usize];
        let works = seat.in_stage().is_some_and(|(_, step)| step <= super::agent::Step::Working);
        // Staged first: an agent that cannot even get ready holds no work.
        let staged = seat.staged || seat.joining || matches!(current.start, Start::Going { .. });
        works && staged && seat.state.is_heard()
    }

    /// Where a key space was the memory of an agent that is gone for good, what was not done of it never will be, and
    /// nobody waits for it.
    fn abandon_memory(&mut self, current: &Current) {
        if !matches!(self.plan.target.scheme, Scheme::Mem | Scheme::Null) {
            return;
        }
        let gone: Vec<u32> =
            self.seats.iter().filter(|seat| !seat.is_live()).map(|seat| seat.index).collect();
        for stage in current.first..=current.last {
            if let Some(pool) = self.pools.get_mut(&stage) {
                gone.iter().for_each(|index| pool.abandon(Some(*index)));
            }
        }
    }

    /// Takes back what the agent at `index` holds, which is given up or dead. Any other answers each lease itself, also
    /// one that crossed the end of its stage on its way, so that the ledger of put ranges is exact.
    pub(super) fn take_work_back(&mut self, index: u32) {
        let holder = (index, self.seats[index as usize].attempt);
        for pool in self.pools.values_mut().chain(self.puts.as_mut()) {
            pool.take_back(holder);
        }
    }

    /// The pool of a leased stage.
    pub(super) fn new_pool(&self, stage: &StagePlan) -> Option<Pool> {
        let len = self.plan.dataset.len();
        let align = match &self.plan.dataset.layout {
            Layout::Tree(tree) => tree.files_per_directory,
            Layout::Flat { .. } => 1,
        };
        let every = |set: RangeSet| spaces(&self.plan).map(|space| (space, set.clone())).collect();
        match &stage.kind {
            StageKind::Preflight => None,
            StageKind::Prepare { concurrency } => {
                let reuse = self.plan.existing == Existing::Reuse;
                let free = every(if reuse { RangeSet::default() } else { RangeSet::of(0, len) });
                Some(Pool::new(LeaseKind::Prepare, free, u64::from(*concurrency) * 16, align))
            }
            StageKind::Cleanup { concurrency, .. } => {
                let mut free: BTreeMap<Option<u32>, RangeSet> = BTreeMap::new();
                let mut prepared = self.prepared_so_far();
                for space in spaces(&self.plan) {
                    let place = self.places.get(&space).copied().unwrap_or_default();
                    let mut set = if place.fresh {
                        prepared.remove(&space).unwrap_or_default()
                    } else {
                        RangeSet::of(0, len)
                    };
                    set.insert(len, place.found_below.max(len));
                    free.insert(space, set);
                }
                for (space, set) in self.puts.as_ref().map(Pool::touched).unwrap_or_default() {
                    free.entry(space).or_default().extend(&set);
                }
                Some(Pool::new(LeaseKind::Cleanup, free, u64::from(*concurrency) * 16, align))
            }
            StageKind::Execute(execute) => execute.operations.map(|operations| {
                let free = [(None, RangeSet::of(0, operations))].into();
                Pool::new(LeaseKind::Operations, free, u64::from(execute.concurrency) * 16, 1)
            }),
        }
    }

    /// Indexes that may exist where the place was empty before this run.
    fn prepared_so_far(&self) -> BTreeMap<Option<u32>, RangeSet> {
        let mut touched = BTreeMap::new();
        for (stage, pool) in &self.pools {
            if matches!(self.plan.stages[*stage as usize].kind, StageKind::Prepare { .. }) {
                for (space, set) in pool.touched() {
                    touched.entry(space).or_insert_with(RangeSet::default).extend(&set);
                }
            }
        }
        touched
    }
}
