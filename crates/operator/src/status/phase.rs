//! Phase, verdict and message: where the run stands, in one word each and one sentence. For people; tools read
//! conditions.

use super::{Picture, Published, Stand, agents, fitted, reason, words};
use crate::plan::Wait;
use lockstep_api::outcome;
use lockstep_api::reasons::Reason;
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_core::plan::StageKind;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::Report;
use lockstep_core::thresholds::{Outcome, Verdict};

/// Fills phase, verdict and message.
pub(super) fn fill(status: &mut BenchmarkRunStatus, picture: &Picture<'_>) {
    status.verdict = match picture.stand {
        Stand::Over { report, results: Published::Done(_) | Published::Failed(_), .. }
            if !picture.run.is_suspended_attempt() =>
        {
            report.verdict.name()
        }
        Stand::Concluded(_) => Verdict::None.name(),
        _ => "Pending",
    }
    .to_owned();
    status.phase = phase(picture).to_owned();
    status.message = fitted(&message(picture, &status.phase), 1_024);
}

/// The phase; see design: derived, for people.
#[must_use]
pub fn phase(picture: &Picture<'_>) -> &'static str {
    let suspended = picture.run.is_suspended_attempt();
    match picture.stand {
        Stand::Unseen => "Pending",
        Stand::Waiting | Stand::Over { .. } if suspended => "Suspended",
        Stand::Waiting => match picture.wait.map(|wait| wait.reason) {
            None | Some(Reason::Scheduling) => "Scheduling",
            Some(
                Reason::WaitingForExclusive
                | Reason::WaitingForQuota
                | Reason::WaitingForRoom
                | Reason::Waiting,
            ) => "Waiting",
            Some(_) => "Scheduling",
        },
        Stand::Live { plan, snapshot } => {
            let stage = snapshot.view.stage.and_then(|stage| plan.stages.get(stage as usize));
            match stage.map(|stage| &stage.kind) {
                Some(StageKind::Preflight) => "Preflight",
                Some(StageKind::Prepare { .. }) => "Preparing",
                Some(StageKind::Execute(_)) => "Running",
                Some(StageKind::Cleanup { .. }) => "CleaningUp",
                None => "Collecting",
            }
        }
        Stand::Over { results: Published::Writing, .. } => "Collecting",
        Stand::Over { view, report, .. } => {
            outcome::conditions(report.outcome, report.verdict, reason::of(report.problems.first(), view))
                .phase
        }
        Stand::Concluded(conclusion) => {
            outcome::conditions(conclusion.outcome, Verdict::None, conclusion.reason).phase
        }
        Stand::Finished => "",
    }
}

fn message(picture: &Picture<'_>, phase: &str) -> String {
    let waits = |wait: &Wait| match &wait.problem {
        Some(problem) => with_next(&wait.message, problem),
        None => wait.message.clone(),
    };
    match picture.stand {
        Stand::Unseen => "nobody has looked at the run yet".to_owned(),
        Stand::Waiting => picture.wait.map_or_else(|| "pods are being made".to_owned(), waits),
        Stand::Live { plan, snapshot } => {
            let counts = agents::counts(picture);
            let stage = snapshot.view.stage.and_then(|stage| Some((stage, plan.stages.get(stage as usize)?)));
            let place = stage.map_or_else(
                || if snapshot.view.aborting { "stopping".to_owned() } else { "finishing".to_owned() },
                |(index, stage)| format!("stage {} ({} of {})", stage.name, index + 1, plan.stages.len()),
            );
            let mut text = format!("{place}, {} of {} agents ready", counts.ready, counts.desired);
            if let Some(worst) = agents::problems(picture).0.first() {
                let said = worst.message.starts_with(&worst.reason);
                let reason = if said { String::new() } else { format!("{}: ", worst.reason) };
                text = format!("{text}; agent {}: {reason}{}", worst.index, worst.message);
            }
            match picture.wait {
                Some(wait) => format!("{}; {text}", wait.message),
                None => text,
            }
        }
        Stand::Over { .. } if phase == "Suspended" => {
            "suspended; what was measured is in the results".to_owned()
        }
        Stand::Over { results: Published::Writing, .. } => {
            "the run is over, and its results are being written".to_owned()
        }
        Stand::Over { report, .. } => finished(report, picture.run.stop_reason.as_deref()),
        Stand::Concluded(conclusion) => with_next(
            &format!("{}: {}", conclusion.problem.what, conclusion.problem.cause),
            &conclusion.problem,
        ),
        Stand::Finished => String::new(),
    }
}

fn finished(report: &Report, stop_reason: Option<&str>) -> String {
    match report.problems.first() {
        Some(problem) if report.exit_code != exit::SUCCEEDED => {
            with_next(&format!("{}: {}", problem.what, problem.cause), problem)
        }
        _ => {
            let stopped = match (report.outcome, stop_reason) {
                (Outcome::Aborted, Some(why)) => format!("stopped on request ({why}); "),
                (Outcome::Aborted, None) => "stopped on request; ".to_owned(),
                _ => String::new(),
            };
            let breaches: Vec<_> = report.thresholds.iter().filter(|one| one.passed == Some(false)).collect();
            let breached = match &breaches[..] {
                [] => String::new(),
                [first, rest @ ..] => {
                    let more =
                        if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
                    let (observed, limit) = (words::observed(first), words::limit(first));
                    format!(
                        "threshold {} is breached: {observed}, and it is to be {limit}{more}; ",
                        first.name
                    )
                }
            };
            let doubts = match report.degraded.first() {
                Some(first) if report.degraded.len() > 1 => {
                    format!("; {first}, and {} more", report.degraded.len() - 1)
                }
                Some(first) => format!("; {first}"),
                None => String::new(),
            };
            format!("{stopped}{breached}{} of {} stages done{doubts}", done(report), report.stages.len())
        }
    }
}

fn done(report: &Report) -> usize {
    report.stages.iter().filter(|stage| stage.state == "Done").count()
}

fn with_next(text: &str, problem: &Problem) -> String {
    match problem.next.first() {
        Some(next) => format!("{text}; next: {next}"),
        None => text.to_owned(),
    }
}
