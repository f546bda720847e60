//! From the status of an object to the picture that displays draw.
//!
//! A status is seconds old: between two of them the clocks of a window go on by the local clock, counted from when the
//! status came. Wall times of the operator are only held against each other, never against the clock of this machine.
//! Counts are shown as they were written; nothing is made up.

use super::object::Run;
use crate::display::picture::{Picture, StagePicture};
use jiff::Timestamp;
use lockstep_api::conditions::ConditionType;
use lockstep_api::status::{ProgressStatus, StageStatus};
use lockstep_coordinator::LiveStage;
use lockstep_coordinator::progress::{AgentCounts, Progress};
use lockstep_core::run::StageState;

/// Nanoseconds of a microsecond.
const MICRO_NS: u64 = 1_000;
/// Nanoseconds of a millisecond.
const MILLI_NS: u64 = 1_000_000;
/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// When a picture is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Since the run began, nanoseconds.
    pub elapsed_ns: u64,
    /// Since the status came, nanoseconds.
    pub age_ns: u64,
}

/// A run as its status has it.
#[must_use]
pub fn picture(run: &Run, moment: Moment) -> Picture {
    let status = &run.status;
    let progress = status.progress.as_ref();
    let named = run.stages();
    let count = named.len().max(status.stages.len());
    let over = run.is_finished();
    let current = progress.filter(|_| !over).and_then(|progress| {
        let index = status.stages.iter().position(|stage| stage.name == progress.stage)?;
        let state = state(&status.stages[index]);
        (!matches!(state, StageState::Done | StageState::Failed | StageState::Skipped)).then_some(index)
    });
    let stages = (0..count).map(|index| {
        let known = status.stages.get(index);
        let spec = known
            .map_or_else(|| named.get(index), |known| named.iter().find(|stage| stage.name == known.name));
        let mut stage = known
            .map_or_else(waiting, |known| stage(known, progress.filter(|_| current == Some(index)), moment));
        if let Some(spec) = spec {
            stage.name.clone_from(&spec.name);
            if stage.kind.is_empty() {
                spec.kind.clone_into(&mut stage.kind);
            }
            stage.has_flowed_on = spec.discard && current.is_some_and(|current| current > index);
        }
        stage
    });
    let agents = status.agents.as_ref();
    let many = |number: i64| u64::try_from(number).unwrap_or_default();
    let micros = status.stages.iter().filter_map(|stage| stage.start.as_ref());
    let error_ns = micros.map(|start| many(start.clock_error_micros) * MICRO_NS).max();
    Picture {
        elapsed_ns: moment.elapsed_ns,
        stage: current,
        stages: stages.collect(),
        agents: agents.map_or_else(
            || AgentCounts { desired: run.scene().agents, ..AgentCounts::default() },
            |agents| AgentCounts {
                desired: many(agents.desired),
                heard: many(agents.heard),
                disconnected: many(agents.disconnected),
                stalled: many(agents.stalled),
                lost: many(agents.lost),
                completed: many(agents.completed),
            },
        ),
        clock_error_ns: error_ns.filter(|error_ns| *error_ns > 0),
        waits_for: waits_for(run, current.is_some()),
        degraded: run.message_if(ConditionType::Degraded).map(str::to_owned).into_iter().collect(),
        aborting: run.stop().is_some() && !over,
    }
}

/// What it waits for: in a stage what the coordinator says, else what the operator says.
fn waits_for(run: &Run, in_stage: bool) -> Option<String> {
    let status = &run.status;
    match status.phase.as_str() {
        _ if run.is_finished() => None,
        _ if in_stage => status.progress.as_ref().and_then(|progress| progress.waiting_for.clone()),
        "" => Some("waiting for an operator to look at it".to_owned()),
        _ => Some(status.message.clone()).filter(|message| !message.is_empty()),
    }
}

fn state(stage: &StageStatus) -> StageState {
    StageState::ALL.into_iter().find(|state| state.name() == stage.state).unwrap_or_default()
}

/// A stage of which nothing is known.
fn waiting() -> StagePicture {
    StagePicture {
        name: String::new(),
        kind: String::new(),
        state: StageState::Waiting,
        has_flowed_on: false,
        starts_in_ns: None,
        progress: Progress { done: 0, total: 0, unit: "objects", elapsed_ns: 0, remaining_ns: None },
        live: LiveStage::default(),
        agents: 0,
        changed: 0,
        unchanged: 0,
        returned: 0,
        skew_ns: None,
    }
}

/// `progress`: where the stage is the one under way.
fn stage(stage: &StageStatus, progress: Option<&ProgressStatus>, moment: Moment) -> StagePicture {
    let many = |number: i64| u64::try_from(number).unwrap_or_default();
    let mut live = LiveStage {
        operations: many(stage.operations),
        bytes: many(stage.bytes),
        errors: many(stage.errors),
        operations_per_s: stage.operations_per_second as f64,
        bytes_per_s: stage.bytes_per_second as f64,
        p50_ns: None,
        p99_ns: None,
    };
    if let Some(progress) = progress {
        live.operations_per_s = progress.operations_per_second as f64;
        live.bytes_per_s = progress.bytes_per_second as f64;
        let ns = |micros: Option<i64>| micros.map(|micros| many(micros) * MICRO_NS);
        (live.p50_ns, live.p99_ns) = (ns(progress.p50_micros), ns(progress.p99_micros));
    }
    StagePicture {
        name: stage.name.clone(),
        kind: stage.kind.clone(),
        state: state(stage),
        has_flowed_on: false,
        starts_in_ns: None,
        progress: progress.map_or_else(|| past(stage), |progress| now(stage, progress, moment)),
        live,
        agents: many(stage.agents),
        changed: many(stage.objects),
        unchanged: many(stage.objects_unchanged),
        returned: 0,
        skew_ns: stage.start.as_ref().map(|start| many(start.skew_micros) * MICRO_NS),
    }
}

/// How far the stage under way is.
fn now(stage: &StageStatus, progress: &ProgressStatus, moment: Moment) -> Progress {
    let many = |number: i64| u64::try_from(number).unwrap_or_default();
    let (done, total) = (many(progress.done), many(progress.total));
    let remaining_ns = progress.estimated_remaining_seconds.map(|left| many(left) * SECOND_NS);
    let remaining_ns = remaining_ns.map(|left_ns| left_ns.saturating_sub(moment.age_ns));
    if progress.unit == "milliseconds" {
        let window_ns = total * MILLI_NS;
        let elapsed_ns = (done * MILLI_NS + moment.age_ns).min(window_ns);
        return Progress {
            done: elapsed_ns / MILLI_NS,
            total,
            unit: "milliseconds",
            elapsed_ns,
            remaining_ns: Some(window_ns - elapsed_ns),
        };
    }
    let then = stage.start_time.as_ref().zip(progress.last_update_time.as_ref());
    let elapsed_ns = then.map_or(0, |(start, update)| between_ns(start.0, update.0)) + moment.age_ns;
    let known = ["agents", "operations"].into_iter().find(|unit| *unit == progress.unit);
    Progress { done, total, unit: known.unwrap_or("objects"), elapsed_ns, remaining_ns }
}

/// How far a stage is that is over, or has not begun.
fn past(stage: &StageStatus) -> Progress {
    let took = stage.start_time.as_ref().zip(stage.completion_time.as_ref());
    let elapsed_ns = took.map_or(0, |(start, end)| between_ns(start.0, end.0));
    let many = |number: i64| u64::try_from(number).unwrap_or_default();
    let (done, unit) = match stage.kind.as_str() {
        "preflight" => (many(stage.agents), "agents"),
        "execute" => (many(stage.operations), "operations"),
        _ => (many(stage.objects) + many(stage.objects_unchanged), "objects"),
    };
    Progress { done, total: done, unit, elapsed_ns, remaining_ns: None }
}

/// From one instant of the operator's wall clock to another, nanoseconds; 0 backwards.
#[must_use]
pub fn between_ns(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_nanosecond() - from.as_nanosecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::tests::run;
    use crate::display::lines;
    use serde_json::{Value, json};

    fn live() -> Value {
        json!({
            "phase": "Running",
            "message": "stage mixed (3 of 4), 4 of 4 agents ready",
            "startTime": "2026-11-21T23:15:00Z",
            "agents": {"desired": 4, "joined": 4, "ready": 4, "heard": 3, "stalled": 1},
            "progress": {
                "stage": "mixed", "what": "measuring", "done": 21_000, "total": 30_000, "unit": "milliseconds",
                "operationsPerSecond": 41_210, "bytesPerSecond": 2_684_354_560_i64, "p50Micros": 61, "p99Micros": 402,
                "lastUpdateTime": "2026-11-21T23:15:31Z", "waitingFor": "agent 3 has stood still for 7 s (measuring)",
            },
            "stages": [
                {"name": "preflight", "kind": "preflight", "state": "Done", "agents": 4,
                 "startTime": "2026-11-21T23:15:00Z", "completionTime": "2026-11-21T23:15:00.500Z"},
                {"name": "prepare", "kind": "prepare", "state": "Done", "agents": 4, "objects": 20_000, "operations": 20_000,
                 "bytes": 1_310_720_000, "startTime": "2026-11-21T23:15:01Z", "completionTime": "2026-11-21T23:15:09Z"},
                {"name": "mixed", "kind": "execute", "state": "Working", "agents": 4, "operations": 900_000,
                 "start": {"skewMicros": 210, "clockErrorMicros": 38}},
                {"name": "cleanup", "kind": "cleanup", "state": "Waiting"},
            ],
        })
    }

    #[test]
    fn a_status_looks_like_a_run_on_this_machine() {
        let run = run(json!({"agents": {"replicas": 4}}), live());
        let now = picture(&run, Moment { elapsed_ns: 31 * SECOND_NS, age_ns: SECOND_NS });
        let text = |index| format!("{} {}", lines::mark(&now, index), lines::line(&now, index).full());
        assert_eq!(text(0), "✔ 4/4 agents · clock error ≤ 38 µs · 0.5 s");
        assert_eq!(text(1), "✔ 20,000 objects · 1.2 GiB · 8.0 s · 2,500.0 objects/s · 156 MiB/s · 0 errors");
        assert_eq!(
            text(2),
            "▶ 0:22 / 0:30  4/4 agents  41,210 op/s  2.5 GiB/s  p50 61 µs  p99 402 µs  0 errors  \
             agent 3 has stood still for 7 s (measuring)"
        );
        assert_eq!(text(3), "  waiting");
    }

    #[test]
    fn a_window_ends_with_its_last_second_however_old_the_status_is() {
        let run = run(json!({}), live());
        let now = picture(&run, Moment { elapsed_ns: 0, age_ns: 3_600 * SECOND_NS });
        let progress = &now.stages[2].progress;
        assert_eq!((progress.done, progress.total, progress.remaining_ns), (30_000, 30_000, Some(0)));
    }

    #[test]
    fn a_run_that_nobody_has_begun_shows_its_stages_and_why_it_waits() {
        let wait = "waits for run perf/other of group lab";
        let status = json!({"phase": "Waiting", "message": wait});
        let run = run(json!({"stages": [{"name": "fill", "prepare": {}}]}), status);
        let now = picture(&run, Moment::default());
        let names: Vec<&str> = now.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!((names.as_slice(), now.stage), (&["preflight", "fill"][..], None));
        assert_eq!(now.waits_for.as_deref(), Some(wait));
    }
}
