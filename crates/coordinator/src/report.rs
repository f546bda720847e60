//! From a run's end to its report. Pure: what was found in a results directory goes the same way.

use crate::host::RunEnd;
use lockstep_core::plan::{Objection, StageKind, StagePlan};
use lockstep_core::problem::exit;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::report::{Report, ReportInputs, RunFacts, StageInput, TimelineEvent};
use lockstep_core::results::stage::StageFacts;
use lockstep_core::run::view::StageView;

/// Wall times of a run, as the host's clock showed them (RFC 3339).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WallTimes {
    /// When it began.
    pub started: String,
    /// When it was over.
    pub finished: String,
}

/// The report of a run. `version`: of the program that ran it.
#[must_use]
pub fn build(end: &RunEnd, times: &WallTimes, version: &str) -> Report {
    let facts: Vec<StageFacts> =
        (0u32..).zip(&end.plan.stages).map(|(index, stage)| facts(end, index, stage)).collect();
    let stages: Vec<StageInput<'_>> = facts
        .iter()
        .map(|facts| StageInput { facts, parts: &end.parts, live: end.series.get(&facts.stage) })
        .collect();
    let prepares = end.plan.stages.iter().any(|stage| matches!(stage.kind, StageKind::Prepare { .. }));
    let mut degraded = end.story.degraded.clone();
    degraded.extend(end.story.partial.iter().cloned());
    let mut problems: Vec<_> = end.story.failure.iter().cloned().collect();
    problems
        .extend(end.story.faults.iter().filter(|fault| Some(*fault) != end.story.failure.as_ref()).cloned());
    let run = &end.plan.run;
    Report::build(ReportInputs {
        run: RunFacts {
            name: run.name.clone(),
            uid: run.uid.clone(),
            seed: end.plan.dataset.seed,
            attempt: run.attempt,
            version: version.to_owned(),
            target_uri: end.plan.target.uri.clone(),
            replicas: end.plan.replicas,
            started: times.started.clone(),
            finished: times.finished.clone(),
        },
        outcome: end.outcome,
        failure_exit: end.story.failure.as_ref().map_or(exit::STAGE_FAILED, |problem| problem.exit),
        in_doubt: is_in_doubt(end),
        degraded,
        thresholds: &end.plan.thresholds,
        objects_planned: prepares.then(|| end.plan.objects_in_all()),
        stages: &stages,
        timeline: timeline(end),
        problems,
    })
}

fn facts(end: &RunEnd, index: u32, stage: &StagePlan) -> StageFacts {
    let view: Option<&StageView> = end.view.stages.get(index as usize);
    let known = view.map(|view| view.facts.clone()).unwrap_or_default();
    let window = stage.kind.execute().and_then(|execute| execute.duration);
    let skewed = known.skew_ns.filter(|skew_ns| u128::from(*skew_ns) > end.plan.start.max_skew.as_nanos());
    StageFacts {
        stage: index,
        name: stage.name.clone(),
        kind: stage.kind.name().to_owned(),
        state: known.state.name().to_owned(),
        discard: stage.kind.is_discard(),
        agents_planned: end.plan.replicas,
        planned_start: None,
        window_ns: window.map(|window| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX)),
        skew_ns: known.skew_ns,
        clock_error_ns: known.planned_start_ns.map(|_| known.clock_error_ns),
        rearmed: known.rearmed,
        degraded: skewed.map(|_| "skew above maxSkew".to_owned()).into_iter().collect(),
    }
}

/// Whether what was measured may not be trusted, where the plan says that this matters.
fn is_in_doubt(end: &RunEnd) -> bool {
    let start = &end.plan.start;
    let skewed = end.view.stages.iter().any(|stage| {
        stage.facts.skew_ns.is_some_and(|skew_ns| u128::from(skew_ns) > start.max_skew.as_nanos())
    });
    let measured = |part: &StagePart| {
        end.plan
            .stages
            .get(part.stage as usize)
            .is_some_and(|stage| stage.kind.execute().is_some() && !stage.kind.is_discard())
    };
    let bound = end.parts.iter().any(|part| measured(part) && part.client.client_bound.is_some());
    (skewed && start.on_skew == Objection::Inconclusive)
        || (bound && start.on_client_bound == Objection::Inconclusive)
}

fn timeline(end: &RunEnd) -> Vec<TimelineEvent> {
    let since_begin_ms = |at_ns: u64| at_ns.saturating_sub(end.story.began_ns) / 1_000_000;
    end.story
        .timeline
        .iter()
        .map(|told| TimelineEvent {
            at_ms: since_begin_ms(told.at_ns),
            since_ms: told.since_ns.map(since_begin_ms),
            agent: told.agent.map(|(index, _)| index),
            what: told.what.clone().into_owned(),
            reason: told.reason.clone(),
        })
        .collect()
}
