//! How a run ends: aborting, cleaning up after that, finishing.

use super::agent::{AgentState, LossReason, Position};
use super::message::{Action, Directive, Stop};
use super::record::Weight;
use super::{FAULTS_MAX, Phase, Run, StageState};
use crate::plan::{RunOn, StageKind};
use crate::problem::{Problem, exit};

/// How long an aborting agent may take until its process is ended, nanoseconds: a second to stop its I/O, a second to
/// hand in what it has, and some for a busy machine.
const ABORT_LIMIT_NS: u64 = 3_000_000_000;
/// How long an agent may take to end after the run is over, nanoseconds.
const FINISH_LIMIT_NS: u64 = 5_000_000_000;

impl Run {
    pub(super) fn on_stop(&mut self, stop: Stop, now_ns: u64) {
        let harder = self.stop.is_none_or(|before| before < stop);
        // In the last moments there is nothing left to stop.
        if !harder || matches!(self.phase, Phase::Finishing { .. }) {
            return;
        }
        self.stop = Some(stop);
        self.note_change(Weight::Decisive);
        let reason = match stop {
            Stop::Graceful => "stopped on request",
            Stop::Immediate => "stopped on request, without cleanup",
        };
        match &mut self.phase {
            Phase::Aborting { then, .. } if stop == Stop::Immediate => *then = None,
            // A cleanup that a stop would lead to is under way already.
            Phase::Stage(current) if stop == Stop::Graceful => {
                let first = current.first;
                if !self.is_last_duty(first) {
                    self.abort(reason, now_ns);
                }
            }
            _ => self.abort(reason, now_ns),
        }
    }

    /// Whether `stage` is a cleanup that runs whatever happened.
    fn is_last_duty(&self, stage: u32) -> bool {
        let plan = &self.plan.stages[stage as usize];
        matches!(plan.kind, StageKind::Cleanup { .. }) && plan.run_on == RunOn::Always
    }

    /// Fails the run. What came first is what is reported, a failure or a stop; later failures are listed beside it.
    pub(super) fn fail(&mut self, problem: Problem, now_ns: u64) {
        let reason = problem.what.clone();
        if self.is_troubled() {
            self.keep_fault(problem);
        } else {
            self.failure = Some(problem);
        }
        self.abort(&reason, now_ns);
    }

    pub(super) fn keep_fault(&mut self, problem: Problem) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(problem);
            self.note_change(Weight::Detail);
        } else {
            self.faults_dropped += 1;
        }
    }

    /// Whether the run is being stopped, or is over.
    pub(super) fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Aborting { .. } | Phase::Finishing { .. } | Phase::Over)
    }

    /// Asks every agent to stop. A cleanup stage that runs `Always` follows, unless it was under way.
    fn abort(&mut self, reason: &str, now_ns: u64) {
        if self.is_ending() {
            return;
        }
        let (first, then) = match &self.phase {
            Phase::Stage(current) => (current.first, self.cleanup_after(current.last)),
            _ => (0, None),
        };
        for facts in self.stages.iter_mut().skip(first as usize) {
            facts.state = match facts.state {
                StageState::Waiting => StageState::Skipped,
                StageState::Starting | StageState::Working => StageState::Failed,
                ended => ended,
            };
        }
        for index in 0..self.plan.replicas {
            self.seats[index as usize].aborted_in = self.unfinished_stage(index);
        }
        let then = then.filter(|_| self.stop != Some(Stop::Immediate));
        self.note_change(Weight::Decisive);
        self.phase = Phase::Aborting { since_ns: now_ns, then };
        self.tell(now_ns, None, "Aborting", reason.to_owned(), true);
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            seat.replace_at_ns = None;
            seat.stopped = false;
            let attempt = seat.attempt;
            match seat.position() {
                None => continue,
                Some(Position::Expected) => self.actions.push(Action::Kill { index, attempt }),
                Some(_) => {}
            }
            self.place(index, Position::Aborting, reason, now_ns);
            self.send(index, Directive::Abort { reason: reason.to_owned() });
        }
    }

    /// The cleanup stage after stage `last` that runs whatever happened.
    fn cleanup_after(&self, last: u32) -> Option<u32> {
        (last + 1..self.plan.stages.len() as u32).find(|stage| self.is_last_duty(*stage))
    }

    /// Whether the place turned out to be another's: then nothing of it is ours to delete. A storage that refuses has a
    /// class; what is refused without one is the place itself.
    fn is_barred(&self) -> bool {
        let barred = |problem: &Problem| problem.exit == exit::REFUSED && problem.class.is_none();
        self.failure.iter().chain(&self.faults).any(barred)
    }

    pub(super) fn advance_aborting(&mut self, since_ns: u64, then: Option<u32>, now_ns: u64) -> bool {
        let aborting =
            |run: &Self, index: &u32| run.seats[*index as usize].position() == Some(Position::Aborting);
        let all: Vec<u32> = (0..self.plan.replicas).filter(|index| aborting(self, index)).collect();
        let (stopped, waiting): (Vec<u32>, Vec<u32>) =
            all.into_iter().partition(|index| self.seats[*index as usize].stopped);
        if !waiting.is_empty() && now_ns.saturating_sub(since_ns) < ABORT_LIMIT_NS {
            return false;
        }
        let hung = LossReason::Ended("it did not stop within 3 s, and is killed".to_owned());
        for index in waiting {
            let heard = self.seats[index as usize].state.is_heard();
            self.lose(index, if heard { &hung } else { &LossReason::Unreachable }, false, now_ns);
        }
        let able = stopped.iter().any(|index| self.seats[*index as usize].was_ready);
        let then = then.filter(|_| able && !self.is_barred());
        // Whatever may still write would write behind the back of the cleanup.
        if then.is_some() && !self.ghosts_gone(now_ns) {
            return false;
        }
        self.close_failed_stages(now_ns);
        let Some(cleanup) = then else {
            self.finish(now_ns);
            return true;
        };
        for index in stopped {
            if !self.seats[index as usize].was_ready {
                let attempt = self.seats[index as usize].attempt;
                self.actions.push(Action::Kill { index, attempt });
                self.move_to(index, AgentState::Aborted, "it never passed preflight", now_ns);
            }
        }
        self.begin_stage(cleanup, now_ns);
        true
    }

    fn close_failed_stages(&mut self, now_ns: u64) {
        for (stage, facts) in (0..).zip(&mut self.stages) {
            if facts.state == StageState::Failed && facts.ended_ns.is_none() {
                facts.ended_ns = Some(now_ns);
                self.actions.push(Action::StageOver { stage });
            }
        }
    }

    pub(super) fn finish(&mut self, now_ns: u64) {
        for facts in &mut self.stages {
            if facts.state == StageState::Waiting {
                facts.state = StageState::Skipped;
            }
        }
        self.phase = Phase::Finishing { since_ns: now_ns };
        self.note_change(Weight::Decisive);
        // Before they are told to end.
        self.ask_for_marks(now_ns);
        for index in 0..self.plan.replicas {
            let seat = &mut self.seats[index as usize];
            seat.replace_at_ns = None;
            let attempt = seat.attempt;
            if seat.is_coming() {
                self.place(index, Position::Aborting, "the run ends before it was ready", now_ns);
                self.actions.push(Action::Kill { index, attempt });
            } else if !seat.state.is_terminal() {
                self.send(index, Directive::Finish);
            }
        }
    }

    /// The agent at `index` has ended and was allowed to.
    pub(super) fn end(&mut self, index: u32, reason: &str, now_ns: u64) {
        let aborting = self.seats[index as usize].position() == Some(Position::Aborting);
        let to = if aborting { AgentState::Aborted } else { AgentState::Completed };
        self.move_to(index, to, reason, now_ns);
    }

    pub(super) fn advance_finishing(&mut self, since_ns: u64, now_ns: u64) -> bool {
        let left: Vec<u32> =
            self.seats.iter().filter(|seat| !seat.state.is_terminal()).map(|seat| seat.index).collect();
        let late = now_ns.saturating_sub(since_ns) >= FINISH_LIMIT_NS;
        if !left.is_empty() && !late {
            return false;
        }
        for index in left {
            let attempt = self.seats[index as usize].attempt;
            self.actions.push(Action::Kill { index, attempt });
            self.end(index, "it did not end by itself", now_ns);
        }
        for ghost in &self.ghosts {
            self.actions.push(Action::Kill { index: ghost.index, attempt: ghost.attempt });
        }
        self.phase = Phase::Over;
        self.note_change(Weight::Decisive);
        let outcome = self.outcome().name().to_owned();
        self.tell(now_ns, None, "Over", outcome, false);
        self.actions.push(Action::Over);
        false
    }
}
