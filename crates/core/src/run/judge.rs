//! What silence, standing still and time itself mean: looked at with every tick.
//!
//! It exists apart from [`super::says`] because nothing here was said by anybody. Slow is not dead: an agent that is
//! heard and gets on is never given up here.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::Action;
use super::says::seconds;
use super::seat::{Seat, Silence, nanos};
use super::{Current, Phase, Run, Start};
use crate::plan::Barrier;

/// After this long without progress an agent is shown as stalled, nanoseconds.
const STALL_SHOWN_NS: u64 = 10_000_000_000;

impl Run {
    /// Looks at silence, stalls and deadlines of every agent.
    pub(super) fn judge(&mut self, now_ns: u64) {
        let barrier = self.barrier_now();
        for index in 0..self.plan.replicas {
            self.judge_one(index, &barrier, now_ns);
        }
        let deadline_ns = self.plan.active_deadline.map_or(u64::MAX, nanos);
        // Once: a cleanup that follows has to be possible.
        if now_ns.saturating_sub(self.began_ns) > deadline_ns && !self.deadline_passed && !self.is_ending() {
            self.deadline_passed = true;
            self.fail(self.deadline_problem(), now_ns);
        }
    }

    fn judge_one(&mut self, index: u32, barrier: &Barrier, now_ns: u64) {
        let grace_ns = nanos(self.plan.failure.reconnect_grace);
        let ready_ns = nanos(self.plan.start.ready_timeout);
        let seat = &self.seats[index as usize];
        match seat.state {
            AgentState::Active(Position::Expected) => {
                if now_ns.saturating_sub(seat.since_ns) > ready_ns {
                    self.lose(index, &LossReason::NoHello, false, now_ns);
                }
            }
            AgentState::Disconnected { since_ns, .. } => {
                if now_ns.saturating_sub(since_ns) > grace_ns {
                    self.lose(index, &LossReason::Unreachable, false, now_ns);
                }
            }
            AgentState::Active(was) | AgentState::Stalled { was, .. } => {
                if self.judge_silence(index, was, barrier, now_ns) {
                    self.judge_progress(index, was, barrier, now_ns);
                }
            }
            AgentState::Completed
            | AgentState::Lost(_)
            | AgentState::Failed
            | AgentState::LeftBehind
            | AgentState::Aborted => {}
        }
    }

    /// Whether the agent is still taken as heard.
    fn judge_silence(&mut self, index: u32, was: Position, barrier: &Barrier, now_ns: u64) -> bool {
        let seat = &mut self.seats[index as usize];
        let attempt = seat.attempt;
        let silence = seat.judge_silence(barrier, now_ns);
        if silence == Silence::Unanswered {
            let to = AgentState::Disconnected { since_ns: now_ns, was };
            self.move_to(index, to, "silent, and did not answer", now_ns);
            return false;
        }
        if seat.is_ping_due(now_ns) || silence == Silence::Ask {
            self.actions.push(Action::Ping { index, attempt });
        }
        true
    }

    fn judge_progress(&mut self, index: u32, was: Position, barrier: &Barrier, now_ns: u64) {
        let seat = &self.seats[index as usize];
        if self.is_ending() || !self.owes(seat, now_ns) {
            return;
        }
        let stood_ns = now_ns.saturating_sub(seat.progress_ns);
        if stood_ns > nanos(barrier.stall_timeout) {
            self.lose(index, &LossReason::Stalled, false, now_ns);
        } else if stood_ns > STALL_SHOWN_NS && !matches!(seat.state, AgentState::Stalled { .. }) {
            let what = seat.beat.what.clone();
            let reason = format!("no progress for {} in {what}", seconds(stood_ns));
            // In a chain the window says where it is, as nobody says so.
            let stage = self.unfinished_stage(index).unwrap_or(0);
            self.degrade(format!("agent {index} stalled in {}", self.stage_name(stage)));
            let to = AgentState::Stalled { since_ns: now_ns - stood_ns, what, was };
            self.move_to(index, to, &reason, now_ns);
        }
    }

    /// Whether it is this agent's turn to do something.
    fn owes(&self, seat: &Seat, now_ns: u64) -> bool {
        let going = match &self.phase {
            Phase::Stage(Current { start: Start::Going { at_ns }, .. }) => *at_ns < now_ns,
            _ => false,
        };
        match seat.position() {
            Some(Position::Joined | Position::Validated | Position::Stage { stage: 0, .. }) => true,
            Some(Position::Stage { step: Step::Waiting, .. }) => !seat.staged || seat.joining,
            Some(Position::Stage { step: Step::Armed, .. }) => going,
            Some(Position::Stage { step: Step::Working | Step::Draining, .. }) => true,
            _ => false,
        }
    }

    /// The barrier settings that hold now.
    fn barrier_now(&self) -> Barrier {
        let stage = match &self.phase {
            Phase::Stage(current) => current.last,
            _ => 0,
        };
        self.plan.stages.get(stage as usize).map(|stage| stage.barrier.clone()).unwrap_or_default()
    }
}
