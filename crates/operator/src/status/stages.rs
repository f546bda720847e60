//! Stages, progress, thresholds and the two columns that are made of them.
//!
//! While a run lasts its stages show what the coordinator sees; once it is over, what was merged. Response times are
//! rounded up and rates down.

use super::{Picture, Published, Stand, WallClock, fitted, int, seconds, words};
use lockstep_api::status::{
    BenchmarkRunStatus, LatencyStatus, ProgressStatus, StageStart, StageStatus, ThresholdStatus,
};
use lockstep_coordinator::{LiveStage, Snapshot, progress, waiting};
use lockstep_core::plan::{Plan, StageKind};
use lockstep_core::results::Report;
use lockstep_core::results::stage::{LatencyReport, OpReport, StageReport};
use lockstep_core::run::StageState;
use lockstep_core::run::view::{RunView, StageView};

/// Fills everything that is measured.
pub(super) fn fill(status: &mut BenchmarkRunStatus, picture: &Picture<'_>) {
    match picture.stand {
        Stand::Live { plan, snapshot } => {
            let clock = WallClock { wall: picture.now, at_ns: snapshot.at_ns };
            let stages = plan.stages.iter().zip(&snapshot.view.stages).zip(&snapshot.live).enumerate();
            status.stages = stages
                .map(|(index, ((_, view), live))| live_stage(plan, snapshot, index, view, live, clock))
                .collect();
            status.progress = live_progress(status.progress.take(), plan, snapshot, picture);
            let current = snapshot.view.stage.and_then(|stage| snapshot.live.get(stage as usize));
            if let Some(live) = current.filter(|live| live.operations_per_s > 0.0) {
                let rates = (live.operations_per_s as u64, live.bytes_per_s.max(0.0) as u64);
                status.throughput = Some(words::throughput(rates.0, rates.1));
            }
            status.skew = skew(&snapshot.view);
        }
        Stand::Over { plan, view, report, results } => {
            over(status, plan, view, report);
            status.results = match results {
                Published::Done(results) => Some(results.clone()),
                Published::Writing | Published::Failed(_) => None,
            };
            if let Some(progress) = &mut status.progress
                && !matches!(results, Published::Writing)
            {
                (progress.estimated_remaining_seconds, progress.waiting_for) = (None, None);
                progress.last_update_time = Some(seconds(picture.now));
            }
        }
        Stand::Unseen | Stand::Waiting | Stand::Concluded(_) | Stand::Finished => {}
    }
}

fn live_stage(
    plan: &Plan,
    snapshot: &Snapshot,
    index: usize,
    view: &StageView,
    live: &LiveStage,
    clock: WallClock,
) -> StageStatus {
    let facts = &view.facts;
    let begun = !matches!(facts.state, StageState::Waiting | StageState::Skipped)
        || snapshot.view.stage == Some(index as u32);
    let elapsed_ns =
        progress::progress(plan, snapshot, index).map_or(0, |progress| progress.elapsed_ns).max(1);
    let mean = |amount: u64| int(u128::from(amount) * 1_000_000_000 / u128::from(elapsed_ns));
    StageStatus {
        name: view.name.clone(),
        kind: plan.stages[index].kind.name().to_owned(),
        state: facts.state.name().to_owned(),
        start_time: begun.then(|| clock.time(progress::began_ns(snapshot, index))),
        completion_time: facts.ended_ns.map(|at_ns| clock.time(at_ns)),
        start: facts.planned_start_ns.filter(|_| plan.stages[index].kind.is_armed(false)).map(|at_ns| {
            StageStart {
                planned_time: Some(clock.time(at_ns)),
                skew_micros: int(facts.skew_ns.unwrap_or_default().div_ceil(1_000)),
                clock_error_micros: int(facts.clock_error_ns.div_ceil(1_000)),
                rearmed: int(facts.rearmed),
            }
        }),
        agents: int(facts.agents),
        objects: int(view.changed),
        objects_unchanged: int(view.unchanged),
        operations: int(live.operations),
        bytes: int(live.bytes),
        operations_per_second: if begun { mean(live.operations) } else { 0 },
        bytes_per_second: if begun { mean(live.bytes) } else { 0 },
        errors: int(live.errors),
        degraded: is_skewed(plan, view),
        ..StageStatus::default()
    }
}

fn is_skewed(plan: &Plan, view: &StageView) -> bool {
    view.facts.skew_ns.is_some_and(|skew_ns| u128::from(skew_ns) > plan.start.max_skew.as_nanos())
}

/// Progress of the stage under way; of the last one that was, while the run ends.
fn live_progress(
    before: Option<ProgressStatus>,
    plan: &Plan,
    snapshot: &Snapshot,
    picture: &Picture<'_>,
) -> Option<ProgressStatus> {
    let Some(stage) = snapshot.view.stage else { return before };
    let progress = progress::progress(plan, snapshot, stage as usize)?;
    let percent = progress.per_mille() / 10;
    let name = plan.stages.get(stage as usize).map(|stage| stage.name.clone()).unwrap_or_default();
    let doing = snapshot.view.agents.iter().filter(|agent| agent.in_stage || stage == 0);
    let what = doing.map(|agent| agent.what.as_str()).find(|what| !what.is_empty()).unwrap_or("waiting");
    let live = snapshot.live.get(stage as usize).cloned().unwrap_or_default();
    let rate = match progress.unit {
        "milliseconds" | "agents" => live.operations_per_s.max(0.0) as u64,
        _ => (u128::from(progress.done) * 1_000_000_000 / u128::from(progress.elapsed_ns.max(1))) as u64,
    };
    Some(ProgressStatus {
        stage: name,
        what: fitted(what, 128),
        done: int(progress.done),
        total: int(progress.total),
        unit: progress.unit.to_owned(),
        percent: int(percent),
        summary: format!("{percent}%"),
        rate_per_second: int(rate),
        estimated_remaining_seconds: progress.remaining_ns.map(|ns| int(ns.div_ceil(1_000_000_000))),
        waiting_for: waiting::reason(snapshot).map(|reason| fitted(&reason, 512)),
        operations_per_second: int(live.operations_per_s.max(0.0) as u64),
        bytes_per_second: int(live.bytes_per_s.max(0.0) as u64),
        p50_micros: live.p50_ns.map(micros),
        p99_micros: live.p99_ns.map(micros),
        last_update_time: Some(seconds(picture.now)),
    })
}

fn skew(view: &RunView) -> Option<String> {
    let worst = view.stages.iter().max_by_key(|stage| stage.facts.skew_ns)?;
    let skew_ns = worst.facts.skew_ns?;
    Some(format!("{} +- {}", words::time(skew_ns), words::time(worst.facts.clock_error_ns)))
}

/// What was merged, over what was seen.
fn over(status: &mut BenchmarkRunStatus, plan: &Plan, view: &RunView, report: &Report) {
    for (index, stage) in status.stages.iter_mut().enumerate() {
        if let Some(view) = view.stages.get(index) {
            stage.state = view.facts.state.name().to_owned();
            (stage.objects, stage.objects_unchanged) = (int(view.changed), int(view.unchanged));
        }
        if let Some(report) = report.stages.iter().find(|report| report.stage as usize == index) {
            merged(stage, report);
        }
    }
    status.thresholds = report
        .thresholds
        .iter()
        .map(|result| ThresholdStatus {
            name: fitted(&result.name, 128),
            observed: fitted(&words::observed(result), 64),
            limit: fitted(&words::limit(result), 64),
            result: match result.passed {
                Some(true) => "Passed",
                Some(false) => "Failed",
                None => "Unknown",
            }
            .to_owned(),
        })
        .collect();
    let measured = |report: &&StageReport| {
        let kind = plan.stages.get(report.stage as usize).map(|stage| &stage.kind);
        matches!(kind, Some(StageKind::Execute(execute)) if !execute.discard) && report.total.count > 0
    };
    if let Some(last) = report.stages.iter().rfind(measured) {
        let rates = (last.total.milli_operations_per_second / 1_000, last.total.bytes_per_second);
        status.throughput = Some(words::throughput(rates.0, rates.1));
    }
    status.skew = skew(view);
    let last =
        view.stages.iter().rfind(|stage| matches!(stage.facts.state, StageState::Done | StageState::Failed));
    if let (Some(last), Some(progress)) = (last, &mut status.progress) {
        progress.stage.clone_from(&last.name);
        if last.facts.state == StageState::Done {
            progress.done = progress.done.max(progress.total);
            (progress.percent, progress.summary) = (100, "100%".to_owned());
        }
    }
}

fn merged(stage: &mut StageStatus, report: &StageReport) {
    let total = &report.total;
    stage.operations = int(total.count);
    stage.bytes = int(total.bytes);
    stage.operations_per_second = int(total.milli_operations_per_second / 1_000);
    stage.bytes_per_second = int(total.bytes_per_second);
    stage.errors = int(total.error_count);
    stage.degraded |= !report.degraded.is_empty() || report.agents_complete < report.agents_planned;
    stage.client_bound = report.client_bound_agents > 0;
    stage.latency = report.operations.iter().filter_map(latency).collect();
}

/// Rounded up: response times never flatter.
fn micros(ns: u64) -> i64 {
    int(ns.div_ceil(1_000))
}

fn latency(row: &OpReport) -> Option<LatencyStatus> {
    let LatencyReport { count, mean_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = row.response?;
    Some(LatencyStatus {
        op: row.op?.name().to_owned(),
        count: int(count),
        mean_micros: micros(mean_ns),
        p50_micros: micros(p50_ns),
        p90_micros: micros(p90_ns),
        p99_micros: micros(p99_ns),
        p999_micros: micros(p999_ns),
        max_micros: micros(max_ns),
    })
}
