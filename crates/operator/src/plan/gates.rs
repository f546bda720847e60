//! What stands before a run's first pod: whose it is, what admission says to its pods, its exclusive group, the
//! installation's caps.

use super::live;
use super::observed::{Observed, OtherRun, Trial};
use super::step::{Action, Conclusion, Planned, Wait};
use jiff::SignedDuration;
use lockstep_api::reasons::Reason;
use lockstep_core::thresholds::Outcome;

/// Why the run is none of our business; `None` when it is ours, or nobody's yet.
pub(super) fn somebody_elses(observed: &Observed<'_>) -> Option<Wait> {
    let (run, ours) = (observed.run, &observed.installation.managed_by);
    if run.managed_by != *ours {
        return Some(Wait::new(Reason::Waiting, format!("managed by {}", run.managed_by)));
    }
    let claimed = run.controller.as_ref().filter(|claimed| **claimed != observed.installation.claim());
    claimed.map(|claimed| Wait::new(Reason::Waiting, format!("claimed by {claimed}")))
}

/// Whether the run may have pods now.
pub(super) fn pass(observed: &Observed<'_>, planned: &mut Planned) -> bool {
    let run = observed.run;
    if run.controller.is_none() {
        planned.step(Action::Claim, "the run is ours, and nobody has claimed it");
        return false;
    }
    if run.suspended && !resume(observed, planned) {
        return false;
    }
    // A run that has passed once holds its place.
    if !run.names.is_empty() {
        return true;
    }
    if !accepted(observed, planned) {
        return false;
    }
    planned.wait = exclusive(observed).or_else(|| cap(observed));
    planned.wait.is_none()
}

/// Whether the API server would take the run's pods, as far as it can tell without making one. What it denies is refused
/// before anything is made for it.
fn accepted(observed: &Observed<'_>, planned: &mut Planned) -> bool {
    match observed.trial {
        Trial::Passed => return true,
        Trial::Refused(reason, problem) => {
            let conclusion =
                Conclusion { outcome: Outcome::Failed, reason: *reason, problem: problem.clone() };
            planned.step(Action::Conclude(Box::new(conclusion)), "admission denies its pods");
            return false;
        }
        Trial::Again(at) => {
            let due = at.saturating_add(SignedDuration::from_secs(live::RETRY_S)).unwrap_or(*at);
            if observed.now < due {
                let message =
                    "the API server has troubles of its own, and cannot say whether it takes the run's pods";
                planned.wait = Some(Wait::new(Reason::Waiting, message));
                planned.look_again(due);
            } else {
                planned.step(Action::TryPod, "the API server could not say whether it takes the run's pods");
            }
        }
        Trial::Untried => planned.step(Action::TryPod, "the run is accepted when admission takes its pods"),
    }
    planned.unjudged = true;
    false
}

/// Resuming begins a new attempt, once nothing of the last one is left.
fn resume(observed: &Observed<'_>, planned: &mut Planned) -> bool {
    let run = observed.run;
    if run.names.is_empty() {
        return true;
    }
    if observed.pods.is_empty() {
        let attempt = run.run_attempt + 1;
        planned.memory.forget_pods();
        planned
            .step(Action::NextAttempt { attempt }, format!("resumed: attempt {attempt} of the run begins"));
    } else {
        let left = observed.pods.len();
        live::delete_all(observed, planned, "it is of the attempt before");
        planned.wait =
            Some(Wait::new(Reason::Waiting, format!("waiting for {left} pods of the attempt before to go")));
    }
    false
}

fn exclusive(observed: &Observed<'_>) -> Option<Wait> {
    let group = observed.run.group.as_ref()?;
    let before = |other: &&OtherRun| {
        other.group.as_ref() == Some(group) && (other.active || (other.eager && is_older(other, observed)))
    };
    let other = observed.others.iter().filter(before).min_by_key(|other| (!other.active, other.created))?;
    let does = if other.active { "is under way" } else { "came first" };
    let message =
        format!("waiting for run {}/{} of group {group}, which {does}", other.namespace, other.name);
    Some(Wait::new(Reason::WaitingForExclusive, message))
}

fn cap(observed: &Observed<'_>) -> Option<Wait> {
    let max = observed.installation.runs_per_namespace_max;
    let namespace = &observed.run.identity.namespace;
    let here = |other: &&OtherRun| other.namespace == *namespace;
    let active = observed.others.iter().filter(here).filter(|other| other.active).count();
    let older = observed
        .others
        .iter()
        .filter(here)
        .filter(|other| !other.active && other.eager && is_older(other, observed))
        .count();
    (max > 0 && active + older >= max as usize).then(|| {
        let message =
            format!("{active} runs are under way in {namespace}, and this installation allows {max}");
        Wait::new(Reason::WaitingForQuota, message)
    })
}

/// Whether another run was created before this one; names decide between runs of the same second.
pub(super) fn is_older(other: &OtherRun, observed: &Observed<'_>) -> bool {
    let run = observed.run;
    let mine = (run.created, &run.identity.namespace, &run.identity.name);
    (other.created, &other.namespace, &other.name) < mine
}
