//! A run that is to end: deleted, suspended or stopped.
//!
//! One path: the decider is asked to stop, and carries out its own abort; a run that never began just gives its pods back.
//! Needs no create, so it also works in a namespace that is going.

use super::decider::Decider;
use super::live;
use super::observed::Observed;
use super::step::{Action, Conclusion, Planned, Wait};
use crate::pods::facts::PodFacts;
use lockstep_api::reasons::Reason;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::run::message::Stop;
use lockstep_core::thresholds::Outcome;

pub(super) fn plan(observed: &Observed<'_>, planned: &mut Planned) {
    let living = observed.pods.values().any(PodFacts::may_live);
    match observed.decider {
        // Its agents ended by themselves while nobody was there; there is nothing left to take over.
        Decider::TakingOver if observed.run.deleting && !living => nothing_runs(observed, planned),
        Decider::TakingOver => planned.wait = Some(Wait::taking_over()),
        Decider::Live { stopped, .. } => {
            let (stop, why) = asked(observed);
            if stopped.is_none_or(|before| before < stop) {
                planned.step(Action::Stop(stop), why.clone());
            }
            // Until it is over, what it wishes is carried out: a cleanup may follow.
            live::plan(observed, planned);
            planned.wait = Some(Wait::new(Reason::Aborted, format!("stopping: {why}")));
        }
        // A suspended attempt has no outcome to write, so there is nothing to wait for.
        Decider::Over if !observed.run.is_suspended_attempt() => planned.wait = Some(Wait::collecting()),
        Decider::Over | Decider::Absent => nothing_runs(observed, planned),
    }
}

/// How hard to stop, and why. Of several wishes the hardest counts.
fn asked(observed: &Observed<'_>) -> (Stop, String) {
    let run = observed.run;
    let stop = run.stop.map(|stop| {
        let why = run.stop_reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        (stop, format!("spec.stop asks for it{why}"))
    });
    // What lies at the target serves the next attempt, so a suspended run cleans nothing up.
    let suspend = run.suspend.then(|| (Stop::Immediate, "the run is suspended".to_owned()));
    let delete = run.deleting.then(|| (Stop::Graceful, "the run is deleted".to_owned()));
    [suspend, stop, delete]
        .into_iter()
        .flatten()
        .max_by_key(|(stop, _)| *stop)
        .unwrap_or((Stop::Graceful, String::new()))
}

fn nothing_runs(observed: &Observed<'_>, planned: &mut Planned) {
    let run = observed.run;
    live::delete_all(observed, planned, "the run does not go on");
    let living = observed.pods.values().filter(|pod| pod.may_live()).count();
    // A run that ends here is finished before it is let go: until then it counts as one that was left.
    let concludes = !run.deleting && !run.suspend && run.stop.is_some();
    if living > 0 {
        planned.wait = Some(Wait::new(Reason::Waiting, format!("waiting for {living} agents to end")));
    } else if run.finalizer && !concludes {
        planned.step(Action::RemoveCa, "no agent needs it any more");
        planned.step(Action::RemoveFinalizer, "no agent lives any more");
    }
    if run.deleting {
        return;
    }
    if concludes {
        let cause = run.stop_reason.clone().unwrap_or_else(|| "spec.stop asks for it".to_owned());
        let what = format!("run {} was stopped before it began", run.identity.name);
        let problem = Problem::new(what, cause).kept("nothing was measured").exit(exit::ABORTED);
        let conclusion = Conclusion { outcome: Outcome::Aborted, reason: Reason::Aborted, problem };
        if run.controller.is_none() {
            planned.step(Action::Claim, "the run is ours, and nobody has claimed it");
        } else if living == 0 {
            planned.step(Action::Conclude(Box::new(conclusion)), "there is nothing to wait for");
        }
    } else if living == 0 {
        planned.wait = Some(Wait::new(Reason::Suspended, "spec.suspend holds the run"));
    }
}
