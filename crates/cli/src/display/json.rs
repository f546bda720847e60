//! `--json`: one object per line on standard output, at most 2 s apart while the run lasts. docs/cli.md describes the
//! objects; change both together.
//!
//! Names are camelCase, numbers are integers with the unit in the name, and every object has `type` and `time`.

use super::{Scene, picture, waiting};
use crate::output;
use lockstep_coordinator::Snapshot;
use lockstep_coordinator::progress::progress;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use lockstep_core::run::StageState;
use lockstep_core::run::agent::AgentState;
use lockstep_core::run::message::Told;
use lockstep_core::thresholds::{Outcome, ThresholdResult, Verdict};
use serde::Serialize;
use std::path::Path;

/// Time between two progress objects, nanoseconds.
const EVERY_NS: u64 = 1_000_000_000;

/// Objects of a run.
#[derive(Debug)]
pub struct Json {
    scene: Scene,
    last_ns: u64,
    last_stage: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line<'a> {
    Begin {
        time: String,
        version: &'static str,
        run: &'a str,
        uid: &'a str,
        seed: u64,
        target_uri: &'a str,
        agents: u32,
        stages: Vec<&'a str>,
        results: String,
        notes: &'a [String],
    },
    Progress {
        time: String,
        elapsed_ms: u64,
        stage: Option<&'a str>,
        stages: Vec<StageLine<'a>>,
        agents: AgentCounts,
        waiting_for: Option<String>,
        aborting: bool,
        degraded: &'a [String],
    },
    Event {
        time: String,
        elapsed_ms: u64,
        agent: Option<u32>,
        attempt: Option<u32>,
        what: &'a str,
        reason: &'a str,
        notable: bool,
    },
    Message {
        time: String,
        text: &'a str,
    },
    End {
        time: String,
        outcome: Outcome,
        verdict: Verdict,
        exit_code: u8,
        degraded: &'a [String],
        thresholds: &'a [ThresholdResult],
        problems: &'a [Problem],
        results: String,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StageLine<'a> {
    name: &'a str,
    state: &'static str,
    done: u64,
    total: u64,
    unit: &'static str,
    elapsed_ms: u64,
    remaining_ms: Option<u64>,
    operations: u64,
    bytes: u64,
    errors: u64,
    operations_per_second: u64,
    bytes_per_second: u64,
    p50_ns: Option<u64>,
    p99_ns: Option<u64>,
    skew_ns: Option<u64>,
}

/// Agents by what can be said of them. One whose attempt has not said hello yet is only desired.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentCounts {
    desired: u32,
    heard: u32,
    disconnected: u32,
    stalled: u32,
    lost: u32,
    completed: u32,
}

impl Json {
    /// Says what is run.
    pub fn begin(scene: Scene, notes: &[String]) -> Self {
        let plan = &scene.plan;
        print(&Line::Begin {
            time: now(),
            version: env!("CARGO_PKG_VERSION"),
            run: &plan.run.name,
            uid: &plan.run.uid,
            seed: plan.dataset.seed,
            target_uri: &plan.target.uri,
            agents: plan.replicas,
            stages: plan.stages.iter().map(|stage| stage.name.as_str()).collect(),
            results: scene.results.display().to_string(),
            notes,
        });
        Self { scene, last_ns: 0, last_stage: None }
    }

    /// Says how the run stands, once a second and when the stage changes.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        let changed = self.last_stage != snapshot.view.stage;
        if !changed && snapshot.at_ns.saturating_sub(self.last_ns) < EVERY_NS {
            return;
        }
        (self.last_ns, self.last_stage) = (snapshot.at_ns, snapshot.view.stage);
        let plan = &self.scene.plan;
        let view = &snapshot.view;
        print(&Line::Progress {
            time: now(),
            elapsed_ms: elapsed_ms(snapshot.at_ns, snapshot),
            stage: view
                .stage
                .and_then(|stage| plan.stages.get(stage as usize))
                .map(|stage| stage.name.as_str()),
            stages: (0..plan.stages.len())
                .filter_map(|index| stage_line(&self.scene, snapshot, index))
                .collect(),
            agents: agents(snapshot),
            waiting_for: waiting::reason(snapshot),
            aborting: view.aborting,
            degraded: &view.degraded,
        });
    }

    /// Says what happened.
    pub fn told(&mut self, told: &Told, snapshot: &Snapshot) {
        print(&Line::Event {
            time: now(),
            elapsed_ms: elapsed_ms(told.at_ns, snapshot),
            agent: told.agent.map(|(index, _)| index),
            attempt: told.agent.map(|(_, attempt)| attempt),
            what: &told.what,
            reason: &told.reason,
            notable: told.notable,
        });
        self.refresh(snapshot);
    }

    /// Says what the runner does.
    pub fn announce(&self, text: &str) {
        print(&Line::Message { time: now(), text: text.trim() });
    }

    /// Says what came of it.
    pub fn end(self, report: &Report, results: &Path) {
        print(&Line::End {
            time: now(),
            outcome: report.outcome,
            verdict: report.verdict,
            exit_code: report.exit_code,
            degraded: &report.degraded,
            thresholds: &report.thresholds,
            problems: &report.problems,
            results: results.display().to_string(),
        });
    }
}

fn stage_line<'a>(scene: &'a Scene, snapshot: &Snapshot, index: usize) -> Option<StageLine<'a>> {
    let stage = scene.plan.stages.get(index)?;
    let view = snapshot.view.stages.get(index)?;
    let begun = view.facts.state != StageState::Waiting || snapshot.view.stage == Some(index as u32);
    let progress = progress(&scene.plan, snapshot, index)?;
    let live = snapshot.live.get(index).cloned().unwrap_or_default();
    Some(StageLine {
        name: &stage.name,
        state: view.facts.state.name(),
        done: if begun { progress.done } else { 0 },
        total: progress.total,
        unit: progress.unit,
        elapsed_ms: if begun { progress.elapsed_ns / 1_000_000 } else { 0 },
        remaining_ms: progress.remaining_ns.filter(|_| begun).map(|ns| ns / 1_000_000),
        operations: live.operations,
        bytes: live.bytes,
        errors: live.errors,
        operations_per_second: live.operations_per_s.max(0.0) as u64,
        bytes_per_second: live.bytes_per_s.max(0.0) as u64,
        p50_ns: live.p50_ns,
        p99_ns: live.p99_ns,
        skew_ns: view.facts.skew_ns,
    })
}

fn agents(snapshot: &Snapshot) -> AgentCounts {
    let mut counts = AgentCounts { desired: snapshot.view.agents.len() as u32, ..AgentCounts::default() };
    for agent in &snapshot.view.agents {
        let counter = match &agent.state {
            AgentState::Active(_) if !picture::takes_part(&agent.state) => continue,
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

fn elapsed_ms(at_ns: u64, snapshot: &Snapshot) -> u64 {
    at_ns.saturating_sub(snapshot.began_ns) / 1_000_000
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn print(line: &Line<'_>) {
    // These types have nothing that JSON cannot say.
    if let Ok(text) = serde_json::to_string(line) {
        output::say(&text);
    }
}
