//! Starting together: arm, acknowledge, commit.
//!
//! Architecture invariant: nobody starts unless the whole quorum acknowledged the same instant. Not promised: that
//! all start; an agent without a commit at the instant does not.

use super::agent::{LossReason, Position, Step};
use super::message::Directive;
use super::record::Weight;
use super::seat::{Seat, nanos};
use super::{Current, Phase, Run, StageState, Start};
use crate::plan::LateJoin;

/// How often a start is armed again before those who do not acknowledge are given up.
const REARM_MAX: u32 = 12;
/// The longest lead that arming again grows to, nanoseconds.
const LEAD_MAX_NS: u64 = 10_000_000_000;
/// The shortest lead, nanoseconds.
const LEAD_MIN_NS: u64 = 200_000_000;
/// Least time between a commit and the start, nanoseconds, on top of four round trips: what a busy machine needs to
/// wake a thread.
const COMMIT_MARGIN_NS: u64 = 20_000_000;

/// How old a clock estimate may be when a start is armed, nanoseconds: quartz drifts by up to some 50 µs per second.
const CLOCK_AGE_MAX_NS: u64 = 5_000_000_000;
/// How long before the end of a countdown the clocks are measured anew, nanoseconds.
const MEASURE_NS: u64 = 1_000_000_000;

impl Run {
    /// Goes on with the start of the current stage; returns whether something changed.
    pub(super) fn advance_start(&mut self, current: &Current, now_ns: u64) -> bool {
        let stage = current.first;
        let to = match current.start {
            Start::Going { .. } => None,
            Start::Staging { round, not_before_ns, measured } => {
                self.stage_everybody(stage, round, not_before_ns, measured, now_ns)
            }
            Start::Countdown { until_ns, round } => {
                let before_ns = nanos(self.plan.start.lead_time).saturating_add(MEASURE_NS);
                (now_ns.saturating_add(before_ns) >= until_ns).then_some(Start::Staging {
                    round,
                    not_before_ns: until_ns,
                    measured: false,
                })
            }
            Start::Arming { at_ns, commit_by_ns, round } => {
                self.commit_or_rearm(stage, at_ns, commit_by_ns, round, now_ns)
            }
        };
        let Some(to) = to else { return false };
        if let Phase::Stage(current) = &mut self.phase {
            current.start = to;
        }
        true
    }

    fn stage_everybody(
        &mut self,
        stage: u32,
        round: u32,
        not_before_ns: u64,
        measured: bool,
        now_ns: u64,
    ) -> Option<Start> {
        if !self.is_everybody_staged(stage) || !self.are_puts_marked() {
            return None;
        }
        if !self.delayed && !self.plan.start.delay.is_zero() {
            let delay = self.plan.start.delay;
            self.delayed = true;
            self.tell(now_ns, None, "Countdown", format!("start in {delay:?}"), true);
            return Some(Start::Countdown { until_ns: now_ns.saturating_add(nanos(delay)), round });
        }
        let taking_part = |seat: &&mut Seat| seat.in_stage().is_some();
        let old = self
            .seats
            .iter_mut()
            .filter(taking_part)
            .any(|seat| now_ns.saturating_sub(seat.clock_since_ns) > CLOCK_AGE_MAX_NS);
        if old && !measured {
            // All of them, so that they are fresh together.
            self.seats.iter_mut().filter(taking_part).for_each(|seat| seat.renew_clock(now_ns));
            return Some(Start::Staging { round, not_before_ns, measured: true });
        }
        Some(self.arm(stage, round + 1, not_before_ns, now_ns))
    }

    fn is_everybody_staged(&self, stage: u32) -> bool {
        let taking_part = |seat: &&Seat| seat.in_stage().is_some();
        let ready = |seat: &Seat| {
            let here = seat.in_stage().is_some_and(|(at, _)| at == stage);
            here && seat.staged && seat.clock.is_fresh() && seat.state.is_heard()
        };
        !self.seats.iter().any(Seat::is_coming)
            && self.seats.iter().any(|seat| taking_part(&seat))
            && self.seats.iter().filter(taking_part).all(ready)
    }

    fn arm(&mut self, stage: u32, round: u32, not_before_ns: u64, now_ns: u64) -> Start {
        let worst_ns = self.worst_round_trip_ns();
        // One answer that came late, as the agent was stopped, must not put the start off by minutes.
        let wanted_ns = worst_ns.saturating_mul(10).clamp(LEAD_MIN_NS, LEAD_MAX_NS);
        let lead_ns = nanos(self.plan.start.lead_time).max(wanted_ns);
        let patient_ns =
            lead_ns.saturating_mul(1 << round.saturating_sub(1).min(6)).min(LEAD_MAX_NS.max(lead_ns));
        let at_ns = now_ns.saturating_add(patient_ns).max(not_before_ns);
        let margin_ns = worst_ns.saturating_mul(4).saturating_add(COMMIT_MARGIN_NS).min(patient_ns / 2);
        let commit_by_ns = at_ns - margin_ns;
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            seat.armed_round = None;
            if seat.in_stage().is_some_and(|(at, _)| at == stage) {
                let at_ns = seat.clock.to_agent_ns(at_ns);
                self.send(index, Directive::Arm { stage, round, at_ns, spin: self.spin });
            }
        }
        let lead_ms = (at_ns - now_ns) / 1_000_000;
        let reason = format!("{} in {lead_ms} ms, round {round}", self.stage_name(stage));
        self.tell(now_ns, None, "Armed", reason, false);
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
        let in_time = now_ns <= commit_by_ns;
        let asked = |seat: &Seat| seat.in_stage().is_some();
        let is_late = |seat: &Seat| asked(seat) && seat.armed_round != Some(round);
        // Whoever is away now would miss the commit; whoever is on its way takes part from the beginning.
        let unfit = |seat: &Seat| {
            let away = asked(seat) && !seat.state.is_heard();
            let comes =
                seat.is_coming() || (seat.position() == Some(Position::Ready) && seat.state.is_heard());
            away || comes || is_late(seat)
        };
        if in_time && self.seats.iter().any(asked) && !self.seats.iter().any(unfit) {
            self.commit(stage, round, at_ns, now_ns);
            return Some(Start::Going { at_ns });
        }
        if in_time {
            return None;
        }
        self.stages[stage as usize].rearmed += 1;
        if round >= REARM_MAX {
            let deaf = self.seats.iter().filter(|seat| is_late(seat) && seat.state.is_heard());
            for index in deaf.map(|seat| seat.index).collect::<Vec<_>>() {
                self.lose(index, &LossReason::NoAcknowledgement, false, now_ns);
            }
            if self.is_ending() {
                return None;
            }
        }
        // Whoever acknowledged waits for a commit that will not come, and is armed anew with the others.
        for index in 0..self.plan.replicas {
            if let Some((stage, Step::Armed)) = self.seats[index as usize].in_stage() {
                let to = Position::Stage { stage, step: Step::Waiting };
                self.place(index, to, "the start is armed anew", now_ns);
            }
        }
        let round = if round >= REARM_MAX { 0 } else { round };
        Some(Start::Staging { round, not_before_ns: 0, measured: false })
    }

    fn commit(&mut self, stage: u32, round: u32, at_ns: u64, now_ns: u64) {
        self.note_missing(stage);
        let agents = self.seats.iter().filter(|seat| seat.in_stage().is_some()).count() as u32;
        if agents < self.plan.replicas {
            self.resplit();
        }
        let mut error_ns = 0;
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            if seat.in_stage().is_some() {
                error_ns = error_ns.max(seat.clock.error_ns());
                // Until the start, nobody is expected to get on.
                seat.progress_ns = at_ns;
                self.send(index, Directive::Commit { stage, round });
            }
        }
        // Two clocks are compared, so both errors count.
        self.note_start(stage, at_ns, error_ns.saturating_mul(2));
        let reason = format!("{} starts on {agents} agents", self.stage_name(stage));
        self.tell(now_ns, None, "Committed", reason, false);
    }

    /// The chain of stages that begins with `stage` starts at `at_ns`.
    pub(super) fn note_start(&mut self, stage: u32, at_ns: u64, clock_error_ns: u64) {
        let agents = self.seats.iter().filter(|seat| seat.in_stage().is_some()).count() as u32;
        let facts = &mut self.stages[stage as usize];
        facts.planned_start_ns = Some(at_ns);
        facts.state = StageState::Working;
        (facts.agents, facts.clock_error_ns) = (agents, clock_error_ns);
        let mut start_ns = at_ns;
        for following in stage..self.chain_end(stage) {
            start_ns += self.window_ns(following).unwrap_or(0);
            let facts = &mut self.stages[following as usize + 1];
            facts.planned_start_ns = Some(start_ns);
            facts.agents = agents;
        }
        self.note_change(Weight::Detail);
    }

    /// Stages that count and begin without an agent of the quorum lack its window.
    fn note_missing(&mut self, stage: u32) {
        let last = self.chain_end(stage);
        if !self.counts(last) {
            return;
        }
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            if seat.in_quorum && seat.in_stage().is_none() {
                self.partial
                    .push(format!("{} lacks agent {index}, which was lost before", self.stage_name(last)));
            }
        }
    }

    /// Takes agents that are ready, or missed the start, into the stage under way, where they may join.
    pub(super) fn join_late(&mut self, current: &Current, at_ns: u64, now_ns: u64) -> bool {
        let mut changed = false;
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            let missed = matches!(seat.in_stage(), Some((_, Step::Waiting))) && seat.staged && !seat.joining;
            let comes = seat.position() == Some(Position::Ready) && !current.drained;
            if (missed || comes) && seat.state.is_heard() {
                changed |= self.join_one(index, missed, current, at_ns, now_ns);
            }
        }
        changed
    }

    fn join_one(&mut self, index: u32, missed: bool, current: &Current, at_ns: u64, now_ns: u64) -> bool {
        let seat = &self.seats[index as usize];
        let (attempt, fresh) = (seat.attempt, seat.clock.is_fresh());
        let admitted = attempt > 0 || self.plan.start.late_join == LateJoin::Admit;
        if !self.plan.stages[current.first as usize].kind.is_armed(false) {
            self.take_in(index, current.first, false, "joins late", now_ns);
            self.tell(
                now_ns,
                Some((index, attempt)),
                "JoinedLate",
                self.stage_name(current.first).to_owned(),
                true,
            );
            return true;
        }
        let measured = self.plan.stages[current.last as usize].kind.execute().is_some();
        if measured && !admitted {
            if missed {
                self.leave_behind(index, current.last, "missed the start, and lateJoin is Refuse", now_ns);
            }
            return missed;
        }
        // Whoever is in the stage already must arrive, even where its window is over.
        let open = self
            .stage_at(current, at_ns, now_ns)
            .or_else(|| missed.then(|| self.last_window(current, at_ns)));
        let Some((stage, start_ns)) = open.filter(|_| fresh) else { return false };
        if !missed {
            self.note_change(Weight::Decisive);
            self.seats[index as usize].begin(now_ns);
            self.place(index, Position::Stage { stage, step: Step::Waiting }, "joins late", now_ns);
        }
        let seat = &mut self.seats[index as usize];
        seat.joining = true;
        seat.progress_ns = now_ns;
        let at_ns = seat.clock.to_agent_ns(start_ns);
        self.tell(now_ns, Some((index, attempt)), "JoinedLate", self.stage_name(stage).to_owned(), true);
        self.send(index, Directive::Join { stage, at_ns });
        self.resplit();
        if current.drained {
            self.send(index, Directive::Drain { stage: current.last });
        }
        true
    }

    fn last_window(&self, current: &Current, at_ns: u64) -> (u32, u64) {
        (current.last, self.stages[current.last as usize].planned_start_ns.unwrap_or(at_ns))
    }

    /// The stage of the chain whose window is open now, with its start; `None` when too little is left of it.
    fn stage_at(&self, current: &Current, at_ns: u64, now_ns: u64) -> Option<(u32, u64)> {
        const LEFT_MIN_NS: u64 = 1_000_000_000;
        let mut start_ns = at_ns;
        for stage in current.first..=current.last {
            match self.window_ns(stage) {
                Some(window_ns) if now_ns + LEFT_MIN_NS < start_ns + window_ns => {
                    return Some((stage, start_ns));
                }
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

    /// Length of the windows of all stages under way, one behind the other; `None` where one has no window.
    pub(super) fn length_ns(&self, current: &Current) -> Option<u64> {
        (current.first..=current.last).map(|stage| self.window_ns(stage)).sum()
    }

    /// Whether the results of `stage` count.
    pub(super) fn counts(&self, stage: u32) -> bool {
        self.plan.stages[stage as usize].kind.execute().is_some_and(|execute| !execute.discard)
    }

    /// The last stage of the chain that begins with, or holds, `stage`.
    pub(super) fn chain_end(&self, stage: u32) -> u32 {
        let mut last = stage;
        while self.plan.stages[last as usize].kind.is_discard()
            && (last as usize + 1) < self.plan.stages.len()
        {
            last += 1;
        }
        last
    }
}
