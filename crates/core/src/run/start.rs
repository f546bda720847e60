//! Starting together: arm, acknowledge, commit.
//!
//! Architecture invariant: nobody starts unless the whole quorum acknowledged the same instant. Not promised: that
//! all start; an agent without a commit at the instant does not.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::Directive;
use super::seat::nanos;
use super::{Current, Phase, Run, Start, StageState};
use crate::plan::LateJoin;

/// How often a start is armed again before those who do not acknowledge are given up.
const REARM_MAX: u32 = 12;
/// The longest lead that arming again grows to, nanoseconds.
const LEAD_MAX_NS: u64 = 10_000_000_000;
/// Least time between a commit and the start, nanoseconds, on top of four round trips: what a busy machine needs to
/// wake a thread.
const COMMIT_MARGIN_NS: u64 = 20_000_000;

impl Run {
    /// Goes on with the start of the current stage; returns whether something changed.
    pub(super) fn advance_start(&mut self, current: Current, now_ns: u64) -> bool {
        let stage = current.first;
        let to = match current.start {
            Start::Going { .. } => return false,
            Start::Staging { since_ns: _, round } => {
                if !self.is_everybody_staged(stage) {
                    return false;
                }
                if self.delayed || self.plan.start.delay.is_zero() {
                    self.arm(stage, round + 1, now_ns)
                } else {
                    let delay = self.plan.start.delay;
                    self.delayed = true;
                    self.tell(now_ns, None, "Countdown", format!("start in {delay:?}"), true);
                    Start::Countdown { until_ns: now_ns + nanos(delay), round }
                }
            }
            Start::Countdown { until_ns, round } => {
                if now_ns + nanos(self.plan.start.lead_time) < until_ns {
                    return false;
                }
                self.arm(stage, round + 1, now_ns)
            }
            Start::Arming { at_ns, commit_by_ns, round } => {
                let Some(to) = self.commit_or_rearm(stage, at_ns, commit_by_ns, round, now_ns) else {
                    return false;
                };
                to
            }
        };
        if let Phase::Stage(current) = &mut self.phase {
            current.start = to;
        }
        true
    }

    fn is_everybody_staged(&self, stage: u32) -> bool {
        let mut some = false;
        for seat in &self.seats {
            if seat.is_coming() {
                return false;
            }
            if let Some((at, _)) = seat.in_stage() {
                let ready = at == stage && seat.staged && seat.clock.is_fresh() && seat.state.is_heard();
                if !ready {
                    return false;
                }
                some = true;
            }
        }
        some
    }

    fn arm(&mut self, stage: u32, round: u32, now_ns: u64) -> Start {
        let worst_ns = self.worst_round_trip_ns();
        let lead_ns = nanos(self.plan.start.lead_time).max(10 * worst_ns).max(200_000_000);
        let patient_ns = lead_ns.saturating_mul(1 << round.saturating_sub(1).min(6)).min(LEAD_MAX_NS.max(lead_ns));
        let at_ns = now_ns + patient_ns;
        let commit_by_ns = at_ns - (4 * worst_ns + COMMIT_MARGIN_NS).min(patient_ns / 2);
        self.stages[stage as usize].rearmed = round - 1;
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            seat.armed_round = None;
            if seat.in_stage().is_some_and(|(at, _)| at == stage) {
                let at_ns = seat.clock.to_agent_ns(at_ns);
                self.send(index, Directive::Arm { stage, round, at_ns, spin: self.spin });
            }
        }
        self.tell(now_ns, None, "Armed", format!("{} in {} ms, round {round}", self.stage_name(stage), patient_ns / 1_000_000), false);
        Start::Arming { at_ns, commit_by_ns, round }
    }

    fn worst_round_trip_ns(&self) -> u64 {
        let taking_part = self.seats.iter().filter(|seat| seat.in_stage().is_some());
        taking_part.map(|seat| seat.clock.round_trip_ns_max()).max().unwrap_or(0)
    }

    fn commit_or_rearm(
        &mut self,
        stage: u32,
        at_ns: u64,
        commit_by_ns: u64,
        round: u32,
        now_ns: u64,
    ) -> Option<Start> {
        let missing: Vec<u32> = self
            .seats
            .iter()
            .filter(|seat| seat.is_coming() || seat.in_stage().is_some_and(|_| seat.armed_round != Some(round)))
            .map(|seat| seat.index)
            .collect();
        let taking_part = self.seats.iter().any(|seat| seat.in_stage().is_some());
        if missing.is_empty() && taking_part && now_ns <= commit_by_ns {
            self.commit(stage, round, at_ns, now_ns);
            return Some(Start::Going { at_ns });
        }
        if now_ns <= commit_by_ns {
            return None;
        }
        if round >= REARM_MAX {
            for index in missing {
                if self.seats[index as usize].state.is_heard() {
                    self.lose(index, LossReason::NoAcknowledgement, false, now_ns);
                }
            }
            return Some(Start::Staging { since_ns: now_ns, round: 0 });
        }
        // Whoever acknowledged waits for a commit that will not come, and is armed anew with the others.
        for index in 0..self.plan.replicas {
            if let Some((at, Step::Armed)) = self.seats[index as usize].in_stage() {
                let to = AgentState::Active(Position::Stage { stage: at, step: Step::Waiting });
                if self.seats[index as usize].state.is_heard() {
                    self.move_to(index, to, "the start is armed anew", now_ns);
                }
            }
        }
        Some(Start::Staging { since_ns: now_ns, round })
    }

    fn commit(&mut self, stage: u32, round: u32, at_ns: u64, now_ns: u64) {
        let mut agents = 0;
        let mut error_ns = 0;
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            if seat.in_stage().is_some() {
                agents += 1;
                error_ns = error_ns.max(seat.clock.error_ns());
                self.send(index, Directive::Commit { stage, round });
            }
        }
        let facts = &mut self.stages[stage as usize];
        facts.planned_start_ns = Some(at_ns);
        facts.state = StageState::Working;
        facts.agents = agents;
        // Two clocks are compared, so both errors count.
        facts.clock_error_ns = 2 * error_ns;
        let mut start_ns = at_ns;
        for following in stage..self.chain_end(stage) {
            start_ns += self.window_ns(following).unwrap_or(0);
            let facts = &mut self.stages[following as usize + 1];
            facts.planned_start_ns = Some(start_ns);
            facts.agents = agents;
        }
        let reason = format!("{} starts on {agents} agents", self.stage_name(stage));
        self.tell(now_ns, None, "Committed", reason, false);
    }

    /// Takes an agent that is ready into the stage under way, where it may join; see design/coordination.
    pub(super) fn join_late(&mut self, current: &Current, at_ns: u64, now_ns: u64) -> bool {
        let mut changed = false;
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            let waits = match seat.in_stage() {
                Some((stage, Step::Waiting)) => {
                    // Missed its start, or came while the others were already armed.
                    stage >= current.first && seat.staged && seat.released_ns.is_none() && at_ns < now_ns
                }
                _ => seat.position() == Some(Position::Ready),
            };
            if !waits || seat.joining || !seat.state.is_heard() || !seat.clock.is_fresh() {
                continue;
            }
            let Some((stage, start_ns)) = self.stage_at(current, at_ns, now_ns) else { continue };
            let measured = self.plan.stages[stage as usize].kind.execute().is_some();
            let admitted = !measured || seat.attempt > 0 || self.plan.start.late_join == LateJoin::Admit;
            if !admitted {
                if seat.in_stage().is_some() {
                    self.leave_behind(index, stage, "missed the start, and lateJoin is Refuse", now_ns);
                    changed = true;
                }
                continue;
            }
            let at_agent_ns = seat.clock.to_agent_ns(start_ns);
            let attempt = seat.attempt;
            if seat.in_stage().is_none() {
                let to = AgentState::Active(Position::Stage { stage, step: Step::Waiting });
                self.move_to(index, to, "joins late", now_ns);
            }
            self.seats[index as usize].joining = true;
            self.tell(now_ns, Some((index, attempt)), "Joined late", self.stage_name(stage).to_owned(), true);
            self.send(index, Directive::Join { stage, at_ns: at_agent_ns });
            if current.drained {
                self.send(index, Directive::Drain { stage });
            }
            changed = true;
        }
        changed
    }

    /// The stage of the chain whose window is open now, with its start; `None` when too little is left of it.
    fn stage_at(&self, current: &Current, at_ns: u64, now_ns: u64) -> Option<(u32, u64)> {
        const LEFT_MIN_NS: u64 = 1_000_000_000;
        let mut start_ns = at_ns;
        for stage in current.first..=current.last {
            match self.window_ns(stage) {
                Some(window_ns) if now_ns + LEFT_MIN_NS < start_ns + window_ns => return Some((stage, start_ns)),
                Some(window_ns) => start_ns += window_ns,
                None => return Some((stage, start_ns)),
            }
        }
        None
    }

    /// Length of the window of an execute stage that ends by time.
    pub(super) fn window_ns(&self, stage: u32) -> Option<u64> {
        self.plan.stages[stage as usize].kind.execute().and_then(|execute| execute.duration).map(nanos)
    }

    /// The last stage of the chain that begins with, or holds, `stage`.
    pub(super) fn chain_end(&self, stage: u32) -> u32 {
        let mut last = stage;
        while self.plan.stages[last as usize].kind.is_discard() && (last as usize + 1) < self.plan.stages.len() {
            last += 1;
        }
        last
    }
}
