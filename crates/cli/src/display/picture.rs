//! One snapshot as stages with their progress: the facts behind every display, and the text of each stage's line.

use crate::format::{bytes_per_s, clock, count, decimal_milli, latency, long_span, span};
use lockstep_coordinator::{LiveStage, Snapshot};
use lockstep_core::plan::{Plan, StageKind};
use lockstep_core::run::StageState;
use lockstep_core::run::agent::AgentState;
use lockstep_core::run::view::StageView;

/// Below this much of a stage's work its end is not foretold.
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

/// A bar of 20 columns.
#[must_use]
pub fn bar(progress: &Progress) -> String {
    let full = (progress.per_mille() / 50) as usize;
    format!("{}{}", "█".repeat(full), "░".repeat(20 - full))
}

/// When a stage began, coordinator's clock; an instant still to come while its start is armed.
#[must_use]
pub fn began_ns(snapshot: &Snapshot, index: usize) -> u64 {
    let stages = &snapshot.view.stages;
    let planned = stages.get(index).and_then(|stage| stage.facts.planned_start_ns);
    let before = stages.iter().take(index).filter_map(|stage| stage.facts.ended_ns).max();
    planned.or(before).unwrap_or(snapshot.began_ns)
}

/// How far a stage is.
#[must_use]
pub fn progress(plan: &Plan, snapshot: &Snapshot, index: usize) -> Option<Progress> {
    let stage = plan.stages.get(index)?;
    let view = snapshot.view.stages.get(index)?;
    // A warm-up flows into the next stage: it was over when that one began, not when both had handed in.
    let next = snapshot.view.stages.get(index + 1).filter(|_| stage.kind.is_discard());
    let flowed_ns = next.and_then(|next| next.facts.planned_start_ns);
    let until_ns =
        flowed_ns.or(view.facts.ended_ns).map_or(snapshot.at_ns, |end_ns| end_ns.min(snapshot.at_ns));
    let elapsed_ns = until_ns.saturating_sub(began_ns(snapshot, index));
    let progress = match &stage.kind {
        StageKind::Preflight => {
            let ready = snapshot.view.agents.iter().filter(|agent| is_past_preflight(&agent.state)).count();
            Progress {
                done: ready as u64,
                total: u64::from(plan.replicas),
                unit: "agents",
                elapsed_ns,
                remaining_ns: None,
            }
        }
        StageKind::Execute(execute) if execute.duration.is_some() => {
            let window_ns =
                execute.duration.map_or(0, |window| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX));
            let done_ns = elapsed_ns.min(window_ns);
            let remaining_ns = Some(window_ns - done_ns);
            Progress {
                done: done_ns / 1_000_000,
                total: window_ns / 1_000_000,
                unit: "milliseconds",
                elapsed_ns,
                remaining_ns,
            }
        }
        kind => {
            let unit = if kind.execute().is_some() { "operations" } else { "objects" };
            let done = leased_done(kind, snapshot, index, view);
            let rest = view.total.saturating_sub(done);
            let remaining_ns = (done > 0 && elapsed_ns >= FORETELL_NS)
                .then(|| (u128::from(rest) * u128::from(elapsed_ns) / u128::from(done)) as u64);
            Progress { done, total: view.total, unit, elapsed_ns, remaining_ns }
        }
    };
    Some(progress)
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

fn is_past_preflight(state: &AgentState) -> bool {
    use lockstep_core::run::agent::Position;
    match state {
        AgentState::Completed => true,
        state => match state.position() {
            Some(Position::Ready) => true,
            Some(Position::Stage { stage, .. }) => stage > 0,
            _ => false,
        },
    }
}

/// The sign in front of a stage.
#[must_use]
pub fn mark(state: StageState) -> &'static str {
    match state {
        StageState::Done => "✔",
        StageState::Failed => "✖",
        StageState::Starting | StageState::Working => "▶",
        StageState::Skipped => "-",
        StageState::Waiting => " ",
    }
}

/// The line of a stage, without its sign and name.
#[must_use]
pub fn line(plan: &Plan, snapshot: &Snapshot, index: usize, with_bar: bool) -> String {
    let (Some(stage), Some(view), Some(progress)) =
        (plan.stages.get(index), snapshot.view.stages.get(index), progress(plan, snapshot, index))
    else {
        return String::new();
    };
    let live = snapshot.live.get(index).cloned().unwrap_or_default();
    let current = snapshot.view.stage == Some(index as u32);
    match view.facts.state {
        // Preflight has no start of its own: it begins with the first hello.
        StageState::Waiting if current => working(plan, snapshot, &progress, &live, with_bar),
        StageState::Waiting => "waiting".to_owned(),
        StageState::Skipped => "skipped".to_owned(),
        StageState::Starting => starting(snapshot, index),
        StageState::Working if snapshot.at_ns < began_ns(snapshot, index) => starting(snapshot, index),
        StageState::Working => working(plan, snapshot, &progress, &live, with_bar),
        StageState::Done | StageState::Failed => over(snapshot, &stage.kind, view, &progress, &live),
    }
}

fn starting(snapshot: &Snapshot, index: usize) -> String {
    let planned = snapshot.view.stages.get(index).and_then(|stage| stage.facts.planned_start_ns);
    match planned.and_then(|at_ns| at_ns.checked_sub(snapshot.at_ns)) {
        Some(left_ns) => format!("starts together in {}", span(left_ns)),
        None => {
            super::waiting::reason(snapshot).unwrap_or_else(|| "getting ready to start together".to_owned())
        }
    }
}

/// A stage under way: how far, by how many agents, how fast, until when.
fn working(
    plan: &Plan,
    snapshot: &Snapshot,
    progress: &Progress,
    live: &LiveStage,
    with_bar: bool,
) -> String {
    let mut parts = Vec::new();
    if with_bar {
        parts.push(bar(progress));
    }
    match progress.unit {
        "agents" => {}
        "milliseconds" => {
            parts.push(format!(
                "{} / {}",
                clock(progress.elapsed_ns.min(progress.total * 1_000_000)),
                clock(progress.total * 1_000_000)
            ));
        }
        unit => parts.push(format!("{} of {} {unit}", count(progress.done), count(progress.total))),
    }
    let heard = snapshot
        .view
        .agents
        .iter()
        .filter(|agent| agent.state.is_heard() || agent.state == AgentState::Completed);
    match progress.unit {
        "agents" => parts.push(format!("{}/{} agents ready", progress.done, progress.total)),
        _ => parts.push(format!("{}/{} agents", heard.count(), plan.replicas)),
    }
    if live.operations > 0 || live.errors > 0 {
        parts.push(format!("{} op/s", count(live.operations_per_s.max(0.0) as u64)));
        parts.push(bytes_per_s(live.bytes_per_s.max(0.0) as u64));
        if let (Some(p50_ns), Some(p99_ns)) = (live.p50_ns, live.p99_ns) {
            parts.push(format!("p50 {}  p99 {}", latency(p50_ns), latency(p99_ns)));
        }
        parts.push(errors(live.errors));
    }
    if let (Some(remaining_ns), true) = (progress.remaining_ns, progress.unit != "milliseconds") {
        parts.push(format!("{} left", long_span(remaining_ns.div_ceil(1_000_000_000))));
    }
    if let Some(reason) = super::waiting::reason(snapshot) {
        parts.push(reason);
    }
    parts.join("  ")
}

/// A stage that is over: what it came to.
fn over(
    snapshot: &Snapshot,
    kind: &StageKind,
    view: &StageView,
    progress: &Progress,
    live: &LiveStage,
) -> String {
    let mut parts = Vec::new();
    if let StageKind::Preflight = kind {
        parts.push(format!("{}/{} agents", progress.done, progress.total));
        if let Some(error_ns) = snapshot.view.agents.iter().filter_map(|agent| agent.clock_error_ns).max() {
            parts.push(format!("clock error ≤ {}", latency(error_ns)));
        }
        parts.push(span(progress.elapsed_ns));
        return parts.join(" · ");
    }
    let objects = view.changed + view.unchanged;
    if kind.execute().is_some() {
        parts.push(format!("{} operations", count(live.operations)));
    } else {
        parts.push(format!("{} objects", count(objects)));
        if view.unchanged > 0 {
            let already = if matches!(kind, StageKind::Cleanup { .. }) {
                "were gone already"
            } else {
                "were there already"
            };
            parts.push(format!("{} {already}", count(view.unchanged)));
        }
    }
    if live.bytes > 0 {
        parts.push(crate::format::bytes(live.bytes));
    }
    parts.push(span(progress.elapsed_ns));
    let worked = if kind.execute().is_some() { live.operations } else { objects };
    if let Some(milli_rate) = per_second_milli(worked, progress.elapsed_ns) {
        let unit = if kind.execute().is_some() { "op/s" } else { "objects/s" };
        parts.push(format!("{} {unit}", decimal_milli(milli_rate)));
    }
    if let (true, Some(milli_rate)) = (live.bytes > 0, per_second_milli(live.bytes, progress.elapsed_ns)) {
        parts.push(bytes_per_s(milli_rate / 1_000));
    }
    parts.push(errors(live.errors));
    if view.returned > 0 {
        parts.push(format!("{} given back and done again", count(view.returned)));
    }
    parts.join(" · ")
}

fn per_second_milli(amount: u64, elapsed_ns: u64) -> Option<u64> {
    let milli = (u128::from(amount) * 1_000_000_000_000).checked_div(u128::from(elapsed_ns))?;
    Some(u64::try_from(milli).unwrap_or(u64::MAX))
}

fn errors(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "error" } else { "errors" })
}
