//! `--json`: one object per line on standard output, at most 2 s apart while the run lasts. docs/cli.md describes the
//! objects; change both together.
//!
//! Names are camelCase, numbers are integers with the unit in the name, and every object has `type` and `time`.

use super::picture::{Picture, StagePicture};
use super::story::Event;
use super::{Ending, Scene};
use crate::output;
use lockstep_coordinator::progress::AgentCounts;
use lockstep_core::problem::Problem;
use lockstep_core::thresholds::ThresholdResult;
use serde::Serialize;

/// Time between two progress objects, nanoseconds.
const EVERY_NS: u64 = 1_000_000_000;

/// Objects of a run.
#[derive(Debug)]
pub struct Json {
    last_ns: Option<u64>,
    last_stage: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Line<'a> {
    Begin {
        time: String,
        version: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
        run: &'a str,
        uid: &'a str,
        seed: u64,
        target_uri: &'a str,
        agents: u64,
        stages: &'a [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        results: Option<&'a str>,
        notes: &'a [String],
    },
    Progress {
        time: String,
        elapsed_ms: u64,
        stage: Option<&'a str>,
        stages: Vec<StageLine<'a>>,
        agents: AgentsLine,
        waiting_for: Option<&'a str>,
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
        outcome: &'a str,
        verdict: &'a str,
        exit_code: u8,
        degraded: &'a [String],
        thresholds: &'a [ThresholdResult],
        problems: &'a [Problem],
        results: &'a str,
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

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentsLine {
    desired: u64,
    heard: u64,
    disconnected: u64,
    stalled: u64,
    lost: u64,
    completed: u64,
}

impl Json {
    /// Says what is run.
    pub fn begin(scene: &Scene, notes: &[String]) -> Self {
        let Scene { namespace, run, uid, seed, target_uri, agents, stages, results } = scene;
        print(&Line::Begin {
            time: now(),
            version: env!("CARGO_PKG_VERSION"),
            namespace: namespace.as_deref(),
            run,
            uid,
            seed: *seed,
            target_uri,
            agents: *agents,
            stages,
            results: results.as_deref(),
            notes,
        });
        Self { last_ns: None, last_stage: None }
    }

    /// Says how the run stands, once a second and when the stage changes.
    pub fn refresh(&mut self, picture: &Picture) {
        let is_due = self.last_ns.is_none_or(|last_ns| picture.elapsed_ns.abs_diff(last_ns) >= EVERY_NS);
        if self.last_stage == picture.stage && !is_due {
            return;
        }
        (self.last_ns, self.last_stage) = (Some(picture.elapsed_ns), picture.stage);
        let stage = picture.stage.and_then(|stage| picture.stages.get(stage));
        let stages = picture.stages.iter().enumerate();
        print(&Line::Progress {
            time: now(),
            elapsed_ms: picture.elapsed_ns / 1_000_000,
            stage: stage.map(|stage| stage.name.as_str()),
            stages: stages.map(|(index, stage)| stage_line(stage, picture.has_begun(index))).collect(),
            agents: agents(&picture.agents),
            waiting_for: picture.waits_for.as_deref(),
            aborting: picture.aborting,
            degraded: &picture.degraded,
        });
    }

    /// Says what happened.
    pub fn told(&mut self, event: &Event<'_>, picture: &Picture) {
        print(&Line::Event {
            time: now(),
            elapsed_ms: event.elapsed_ns / 1_000_000,
            agent: event.agent.map(|(index, _)| index),
            attempt: event.agent.map(|(_, attempt)| attempt),
            what: event.what,
            reason: &event.reason,
            notable: event.notable,
        });
        self.refresh(picture);
    }

    /// Says what the runner does.
    pub fn announce(&self, text: &str) {
        print(&Line::Message { time: now(), text: text.trim() });
    }

    /// Says what came of it.
    pub fn end(self, ending: &Ending<'_>) {
        let Ending { outcome, verdict, exit_code, degraded, thresholds, problems, results } = *ending;
        print(&Line::End {
            time: now(),
            outcome,
            verdict,
            exit_code,
            degraded,
            thresholds,
            problems,
            results,
        });
    }
}

fn stage_line(stage: &StagePicture, begun: bool) -> StageLine<'_> {
    let StagePicture { progress, live, .. } = stage;
    StageLine {
        name: &stage.name,
        state: stage.state.name(),
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
        skew_ns: stage.skew_ns,
    }
}

fn agents(counts: &AgentCounts) -> AgentsLine {
    let AgentCounts { desired, heard, disconnected, stalled, lost, completed } = *counts;
    AgentsLine { desired, heard, disconnected, stalled, lost, completed }
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
