//! Outcome × verdict → conditions and exit code: the one table. The operator writes it, `lockstep` reads it, docs/status.md
//! shows it.
//!
//! | outcome | verdict | Complete | Failed | Finished | Passed | Ready | Stalled |
//! |---|---|---|---|---|---|---|---|
//! | Succeeded | Passed, None | True | False | True | True | True | – |
//! | Succeeded | Failed | False | True `ThresholdBreached` | True | False | False | True |
//! | Succeeded | Inconclusive | True | False | True | Unknown | True | – |
//! | Partial | Failed | False | True `ThresholdBreached` | True | False | False | True |
//! | Partial | any other | True | False | True | Unknown `Partial` | True | – |
//! | Failed | any | False | True | True | Unknown | False | True |
//! | Aborted | any | False | True `Aborted` | True | Unknown | False | True |
//!
//! Breaches that are only reported leave the verdict at Passed. `Stalled` is removed where it is not true (kstatus).

use crate::conditions::{self, ConditionType, Truth};
use crate::reasons::Reason;
use crate::status::BenchmarkRunStatus;
use lockstep_core::problem::exit;
use lockstep_core::thresholds::{Outcome, Verdict, exit_code};

/// What the conditions of a finished run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Final {
    /// `Complete`, and `Ready`: the run ended by itself and satisfies its policy.
    pub complete: bool,
    /// Reason of `Complete`, `Failed`, `Finished`, `Ready` and `Stalled`.
    pub reason: Reason,
    /// `Passed`.
    pub passed: Truth,
    /// Reason of `Passed`.
    pub passed_reason: Reason,
    /// `phase`: the outcome.
    pub phase: &'static str,
}

/// Every outcome, in the order of the table.
pub const OUTCOMES: [Outcome; 4] = [Outcome::Succeeded, Outcome::Partial, Outcome::Failed, Outcome::Aborted];

/// Every verdict of a finished run, in the order of the table.
pub const VERDICTS: [Verdict; 4] = [Verdict::Passed, Verdict::None, Verdict::Failed, Verdict::Inconclusive];

/// The outcome with this word for its phase; `None` while the run lasts, and of a phase that only a newer version knows.
#[must_use]
pub fn of_phase(phase: &str) -> Option<Outcome> {
    OUTCOMES
        .into_iter()
        .find(|outcome| conditions(*outcome, Verdict::None, Reason::StageFailed).phase == phase)
}

/// The exit code that a failed run asks for, by its reason: what `lockstep run` would have ended with. `began`: whether
/// it had put load on its target; what the target refuses before that is a refusal, later a failed stage.
#[must_use]
pub const fn failure_exit(reason: Reason, began: bool) -> u8 {
    match reason {
        Reason::ReadyTimeout | Reason::TargetUnreachable => exit::UNREACHABLE,
        Reason::SpecRejected
        | Reason::PodRejected
        | Reason::ReferenceNotFound
        | Reason::NameConflict
        | Reason::InvalidImageName
        | Reason::PreflightFailed
        | Reason::TargetOccupied => exit::REFUSED,
        Reason::TargetDenied | Reason::TargetFull if !began => exit::REFUSED,
        Reason::DeadlineExceeded => exit::DEADLINE,
        _ => exit::STAGE_FAILED,
    }
}

/// The exit code of a finished run, from its status alone; `None` while it is not finished. What a newer version calls
/// by a word that is not known here is judged by `Failed` and `Passed`.
#[must_use]
pub fn exit_code_of(status: &BenchmarkRunStatus) -> Option<u8> {
    let truth = |type_| conditions::truth(&status.conditions, type_);
    if truth(ConditionType::Finished) != Some(Truth::True) {
        return None;
    }
    let Some(outcome) = of_phase(&status.phase) else {
        let failed = truth(ConditionType::Failed) == Some(Truth::True);
        let passed = truth(ConditionType::Passed) == Some(Truth::True);
        return Some(match (failed, passed) {
            (true, _) => exit::STAGE_FAILED,
            (_, true) => exit::SUCCEEDED,
            _ => exit::VERDICT,
        });
    };
    let verdict = VERDICTS.into_iter().find(|verdict| verdict.name() == status.verdict);
    let failed = status.conditions.iter().find(|one| one.type_ == ConditionType::Failed.name());
    let reason = failed.and_then(|one| Reason::from_name(&one.reason)).unwrap_or(Reason::StageFailed);
    let began = truth(ConditionType::Started) == Some(Truth::True);
    Some(exit_code(outcome, verdict.unwrap_or(Verdict::Pending), failure_exit(reason, began)))
}

/// The conditions of an outcome with its verdict. `failure`: why it failed, where it did.
#[must_use]
pub const fn conditions(outcome: Outcome, verdict: Verdict, failure: Reason) -> Final {
    let (complete, reason, passed, passed_reason) = match (outcome, verdict) {
        (Outcome::Succeeded, Verdict::Passed) => (true, Reason::Completed, Truth::True, Reason::Passed),
        (Outcome::Succeeded, Verdict::None) => (true, Reason::Completed, Truth::True, Reason::NoThresholds),
        // A finished run whose verdict is pending was judged by nobody.
        (Outcome::Succeeded, Verdict::Inconclusive | Verdict::Pending) => {
            (true, Reason::Completed, Truth::Unknown, Reason::Inconclusive)
        }
        (Outcome::Succeeded | Outcome::Partial, Verdict::Failed) => {
            (false, Reason::ThresholdBreached, Truth::False, Reason::ThresholdBreached)
        }
        (Outcome::Partial, _) => (true, Reason::Partial, Truth::Unknown, Reason::Partial),
        (Outcome::Failed, _) => (false, failure, Truth::Unknown, failure),
        (Outcome::Aborted, _) => (false, Reason::Aborted, Truth::Unknown, Reason::Aborted),
    };
    Final { complete, reason, passed, passed_reason, phase: outcome.name() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_status_has_the_exit_code_of_its_outcome() {
        use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
        let status = |phase: &str, verdict: &str, types: &[(ConditionType, Reason)]| {
            let mut status = BenchmarkRunStatus {
                phase: phase.to_owned(),
                verdict: verdict.to_owned(),
                ..BenchmarkRunStatus::default()
            };
            let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
            for (type_, reason) in types {
                conditions::set(&mut status.conditions, *type_, Truth::True, *reason, "", 1, &now);
            }
            status
        };
        let (done, failed, started, passed) =
            (ConditionType::Finished, ConditionType::Failed, ConditionType::Started, ConditionType::Passed);
        use Reason::{Completed, DeadlineExceeded, ReadyTimeout, StageFailed, TargetDenied};
        for (phase, verdict, types, code) in [
            ("Running", "Pending", vec![], None),
            ("Succeeded", "Passed", vec![(done, Completed)], Some(0)),
            ("Succeeded", "None", vec![(done, Completed)], Some(0)),
            ("Succeeded", "Failed", vec![(done, Completed)], Some(7)),
            ("Succeeded", "Inconclusive", vec![(done, Completed)], Some(7)),
            ("Partial", "Failed", vec![(done, Completed)], Some(2)),
            ("Aborted", "None", vec![(done, Completed)], Some(3)),
            ("Failed", "None", vec![(done, Completed), (failed, StageFailed)], Some(1)),
            ("Failed", "None", vec![(done, Completed), (failed, ReadyTimeout)], Some(4)),
            ("Failed", "None", vec![(done, Completed), (failed, TargetDenied)], Some(5)),
            (
                "Failed",
                "None",
                vec![(done, Completed), (failed, TargetDenied), (started, Completed)],
                Some(1),
            ),
            ("Failed", "None", vec![(done, Completed), (failed, DeadlineExceeded)], Some(6)),
            ("Mended", "Better", vec![(done, Completed), (passed, Completed)], Some(0)),
            ("Mended", "Better", vec![(done, Completed)], Some(7)),
            ("Mended", "Better", vec![(done, Completed), (failed, StageFailed)], Some(1)),
        ] {
            assert_eq!(exit_code_of(&status(phase, verdict, &types)), code, "{phase} {verdict} {types:?}");
        }
    }

    #[test]
    fn every_cell_of_the_table() {
        use Outcome::{Aborted, Failed, Partial, Succeeded};
        use Truth::{False, True, Unknown};
        let check = |outcome, verdicts: &[Verdict], complete, passed, reason| {
            for verdict in verdicts {
                let row = conditions(outcome, *verdict, Reason::AgentLost);
                assert_eq!(
                    (row.complete, row.passed, row.reason),
                    (complete, passed, reason),
                    "{outcome:?} {verdict:?}"
                );
                assert_eq!(row.phase, format!("{outcome:?}"));
            }
        };
        let all = [Verdict::Pending, Verdict::Passed, Verdict::Failed, Verdict::Inconclusive, Verdict::None];
        check(Succeeded, &[Verdict::Passed, Verdict::None], true, True, Reason::Completed);
        check(Succeeded, &[Verdict::Failed], false, False, Reason::ThresholdBreached);
        check(Succeeded, &[Verdict::Inconclusive, Verdict::Pending], true, Unknown, Reason::Completed);
        check(Partial, &[Verdict::Failed], false, False, Reason::ThresholdBreached);
        check(
            Partial,
            &[Verdict::None, Verdict::Inconclusive, Verdict::Passed],
            true,
            Unknown,
            Reason::Partial,
        );
        check(Failed, &all, false, Unknown, Reason::AgentLost);
        check(Aborted, &all, false, Unknown, Reason::Aborted);
    }
}
