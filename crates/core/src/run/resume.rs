//! Taking a run over: another coordinator goes on from the record, and from what the agents tell of themselves.
//!
//! ```text
//! record ─→ every agent that had said hello: Disconnected, awaited ─its standing→ where it says that it is
//!                                                    └ reconnectGrace, or its process ended: Lost, as ever
//! ```
//!
//! Architecture invariant: nothing is concluded about an agent whose standing is awaited, and nothing is leased while any
//! is: what it did since the record was written, only it knows. A start that somebody was committed to stands; one that
//! nobody was is armed anew.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::{Action, Directive};
use super::pool::Pool;
use super::record::Weight;
use super::standing::Standing;
use super::{Current, Phase, Run, Start};

impl Run {
    /// Goes on with a run whose record was read back, at `now_ns` on the run's clock. The actions say which attempts the host
    /// has to know of, and end those that were given up.
    pub fn resume(&mut self, now_ns: u64) -> Vec<Action> {
        self.last_step_ns = self.last_step_ns.max(now_ns);
        for seat in &mut self.seats {
            seat.resume(now_ns);
            self.actions.push(Action::Spawn { index: seat.index, attempt: seat.attempt });
        }
        for ghost in self.ghosts.iter().filter(|ghost| ghost.reason.is_some()) {
            self.actions.push(Action::Kill { index: ghost.index, attempt: ghost.attempt });
        }
        // A marker may bear less than was asked for: it is asked for anew.
        self.places.values_mut().for_each(super::marks::PlaceFacts::forget_asked);
        self.forget_askings();
        match &mut self.phase {
            Phase::Aborting { since_ns, .. } | Phase::Finishing { since_ns } => *since_ns = now_ns,
            Phase::Stage(current) => {
                current.idle_since_ns = None;
                if let Start::Staging { round, .. } | Start::Arming { round, .. } = current.start {
                    current.start = Start::Staging { round, not_before_ns: 0, measured: false };
                }
            }
            Phase::Gathering | Phase::Over => {}
        }
        // All of this follows from the record: whoever takes over after us comes to the same.
        self.note_change(Weight::Detail);
        if self.phase == Phase::Over {
            self.actions.push(Action::Over);
        } else {
            let reason = "another coordinator took the run over".to_owned();
            self.degrade(reason.clone());
            self.tell(now_ns, None, "CoordinatorChanged", reason, true);
        }
        std::mem::take(&mut self.actions)
    }

    /// Whether some agent has still to say where it stands.
    pub(super) fn awaits_anyone(&self) -> bool {
        self.seats.iter().any(|seat| seat.awaited)
    }

    /// An agent says where it stands, `said_ns` on its own clock.
    pub(super) fn on_standing(&mut self, index: u32, standing: &Standing, said_ns: u64, now_ns: u64) {
        let seat = &mut self.seats[index as usize];
        let awaited = std::mem::take(&mut seat.awaited);
        let was = seat.position();
        // One that has just said hello may be further than the record knows; of any other, more is known than it tells.
        if !awaited && (was != Some(Position::Joined) || standing.position == Position::Joined) {
            return;
        }
        if !self.is_possible(standing.position) {
            let what = format!("{:?} is nowhere that this run has been", standing.position);
            self.refuse(index, what, now_ns);
            self.lose(index, &LossReason::Unreachable, false, now_ns);
            return;
        }
        self.take_work_in(index, standing);
        let holder = (index, self.seats[index as usize].attempt);
        for own in standing.adopted.iter().filter(|own| **own < self.plan.replicas) {
            // Two may have been asked, one after the other; the first that is known to keep it does.
            if self.adopter_of(*own).is_none() {
                self.adopters.insert(*own, holder);
            }
        }
        for &(space, fresh, puts_below) in &standing.places {
            self.on_place(holder, space, fresh, puts_below);
        }
        if standing.keeps {
            self.keeper = Some((index, self.seats[index as usize].attempt));
        }
        standing.degraded.iter().for_each(|what| self.degrade(format!("agent {index}: {what}")));
        self.stand(index, standing, was, awaited, said_ns, now_ns);
        self.note_change(Weight::Detail);
        for (stage, problem, fatal) in &standing.faults {
            let known = self.failure.iter().chain(&self.faults).any(|known| known.cause == problem.cause);
            if !known {
                let attempt = self.seats[index as usize].attempt;
                self.on_fault((index, attempt), *stage, problem.clone(), *fatal, now_ns);
            }
        }
    }

    /// Whether an agent can be there: the record is durable before anybody is told to go on, or to stop.
    fn is_possible(&self, position: Position) -> bool {
        match (&self.phase, position) {
            (Phase::Aborting { .. } | Phase::Finishing { .. } | Phase::Over, _) => true,
            (_, Position::Aborting) => false,
            (Phase::Gathering, Position::Stage { stage, .. }) => stage == 0,
            (Phase::Stage(current), Position::Stage { stage, step }) => {
                let before = stage == 0 || step == Step::AtBarrier;
                stage <= current.last && (stage >= current.first || before)
            }
            (_, _) => true,
        }
    }

    /// Puts the agent where it says that it is, and tells it again what it may have missed.
    fn stand(
        &mut self,
        index: u32,
        standing: &Standing,
        was: Option<Position>,
        awaited: bool,
        said_ns: u64,
        now_ns: u64,
    ) {
        match (self.phase.clone(), standing.position) {
            (Phase::Over, _) => {}
            (Phase::Aborting { .. }, position) => {
                self.put(index, Position::Aborting, now_ns);
                self.seats[index as usize].stopped = position == Position::Aborting && standing.stopped;
                if position != Position::Aborting {
                    self.send(index, Directive::Abort { reason: "the run is being stopped".to_owned() });
                }
            }
            (Phase::Finishing { .. }, position) => {
                self.put(index, was.unwrap_or(position), now_ns);
                self.send(index, Directive::Finish);
            }
            (_, Position::Joined | Position::Expected) => {
                self.put(index, Position::Joined, now_ns);
                if awaited {
                    self.send(index, Directive::Plan);
                }
            }
            (_, Position::Validated) => {
                self.put(index, Position::Validated, now_ns);
                self.release_into_preflight(index, now_ns);
            }
            (_, position @ Position::Stage { stage: 0, .. }) => self.put(index, position, now_ns),
            (Phase::Gathering, position) => {
                self.seats[index as usize].was_ready = true;
                self.put(index, position, now_ns);
            }
            (Phase::Stage(current), position) => {
                self.seats[index as usize].was_ready = true;
                self.stand_in_stage(index, standing, &current, (was, position), said_ns, now_ns);
            }
        }
        let state = self.seats[index as usize].state.name();
        let reason = format!("stands at {state} under the new coordinator");
        let attempt = self.seats[index as usize].attempt;
        self.tell(now_ns, Some((index, attempt)), "Rejoined", reason, false);
    }

    fn stand_in_stage(
        &mut self,
        index: u32,
        standing: &Standing,
        current: &Current,
        (was, position): (Option<Position>, Position),
        said_ns: u64,
        now_ns: u64,
    ) {
        let Position::Stage { stage, step } = position else {
            self.put(index, position, now_ns);
            if matches!(was, Some(Position::Stage { stage, .. }) if stage >= current.first) {
                self.take_in_again(index, current, now_ns);
            }
            return;
        };
        // The directive that takes it into the stage was not read.
        if stage < current.first {
            self.put(index, position, now_ns);
            return self.take_in_again(index, current, now_ns);
        }
        // An acknowledgement of a start that nobody was committed to is void: the start is armed anew.
        let step = if step == Step::Armed && standing.began.is_none() { Step::Waiting } else { step };
        self.put(index, Position::Stage { stage, step }, now_ns);
        let seat = &mut self.seats[index as usize];
        (seat.staged, seat.joining) = (standing.staged, standing.joined);
        seat.armed_round = None;
        if let Some((began, at_ns)) = standing.began {
            // Its clock is not compared yet; what the message took on its way is the error.
            let shift = |own_ns: u64| match own_ns.checked_sub(said_ns) {
                Some(ahead_ns) => now_ns.saturating_add(ahead_ns),
                None => now_ns.saturating_sub(said_ns - own_ns),
            };
            self.note_began(current, began, shift(at_ns), now_ns);
            if let Some(released_ns) = standing.released_ns {
                let released_ns = shift(released_ns);
                self.seats[index as usize].released_ns = Some(released_ns);
                let facts = &mut self.stages[current.first as usize];
                let known = facts.releases.iter().any(|(of, _)| *of == index);
                if !known && !standing.joined && self.plan.stages[current.first as usize].kind.is_armed(false)
                {
                    facts.note_release(index, released_ns);
                }
            }
        } else if let (Some((of, round, _)), Phase::Stage(now)) = (standing.armed, &mut self.phase)
            && let Start::Staging { round: last, .. } = &mut now.start
            && of == current.first
        {
            // Rounds of the coordinator before are not used again.
            *last = round.max(*last);
        }
        if current.drained {
            self.send(index, Directive::Drain { stage: current.last });
        }
        if self.live() < self.plan.replicas {
            self.resplit();
        }
    }

    fn take_in_again(&mut self, index: u32, current: &Current, now_ns: u64) {
        let armed = self.plan.stages[current.first as usize].kind.is_armed(false);
        self.take_in(index, current.first, armed, "the stage began", now_ns);
    }

    /// Somebody was committed to a start of stage `began` of the chain at `at_ns`: it stands.
    fn note_began(&mut self, current: &Current, began: u32, at_ns: u64, now_ns: u64) {
        let Phase::Stage(Current { start, .. }) = &self.phase else { return };
        if matches!(start, Start::Going { .. }) || began < current.first || began > current.last {
            return;
        }
        let before_ns: u64 = (current.first..began).filter_map(|stage| self.window_ns(stage)).sum();
        let at_ns = at_ns.saturating_sub(before_ns);
        let error_ns = self.stages[current.first as usize].clock_error_ns;
        self.note_start(current.first, at_ns, error_ns);
        if let Phase::Stage(current) = &mut self.phase {
            current.start = Start::Going { at_ns };
        }
        let reason = format!("{} had been committed to", self.stage_name(current.first));
        self.tell(now_ns, None, "Committed", reason, false);
    }

    fn put(&mut self, index: u32, position: Position, now_ns: u64) {
        let seat = &mut self.seats[index as usize];
        seat.state = AgentState::Active(position);
        (seat.since_ns, seat.progress_ns) = (now_ns, now_ns);
    }

    /// What it holds and has finished stands over what was recorded of it.
    fn take_work_in(&mut self, index: u32, standing: &Standing) {
        let holder = (index, self.seats[index as usize].attempt);
        for (stage, pool) in &mut self.pools {
            pool.retell(holder, Some(*stage), &standing.leases, &standing.finished);
        }
        if let Some(puts) = &mut self.puts {
            puts.retell(holder, None, &standing.leases, &standing.finished);
        }
        let last = standing.leases.iter().map(|lease| lease.id.saturating_add(1)).max().unwrap_or(0);
        self.next_lease = self.next_lease.max(last);
    }

    /// An agent whose standing was awaited is given up: what it wrote since the record was written, nobody knows.
    pub(super) fn give_standing_up(&mut self, index: u32) {
        if std::mem::take(&mut self.seats[index as usize].awaited) {
            self.pools.values_mut().chain(&mut self.puts).for_each(Pool::assume_written);
        }
    }
}
