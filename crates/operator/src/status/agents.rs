//! How many agents are where, and which are worst off.

use super::{Picture, Stand, fitted, int, reason};
use crate::pods::facts::Seat;
use crate::pods::trouble::Weight;
use lockstep_api::reasons::Reason;
use lockstep_api::status::{AgentProblem, AgentsStatus};
use lockstep_coordinator::progress::{AgentCounts, is_ready};
use lockstep_core::run::agent::{AgentState, LossReason, Position};
use lockstep_core::run::view::{AgentView, RunView};
use std::collections::BTreeMap;

/// Agents that are named one by one.
pub const PROBLEMS_MAX: usize = 32;

/// How many agents are where.
#[must_use]
pub fn counts(picture: &Picture<'_>) -> AgentsStatus {
    let run = picture.run;
    let scheduled = picture.pods.values().filter(|pod| pod.node.is_some()).map(|pod| pod.seat.0);
    let scheduled: std::collections::BTreeSet<u32> = scheduled.collect();
    let mut counts = AgentsStatus {
        desired: int(run.replicas),
        scheduled: int(scheduled.len()),
        ..AgentsStatus::default()
    };
    let seen = view(picture).map(AgentCounts::of).unwrap_or_default();
    counts.heard = int(seen.heard);
    counts.stalled = int(seen.stalled);
    counts.disconnected = int(seen.disconnected);
    counts.completed = int(seen.completed);
    for agent in view(picture).map_or(&[][..], |view| &view.agents) {
        let never_came = matches!(agent.state, AgentState::Active(Position::Expected))
            || matches!(agent.state, AgentState::Lost(LossReason::NoHello | LossReason::CannotStart(_)));
        counts.joined += i64::from(!never_came);
        counts.ready += i64::from(is_ready(&agent.state));
        counts.running += i64::from(agent.in_stage);
        counts.lost += i64::from(is_lost(&agent.state));
        counts.replaced += i64::from(agent.attempt);
    }
    counts.summary = format!("{}/{}", counts.ready, counts.desired);
    counts
}

/// What the decider sees, where there is one.
pub(super) fn view<'a>(picture: &Picture<'a>) -> Option<&'a RunView> {
    match picture.stand {
        Stand::Live { snapshot, .. } => Some(&snapshot.view),
        Stand::Over { view, .. } => Some(view),
        Stand::Unseen | Stand::Waiting | Stand::Concluded(_) | Stand::Finished => None,
    }
}

fn is_lost(state: &AgentState) -> bool {
    matches!(state, AgentState::Lost(_) | AgentState::Failed | AgentState::LeftBehind)
}

/// The agents that are worst off, worst first, and how many more there are.
#[must_use]
pub fn problems(picture: &Picture<'_>) -> (Vec<AgentProblem>, i64) {
    let agents = view(picture).map_or(&[][..], |view| &view.agents);
    let mut found: BTreeMap<u32, (u8, AgentProblem)> = BTreeMap::new();
    for agent in agents {
        if let Some((rank, reason, message)) = of_agent(agent) {
            let seat = (agent.index, agent.attempt);
            found.insert(agent.index, (rank, problem(picture, seat, agent.state.name(), reason, &message)));
        }
    }
    for (seat, trouble) in picture.troubles {
        // What the pod says is nearer to the cause than what its silence says. Of an attempt before it says nothing now.
        let current = agents.get(seat.0 as usize);
        if current.is_some_and(|agent| agent.attempt != seat.1 || agent.state == AgentState::Completed) {
            continue;
        }
        // A pod that was asked to go says less than why its agent was given up before.
        let known = found.get(&seat.0).map(|(_, known)| known.reason.as_str());
        if trouble.reason == Reason::PodDeleted && known.is_some_and(|known| known != trouble.reason.name()) {
            continue;
        }
        let rank = match trouble.weight {
            Weight::Ended => 0,
            Weight::Fatal => 1,
            Weight::Waits => 3,
        };
        let state = current.map_or("Expected", |agent| agent.state.name());
        let next = trouble.problem.next.first().map(|next| format!("; next: {next}")).unwrap_or_default();
        let message = format!("{}{next}", trouble.problem.cause);
        let entry = problem(picture, *seat, state, trouble.reason, &message);
        let rank = found.get(&seat.0).map_or(rank, |(before, _)| rank.min(*before));
        found.insert(seat.0, (rank, entry));
    }
    let mut sorted: Vec<(u8, AgentProblem)> = found.into_values().collect();
    sorted.sort_by_key(|(rank, problem)| (*rank, problem.index));
    let dropped = sorted.len().saturating_sub(PROBLEMS_MAX);
    sorted.truncate(PROBLEMS_MAX);
    (sorted.into_iter().map(|(_, problem)| problem).collect(), int(dropped))
}

/// How bad, why, and in words.
fn of_agent(agent: &AgentView) -> Option<(u8, Reason, String)> {
    match &agent.state {
        AgentState::Lost(loss) => Some((0, reason::of_loss(loss), loss.to_string())),
        AgentState::Failed => Some((0, Reason::AgentFailed, "it gave up by itself".to_owned())),
        AgentState::LeftBehind => Some((1, Reason::LeftBehind, "a barrier went on without it".to_owned())),
        AgentState::Disconnected { .. } => {
            Some((2, Reason::Disconnected, "it is not heard, and may come back".to_owned()))
        }
        AgentState::Stalled { what, .. } => Some((2, Reason::Stalled, format!("no progress in {what}"))),
        AgentState::Active(_) | AgentState::Completed | AgentState::Aborted => None,
    }
}

fn problem(picture: &Picture<'_>, seat: Seat, state: &str, reason: Reason, message: &str) -> AgentProblem {
    let pod = picture.pods.get(&seat);
    AgentProblem {
        index: int(seat.0),
        attempt: int(seat.1),
        pod: pod.map_or_else(|| picture.run.identity.pod_name(seat.0, seat.1), |pod| pod.name.clone()),
        node: pod.and_then(|pod| pod.node.clone()).unwrap_or_default(),
        state: state.to_owned(),
        reason: reason.name().to_owned(),
        message: fitted(message, 512),
    }
}
