//! What can be seen of a run: for terminals, status and reports. A copy, so that nobody decides anything by looking.

use super::agent::{AgentState, Step};
use super::message::Told;
use super::pool::Pool;
use super::seat::Ghost;
use super::{Phase, Run, StageFacts, StageState};
use crate::problem::Problem;
use crate::thresholds::Outcome;

/// A run as it stands.
#[derive(Clone, Debug)]
pub struct RunView {
    /// Stage under way; `None` before the first and after the last.
    pub stage: Option<u32>,
    /// Whether the run is being stopped.
    pub aborting: bool,
    /// Whether the run is over.
    pub over: bool,
    /// One per stage of the plan.
    pub stages: Vec<StageView>,
    /// One per index.
    pub agents: Vec<AgentView>,
    /// Why results are not what they would be on a quiet day; sticky.
    pub degraded: Vec<String>,
    /// The failure that ended the run.
    pub failure: Option<Problem>,
}

/// A stage as it stands.
#[derive(Clone, Debug)]
pub struct StageView {
    /// Name in the plan.
    pub name: String,
    /// What the decider knows of it.
    pub facts: StageFacts,
    /// Leased work that is done.
    pub done: u64,
    /// Leased work in all; 0 where nothing is leased.
    pub total: u64,
    /// Objects written or deleted.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Indexes that went back to the pool from a lost or straggling agent.
    pub returned: u64,
}

/// An agent as it stands.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Index.
    pub index: u32,
    /// Attempt that holds the index.
    pub attempt: u32,
    /// Its state.
    pub state: AgentState,
    /// Whether it takes part in the stage under way.
    pub in_stage: bool,
    /// What it is doing.
    pub what: String,
    /// How many of that are done.
    pub done: u64,
    /// Out of how many; 0 is unknown.
    pub total: u64,
    /// Bound of its clock's error, nanoseconds; `None` before the first exchange.
    pub clock_error_ns: Option<u64>,
}

impl Run {
    /// The run as it stands.
    #[must_use]
    pub fn view(&self) -> RunView {
        RunView {
            stage: self.stage_now(),
            aborting: matches!(self.phase, Phase::Aborting { .. }),
            over: self.is_over(),
            stages: self.stage_views(),
            agents: self.seats.iter().map(|seat| self.agent_view(seat)).collect(),
            degraded: self.degraded.clone(),
            failure: self.failure.clone(),
        }
    }

    /// The stage under way; `None` before the first and after the last.
    #[must_use]
    pub fn stage_now(&self) -> Option<u32> {
        match &self.phase {
            Phase::Gathering => Some(0),
            Phase::Stage(current) => Some(self.stage_by_time(current, self.last_step_ns)),
            Phase::Aborting { .. } | Phase::Finishing { .. } | Phase::Over => None,
        }
    }

    fn stage_views(&self) -> Vec<StageView> {
        let pool_of = |index: usize| self.pools.get(&(index as u32));
        let count = |pool: Option<&Pool>, read: fn(&Pool) -> u64| pool.map_or(0, read);
        self.plan
            .stages
            .iter()
            .enumerate()
            .map(|(index, stage)| StageView {
                name: stage.name.clone(),
                facts: self.stages[index].clone(),
                done: count(pool_of(index), Pool::done_len),
                total: count(pool_of(index), Pool::total),
                changed: count(pool_of(index), |pool| pool.changed),
                unchanged: count(pool_of(index), |pool| pool.unchanged),
                returned: count(pool_of(index), |pool| pool.returned),
            })
            .collect()
    }

    fn agent_view(&self, seat: &super::seat::Seat) -> AgentView {
        AgentView {
            index: seat.index,
            attempt: seat.attempt,
            state: seat.state.clone(),
            in_stage: seat.in_stage().is_some_and(|(_, step)| step >= Step::Working),
            what: seat.beat.what.clone(),
            done: seat.beat.done,
            total: seat.beat.total,
            clock_error_ns: (seat.clock.samples() > 0).then(|| seat.clock.error_ns()),
        }
    }

    /// Whether the run is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// What the run came to, as far as it is known now.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        // A stop that came first leaves no failure; see `fail`.
        if self.failure.is_some() {
            Outcome::Failed
        } else if self.stop.is_some() {
            Outcome::Aborted
        } else if self.partial.is_empty() {
            Outcome::Succeeded
        } else {
            Outcome::Partial
        }
    }

    /// Facts for the report: why it is partial, what went wrong, the story so far.
    #[must_use]
    pub fn story(&self) -> Story {
        Story {
            partial: self.partial.clone(),
            degraded: self.degraded.clone(),
            failure: self.failure.clone(),
            faults: self.faults.clone(),
            faults_dropped: self.faults_dropped,
            refused: self.refused,
            timeline: self.timeline.clone(),
            ghosts: self.ghosts.clone(),
            began_ns: self.began_ns,
        }
    }

    /// Whether the stage ended as it should.
    #[must_use]
    pub fn is_stage_done(&self, stage: u32) -> bool {
        self.stages.get(stage as usize).is_some_and(|facts| facts.state == StageState::Done)
    }
}

/// What a report tells besides numbers.
#[derive(Clone, Debug)]
pub struct Story {
    /// Why the outcome is `Partial`.
    pub partial: Vec<String>,
    /// Why the run is degraded.
    pub degraded: Vec<String>,
    /// The failure that ended the run.
    pub failure: Option<Problem>,
    /// Other faults, word for word, at most 32.
    pub faults: Vec<Problem>,
    /// How many more there were.
    pub faults_dropped: u64,
    /// Messages that were not legal when they came.
    pub refused: u64,
    /// What happened, in order.
    pub timeline: Vec<Told>,
    /// Attempts that were given up.
    pub ghosts: Vec<Ghost>,
    /// When the run began, coordinator's clock, nanoseconds.
    pub began_ns: u64,
}
