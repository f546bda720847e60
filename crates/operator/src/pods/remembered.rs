//! What was wrong with the pod of each agent when it was last looked at: kept for the end of the run.
//!
//! When a run has failed its pods are on their way out, and only say that they were asked to go. What kept them before is
//! what a person has to know, so it is remembered here and said with the loss that ended the run. Deliberately bounded: one
//! trouble per index.

use super::build::RunIdentity;
use super::facts::Seat;
use super::trouble::{Trouble, Weight};
use lockstep_api::reasons::Reason;
use lockstep_core::problem::Problem;
use std::collections::BTreeMap;

/// The last trouble of each index, with its attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remembered(BTreeMap<u32, (u32, Trouble)>);

impl Remembered {
    /// Takes in what is seen now. `is_up`: whether an attempt has come up, so that what kept it before is over.
    pub fn note(&mut self, troubles: &BTreeMap<Seat, Trouble>, is_up: impl Fn(Seat) -> bool) {
        self.0.retain(|index, (attempt, trouble)| {
            trouble.weight == Weight::Ended || !is_up((*index, *attempt))
        });
        for (&(index, attempt), trouble) in troubles {
            let known = self.0.get(&index);
            // A pod that waited and is asked to go has not changed its mind.
            let tells_less = trouble.reason == Reason::PodDeleted && known.is_some();
            if !tells_less && known.is_none_or(|(before, _)| *before <= attempt) {
                self.0.insert(index, (attempt, trouble.clone()));
            }
        }
    }

    /// Says with the loss of an agent what is known of its pod, and what to do about that. There is no results directory
    /// here, which the decider's next steps may name.
    pub fn explain(&self, run: &RunIdentity, problem: &mut Problem) {
        problem.next.retain(|next| !next.contains("results directory"));
        let Some(index) = problem.agent else { return };
        let Some((_, trouble)) = self.0.get(&index) else {
            let RunIdentity { namespace, name, uid: _ } = run;
            problem.next.insert(
                0,
                format!("kubectl get events -n {namespace} --sort-by=.lastTimestamp | grep {name}-{index}-"),
            );
            return;
        };
        let known = &trouble.problem;
        if !problem.cause.contains(&known.cause) {
            problem.cause = format!("{}; {}: {}: {}", problem.cause, known.what, trouble.reason, known.cause);
        }
        problem.likely.clone_from(&known.likely);
        let rest = std::mem::take(&mut problem.next);
        problem.next.clone_from(&known.next);
        problem.next.extend(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(reason: Reason, weight: Weight) -> Trouble {
        let problem =
            Problem::new("agent 1 (pod nightly-1-0) does not get started", format!("{reason} it is"));
        Trouble { reason, problem: problem.next("look").likely("so"), weight }
    }

    fn explained(remembered: &Remembered) -> Problem {
        let run = RunIdentity { namespace: "perf".into(), name: "nightly".into(), uid: "u".into() };
        let mut problem = Problem::new("run nightly stopped: agent 1 of 2 was lost", "no hello").agent(1);
        remembered.explain(&run, &mut problem);
        problem
    }

    #[test]
    fn what_kept_a_pod_is_said_when_it_is_gone() {
        let mut remembered = Remembered::default();
        assert!(explained(&remembered).next[0].contains("nightly-1-"));
        for reason in [Reason::ImagePullFailed, Reason::PodDeleted] {
            remembered.note(&[((1, 0), trouble(reason, Weight::Waits))].into(), |_| false);
        }
        let problem = explained(&remembered);
        assert!(problem.cause.contains("ImagePullFailed it is") && !problem.cause.contains("PodDeleted"));
        assert_eq!((problem.next[0].as_str(), problem.likely.len()), ("look", 1));
        remembered.note(&[((1, 1), trouble(Reason::Unschedulable, Weight::Waits))].into(), |_| false);
        remembered.note(&[((1, 0), trouble(Reason::NoHello, Weight::Waits))].into(), |_| false);
        assert!(explained(&remembered).cause.contains("Unschedulable"), "the last attempt counts");
    }

    #[test]
    fn what_is_over_is_forgotten_but_not_how_an_agent_ended() {
        let mut remembered = Remembered::default();
        remembered.note(&[((1, 0), trouble(Reason::NoHello, Weight::Waits))].into(), |_| false);
        remembered.note(&BTreeMap::new(), |_| true);
        assert_eq!(remembered, Remembered::default());
        remembered.note(&[((1, 0), trouble(Reason::OOMKilled, Weight::Ended))].into(), |_| true);
        remembered.note(&BTreeMap::new(), |_| true);
        assert!(explained(&remembered).cause.contains("OOMKilled"));
    }
}
