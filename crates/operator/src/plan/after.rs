//! A finished run: its pods by `cleanupPolicy`, its finalizer, its time to live.

use super::live::delete;
use super::observed::{Finished, Observed};
use super::step::{Action, Planned, Wait};
use jiff::{SignedDuration, Timestamp};
use lockstep_api::reasons::Reason;
use lockstep_api::spec::words::CleanupPolicy;
use std::time::Duration;

pub(super) fn plan(observed: &Observed<'_>, planned: &mut Planned) {
    let run = observed.run;
    let Some(finished) = run.finished else { return };
    let keeps = match run.cleanup {
        CleanupPolicy::Always => false,
        CleanupPolicy::OnSuccess => !finished.complete,
        CleanupPolicy::Never => true,
    };
    for pod in observed.pods.values() {
        if pod.may_live() {
            delete(planned, pod, "the run is over, and no agent outlives it");
        } else if !keeps {
            delete(planned, pod, &format!("cleanupPolicy is {:?}", run.cleanup));
        }
    }
    let living = observed.pods.values().filter(|pod| pod.may_live()).count();
    if living > 0 {
        planned.wait = Some(Wait::new(Reason::Waiting, format!("waiting for {living} agents to end")));
    } else if run.finalizer {
        planned.step(Action::RemoveCa, "no agent needs it any more");
        planned.step(Action::RemoveFinalizer, "no agent lives any more");
    }
    let due = run.ttl.and_then(|ttl| due(finished, ttl));
    match due {
        Some(due) if run.deleting || observed.now < due => {
            if !run.deleting {
                planned.look_again(due);
            }
        }
        Some(_) if living == 0 => planned.step(Action::DeleteRun, "ttlAfterFinished is over"),
        Some(_) | None => {}
    }
}

/// When a finished run is to be deleted; `None` when that is beyond all time.
#[must_use]
pub(super) fn due(finished: Finished, ttl: Duration) -> Option<Timestamp> {
    let ttl = SignedDuration::try_from(ttl).ok()?;
    finished.at.checked_add(ttl).ok()
}
