//! The first half of a step: what an event says about one agent is written down, and nothing else is concluded.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::{Action, Beat, Directive, Says};
use super::record::Weight;
use super::{Current, Phase, Run, Start};
use crate::lease::LeaseDone;
use crate::problem::Problem;

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
        self.hear(index, attempt, now_ns);
        if self.seats[index as usize].state == AgentState::Active(Position::Expected) {
            self.move_to(index, AgentState::Active(Position::Joined), "said hello", now_ns);
            // Before the first stage everybody is waited for; later, whoever takes a run over must know whom to await.
            let late = !matches!(self.phase, Phase::Gathering);
            self.note_change(if late { Weight::Decisive } else { Weight::Detail });
            self.send(index, Directive::Plan);
        }
    }

    /// Something of an attempt was read. One that was not heard is back; everything that it missed and said meanwhile
    /// follows in order by itself. Answers `false` for an attempt that does not hold its seat.
    pub(super) fn hear(&mut self, index: u32, attempt: u32, now_ns: u64) -> bool {
        let Some(seat) = self.seat_of(index, attempt) else { return false };
        seat.hear(now_ns);
        if seat.awaited {
            return true;
        }
        if let AgentState::Disconnected { since_ns, was } = seat.state {
            let away_ns = now_ns.saturating_sub(since_ns);
            // Its progress was not seen meanwhile, and so did not stand still either.
            seat.progress_ns = seat.progress_ns.saturating_add(away_ns).min(now_ns);
            let away = seconds(away_ns);
            self.degrade(format!("agent {index} was disconnected for {away}"));
            self.move_to(index, AgentState::Active(was), &format!("heard again after {away}"), now_ns);
        }
        true
    }

    pub(super) fn on_closed(&mut self, index: u32, attempt: u32, now_ns: u64) {
        let finishing = matches!(self.phase, Phase::Finishing { .. });
        let Some(seat) = self.seat_of(index, attempt) else { return };
        match (seat.position(), &seat.state) {
            (None | Some(Position::Expected), _) | (_, AgentState::Disconnected { .. }) => {}
            _ if finishing => self.end(index, "ended its session", now_ns),
            (Some(was), _) => {
                let to = AgentState::Disconnected { since_ns: now_ns, was };
                self.move_to(index, to, "its stream closed", now_ns);
            }
        }
    }

    pub(super) fn on_says(&mut self, index: u32, attempt: u32, says: Says, now_ns: u64) {
        if !self.hear(index, attempt, now_ns) {
            self.on_ghost_says(index, attempt, &says, now_ns);
            return;
        }
        match says {
            Says::Beat(beat) => self.on_beat(index, beat, now_ns),
            Says::LeaseDone(done) => self.on_lease_done(index, attempt, &done, now_ns),
            Says::Fault { stage, problem, fatal } => {
                self.on_fault((index, attempt), stage, problem, fatal, now_ns);
            }
            Says::Standing(standing, said_ns) => self.on_standing(index, &standing, said_ns, now_ns),
            // It stood there before it said where.
            _ if self.seats[index as usize].awaited => {}
            Says::Stopped => self.on_stopped(index),
            // What crossed an abort, or the end, on its way is nothing to object to.
            _ if self.is_ending() => {}
            Says::Accepted => self.on_accepted(index, now_ns),
            Says::Staged { stage } => {
                let seat = &mut self.seats[index as usize];
                seat.staged |= seat.in_stage().is_some_and(|(at, _)| at == stage);
            }
            Says::Armed { stage, round } => self.on_armed(index, stage, round, now_ns),
            Says::Started { stage, released_ns } => self.on_started(index, stage, released_ns, now_ns),
            Says::MissedStart { stage } => self.on_missed_start(index, stage, now_ns),
            Says::Draining { stage } => {
                if self.is_under_way(index, stage, true, "Draining", now_ns) {
                    self.step_to(index, stage, Step::Draining, "its I/O is over", now_ns);
                }
            }
            Says::Place { space, fresh, puts_below } => {
                self.on_place((index, attempt), space, fresh, puts_below);
            }
            Says::Marked(mark) => self.on_marked(mark),
            Says::Arrived { stage, degraded } => {
                if self.is_under_way(index, stage, true, "Arrived", now_ns) {
                    for what in degraded {
                        self.degrade(format!("agent {index}: {what}"));
                    }
                    self.on_arrived(index, stage, now_ns);
                }
            }
        }
    }

    /// Whether the agent at `index` can be in `stage` now; refuses what it says, named `what`, where it cannot.
    /// `to_its_end`: a chain of stages ends only with its last.
    fn is_under_way(&mut self, index: u32, stage: u32, to_its_end: bool, what: &str, now_ns: u64) -> bool {
        let legal = match (self.seats[index as usize].position(), &self.phase) {
            (Some(Position::Stage { stage: 0, .. }), _) => stage == 0,
            (Some(Position::Stage { stage: at, .. }), Phase::Stage(current)) => {
                let going = matches!(current.start, Start::Going { .. });
                going && at <= stage && stage <= current.last && (!to_its_end || stage == current.last)
            }
            _ => false,
        };
        if !legal {
            let here = self.seats[index as usize].state.name();
            self.refuse(index, format!("{what} of stage {stage} is not legal in {here}"), now_ns);
        }
        legal
    }

    fn on_accepted(&mut self, index: u32, now_ns: u64) {
        if self.move_to(index, AgentState::Active(Position::Validated), "accepted its plan", now_ns) {
            self.release_into_preflight(index, now_ns);
        }
    }

    pub(super) fn release_into_preflight(&mut self, index: u32, now_ns: u64) {
        self.step_to(index, 0, Step::Working, "preflight", now_ns);
        self.choose_keeper();
        self.send(index, Directive::Release { stage: 0 });
    }

    pub(super) fn on_fault(
        &mut self,
        agent: (u32, u32),
        stage: u32,
        mut problem: Problem,
        fatal: bool,
        now_ns: u64,
    ) {
        self.tell(now_ns, Some(agent), "Fault", problem.cause.clone(), true);
        if fatal && !self.is_ending() {
            // What ends a run says where it happened; targets know neither their stage nor their agent.
            if !problem.what.contains(&format!("agent {}", agent.0)) {
                let (name, replicas) = (self.stage_name(stage), self.plan.replicas);
                problem.what = format!("{name} stopped: agent {} of {replicas}: {}", agent.0, problem.what);
            }
            self.fail(problem, now_ns);
        } else {
            self.keep_fault(problem);
        }
    }

    /// An attempt that was given up still talks: what it says changes nothing but that it is gone once it stopped.
    fn on_ghost_says(&mut self, index: u32, attempt: u32, says: &Says, now_ns: u64) {
        if matches!(says, Says::Stopped) {
            for ghost in &mut self.ghosts {
                if (ghost.index, ghost.attempt) == (index, attempt) {
                    ghost.gone_ns = ghost.gone_ns.min(now_ns);
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
        if current == Some((stage, round))
            && self.step_to(index, stage, Step::Armed, "acknowledged the start", now_ns)
        {
            self.seats[index as usize].armed_round = Some(round);
        }
    }

    fn on_started(&mut self, index: u32, stage: u32, released_ns: u64, now_ns: u64) {
        if !self.is_under_way(index, stage, false, "Started", now_ns)
            || !self.step_to(index, stage, Step::Working, "began", now_ns)
        {
            return;
        }
        let seat = &mut self.seats[index as usize];
        let first = seat.released_ns.is_none();
        let released_ns = *seat.released_ns.get_or_insert(seat.clock.to_coordinator_ns(released_ns));
        if first
            && !seat.joining
            && let Phase::Stage(current) = &self.phase
            // Where nobody was to start together, as in cleanup, there is no skew.
            && self.plan.stages[current.first as usize].kind.is_armed(false)
        {
            self.stages[current.first as usize].note_release(index, released_ns);
            self.note_change(Weight::Detail);
        }
    }

    fn on_missed_start(&mut self, index: u32, stage: u32, now_ns: u64) {
        let seat = &self.seats[index as usize];
        let (attempt, going) =
            (seat.attempt, matches!(&self.phase, Phase::Stage(Current { start: Start::Going { .. }, .. })));
        let Some((at, Step::Waiting | Step::Armed)) = seat.in_stage() else {
            self.refuse(index, format!("a missed start of stage {stage} is not legal now"), now_ns);
            return;
        };
        // Before a commit that is what is asked of it: the start is armed anew.
        if !going || at != stage || seat.joining {
            return;
        }
        self.degrade(format!("agent {index} missed the start of {}", self.stage_name(stage)));
        self.tell(
            now_ns,
            Some((index, attempt)),
            "MissedStart",
            "no commit had arrived at the start".into(),
            true,
        );
        self.step_to(index, stage, Step::Waiting, "missed the start", now_ns);
    }

    fn on_lease_done(&mut self, index: u32, attempt: u32, done: &LeaseDone, now_ns: u64) {
        let holder = (index, attempt);
        // One that is not known was taken back meanwhile: its work is, or will be, done again.
        if self.pools.values_mut().chain(self.puts.as_mut()).any(|pool| pool.finish(holder, done)) {
            self.seats[index as usize].progress_ns = now_ns;
            self.note_change(Weight::Detail);
        }
    }

    fn on_arrived(&mut self, index: u32, stage: u32, now_ns: u64) {
        if stage > 0 {
            self.step_to(index, stage, Step::AtBarrier, "its result is persisted", now_ns);
            return;
        }
        self.seats[index as usize].was_ready = true;
        self.move_to(index, AgentState::Active(Position::Ready), "passed preflight", now_ns);
    }

    fn on_stopped(&mut self, index: u32) {
        if self.seats[index as usize].position() == Some(Position::Aborting) {
            // Stays in its seat: a cleanup may follow.
            self.seats[index as usize].stopped = true;
        }
    }

    pub(super) fn on_ended(
        &mut self,
        index: u32,
        attempt: u32,
        reason: &LossReason,
        clean: bool,
        now_ns: u64,
    ) {
        for ghost in &mut self.ghosts {
            if (ghost.index, ghost.attempt) == (index, attempt) {
                ghost.gone_ns = ghost.gone_ns.min(now_ns);
            }
        }
        let Some(seat) = self.seat_of(index, attempt) else { return };
        let aborting = seat.position() == Some(Position::Aborting);
        if aborting && let Some(stage) = self.handed_in_until(index) {
            let (reason, unheard) = (reason.to_string(), self.seats[index as usize].awaited);
            self.actions.push(Action::GiveUp { index, attempt, stage: Some(stage), reason, unheard });
        }
        if aborting || (clean && self.is_ending()) {
            self.take_work_back(index);
            self.end(index, "its process ended", now_ns);
        } else {
            self.lose(index, reason, true, now_ns);
        }
    }

    pub(super) fn stage_name(&self, stage: u32) -> &str {
        self.plan.stages.get(stage as usize).map_or("?", |stage| &stage.name)
    }
}

/// A span for people, e.g. `12.3 s`.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{:.1} s", nanos as f64 / 1e9)
}
