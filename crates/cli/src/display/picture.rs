//! What every display draws: a run at one instant, without a word in it.
//!
//! It is made either of the coordinator's snapshot, on one machine, or of the status of an object, on a cluster
//! ([`crate::cluster::seen`]), so that both look the same. How far a stage is, who is there and what is waited for are computed
//! in `lockstep_coordinator`, for both.

use lockstep_coordinator::progress::{AgentCounts, Progress, began_ns, progress};
use lockstep_coordinator::{LiveStage, Snapshot, waiting};
use lockstep_core::plan::Plan;
use lockstep_core::run::StageState;

/// A run at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Since the run began, nanoseconds.
    pub elapsed_ns: u64,
    /// Index of the stage under way.
    pub stage: Option<usize>,
    /// The stages, in their order.
    pub stages: Vec<StagePicture>,
    /// Its agents, by what can be said of them.
    pub agents: AgentCounts,
    /// The worst bound of a clock's error, nanoseconds.
    pub clock_error_ns: Option<u64>,
    /// What the run waits for; `None` while everybody works.
    pub waits_for: Option<String>,
    /// Why results are not what they would be on a quiet day; only grows.
    pub degraded: Vec<String>,
    /// Whether the run is being stopped.
    pub aborting: bool,
}

/// A stage at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct StagePicture {
    /// Its name.
    pub name: String,
    /// What it does: `preflight`, `prepare`, `execute` or `cleanup`; empty where nobody says.
    pub kind: String,
    /// Where it stands.
    pub state: StageState,
    /// Whether it has given way to the stage behind it: nothing is done in it any more, and only its results are still
    /// to come.
    pub has_flowed_on: bool,
    /// Until its start, where that is still to come, nanoseconds.
    pub starts_in_ns: Option<u64>,
    /// How far it is.
    pub progress: Progress,
    /// What was measured so far.
    pub live: LiveStage,
    /// Agents that took part.
    pub agents: u64,
    /// Objects written or removed.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Objects that were given back and done again.
    pub returned: u64,
    /// Latest start of an agent minus the earliest, nanoseconds.
    pub skew_ns: Option<u64>,
}

impl Picture {
    /// A run of `plan` as the coordinator sees it.
    #[must_use]
    pub fn of(plan: &Plan, snapshot: &Snapshot) -> Self {
        let view = &snapshot.view;
        Self {
            elapsed_ns: snapshot.at_ns.saturating_sub(snapshot.began_ns),
            stage: view.stage.map(|stage| stage as usize),
            stages: (0..plan.stages.len()).filter_map(|index| stage(plan, snapshot, index)).collect(),
            agents: AgentCounts::of(view),
            clock_error_ns: view.agents.iter().filter_map(|agent| agent.clock_error_ns).max(),
            waits_for: waiting::reason(snapshot),
            degraded: view.degraded.clone(),
            aborting: view.aborting,
        }
    }

    /// Whether a stage is under way or was: preflight has no start of its own, and begins with the first hello.
    #[must_use]
    pub fn has_begun(&self, index: usize) -> bool {
        self.stage == Some(index)
            || self.stages.get(index).is_some_and(|stage| stage.state != StageState::Waiting)
    }
}

fn stage(plan: &Plan, snapshot: &Snapshot, index: usize) -> Option<StagePicture> {
    let (stage, view) = (plan.stages.get(index)?, snapshot.view.stages.get(index)?);
    let started_ns = match view.facts.state {
        StageState::Starting => view.facts.planned_start_ns,
        StageState::Working => Some(began_ns(snapshot, index)),
        _ => None,
    };
    let now = snapshot.view.stage;
    Some(StagePicture {
        name: stage.name.clone(),
        kind: stage.kind.name().to_owned(),
        state: view.facts.state,
        has_flowed_on: stage.kind.is_discard() && now.is_some_and(|now| now as usize > index),
        starts_in_ns: started_ns
            .and_then(|at_ns| at_ns.checked_sub(snapshot.at_ns))
            .filter(|left_ns| *left_ns > 0),
        progress: progress(plan, snapshot, index)?,
        live: snapshot.live.get(index).cloned().unwrap_or_default(),
        agents: view.facts.agents.into(),
        changed: view.changed,
        unchanged: view.unchanged,
        returned: view.returned,
        skew_ns: view.facts.skew_ns,
    })
}
