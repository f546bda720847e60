//! The invariants that the world checks while it turns.

use super::World;
use crate::lease::{Lease, LeaseKind};
use crate::plan::Scheme;
use crate::ranges::RangeSet;
use crate::run::StageState;

impl World {
    /// Nobody is told to begin unless all who take part acknowledged the same start.
    pub(super) fn check_commit(&self, stage: u32, round: u32) {
        for seat in self.run.seats.iter().filter(|seat| seat.in_stage().is_some()) {
            let agent = &self.peers[&(seat.index, seat.attempt)].agent;
            assert_eq!(agent.acked, Some((stage, round)), "agent {} did not acknowledge", seat.index);
        }
    }

    /// Names of puts are given out only where the marker, which outlives everybody, knows them.
    pub(super) fn check_marked(&self, lease: &Lease) {
        if lease.kind != LeaseKind::Put {
            return;
        }
        let marks = self.peers.values().filter_map(|peer| peer.agent.marks.get(&lease.space));
        let below = marks.map(|mark| mark.puts_below).max().unwrap_or(0);
        assert!(lease.end <= below, "{lease:?} is not marked, only below {below}\n{}", self.describe());
    }

    /// When a stage is over, nobody is at work in it any more.
    pub(super) fn check_quiet(&self, stage: u32) {
        if self.run.stages[stage as usize].state != StageState::Done {
            return;
        }
        for (id, peer) in &self.peers {
            let clock_ns = self.now_ns + peer.offset_ns;
            let busy = peer.alive && peer.agent.does_io(clock_ns);
            assert!(
                !busy,
                "{id:?} is at work after stage {stage}: {:?}\n{}",
                peer.agent.phase,
                self.describe()
            );
        }
    }

    pub(super) fn check_states(&mut self) {
        for seat in &self.run.seats {
            let id = (seat.index, seat.attempt);
            if let Some(before) = self.terminal.get(&id) {
                assert_eq!(*before, seat.state, "an end is no end");
            } else if seat.state.is_terminal() {
                self.terminal.insert(id, seat.state.clone());
            }
        }
    }

    /// What the decider believes of the data set is what was done to it.
    pub(super) fn check_ledgers(&self) {
        let plan = &self.plan;
        let kinds = plan.stages.iter().zip(&self.run.stages);
        for (stage, (planned, facts)) in (0u32..).zip(kinds) {
            let Some(pool) = self.run.pools.get(&stage) else { continue };
            if facts.state != StageState::Done || planned.kind.execute().is_some() {
                continue;
            }
            assert!(pool.is_finished(), "{} is over with work left", planned.name);
            assert_eq!(pool.done_len(), pool.total(), "{}", planned.name);
            if stage as usize + 1 == plan.stages.len()
                && matches!(planned.kind, crate::plan::StageKind::Cleanup { .. })
            {
                // The memory of a process is clean when it ends.
                if matches!(plan.target.scheme, Scheme::Mem) {
                    continue;
                }
                let left: u64 = self.objects.values().map(RangeSet::len).sum();
                assert_eq!(left, 0, "left behind: {:?}\n{}", self.objects, self.describe());
            }
        }
    }
}
