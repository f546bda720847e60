//! The end of a stage: work that runs out, stragglers, and the barrier.
//!
//! Architecture invariant: a barrier opens only when everybody who takes part has arrived or was left behind, when
//! nothing is left to do where the work has an end, and when no attempt that was given up can act any more.

use super::agent::Step;
use super::message::{Action, Directive};
use super::record::Weight;
use super::seat::{Seat, nanos};
use super::{Current, Phase, Run, StageState, Start};
use crate::plan::{BarrierMode, StageKind};
use crate::problem::Problem;

impl Run {
    /// Ends a leased stage once all its work is done; takes work away from stragglers where the barrier allows it.
    pub(super) fn drain(&mut self, current: &Current, now_ns: u64) -> bool {
        if !self.plan.stages[current.last as usize].kind.is_leased() || current.drained {
            return false;
        }
        let stage = current.last;
        if !self.pools.get(&stage).is_some_and(super::pool::Pool::is_finished) {
            return self.release_stragglers(current, now_ns);
        }
        self.current_mut(|current| current.drained = true);
        for index in 0..self.plan.replicas {
            if self.seats[index as usize].in_stage().is_some() {
                self.send(index, Directive::Drain { stage });
            }
        }
        true
    }

    fn current_mut(&mut self, change: impl FnOnce(&mut Current)) {
        if let Phase::Stage(current) = &mut self.phase {
            change(current);
        }
    }

    /// Those who have held work for longer than the barrier's timeout, while enough others had none left.
    fn release_stragglers(&mut self, current: &Current, now_ns: u64) -> bool {
        let stage = current.last;
        let plan = &self.plan.stages[stage as usize];
        let (mode, timeout_ns) = (plan.barrier.mode, nanos(plan.barrier.timeout));
        if mode == BarrierMode::All || plan.kind.execute().is_some() || self.awaits_anyone() {
            return false;
        }
        let Some(pool) = self.pools.get(&stage) else { return false };
        let taking_part = self.seats.iter().filter(|seat| seat.in_stage().is_some());
        let (idle, busy): (Vec<&Seat>, Vec<&Seat>) =
            taking_part.partition(|seat| pool.held_by((seat.index, seat.attempt)) == 0);
        let busy: Vec<u32> = busy.iter().map(|seat| seat.index).collect();
        let enough = match mode {
            BarrierMode::Majority => idle.len() as u32 * 2 > self.plan.replicas,
            BarrierMode::All | BarrierMode::BestEffort => idle.iter().any(|seat| seat.state.is_heard()),
        };
        let since_ns = enough.then(|| current.idle_since_ns.unwrap_or(now_ns));
        self.current_mut(|current| current.idle_since_ns = since_ns);
        if since_ns.is_none_or(|since_ns| now_ns.saturating_sub(since_ns) < timeout_ns) {
            return false;
        }
        self.current_mut(|current| current.idle_since_ns = None);
        let changed = !busy.is_empty();
        for index in busy {
            self.leave_behind(index, stage, "held its work longer than the barrier's timeout", now_ns);
        }
        changed
    }

    pub(super) fn advance_barrier(&mut self, now_ns: u64) -> bool {
        let Phase::Stage(current) = self.phase.clone() else { return true };
        let last = current.last;
        let (mut arrived, mut missing) = (0, Vec::new());
        for seat in &self.seats {
            match seat.in_stage() {
                Some(at) if at == (last, Step::AtBarrier) => arrived += 1,
                Some(_) => missing.push(seat.index),
                None => {}
            }
        }
        let nobody = arrived == 0 && missing.is_empty();
        if nobody && self.live() == 0 {
            self.fail(self.nobody_left(last), now_ns);
            return true;
        }
        // Whoever is on its way may still join, as long as there is a window, or work, to join.
        if nobody && !current.drained && !self.is_window_over(&current, now_ns) {
            return false;
        }
        let work_has_end = matches!(
            self.plan.stages[last as usize].kind,
            StageKind::Prepare { .. } | StageKind::Cleanup { .. }
        );
        let work_done = !work_has_end || current.drained;
        if !self.may_open(&current, arrived, missing.len(), now_ns) || !work_done {
            return false;
        }
        for index in &missing {
            self.leave_behind(*index, last, "the barrier went on without it", now_ns);
        }
        if !self.ghosts_gone(now_ns) {
            return !missing.is_empty();
        }
        self.end_stages(&current, now_ns);
        self.begin_stage(last + 1, now_ns);
        true
    }

    /// Whether the barrier's mode lets it open. An agent that is out of reach may come back until it is given up, so
    /// it counts as missing, not as gone.
    fn may_open(&mut self, current: &Current, arrived: u32, missing: usize, now_ns: u64) -> bool {
        if arrived > 0 && current.arrived_since_ns.is_none() {
            self.current_mut(|current| current.arrived_since_ns = Some(now_ns));
        }
        let barrier = &self.plan.stages[current.last as usize].barrier;
        let waited_ns = now_ns.saturating_sub(current.arrived_since_ns.unwrap_or(now_ns));
        let timed_out = waited_ns >= nanos(barrier.timeout);
        let quorum = match barrier.mode {
            BarrierMode::All => false,
            BarrierMode::Majority => arrived * 2 > self.plan.replicas,
            BarrierMode::BestEffort => arrived > 0,
        };
        missing == 0 || (timed_out && quorum)
    }

    pub(super) fn is_window_over(&self, current: &Current, now_ns: u64) -> bool {
        let Start::Going { at_ns } = current.start else { return false };
        self.length_ns(current).is_some_and(|length_ns| now_ns >= at_ns + length_ns)
    }

    fn end_stages(&mut self, current: &Current, now_ns: u64) {
        for stage in current.first..=current.last {
            let facts = &mut self.stages[stage as usize];
            facts.state = StageState::Done;
            facts.ended_ns = Some(now_ns);
            self.actions.push(Action::StageOver { stage });
            let name = self.stage_name(stage).to_owned();
            self.tell(now_ns, None, "StageOver", name, false);
        }
        self.check_skew(current.first, now_ns);
    }

    fn check_skew(&mut self, stage: u32, now_ns: u64) {
        let limit_ns = nanos(self.plan.start.max_skew);
        if let Some(skew_ns) = self.stages[stage as usize].skew_ns
            && skew_ns > limit_ns
        {
            let name = self.stage_name(stage);
            let reason = format!("{name} started within {:.3} ms, more than maxSkew", skew_ns as f64 / 1e6);
            self.degrade(reason.clone());
            self.tell(now_ns, None, "SkewTooLarge", reason, true);
        }
    }

    /// The barrier goes on without the agent: what it holds is free again, and it is told to stop and leave by
    /// itself. Its process is ended only at the end of the run.
    pub(super) fn leave_behind(&mut self, index: u32, stage: u32, reason: &str, now_ns: u64) {
        let attempt = self.seats[index as usize].attempt;
        let unfinished = self.unfinished_stage(index);
        self.send(index, Directive::LeftBehind { stage });
        if !self.move_to(index, super::agent::AgentState::LeftBehind, reason, now_ns) {
            return;
        }
        self.note_change(Weight::Decisive);
        self.haunt(index, None, false, now_ns);
        self.actions.push(Action::GiveUp {
            index,
            attempt,
            stage: unfinished,
            reason: reason.to_owned(),
            unheard: false,
        });
        self.degrade(format!("agent {index} was left behind in {}: {reason}", self.stage_name(stage)));
        self.note_lost_window(index, unfinished, reason);
    }

    pub(super) fn nobody_left(&self, stage: u32) -> Problem {
        let what =
            format!("run {} stopped: no agent is left in {}", self.plan.run.name, self.stage_name(stage));
        Problem::new(what, "every agent was lost, or left behind")
            .next("look at the agents' logs in the results directory")
    }
}
