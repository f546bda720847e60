//! The first half of a step: what an event says about one agent is written down, and nothing else is concluded.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::{Action, Beat, Directive, Says};
use super::seat::nanos;
use super::{Current, Phase, Run, Start};
use crate::lease::LeaseDone;

/// After this long without progress an agent is shown as stalled, nanoseconds.
const STALL_SHOWN_NS: u64 = 10_000_000_000;

impl Run {
    pub(super) fn on_hello(&mut self, index: u32, attempt: u32, now_ns: u64) {
        let Some(seat) = self.seats.get_mut(index as usize) else { return };
        if seat.attempt != attempt || seat.state.is_terminal() {
            let directive = if seat.attempt == attempt && seat.state == AgentState::Completed {
                Directive::Finish
            } else {
                Directive::Superseded
            };
            self.actions.push(Action::Send { index, attempt, directive });
            return;
        }
        seat.hear(now_ns);
        match seat.state.clone() {
            AgentState::Active(Position::Expected) => {
                self.move_to(index, AgentState::Active(Position::Joined), "said hello", now_ns);
                self.send(index, Directive::Plan);
            }
            AgentState::Disconnected { .. } => self.reconnect(index, now_ns),
            _ => {}
        }
    }

    /// An agent is heard again; everything that it missed and said meanwhile follows in order by itself.
    fn reconnect(&mut self, index: u32, now_ns: u64) {
        let seat = &mut self.seats[index as usize];
        let AgentState::Disconnected { since_ns, was } = seat.state else { return };
        seat.progress_ns = now_ns;
        let away = seconds(now_ns.saturating_sub(since_ns));
        self.degrade(format!("agent {index} was disconnected for {away}"));
        self.move_to(index, AgentState::Active(was), &format!("heard again after {away}"), now_ns);
    }

    pub(super) fn on_closed(&mut self, index: u32, attempt: u32, now_ns: u64) {
        let finishing = matches!(self.phase, Phase::Finishing { .. });
        let Some(seat) = self.seat_of(index, attempt) else { return };
        let Some(was) = seat.position() else { return };
        if finishing {
            self.move_to(index, AgentState::Completed, "ended its session", now_ns);
        } else if !matches!(seat.state, AgentState::Disconnected { .. }) {
            let to = AgentState::Disconnected { since_ns: now_ns, was };
            self.move_to(index, to, "its stream closed", now_ns);
        }
    }

    pub(super) fn on_says(&mut self, index: u32, attempt: u32, says: Says, now_ns: u64) {
        if self.seat_of(index, attempt).is_none() {
            self.on_ghost_says(index, attempt, &says, now_ns);
            return;
        }
        self.seats[index as usize].hear(now_ns);
        if matches!(self.seats[index as usize].state, AgentState::Disconnected { .. }) {
            self.reconnect(index, now_ns);
        }
        match says {
            Says::Beat(beat) => self.on_beat(index, beat, now_ns),
            Says::Accepted => {
                if self.move_to(index, AgentState::Active(Position::Validated), "accepted its plan", now_ns) {
                    let keeper = *self.keeper.get_or_insert(index) == index;
                    self.step_to(index, 0, Step::Working, "preflight", now_ns);
                    if keeper {
                        self.send(index, Directive::Keep);
                    }
                    self.send(index, Directive::Release { stage: 0 });
                }
            }
            Says::Staged { stage } => {
                let in_stage = self.seats[index as usize].in_stage().is_some_and(|(now, _)| now == stage);
                self.seats[index as usize].staged = in_stage;
            }
            Says::Armed { stage, round } => self.on_armed(index, stage, round, now_ns),
            Says::Started { stage, released_ns } => self.on_started(index, stage, released_ns, now_ns),
            Says::MissedStart { stage } => self.on_missed_start(index, stage, now_ns),
            Says::LeaseDone(done) => self.on_lease_done(index, attempt, &done),
            Says::Draining { stage } => {
                self.step_to(index, stage, Step::Draining, "its I/O is over", now_ns);
            }
            Says::Arrived { stage, degraded, fresh_place } => {
                for what in degraded {
                    self.degrade(format!("agent {index}: {what}"));
                }
                self.on_arrived(index, stage, fresh_place, now_ns);
            }
            Says::Fault { stage, problem, fatal } => {
                self.tell(now_ns, Some((index, attempt)), "Fault", problem.cause.clone(), true);
                self.keep_fault(problem.clone());
                let stopping =
                    matches!(self.phase, Phase::Aborting { .. } | Phase::Finishing { .. } | Phase::Over);
                if fatal && !stopping {
                    if let Some(facts) = self.stages.get_mut(stage as usize) {
                        facts.state = super::StageState::Failed;
                    }
                    self.fail(problem, now_ns);
                }
            }
            Says::Stopped => self.on_stopped(index),
        }
    }

    /// An attempt that was given up still talks: what it says changes nothing but that it is gone once it stopped.
    fn on_ghost_says(&mut self, index: u32, attempt: u32, says: &Says, now_ns: u64) {
        if matches!(says, Says::Stopped) {
            for ghost in &mut self.ghosts {
                if (ghost.index, ghost.attempt) == (index, attempt) {
                    ghost.gone_ns = now_ns;
                }
            }
        }
    }

    fn step_to(&mut self, index: u32, stage: u32, step: Step, reason: &str, now_ns: u64) -> bool {
        self.move_to(index, AgentState::Active(Position::Stage { stage, step }), reason, now_ns)
    }

    fn on_beat(&mut self, index: u32, beat: Beat, now_ns: u64) {
        let seat = &mut self.seats[index as usize];
        let moved = seat.take_beat(beat, now_ns);
        if moved && let AgentState::Stalled { was, since_ns, .. } = seat.state {
            let stood = seconds(now_ns.saturating_sub(since_ns));
            self.move_to(index, AgentState::Active(was), &format!("moves again after {stood}"), now_ns);
        }
    }

    fn on_armed(&mut self, index: u32, stage: u32, round: u32, now_ns: u64) {
        let current = match &self.phase {
            Phase::Stage(Current { first, start: Start::Arming { round, .. }, .. }) => Some((*first, *round)),
            _ => None,
        };
        if current == Some((stage, round)) && self.step_to(index, stage, Step::Armed, "acknowledged the start", now_ns)
        {
            self.seats[index as usize].armed_round = Some(round);
        }
    }

    fn on_started(&mut self, index: u32, stage: u32, released_ns: u64, now_ns: u64) {
        let seat = &mut self.seats[index as usize];
        let released_ns = seat.clock.to_coordinator_ns(released_ns);
        if seat.released_ns.is_none() {
            seat.released_ns = Some(released_ns);
        }
        self.step_to(index, stage, Step::Working, "began", now_ns);
    }

    fn on_missed_start(&mut self, index: u32, stage: u32, now_ns: u64) {
        let attempt = self.seats[index as usize].attempt;
        self.degrade(format!("agent {index} missed the start of {}", self.stage_name(stage)));
        self.tell(now_ns, Some((index, attempt)), "MissedStart", "no commit had arrived at the start".into(), true);
        self.step_to(index, stage, Step::Waiting, "missed the start", now_ns);
        self.seats[index as usize].armed_round = None;
        self.seats[index as usize].staged = true;
    }

    fn on_lease_done(&mut self, index: u32, attempt: u32, done: &LeaseDone) {
        let holder = (index, attempt);
        let known = self.pools.values_mut().chain(self.puts.as_mut()).any(|pool| pool.finish(holder, done));
        if !known {
            self.refused += 1;
        }
    }

    fn on_arrived(&mut self, index: u32, stage: u32, fresh_place: bool, now_ns: u64) {
        if stage == 0 {
            self.fresh_place |= fresh_place && self.keeper == Some(index);
            self.seats[index as usize].was_ready = true;
            self.move_to(index, AgentState::Active(Position::Ready), "passed preflight", now_ns);
        } else {
            self.step_to(index, stage, Step::AtBarrier, "its result is persisted", now_ns);
        }
    }

    fn on_stopped(&mut self, index: u32) {
        let seat = &mut self.seats[index as usize];
        if seat.position() == Some(Position::Aborting) {
            // Stays in its seat: a cleanup may follow.
            seat.stopped = true;
        }
    }

    pub(super) fn on_ended(
        &mut self,
        index: u32,
        attempt: u32,
        reason: LossReason,
        clean: bool,
        now_ns: u64,
    ) {
        for ghost in &mut self.ghosts {
            if (ghost.index, ghost.attempt) == (index, attempt) {
                ghost.gone_ns = now_ns;
            }
        }
        let over = matches!(self.phase, Phase::Finishing { .. } | Phase::Aborting { .. });
        let Some(seat) = self.seat_of(index, attempt) else { return };
        match seat.position() {
            Some(Position::Aborting) => {
                self.move_to(index, AgentState::Aborted, "its process ended", now_ns);
            }
            _ if over && clean => {
                self.move_to(index, AgentState::Completed, "its process ended", now_ns);
            }
            _ => self.lose(index, reason, true, now_ns),
        }
    }

    /// Looks at silence, stalls and deadlines of every agent.
    pub(super) fn judge(&mut self, now_ns: u64) {
        for index in 0..self.plan.replicas {
            self.judge_one(index, now_ns);
        }
        if let Some(limit) = self.plan.active_deadline
            && now_ns.saturating_sub(self.began_ns) > nanos(limit)
        {
            self.fail(self.deadline_problem(), now_ns);
        }
    }

    fn judge_one(&mut self, index: u32, now_ns: u64) {
        let barrier = self.barrier_now();
        let stopping = matches!(self.phase, Phase::Aborting { .. } | Phase::Finishing { .. });
        let grace_ns = nanos(self.plan.failure.reconnect_grace);
        let ready_ns = nanos(self.plan.start.ready_timeout);
        let stall_ns = nanos(barrier.stall_timeout);
        let seat = &mut self.seats[index as usize];
        let waited_ns = now_ns.saturating_sub(seat.since_ns);
        let stood_ns = now_ns.saturating_sub(seat.progress_ns);
        match seat.state.clone() {
            AgentState::Active(Position::Expected) if waited_ns > ready_ns => {
                self.lose(index, LossReason::NoHello, false, now_ns);
            }
            AgentState::Active(Position::Expected) => {}
            AgentState::Disconnected { since_ns, .. } if now_ns.saturating_sub(since_ns) > grace_ns => {
                self.lose(index, LossReason::Unreachable, false, now_ns);
            }
            AgentState::Active(position) | AgentState::Stalled { was: position, .. } => {
                let attempt = seat.attempt;
                match seat.judge_silence(&barrier, now_ns) {
                    super::seat::Silence::Fine => {}
                    super::seat::Silence::Ask => self.actions.push(Action::Ping { index, attempt }),
                    super::seat::Silence::Unanswered => {
                        let to = AgentState::Disconnected { since_ns: now_ns, was: position };
                        self.unstall(index, now_ns);
                        self.move_to(index, to, "silent, and did not answer", now_ns);
                        return;
                    }
                }
                if self.seats[index as usize].is_ping_due(now_ns) {
                    self.actions.push(Action::Ping { index, attempt });
                }
                let working = matches!(position, Position::Stage { step: Step::Working | Step::Draining, .. });
                if !working || stopping {
                    return;
                }
                let what = self.seats[index as usize].beat.what.clone();
                let stalled = matches!(self.seats[index as usize].state, AgentState::Stalled { .. });
                if stood_ns > stall_ns {
                    self.lose(index, LossReason::Stalled, false, now_ns);
                } else if stood_ns > STALL_SHOWN_NS && !stalled {
                    let reason = format!("no progress for {} in {what}", seconds(stood_ns));
                    self.degrade(format!("agent {index} stalled in {}", self.stage_name_of(position)));
                    let to = AgentState::Stalled { since_ns: now_ns - stood_ns, what, was: position };
                    self.move_to(index, to, &reason, now_ns);
                }
            }
            _ => {}
        }
    }

    fn unstall(&mut self, index: u32, now_ns: u64) {
        if let AgentState::Stalled { was, .. } = self.seats[index as usize].state {
            self.move_to(index, AgentState::Active(was), "no longer heard", now_ns);
        }
    }

    /// The barrier settings that hold now.
    fn barrier_now(&self) -> crate::plan::Barrier {
        let stage = match &self.phase {
            Phase::Stage(current) => current.last,
            _ => 0,
        };
        self.plan.stages.get(stage as usize).map(|stage| stage.barrier.clone()).unwrap_or_default()
    }

    pub(super) fn stage_name(&self, stage: u32) -> &str {
        self.plan.stages.get(stage as usize).map_or("?", |stage| &stage.name)
    }

    fn stage_name_of(&self, position: Position) -> &str {
        match position {
            Position::Stage { stage, .. } => self.stage_name(stage),
            _ => "?",
        }
    }
}

/// A span for people, e.g. `12.3 s`.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}
