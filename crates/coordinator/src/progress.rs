//! How far each stage of a snapshot is: the one computation behind every display and status.
//!
//! Deliberately only numbers with their unit; words are the displays'.

use crate::host::Snapshot;
use lockstep_core::plan::{Plan, StageKind};
use lockstep_core::run::agent::{AgentState, Position};
use lockstep_core::run::view::{RunView, StageView};

/// Below this much of a stage's work its end is not foretold, nanoseconds.
const FORETELL_NS: u64 = 2_000_000_000;

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How much is done, in `unit`.
    pub done: u64,
    /// Out of how much; 0 is unknown.
    pub total: u64,
    /// `agents`, `objects`, `operations` or `milliseconds`.
    pub unit: &'static str,
    /// Since the stage began.
    pub elapsed_ns: u64,
    /// Until it is expected to end.
    pub remaining_ns: Option<u64>,
}

impl Progress {
    /// Thousandths that are done.
    #[must_use]
    pub fn per_mille(&self) -> u64 {
        (u128::from(self.done) * 1_000).checked_div(u128::from(self.total)).unwrap_or(0).min(1_000) as u64
    }
}

/// When a stage began, coordinator's clock; an instant still to come while its start is armed.
#[must_use]
pub fn began_ns(snapshot: &Snapshot, index: usize) -> u64 {
    let stages = &snapshot.view.stages;
    let planned = stages.get(index).and_then(|stage| stage.facts.planned_start_ns);
    let before = stages.iter().take(index).filter_map(|stage| stage.facts.ended_ns).max();
    planned.or(before).unwrap_or(snapshot.began_ns)
}

/// How far a stage is; `None` when the plan has no such stage.
#[must_use]
pub fn progress(plan: &Plan, snapshot: &Snapshot, index: usize) -> Option<Progress> {
    let stage = plan.stages.get(index)?;
    let view = snapshot.view.stages.get(index)?;
    // A warm-up flows into the next stage: it was over when that one began, not when both had handed in.
    let next = snapshot.view.stages.get(index + 1).filter(|_| stage.kind.is_discard());
    let flowed_ns = next.and_then(|next| next.facts.planned_start_ns);
    let until_ns =
        flowed_ns.or(view.facts.ended_ns).map_or(snapshot.at_ns, |end_ns| end_ns.min(snapshot.at_ns));
    // Agents that begin together have not begun before it is settled when.
    let is_to_begin = stage.kind.is_armed(false) && view.facts.planned_start_ns.is_none();
    let elapsed_ns = if is_to_begin { 0 } else { until_ns.saturating_sub(began_ns(snapshot, index)) };
    let progress = match &stage.kind {
        StageKind::Preflight => {
            let ready = snapshot.view.agents.iter().filter(|agent| is_ready(&agent.state)).count();
            let (done, total) = (ready as u64, u64::from(plan.replicas));
            Progress { done, total, unit: "agents", elapsed_ns, remaining_ns: None }
        }
        StageKind::Execute(execute) if execute.duration.is_some() => {
            let window_ns =
                execute.duration.map_or(0, |window| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
            let done_ns = elapsed_ns.min(window_ns);
            Progress {
                done: done_ns / 1_000_000,
                total: window_ns / 1_000_000,
                unit: "milliseconds",
                elapsed_ns,
                remaining_ns: Some(window_ns - done_ns),
            }
        }
        kind => {
            let unit = if kind.execute().is_some() { "operations" } else { "objects" };
            let done = leased_done(kind, snapshot, index, view);
            let rest = view.total.saturating_sub(done);
            let foretells = done > 0 && elapsed_ns >= FORETELL_NS;
            let remaining_ns =
                foretells.then(|| (u128::from(rest) * u128::from(elapsed_ns) / u128::from(done)) as u64);
            Progress { done, total: view.total, unit, elapsed_ns, remaining_ns }
        }
    };
    Some(progress)
}

/// Agents by what can be said of them. One whose attempt has not said hello yet is only desired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgentCounts {
    /// Those of the plan.
    pub desired: u64,
    /// Heard, and well.
    pub heard: u64,
    /// Not heard; they may come back.
    pub disconnected: u64,
    /// Heard, but their progress stands still.
    pub stalled: u64,
    /// They will not come back: lost, failed, left behind or aborted.
    pub lost: u64,
    /// They have handed in everything.
    pub completed: u64,
}

impl AgentCounts {
    /// Of a run as it stands.
    #[must_use]
    pub fn of(view: &RunView) -> Self {
        let mut counts = Self { desired: view.agents.len() as u64, ..Self::default() };
        for agent in &view.agents {
            let counter = match &agent.state {
                AgentState::Active(Position::Expected) => continue,
                AgentState::Active(_) => &mut counts.heard,
                AgentState::Disconnected { .. } => &mut counts.disconnected,
                AgentState::Stalled { .. } => &mut counts.stalled,
                AgentState::Completed => &mut counts.completed,
                AgentState::Lost(_) | AgentState::Failed | AgentState::LeftBehind | AgentState::Aborted => {
                    &mut counts.lost
                }
            };
            *counter += 1;
        }
        counts
    }

    /// Those that are there, or have done their part.
    #[must_use]
    pub const fn there(&self) -> u64 {
        self.heard + self.stalled + self.completed
    }
}

/// Whether an agent is there: its attempt has said hello, and is heard.
#[must_use]
pub fn takes_part(state: &AgentState) -> bool {
    state.is_heard() && state.position() != Some(Position::Expected)
}

/// Whether an agent has passed preflight, by now or before it was lost from sight.
#[must_use]
pub fn is_ready(state: &AgentState) -> bool {
    match state {
        AgentState::Completed => true,
        state => match state.position() {
            Some(Position::Ready) => true,
            Some(Position::Stage { stage, .. }) => stage > 0,
            _ => false,
        },
    }
}

/// Leased work that is done: what was acknowledged, or what the agents say they have done, if that is more. The first
/// moves once per lease, the second with every heartbeat. A heartbeat that still tells of the stage before does not count.
fn leased_done(kind: &StageKind, snapshot: &Snapshot, index: usize, view: &StageView) -> u64 {
    let tells_of_this = |what: &str| match kind {
        StageKind::Prepare { .. } => what == "creating",
        StageKind::Cleanup { .. } => what == "deleting",
        StageKind::Preflight | StageKind::Execute(_) => true,
    };
    let here = snapshot.view.stage == Some(index as u32);
    let working = snapshot.view.agents.iter().filter(|agent| agent.in_stage && tells_of_this(&agent.what));
    let said: u64 = if here { working.map(|agent| agent.done).sum() } else { 0 };
    view.done.max(said.min(view.total))
}
