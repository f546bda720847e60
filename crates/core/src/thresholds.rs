//! Judging a run: thresholds against a stage's merged results, and from outcome and verdict to the exit code.
//!
//! Everything is compared as integers in the unit of the [`Metric`]. Rounding never flatters: rates are rounded
//! down, the share of errors up. Deliberately knows nothing of agents, clocks or Kubernetes.

use crate::op::Op;
use crate::plan::{Limit, Metric, OnBreach, Threshold};
use crate::problem::exit;
use crate::results::stage::{LatencyReport, OpReport, StageReport};
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// All that counts was done.
    Succeeded,
    /// A stage that counts lacks part of an agent's window.
    Partial,
    /// A stage failed or the policy gave up.
    Failed,
    /// Stopped by a person.
    Aborted,
}

impl Outcome {
    /// Its name in status and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::Partial => "Partial",
            Self::Failed => "Failed",
            Self::Aborted => "Aborted",
        }
    }
}

/// What the thresholds say of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// The run is not over.
    #[default]
    Pending,
    /// No threshold that counts was breached.
    Passed,
    /// One that counts was breached.
    Failed,
    /// The measurement is in doubt, or a threshold had nothing to look at.
    Inconclusive,
    /// There are no thresholds, or the run was not completed.
    None,
}

impl Verdict {
    /// Its name in status and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Passed => "Passed",
            Self::Failed => "Failed",
            Self::Inconclusive => "Inconclusive",
            Self::None => "None",
        }
    }
}

/// Unit of an observed value and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Operations per second, thousandths.
    MilliOperationsPerSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Thousandths of a percent.
    MilliPercent,
}

impl Unit {
    /// The unit of a metric.
    #[must_use]
    pub const fn of(metric: Metric) -> Self {
        match metric {
            Metric::Mean | Metric::P50 | Metric::P90 | Metric::P99 | Metric::P999 | Metric::Max => {
                Self::Nanoseconds
            }
            Metric::OperationsPerSecond => Self::MilliOperationsPerSecond,
            Metric::BytesPerSecond => Self::BytesPerSecond,
            Metric::ErrorPercent => Self::MilliPercent,
        }
    }
}

/// A threshold and what was observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ThresholdResult {
    /// Name of the threshold.
    pub name: String,
    /// Stage that it looks at.
    pub stage: String,
    /// Operation; `None` is all of them.
    pub op: Option<Op>,
    /// What is measured.
    pub metric: Metric,
    /// The limit, in `unit`.
    pub limit: Limit,
    /// What was observed, in `unit`; `None` when there was nothing to look at.
    pub observed: Option<u64>,
    /// Unit of both.
    pub unit: Unit,
    /// Operations that the observed value is of.
    pub samples: u64,
    /// Whether the limit was kept; `None` when there was nothing to look at.
    pub passed: Option<bool>,
    /// What a breach means.
    pub on_breach: OnBreach,
}

/// Holds one threshold against its stage; `stage: None` when the stage was not run.
#[must_use]
pub fn evaluate(threshold: &Threshold, stage: Option<&StageReport>) -> ThresholdResult {
    let row = stage.and_then(|stage| match threshold.op {
        None => Some(&stage.total),
        Some(op) => stage.operations.iter().find(|row| row.op == Some(op)),
    });
    let window_ns = stage.map_or(0, |stage| stage.window_ns);
    let (observed, samples) = observe(threshold.metric, row, window_ns);
    ThresholdResult {
        name: threshold.name.clone(),
        stage: threshold.stage.clone(),
        op: threshold.op,
        metric: threshold.metric,
        limit: threshold.limit,
        observed,
        unit: Unit::of(threshold.metric),
        samples,
        passed: observed.map(|observed| match threshold.limit {
            Limit::AtMost(limit) => observed <= limit,
            Limit::AtLeast(limit) => observed >= limit,
        }),
        on_breach: threshold.on_breach,
    }
}

/// Holds all thresholds against the stages that were run, by the stages' names.
#[must_use]
pub fn evaluate_all(thresholds: &[Threshold], stages: &[StageReport]) -> Vec<ThresholdResult> {
    let stage_of = |threshold: &Threshold| stages.iter().find(|stage| stage.name == threshold.stage);
    thresholds.iter().map(|threshold| evaluate(threshold, stage_of(threshold))).collect()
}

/// The observed value and how many operations it is of.
fn observe(metric: Metric, row: Option<&OpReport>, window_ns: u64) -> (Option<u64>, u64) {
    let count = row.map_or(0, |row| row.count);
    let sent = count.saturating_add(row.map_or(0, |row| row.error_count));
    let latency = |of: fn(&LatencyReport) -> u64| {
        let response = row.and_then(|row| row.response.as_ref());
        (response.map(of), response.map_or(0, |response| response.count))
    };
    // A window in which nothing was done is a rate of zero, not an unknown one.
    let rate = |of: fn(&OpReport) -> u64| ((window_ns > 0).then(|| row.map_or(0, of)), count);
    match metric {
        Metric::Mean => latency(|response| response.mean_ns),
        Metric::P50 => latency(|response| response.p50_ns),
        Metric::P90 => latency(|response| response.p90_ns),
        Metric::P99 => latency(|response| response.p99_ns),
        Metric::P999 => latency(|response| response.p999_ns),
        Metric::Max => latency(|response| response.max_ns),
        Metric::OperationsPerSecond => rate(|row| row.milli_operations_per_second),
        Metric::BytesPerSecond => rate(|row| row.bytes_per_second),
        Metric::ErrorPercent => {
            let errors = u128::from(row.map_or(0, |row| row.error_count));
            let share = (sent > 0).then(|| (errors * 100_000).div_ceil(u128::from(sent)) as u64);
            (share, sent)
        }
    }
}

/// The verdict on a run that is over. `in_doubt`: an objection that the plan counts (skew, client-bound).
///
/// A breach that counts decides first. What lacks part of a window cannot pass; nor can a threshold that counts
/// but had nothing to look at.
#[must_use]
pub fn verdict(outcome: Outcome, results: &[ThresholdResult], in_doubt: bool) -> Verdict {
    if matches!(outcome, Outcome::Failed | Outcome::Aborted) {
        return Verdict::None;
    }
    let counts = |result: &&ThresholdResult| result.on_breach == OnBreach::Fail;
    if results.iter().filter(counts).any(|result| result.passed == Some(false)) {
        Verdict::Failed
    } else if in_doubt || results.iter().filter(counts).any(|result| result.passed.is_none()) {
        Verdict::Inconclusive
    } else if results.is_empty() {
        Verdict::None
    } else if outcome == Outcome::Partial {
        Verdict::Inconclusive
    } else {
        Verdict::Passed
    }
}

/// The exit code of `lockstep run`. `failure_exit`: what the problem that ended a failed run asks for.
///
/// | outcome | verdict | exit code |
/// |---|---|---|
/// | Succeeded | Passed, None | 0 |
/// | Succeeded | Failed, Inconclusive | 7 |
/// | Partial | any | 2 |
/// | Failed | any | `failure_exit`, 1 where that says success |
/// | Aborted | any | 3 |
#[must_use]
pub const fn exit_code(outcome: Outcome, verdict: Verdict, failure_exit: u8) -> u8 {
    match (outcome, verdict) {
        (Outcome::Succeeded, Verdict::Passed | Verdict::None) => exit::SUCCEEDED,
        // Pending has no place in a finished run; it is surely no success.
        (Outcome::Succeeded, Verdict::Failed | Verdict::Inconclusive | Verdict::Pending) => exit::VERDICT,
        (Outcome::Partial, _) => exit::PARTIAL,
        (Outcome::Failed, _) if failure_exit == exit::SUCCEEDED => exit::STAGE_FAILED,
        (Outcome::Failed, _) => failure_exit,
        (Outcome::Aborted, _) => exit::ABORTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::ErrorClass;
    use crate::results::{Sample, StageFacts, StagePart, merge_stage};

    /// A stage of 2 s with 199 gets of 1 to 199 µs and one that failed.
    fn stage() -> StageReport {
        let mut part = StagePart::new(0, 0, 1);
        part.window_ns = 2_000_000_000;
        for micros in 1..=200 {
            let end_ns = micros * 1000;
            let sample = Sample {
                op: Op::Get,
                size_bytes: 10,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns,
            };
            if micros == 200 {
                part.totals.record_error(&sample, ErrorClass::Reset);
            } else {
                part.totals.record_ok(&sample, false, false);
            }
        }
        merge_stage(&StageFacts { name: "mixed".to_owned(), ..StageFacts::default() }, &[part], None)
    }

    fn threshold(op: Option<Op>, metric: Metric, limit: Limit) -> Threshold {
        let (name, stage) = ("limit".to_owned(), "mixed".to_owned());
        Threshold { name, stage, op, metric, limit, on_breach: OnBreach::Fail }
    }

    #[test]
    fn limits_are_held_against_what_was_observed() {
        let stage = stage();
        let check = |op, metric, limit, want: (Option<u64>, u64, Option<bool>)| {
            let result = evaluate(&threshold(op, metric, limit), Some(&stage));
            assert_eq!((result.observed, result.samples, result.passed), want, "{op:?} {metric:?}");
        };
        use Limit::{AtLeast, AtMost};
        check(None, Metric::Mean, AtMost(100_000), (Some(100_000), 199, Some(true)));
        check(Some(Op::Get), Metric::Max, AtMost(198_999), (Some(199_000), 199, Some(false)));
        check(None, Metric::P50, AtLeast(1), (Some(100_031), 199, Some(true)));
        check(None, Metric::OperationsPerSecond, AtLeast(99_501), (Some(99_500), 199, Some(false)));
        check(None, Metric::BytesPerSecond, AtLeast(995), (Some(995), 199, Some(true)));
        check(None, Metric::ErrorPercent, AtMost(500), (Some(500), 200, Some(true)));
        check(Some(Op::Put), Metric::P99, AtMost(1), (None, 0, None));
        check(Some(Op::Put), Metric::ErrorPercent, AtMost(1), (None, 0, None));
        check(Some(Op::Put), Metric::OperationsPerSecond, AtLeast(1), (Some(0), 0, Some(false)));
    }

    #[test]
    fn a_stage_that_was_not_run_gives_no_observation() {
        for metric in [Metric::P99, Metric::OperationsPerSecond, Metric::ErrorPercent] {
            let result = evaluate(&threshold(None, metric, Limit::AtMost(1)), None);
            assert_eq!((result.observed, result.passed), (None, None));
        }
    }

    fn result(passed: Option<bool>, on_breach: OnBreach) -> ThresholdResult {
        let mut result = evaluate(&threshold(None, Metric::P99, Limit::AtMost(1)), None);
        (result.passed, result.on_breach) = (passed, on_breach);
        result
    }

    #[test]
    fn outcome_and_thresholds_make_verdict_and_exit_code() {
        use OnBreach::{Fail, Report};
        use Outcome::{Aborted, Failed, Partial, Succeeded};
        let kept = result(Some(true), Fail);
        let breached = result(Some(false), Fail);
        let reported = result(Some(false), Report);
        let blind = result(None, Fail);
        let check = |outcome, results: &[&ThresholdResult], in_doubt, want: (Verdict, u8)| {
            let results: Vec<_> = results.iter().copied().cloned().collect();
            let verdict = verdict(outcome, &results, in_doubt);
            assert_eq!((verdict, exit_code(outcome, verdict, 6)), want, "{outcome:?} {in_doubt} {results:?}");
        };
        check(Succeeded, &[], false, (Verdict::None, 0));
        check(Succeeded, &[&kept], false, (Verdict::Passed, 0));
        check(Succeeded, &[&kept, &reported], false, (Verdict::Passed, 0));
        check(Succeeded, &[&kept, &breached], false, (Verdict::Failed, 7));
        check(Succeeded, &[&breached], true, (Verdict::Failed, 7));
        check(Succeeded, &[&kept], true, (Verdict::Inconclusive, 7));
        check(Succeeded, &[], true, (Verdict::Inconclusive, 7));
        check(Succeeded, &[&kept, &blind], false, (Verdict::Inconclusive, 7));
        check(Partial, &[], false, (Verdict::None, 2));
        check(Partial, &[&kept], false, (Verdict::Inconclusive, 2));
        check(Partial, &[&breached], false, (Verdict::Failed, 2));
        check(Failed, &[&breached], true, (Verdict::None, 6));
        check(Aborted, &[&kept], false, (Verdict::None, 3));
        assert_eq!(exit_code(Failed, Verdict::None, 0), 1);
    }
}
