//! What a run waits for, and why: every wait has a name that a person can see while it lasts.

use crate::Snapshot;
use lockstep_core::format::{count, long_span};
use lockstep_core::run::StageState;
use lockstep_core::run::agent::{AgentState, Position, Step};
use lockstep_core::run::view::AgentView;

/// Agents that are named one by one.
const NAMED: usize = 3;

/// What the run waits for; `None` while everybody works.
#[must_use]
pub fn reason(snapshot: &Snapshot) -> Option<String> {
    let view = &snapshot.view;
    if view.over {
        return None;
    }
    if view.aborting {
        return select(&view.agents, is_live).map(|agents| format!("stopping: waiting for {agents} to stop"));
    }
    let troubled = view.agents.iter().find_map(|agent| trouble(agent, snapshot.at_ns));
    let Some(stage) = view.stage else {
        return troubled.or_else(|| {
            select(&view.agents, is_live).map(|agents| format!("finishing: waiting for {agents} to end"))
        });
    };
    let at_step = |agent: &AgentView, wanted: fn(Step) -> bool| match agent.state.position() {
        Some(Position::Stage { stage: here, step }) => here == stage && wanted(step),
        _ => false,
    };
    if stage == 0 {
        let missing = |wanted: fn(&Position) -> bool| {
            select(&view.agents, move |agent| agent.state.position().as_ref().is_some_and(wanted))
        };
        return missing(|position| matches!(position, Position::Expected))
            .map(|agents| format!("waiting for {agents} to say hello"))
            .or(troubled)
            .or_else(|| {
                missing(|position| !matches!(position, Position::Ready | Position::Stage { stage: 1.., .. }))
                    .map(|agents| format!("waiting for {agents} to pass preflight"))
            });
    }
    let starting =
        view.stages.get(stage as usize).is_some_and(|stage| stage.facts.state == StageState::Starting);
    if starting {
        let late =
            select(&view.agents, |agent| is_live(agent) && !at_step(agent, |step| step >= Step::Armed));
        return troubled.or_else(|| late.map(|agents| format!("waiting for {agents} to be ready to start")));
    }
    if let Some(text) = troubled {
        return Some(text);
    }
    let arrived = view.agents.iter().filter(|agent| at_step(agent, |step| step == Step::AtBarrier)).count();
    if arrived == 0 {
        return None;
    }
    let rest: Vec<&AgentView> = view
        .agents
        .iter()
        .filter(|agent| is_live(agent) && !at_step(agent, |step| step == Step::AtBarrier))
        .collect();
    let Some(first) = rest.first() else {
        let work = view.stages.get(stage as usize).map(|stage| stage.total.saturating_sub(stage.done));
        return work
            .filter(|work| *work > 0)
            .map(|work| format!("all {arrived} are at the barrier, {} still to be done", count(work)));
    };
    let doing = match (first.what.as_str(), first.total) {
        ("", _) => String::new(),
        (what, 0) => format!(" ({what} {})", count(first.done)),
        (what, total) => format!(" ({what} {} of {})", count(first.done), count(total)),
    };
    Some(format!("{arrived} at the barrier, waiting for {}{doing}", names(&rest)))
}

fn is_live(agent: &AgentView) -> bool {
    !agent.state.is_terminal()
}

/// What is wrong with an agent that may still come back.
fn trouble(agent: &AgentView, now_ns: u64) -> Option<String> {
    let for_s = |since_ns: u64| long_span(now_ns.saturating_sub(since_ns) / 1_000_000_000);
    match &agent.state {
        AgentState::Disconnected { since_ns, .. } => {
            Some(format!("agent {} has been disconnected for {}", agent.index, for_s(*since_ns)))
        }
        AgentState::Stalled { since_ns, what, .. } => {
            Some(format!("agent {} has stood still for {} ({what})", agent.index, for_s(*since_ns)))
        }
        _ => None,
    }
}

fn select(agents: &[AgentView], wanted: impl Fn(&AgentView) -> bool) -> Option<String> {
    let found: Vec<&AgentView> = agents.iter().filter(|agent| wanted(agent)).collect();
    (!found.is_empty()).then(|| names(&found))
}

/// `agent 2`, `agents 0, 2, 3`, `agents 0, 1, 2 and 5 more`.
fn names(agents: &[&AgentView]) -> String {
    let listed: Vec<String> = agents.iter().take(NAMED).map(|agent| agent.index.to_string()).collect();
    let noun = if agents.len() == 1 { "agent" } else { "agents" };
    let more = match agents.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more}", listed.join(", "))
}
