//! The second half of a step: looks at the whole, and does what is due until nothing is.

use super::agent::{Position, Step};
use super::message::{Action, Directive};
use super::record::Weight;
use super::{Current, Phase, Run, StageState, Start};
use crate::plan::RunOn;
use crate::problem::{Problem, exit};

impl Run {
    pub(super) fn advance(&mut self, now_ns: u64) {
        self.replace_seats(now_ns);
        self.choose_keeper();
        // Every pass that changes something moves the run forward; the bound only guards against a mistake here.
        for _ in 0..1_000 {
            let changed = match self.phase.clone() {
                Phase::Gathering => self.advance_gathering(now_ns),
                Phase::Stage(current) => self.advance_stage(&current, now_ns),
                Phase::Aborting { since_ns, then } => self.advance_aborting(since_ns, then, now_ns),
                Phase::Finishing { since_ns } => self.advance_finishing(since_ns, now_ns),
                Phase::Over => false,
            };
            if !changed {
                break;
            }
        }
        self.ask_for_marks(now_ns);
    }

    fn replace_seats(&mut self, now_ns: u64) {
        for index in 0..self.plan.replicas {
            let due = self.seats[index as usize].replace_at_ns.is_some_and(|at_ns| at_ns <= now_ns);
            let gone = self.ghosts.iter().all(|ghost| ghost.index != index || ghost.gone_ns <= now_ns);
            if due && gone {
                self.seats[index as usize].replace(now_ns);
                self.note_change(Weight::Decisive);
                let attempt = self.seats[index as usize].attempt;
                self.actions.push(Action::Spawn { index, attempt });
                self.tell(
                    now_ns,
                    Some((index, attempt)),
                    "Replaced",
                    "a new attempt is started".into(),
                    true,
                );
            }
        }
    }

    /// Sees to it that somebody keeps the lock and the marker of the place, from the first preflight to the end.
    pub(super) fn choose_keeper(&mut self) {
        let at_work = |position| {
            let outside = matches!(position, Position::Expected | Position::Joined | Position::Validated);
            !outside
        };
        let kept = self.keeper.is_some_and(|(index, attempt)| {
            self.seats[index as usize].attempt == attempt && self.seats[index as usize].position().is_some()
        });
        // Of agents that were not heard yet under a new coordinator, one may keep it.
        if kept || self.awaits_anyone() || matches!(self.phase, Phase::Finishing { .. } | Phase::Over) {
            return;
        }
        let able = |passed: bool| {
            self.seats.iter().find(|seat| {
                seat.state.is_heard() && seat.was_ready >= passed && seat.position().is_some_and(at_work)
            })
        };
        self.keeper = able(true).or_else(|| able(false)).map(|seat| (seat.index, seat.attempt));
        if let Some((index, _)) = self.keeper {
            self.note_change(Weight::Detail);
            self.send(index, Directive::Keep { space: None });
        }
    }

    fn advance_gathering(&mut self, now_ns: u64) -> bool {
        if self.seats.iter().any(super::seat::Seat::is_coming) {
            return false;
        }
        let mut ready = 0;
        for seat in &mut self.seats {
            seat.in_quorum = seat.position() == Some(Position::Ready);
            ready += u32::from(seat.in_quorum);
        }
        let replicas = self.plan.replicas;
        if ready == 0 || ready < self.plan.min_available {
            self.fail(self.too_few(ready), now_ns);
            return true;
        }
        if ready < replicas {
            self.degrade(format!("started with {ready} of {replicas} agents"));
        }
        self.stages[0].state = StageState::Done;
        self.stages[0].ended_ns = Some(now_ns);
        self.stages[0].agents = ready;
        self.actions.push(Action::StageOver { stage: 0 });
        self.tell(now_ns, None, "AgentsReady", format!("{ready} of {replicas} agents"), true);
        self.begin_stage(1, now_ns);
        true
    }

    fn too_few(&self, ready: u32) -> Problem {
        let (quorum, replicas) = (self.plan.min_available, self.plan.replicas);
        let what =
            format!("run {} did not start: {ready} of {replicas} agents are ready", self.plan.run.name);
        Problem::new(what, format!("minAvailable is {quorum}"))
            .next("lower agents.minAvailable, or find out why agents do not come up")
            .exit(exit::UNREACHABLE)
    }

    /// Begins stage `stage`, or the next one that runs now.
    pub(super) fn begin_stage(&mut self, stage: u32, now_ns: u64) {
        let troubled = self.is_troubled();
        let runs = |plan: &crate::plan::StagePlan| !troubled || plan.run_on == RunOn::Always;
        let Some(skipped) = self.plan.stages.iter().skip(stage as usize).position(runs) else {
            self.finish(now_ns);
            return;
        };
        let first = stage + skipped as u32;
        self.note_change(Weight::Decisive);
        for facts in &mut self.stages[stage as usize..first as usize] {
            facts.state = StageState::Skipped;
        }
        let last = self.chain_end(first);
        for index in first..=last {
            if let Some(pool) = self.new_pool(&self.plan.stages[index as usize]) {
                self.pools.insert(index, pool);
            }
        }
        let armed = self.plan.stages[first as usize].kind.is_armed(false);
        let start = if armed {
            Start::Staging { round: 0, not_before_ns: 0, measured: false }
        } else {
            Start::Going { at_ns: now_ns }
        };
        self.phase = Phase::Stage(Current {
            first,
            last,
            start,
            arrived_since_ns: None,
            idle_since_ns: None,
            drained: false,
        });
        let mut agents = 0;
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            if seat.is_free() || seat.position() == Some(Position::Aborting) {
                agents += 1;
                self.take_in(index, first, armed, "the stage begins", now_ns);
            }
        }
        let facts = &mut self.stages[first as usize];
        facts.agents = agents;
        facts.state = if armed { StageState::Starting } else { StageState::Working };
        facts.planned_start_ns = (!armed).then_some(now_ns);
        let name = &self.plan.stages[first as usize].name;
        self.tell(now_ns, None, "StageBegins", format!("{name} on {agents} agents"), true);
    }

    /// Takes the agent at `index` into a stage from its beginning, or into one that needs no common start.
    pub(super) fn take_in(&mut self, index: u32, stage: u32, armed: bool, reason: &str, now_ns: u64) {
        // Whoever does not know that it was let in would not wait for it.
        self.note_change(Weight::Decisive);
        let seat = &mut self.seats[index as usize];
        seat.begin(now_ns);
        if armed {
            seat.renew_clock(now_ns);
        }
        self.place(index, Position::Stage { stage, step: Step::Waiting }, reason, now_ns);
        if armed {
            self.send(index, Directive::Stage { stage });
        } else {
            self.place(index, Position::Stage { stage, step: Step::Working }, "released", now_ns);
            self.send(index, Directive::Release { stage });
        }
    }

    fn advance_stage(&mut self, current: &Current, now_ns: u64) -> bool {
        self.grant_leases(current, now_ns);
        let Start::Going { at_ns } = current.start else {
            if self.live() == 0 {
                self.fail(self.nobody_left(current.first), now_ns);
                return true;
            }
            self.take_in_ready(current, now_ns);
            return self.advance_start(current, now_ns);
        };
        if now_ns < at_ns {
            return false;
        }
        self.note_begun(current, now_ns);
        self.join_late(current, at_ns, now_ns) || self.drain(current, now_ns) || self.advance_barrier(now_ns)
    }

    /// An agent that became ready while the others still get ready takes part from the beginning. Not while a start
    /// is armed: it was not asked to acknowledge it.
    fn take_in_ready(&mut self, current: &Current, now_ns: u64) {
        if matches!(current.start, Start::Arming { .. }) {
            return;
        }
        for index in 0..self.plan.replicas {
            let seat = &self.seats[index as usize];
            if seat.position() == Some(Position::Ready) && seat.state.is_heard() {
                self.take_in(index, current.first, true, "takes part from the beginning", now_ns);
                self.stages[current.first as usize].agents += 1;
            }
        }
    }

    /// Stages of a chain begin by time, as nobody says so.
    fn note_begun(&mut self, current: &Current, now_ns: u64) {
        for stage in current.first..=current.last {
            let facts = &mut self.stages[stage as usize];
            if facts.planned_start_ns.is_some_and(|start_ns| start_ns <= now_ns) {
                facts.state = StageState::Working;
            }
        }
    }

    /// Which stage of a chain its windows say it is at.
    pub(super) fn stage_by_time(&self, current: &Current, now_ns: u64) -> u32 {
        let begun = |stage: &u32| {
            self.stages[*stage as usize].planned_start_ns.is_some_and(|start_ns| start_ns <= now_ns)
        };
        (current.first..=current.last).rev().find(begun).unwrap_or(current.first)
    }

    /// The stage that the agent at `index` is in and has not handed in yet.
    pub(super) fn unfinished_stage(&self, index: u32) -> Option<u32> {
        let (stage, step) = self.seats[index as usize].in_stage()?;
        match &self.phase {
            _ if step == Step::AtBarrier => None,
            Phase::Stage(current) => Some(stage.max(self.stage_by_time(current, self.last_step_ns))),
            _ => Some(stage),
        }
    }
}
