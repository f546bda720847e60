//! The second half of a step: looks at the whole, and does what is due until nothing is.

use super::agent::{AgentState, Position, Step};
use super::message::{Action, Directive, Stop};
use super::pool::Pool;
use super::seat::nanos;
use super::{Current, Phase, Run, Start, StageState, spaces};
use crate::dataset::Layout;
use crate::lease::LeaseKind;
use crate::plan::{BarrierMode, Existing, RunOn, Scheme, StageKind, StagePlan};
use crate::problem::{Problem, exit};
use crate::ranges::RangeSet;
use std::collections::BTreeMap;

/// How long an aborting agent may take until its process is ended, nanoseconds: a second to stop its I/O, a second to
/// hand in what it has, and some for a busy machine.
const ABORT_LIMIT_NS: u64 = 3_000_000_000;
/// How long an agent may take to end after the run is over, nanoseconds.
const FINISH_LIMIT_NS: u64 = 5_000_000_000;

impl Run {
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.replace_seats(now_ns);
        // Every pass that changes something moves the run forward; the bound only guards against a mistake here.
        for _ in 0..1_000 {
            let changed = match self.phase.clone() {
                Phase::Gathering => self.advance_gathering(now_ns),
                Phase::Stage(current) => self.advance_stage(current, now_ns),
                Phase::Aborting { since_ns, then } => self.advance_aborting(since_ns, then, now_ns),
                Phase::Finishing { since_ns } => self.advance_finishing(since_ns, now_ns),
                Phase::Over => false,
            };
            if !changed {
                return;
            }
        }
    }

    fn replace_seats(&mut self, now_ns: u64) {
        for index in 0..self.plan.replicas {
            let due = self.seats[index as usize].replace_at_ns.is_some_and(|at_ns| at_ns <= now_ns);
            let gone = self.ghosts.iter().all(|ghost| ghost.index != index || ghost.gone_ns <= now_ns);
            if due && gone {
                self.seats[index as usize].replace(now_ns);
                let attempt = self.seats[index as usize].attempt;
                self.actions.push(Action::Spawn { index, attempt });
                self.tell(now_ns, Some((index, attempt)), "Replaced", "a new attempt is started".into(), true);
            }
        }
    }

    fn advance_gathering(&mut self, now_ns: u64) -> bool {
        if self.seats.iter().any(super::seat::Seat::is_coming) {
            return false;
        }
        let ready = self.seats.iter().filter(|seat| seat.position() == Some(Position::Ready)).count() as u32;
        if ready < self.plan.min_available {
            let (quorum, replicas) = (self.plan.min_available, self.plan.replicas);
            let what = format!("run {} did not start: {ready} of {replicas} agents are ready", self.plan.run.name);
            let problem = Problem::new(what, format!("minAvailable is {quorum}"))
                .next("lower agents.minAvailable, or find out why agents do not come up")
                .exit(exit::UNREACHABLE);
            self.fail(problem, now_ns);
            return true;
        }
        if ready < self.plan.replicas {
            self.degrade(format!("started with {ready} of {} agents", self.plan.replicas));
        }
        self.stages[0].state = StageState::Done;
        self.stages[0].ended_ns = Some(now_ns);
        self.stages[0].agents = ready;
        self.actions.push(Action::StageOver { stage: 0 });
        self.tell(now_ns, None, "AgentsReady", format!("{ready} of {} agents", self.plan.replicas), true);
        self.begin_stage(1, now_ns);
        true
    }

    /// Begins stage `stage`, or the next one that runs now.
    fn begin_stage(&mut self, stage: u32, now_ns: u64) {
        let troubled = self.failure.is_some() || self.stop.is_some();
        let Some(plan) = self.plan.stages.get(stage as usize).cloned() else {
            self.finish(now_ns);
            return;
        };
        if troubled && plan.run_on != RunOn::Always {
            self.stages[stage as usize].state = StageState::Skipped;
            self.begin_stage(stage + 1, now_ns);
            return;
        }
        let last = self.chain_end(stage);
        for index in stage..=last {
            if let Some(pool) = self.new_pool(&self.plan.stages[index as usize].clone()) {
                self.pools.insert(index, pool);
            }
        }
        let armed = plan.kind.is_armed(false);
        let start = if armed { Start::Staging { since_ns: now_ns, round: 0 } } else { Start::Going { at_ns: now_ns } };
        self.phase =
            Phase::Stage(Current { first: stage, last, start, first_arrival_ns: None, drained: false });
        let mut agents = 0;
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            let joins = seat.is_free() || seat.position() == Some(Position::Aborting);
            if !joins {
                continue;
            }
            agents += 1;
            (seat.staged, seat.armed_round, seat.released_ns, seat.joining) = (false, None, None, false);
            seat.stopped = false;
            seat.progress_ns = now_ns;
            if armed {
                seat.renew_clock(now_ns);
            }
            let to = Position::Stage { stage, step: Step::Waiting };
            if seat.state.is_heard() {
                self.move_to(index, AgentState::Active(to), "the stage begins", now_ns);
            } else if let AgentState::Disconnected { was, .. } = &mut seat.state {
                *was = to;
            }
            let directive = if armed { Directive::Stage { stage } } else { Directive::Release { stage } };
            self.send(index, directive);
        }
        let facts = &mut self.stages[stage as usize];
        facts.agents = agents;
        facts.state = if armed { StageState::Starting } else { StageState::Working };
        facts.planned_start_ns = (!armed).then_some(now_ns);
        self.tell(now_ns, None, "StageBegins", format!("{} on {agents} agents", plan.name), true);
    }

    fn advance_stage(&mut self, current: Current, now_ns: u64) -> bool {
        self.grant_leases(&current);
        let Start::Going { at_ns } = current.start else {
            if !self.seats.iter().any(|seat| seat.in_stage().is_some() || seat.is_coming()) {
                self.fail(self.nobody_left(current.first), now_ns);
                return true;
            }
            self.take_in_ready(current.first, now_ns);
            return self.advance_start(current, now_ns);
        };
        self.note_releases(&current);
        let joined = self.join_late(&current, at_ns, now_ns);
        let drained = self.drain(current, now_ns);
        joined || drained || self.advance_barrier(now_ns)
    }

    /// An agent that became ready while the others still get ready takes part from the beginning.
    fn take_in_ready(&mut self, stage: u32, now_ns: u64) {
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            if seat.position() == Some(Position::Ready) && seat.state.is_heard() {
                let to = AgentState::Active(Position::Stage { stage, step: Step::Waiting });
                (seat.staged, seat.armed_round, seat.released_ns, seat.joining) = (false, None, None, false);
                seat.renew_clock(now_ns);
                self.move_to(index, to, "takes part from the beginning", now_ns);
                self.send(index, Directive::Stage { stage });
                self.stages[stage as usize].agents += 1;
            }
        }
    }

    fn grant_leases(&mut self, current: &Current) {
        let live = self.live();
        let adopt: Vec<u32> = if matches!(self.plan.target.scheme, Scheme::Mem | Scheme::Null) {
            Vec::new()
        } else {
            self.seats.iter().filter(|seat| !seat.is_live()).map(|seat| seat.index).collect()
        };
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            let Some((_, step)) = seat.in_stage() else { continue };
            let works = step <= Step::Working && seat.state.is_heard();
            // Staged first: an agent that cannot even get ready holds no work.
            let staged = seat.staged || seat.joining || matches!(current.start, Start::Going { .. });
            if !works || !staged {
                continue;
            }
            let holder = (index, seat.attempt);
            let mut leases = Vec::new();
            for stage in current.first..=current.last {
                let put = self.plan.stages[stage as usize].kind.execute().is_some_and(super::has_puts);
                let puts = self.puts.as_mut().filter(|_| put);
                for pool in self.pools.get_mut(&stage).into_iter().chain(puts) {
                    while let Some(lease) = pool.lease(holder, self.next_lease, stage, live, &adopt) {
                        self.next_lease += 1;
                        leases.push(lease);
                    }
                }
            }
            for lease in leases {
                self.send(index, Directive::Lease(lease));
            }
        }
    }

    fn note_releases(&mut self, current: &Current) {
        let facts = &mut self.stages[current.first as usize];
        facts.state = StageState::Working;
        facts.releases = self
            .seats
            .iter()
            .filter(|seat| !seat.joining)
            .filter_map(|seat| seat.released_ns.map(|at_ns| (seat.index, at_ns)))
            .collect();
        let earliest = facts.releases.iter().map(|(_, at_ns)| *at_ns).min();
        let latest = facts.releases.iter().map(|(_, at_ns)| *at_ns).max();
        facts.skew_ns = earliest.zip(latest).filter(|_| facts.releases.len() > 1).map(|(low, high)| high - low);
    }

    /// Ends a leased stage once all its work is done; takes work away from stragglers where the barrier allows it.
    fn drain(&mut self, mut current: Current, now_ns: u64) -> bool {
        if !self.plan.stages[current.last as usize].kind.is_leased() || current.drained {
            return false;
        }
        let Some(pool) = self.pools.get(&current.last) else { return false };
        if !pool.is_finished() {
            return self.release_stragglers(current, now_ns);
        }
        current.drained = true;
        let stage = current.last;
        self.phase = Phase::Stage(current);
        for index in 0..self.plan.replicas {
            if self.seats[index as usize].in_stage().is_some() {
                self.send(index, Directive::Drain { stage });
            }
        }
        true
    }

    fn release_stragglers(&mut self, mut current: Current, now_ns: u64) -> bool {
        let barrier = self.plan.stages[current.last as usize].barrier.clone();
        let window_bound = self.plan.stages[current.last as usize].kind.execute().is_some();
        if barrier.mode == BarrierMode::All || window_bound {
            return false;
        }
        let Some(pool) = self.pools.get(&current.last) else { return false };
        let taking_part = self.seats.iter().filter(|seat| seat.in_stage().is_some());
        let (idle, busy): (Vec<_>, Vec<_>) =
            taking_part.partition(|seat| pool.held_by((seat.index, seat.attempt)) == 0);
        let busy: Vec<u32> = busy.iter().map(|seat| seat.index).collect();
        let enough = match barrier.mode {
            BarrierMode::Majority => idle.len() as u32 * 2 > self.plan.replicas,
            BarrierMode::All | BarrierMode::BestEffort => !idle.is_empty(),
        };
        if !enough {
            if current.first_arrival_ns.take().is_some() {
                self.phase = Phase::Stage(current);
            }
            return false;
        }
        let since_ns = *current.first_arrival_ns.get_or_insert(now_ns);
        let stage = current.last;
        self.phase = Phase::Stage(current);
        if now_ns.saturating_sub(since_ns) < nanos(barrier.timeout) {
            return false;
        }
        for index in busy {
            self.leave_behind(index, stage, "held its work longer than the barrier's timeout", now_ns);
        }
        true
    }

    fn advance_barrier(&mut self, now_ns: u64) -> bool {
        let Phase::Stage(mut current) = self.phase.clone() else { return true };
        let last = current.last;
        let barrier = self.plan.stages[last as usize].barrier.clone();
        let taking_part: Vec<_> = self.seats.iter().filter(|seat| seat.in_stage().is_some()).collect();
        if taking_part.is_empty() {
            let coming = self.seats.iter().any(|seat| seat.is_coming() || seat.position() == Some(Position::Ready));
            if coming && !self.is_window_over(&current, now_ns) {
                return false;
            }
            if !coming {
                self.fail(self.nobody_left(last), now_ns);
                return true;
            }
        }
        let arrived = taking_part.iter().filter(|seat| seat.in_stage() == Some((last, Step::AtBarrier))).count();
        let missing: Vec<u32> = taking_part
            .iter()
            .filter(|seat| seat.in_stage() != Some((last, Step::AtBarrier)))
            .filter(|seat| barrier.mode != BarrierMode::BestEffort || seat.state.is_heard())
            .map(|seat| seat.index)
            .collect();
        let all = taking_part.len();
        if arrived > 0 && current.first_arrival_ns.is_none() {
            current.first_arrival_ns = Some(now_ns);
            self.phase = Phase::Stage(current.clone());
        }
        let waited_ns = current.first_arrival_ns.map_or(0, |since_ns| now_ns.saturating_sub(since_ns));
        let timed_out = waited_ns >= nanos(barrier.timeout) && arrived > 0;
        let open = match barrier.mode {
            BarrierMode::All => arrived == all,
            BarrierMode::Majority => {
                arrived == all || (timed_out && arrived as u32 * 2 > self.plan.replicas)
            }
            BarrierMode::BestEffort => missing.is_empty() || timed_out,
        };
        let work_done = !matches!(self.plan.stages[last as usize].kind, StageKind::Prepare { .. } | StageKind::Cleanup { .. })
            || current.drained;
        if !open || !work_done || !self.ghosts_gone(now_ns) {
            return false;
        }
        let late: Vec<u32> = self
            .seats
            .iter()
            .filter(|seat| seat.in_stage().is_some_and(|at| at != (last, Step::AtBarrier)))
            .map(|seat| seat.index)
            .collect();
        for index in late {
            self.leave_behind(index, last, "the barrier went on without it", now_ns);
        }
        self.end_stages(&current, now_ns);
        self.begin_stage(last + 1, now_ns);
        true
    }

    fn is_window_over(&self, current: &Current, now_ns: u64) -> bool {
        let Start::Going { at_ns } = current.start else { return false };
        let lengths: Option<u64> = (current.first..=current.last).map(|stage| self.window_ns(stage)).sum();
        lengths.is_some_and(|length_ns| now_ns >= at_ns + length_ns)
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
            let reason =
                format!("{name} started within {:.3} ms, more than maxSkew", skew_ns as f64 / 1e6);
            self.degrade(reason.clone());
            self.tell(now_ns, None, "SkewTooLarge", reason, true);
        }
    }

    /// The barrier goes on without the agent: what it holds is free again, and it is told to stop and leave.
    pub(super) fn leave_behind(&mut self, index: u32, stage: u32, reason: &str, now_ns: u64) {
        let seat = &self.seats[index as usize];
        let (attempt, heard_ns) = (seat.attempt, seat.heard_ns);
        self.send(index, Directive::LeftBehind { stage });
        if !self.move_to(index, AgentState::LeftBehind, reason, now_ns) {
            return;
        }
        self.haunt(index, None, false, heard_ns, now_ns);
        // It is told to leave by itself; its process is ended only at the end of the run.
        self.actions.retain(|action| *action != Action::Kill { index, attempt });
        self.actions.push(Action::GiveUp { index, attempt, stage: Some(stage), reason: reason.to_owned() });
        self.degrade(format!("agent {index} was left behind in {}: {reason}", self.stage_name(stage)));
        if self.plan.stages[stage as usize].kind.execute().is_some() {
            let name = self.stage_name(self.chain_end(stage)).to_owned();
            self.partial.push(format!("{name} lacks part of agent {index}'s window: {reason}"));
        }
    }

    fn nobody_left(&self, stage: u32) -> Problem {
        let what = format!("run {} stopped: no agent is left in {}", self.plan.run.name, self.stage_name(stage));
        Problem::new(what, "every agent was lost, or left behind")
            .next("look at the agents' logs in the results directory")
    }

    fn advance_aborting(&mut self, since_ns: u64, then: Option<u32>, now_ns: u64) -> bool {
        let waiting: Vec<u32> = self
            .seats
            .iter()
            .filter(|seat| seat.position() == Some(Position::Aborting) && !seat.stopped)
            .map(|seat| seat.index)
            .collect();
        if !waiting.is_empty() && now_ns.saturating_sub(since_ns) < ABORT_LIMIT_NS {
            return false;
        }
        for index in waiting {
            let reason = super::agent::LossReason::Ended("did not stop within 3 s".to_owned());
            self.lose(index, reason, false, now_ns);
        }
        let able = self.seats.iter().any(|seat| seat.position() == Some(Position::Aborting) && seat.was_ready);
        match then.filter(|_| able && self.stop != Some(Stop::Immediate)) {
            Some(cleanup) => self.begin_stage(cleanup, now_ns),
            None => self.finish(now_ns),
        }
        true
    }

    fn finish(&mut self, now_ns: u64) {
        for facts in &mut self.stages {
            if facts.state == StageState::Waiting {
                facts.state = StageState::Skipped;
            }
        }
        self.phase = Phase::Finishing { since_ns: now_ns };
        for index in 0..self.plan.replicas {
            if !self.seats[index as usize].state.is_terminal() {
                self.send(index, Directive::Finish);
            }
            self.seats[index as usize].replace_at_ns = None;
        }
    }

    fn advance_finishing(&mut self, since_ns: u64, now_ns: u64) -> bool {
        let left: Vec<u32> =
            self.seats.iter().filter(|seat| !seat.state.is_terminal()).map(|seat| seat.index).collect();
        let late = now_ns.saturating_sub(since_ns) >= FINISH_LIMIT_NS;
        if !left.is_empty() && !late {
            return false;
        }
        for index in left {
            let attempt = self.seats[index as usize].attempt;
            self.actions.push(Action::Kill { index, attempt });
            let to = if self.stop.is_some() { AgentState::Aborted } else { AgentState::Completed };
            self.seats[index as usize].state = to;
        }
        for ghost in &self.ghosts {
            self.actions.push(Action::Kill { index: ghost.index, attempt: ghost.attempt });
        }
        self.phase = Phase::Over;
        let outcome = format!("{:?}", self.outcome());
        self.tell(now_ns, None, "Over", outcome, false);
        self.actions.push(Action::Over);
        false
    }

    /// The pool of a leased stage.
    fn new_pool(&self, stage: &StagePlan) -> Option<Pool> {
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
                let mut free: BTreeMap<Option<u32>, RangeSet> = if self.fresh_place {
                    self.prepared_so_far()
                } else {
                    every(RangeSet::of(0, len))
                };
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
