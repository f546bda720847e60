//! Outcome × verdict → conditions: the one table.
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

use lockstep_api::conditions::Truth;
use lockstep_api::reasons::Reason;
use lockstep_core::thresholds::{Outcome, Verdict};

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

/// The conditions of an outcome with its verdict. `failure`: why it failed, where it did.
#[must_use]
pub const fn conditions(outcome: Outcome, verdict: Verdict, failure: Reason) -> Final {
    let phase = match outcome {
        Outcome::Succeeded => "Succeeded",
        Outcome::Partial => "Partial",
        Outcome::Failed => "Failed",
        Outcome::Aborted => "Aborted",
    };
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
    Final { complete, reason, passed, passed_reason, phase }
}

#[cfg(test)]
mod tests {
    use super::*;

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
