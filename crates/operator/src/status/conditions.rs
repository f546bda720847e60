//! The conditions of a run, at every point of its life.
//!
//! While it lasts, only what is known is set: `kubectl wait` waits for a condition that is not there. `Degraded` stays once
//! it is true. The conditions of a finished run are the table of [`lockstep_api::outcome`].

use super::{Picture, Published, Stand, agents, reason, words};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use lockstep_api::conditions::{ConditionType, Truth, set, truth};
use lockstep_api::outcome;
use lockstep_api::reasons::Reason;
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_core::run::view::RunView;
use lockstep_core::thresholds::Verdict;

/// What sets conditions of one status.
struct Setter<'a, 'p> {
    conditions: &'a mut Vec<Condition>,
    picture: &'a Picture<'p>,
}

impl Setter<'_, '_> {
    fn set(&mut self, type_: ConditionType, truth: Truth, reason: Reason, message: &str) {
        let now = super::seconds(self.picture.now);
        set(self.conditions, type_, truth, reason, message, self.picture.generation, &now);
    }

    fn is_true(&self, type_: ConditionType) -> bool {
        truth(self.conditions, type_) == Some(Truth::True)
    }
}

/// Conditions that outlive an attempt of the run.
pub(super) fn of_all_attempts(conditions: Vec<Condition>) -> Vec<Condition> {
    let keeps = [ConditionType::Accepted, ConditionType::Suspended];
    conditions.into_iter().filter(|one| keeps.iter().any(|type_| type_.name() == one.type_)).collect()
}

/// Fills the conditions.
pub(super) fn fill(status: &mut BenchmarkRunStatus, picture: &Picture<'_>) {
    let message = status.message.clone();
    let phase = status.phase.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut setter = Setter { conditions: &mut conditions, picture };
    accepted(&mut setter);
    suspended(&mut setter);
    if let Some(view) = agents::view(picture) {
        under_way(&mut setter, view);
    } else if matches!(picture.stand, Stand::Waiting) {
        let reason = picture.wait.map_or(Reason::Waiting, |wait| wait.reason);
        setter.set(ConditionType::AgentsReady, Truth::False, reason, &message);
    }
    match picture.stand {
        Stand::Over { view, report, results, .. } if !picture.run.is_suspended_attempt() => {
            let failure = reason::of(report.problems.first(), view);
            let row = outcome::conditions(report.outcome, report.verdict, failure);
            // A partial result says more than what the decider saw while it lasted.
            degraded(&mut setter, &report.degraded);
            published(&mut setter, results);
            match results {
                Published::Writing => going(&mut setter, Reason::Collecting, &message),
                Published::Done(_) | Published::Failed(_) => finished(&mut setter, row, &message),
            }
        }
        Stand::Concluded(conclusion) => {
            let row = outcome::conditions(conclusion.outcome, Verdict::None, conclusion.reason);
            finished(&mut setter, row, &message);
        }
        _ if picture.run.is_suspended_attempt() && phase == "Suspended" => held(&mut setter),
        _ => going(&mut setter, reason_of_phase(&phase), &message),
    }
    for one in &mut conditions {
        one.observed_generation = Some(picture.generation);
    }
    // In one order, so that a write that changes nothing is the same.
    conditions.sort_by_key(|one| ConditionType::ALL.iter().position(|type_| type_.name() == one.type_));
    status.conditions = conditions;
}

/// A finished run: edits are acknowledged, and nothing else changes.
pub(super) fn follow(mut status: BenchmarkRunStatus, picture: &Picture<'_>) -> BenchmarkRunStatus {
    for condition in &mut status.conditions {
        condition.observed_generation = Some(picture.generation);
    }
    status
}

fn accepted(setter: &mut Setter<'_, '_>) {
    match setter.picture.stand {
        Stand::Unseen | Stand::Finished => {}
        Stand::Concluded(conclusion)
            if matches!(
                conclusion.reason,
                Reason::SpecRejected | Reason::PodRejected | Reason::NameConflict
            ) =>
        {
            let message = format!("{}: {}", conclusion.problem.what, conclusion.problem.cause);
            setter.set(ConditionType::Accepted, Truth::False, conclusion.reason, &message);
        }
        // Until admission is heard, and then for good.
        Stand::Waiting if setter.picture.unjudged && !setter.is_true(ConditionType::Accepted) => {}
        _ => setter.set(
            ConditionType::Accepted,
            Truth::True,
            Reason::Accepted,
            "the spec is resolved, and the plan stands",
        ),
    }
}

fn suspended(setter: &mut Setter<'_, '_>) {
    if setter.picture.run.suspend {
        setter.set(ConditionType::Suspended, Truth::True, Reason::Suspended, "spec.suspend holds the run");
    } else if setter.is_true(ConditionType::Suspended) && matches!(setter.picture.stand, Stand::Waiting) {
        // True until the next attempt has its number: the planner reads it.
        if setter.picture.run.names.is_empty() {
            setter.set(ConditionType::Suspended, Truth::False, Reason::Resumed, "spec.suspend was lifted");
        }
    }
}

/// What is known of a run that has begun.
fn under_way(setter: &mut Setter<'_, '_>, view: &RunView) {
    let counts = agents::counts(setter.picture);
    let gathered =
        view.stages.first().and_then(|preflight| preflight.facts.ended_ns).is_some() && view.stage != Some(0);
    let ready = format!("{} of {} agents are ready", counts.ready, counts.desired);
    if gathered {
        setter.set(
            ConditionType::AgentsReady,
            Truth::True,
            Reason::AgentsReady,
            "the quorum joined and is prepared",
        );
    } else if !setter.is_true(ConditionType::AgentsReady) {
        let worst = agents::problems(setter.picture).0.into_iter().next();
        let reason =
            worst.as_ref().and_then(|worst| Reason::from_name(&worst.reason)).unwrap_or(Reason::Preflight);
        let message = worst.map_or_else(
            || ready.clone(),
            |worst| format!("{ready}; agent {}: {}", worst.index, worst.message),
        );
        setter.set(ConditionType::AgentsReady, Truth::False, reason, &message);
    }
    let armed = view.stages.iter().find(|stage| stage.facts.skew_ns.is_some());
    let begun = view
        .stages
        .iter()
        .skip(1)
        .any(|stage| stage.facts.ended_ns.is_some() || stage.facts.planned_start_ns.is_some());
    if let Some(stage) = armed {
        let facts = &stage.facts;
        let message = format!(
            "{} started on {} agents, skew {} +- {}",
            stage.name,
            facts.agents,
            words::time(facts.skew_ns.unwrap_or_default()),
            words::time(facts.clock_error_ns)
        );
        setter.set(ConditionType::Started, Truth::True, Reason::Started, &message);
    } else if begun {
        setter.set(ConditionType::Started, Truth::True, Reason::Started, "the first stage has started");
    }
    degraded(setter, &view.degraded);
}

/// Something is missing or doubtful. Never set back: a result must not hide it.
fn degraded(setter: &mut Setter<'_, '_>, why: &[String]) {
    if let Some(first) = why.first() {
        let message = match why.len() {
            1 => first.clone(),
            more => format!("{first}; and {} more", more - 1),
        };
        setter.set(ConditionType::Degraded, Truth::True, Reason::Degraded, &message);
    }
}

fn published(setter: &mut Setter<'_, '_>, results: &Published) {
    let type_ = ConditionType::ResultsPublished;
    match results {
        Published::Writing => {
            setter.set(type_, Truth::False, Reason::Collecting, "results are being written");
        }
        Published::Done(_) => {
            setter.set(type_, Truth::True, Reason::ResultsPublished, "results are where they belong");
        }
        Published::Failed(problem) => {
            let message = format!("{}: {}", problem.what, problem.cause);
            setter.set(type_, Truth::False, Reason::ResultsFailed, &message);
            setter.set(ConditionType::Degraded, Truth::True, Reason::ResultsFailed, &message);
        }
    }
}

fn finished(setter: &mut Setter<'_, '_>, row: outcome::Final, message: &str) {
    let outcome::Final { complete, reason, passed, passed_reason, phase: _ } = row;
    let (yes, no) = if complete { (Truth::True, Truth::False) } else { (Truth::False, Truth::True) };
    setter.set(ConditionType::Complete, yes, reason, message);
    setter.set(ConditionType::Failed, no, reason, message);
    setter.set(ConditionType::Passed, passed, passed_reason, message);
    setter.set(ConditionType::Reconciling, Truth::False, reason, message);
    setter.set(ConditionType::Stalled, no, reason, message);
    setter.set(ConditionType::Ready, yes, reason, message);
    setter.set(ConditionType::Finished, Truth::True, reason, message);
}

/// Under way: kstatus says InProgress.
fn going(setter: &mut Setter<'_, '_>, reason: Reason, message: &str) {
    setter.set(ConditionType::Reconciling, Truth::True, reason, message);
    setter.set(ConditionType::Ready, Truth::Unknown, reason, message);
}

/// Held: nothing is under way, and nothing is ready.
fn held(setter: &mut Setter<'_, '_>) {
    let message = "spec.suspend holds the run";
    setter.set(ConditionType::Reconciling, Truth::False, Reason::Suspended, message);
    setter.set(ConditionType::Ready, Truth::False, Reason::Suspended, message);
}

fn reason_of_phase(phase: &str) -> Reason {
    match phase {
        "Scheduling" => Reason::Scheduling,
        "Preflight" => Reason::Preflight,
        "Preparing" => Reason::Preparing,
        "Running" => Reason::Running,
        "CleaningUp" => Reason::CleaningUp,
        "Collecting" => Reason::Collecting,
        _ => Reason::Waiting,
    }
}
