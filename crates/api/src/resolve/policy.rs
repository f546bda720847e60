//! `spec.start`, `failurePolicy`, `thresholds` and `results` into their parts of the plan.

use super::stages::unknown_stage;
use super::target::secrets_in_uri;
use super::{Findings, exactly_one};
use crate::fault::Fault;
use crate::manifest::path;
use crate::manifest::suggest;
use crate::quantity::ByteSize;
use crate::reasons::Reason;
use crate::span::Span;
use crate::spec::BenchmarkRunSpec;
use crate::spec::policy::{FailurePolicySpec, LimitText, ResultsSpec, StartSpec, ThresholdSpec};
use crate::spec::words::{FailureModeName, MetricName, OnBreach};
use lockstep_core::plan::{
    ErrorBudget, FailureMode, FailurePlan, FailureRule, Limit, Metric, StagePlan, StartPlan, Threshold,
};

/// How long an agent works on without its coordinator, on one machine.
pub const ORPHAN_GRACE_LOCAL: Span = Span::seconds(60);
/// How long an agent works on without its coordinator, on a cluster, where a leader may have to be elected.
pub const ORPHAN_GRACE_CLUSTER: Span = Span::seconds(120);

pub(super) fn start(spec: &StartSpec) -> StartPlan {
    StartPlan {
        ready_timeout: spec.ready_timeout.0,
        delay: spec.delay.0,
        lead_time: spec.lead_time.0,
        max_skew: spec.max_skew.0,
        on_skew: spec.on_skew.into(),
        on_client_bound: spec.on_client_bound.into(),
        late_join: spec.late_join.into(),
    }
}

pub(super) fn failure(
    spec: &FailurePolicySpec,
    replicas: u32,
    local: bool,
    findings: &mut Findings,
) -> FailurePlan {
    let at = "spec.failurePolicy";
    // A default never contradicts a reconnectGrace that the user has raised above it.
    let default = if local { ORPHAN_GRACE_LOCAL } else { ORPHAN_GRACE_CLUSTER }.max(spec.reconnect_grace);
    let orphan_grace = spec.orphan_grace.unwrap_or(default);
    if orphan_grace < spec.reconnect_grace {
        let message = format!("{orphan_grace} is less than reconnectGrace, {}", spec.reconnect_grace);
        let hint = "an agent that may still come back must not have given up";
        findings.fault(
            Fault::new(path::member(at, "orphanGrace"), message).allowed("reconnectGrace or more").hint(hint),
        );
    }
    if spec.min_agents > replicas {
        let message = format!("{} is more than the {replicas} replicas", spec.min_agents);
        findings
            .fault(Fault::new(path::member(at, "minAgents"), message).allowed(format!("0 to {replicas}")));
    }
    let (mode, retry_attempts) = match (spec.mode, spec.retry_attempts) {
        (FailureModeName::RetryOnce, None) => (FailureMode::FailFast, 1),
        (FailureModeName::RetryOnce, Some(attempts)) => {
            if attempts != 1 {
                let message = format!("{attempts} contradicts mode RetryOnce");
                let hint = format!("mode: FailFast with retryAttempts: {attempts}");
                findings.fault(
                    Fault::new(path::member(at, "retryAttempts"), message)
                        .allowed("1, or leave it out")
                        .hint(hint),
                );
            }
            (FailureMode::FailFast, 1)
        }
        (FailureModeName::FailFast, attempts) => (FailureMode::FailFast, attempts.unwrap_or(0)),
        (FailureModeName::ContinueIfMajority, attempts) => {
            (FailureMode::ContinueIfMajority, attempts.unwrap_or(1))
        }
        (FailureModeName::BestEffort, attempts) => (FailureMode::BestEffort, attempts.unwrap_or(1)),
    };
    let at_rules = path::member(at, "rules");
    for (index, rule) in spec.rules.iter().enumerate() {
        for (position, name) in rule.on_reasons.iter().enumerate() {
            if Reason::from_name(name).is_none_or(|reason| !reason.is_loss()) {
                let at = path::item(&path::member(&path::item(&at_rules, index), "onReasons"), position);
                let names = Reason::ALL.iter().filter(|reason| reason.is_loss()).map(|reason| reason.name());
                let fault = Fault::new(at, format!("no agent is ever lost for `{}`", name.escape_debug()));
                findings.fault(match suggest::closest(name, names.clone()) {
                    Some(close) => fault.hint(format!("did you mean {close}?")),
                    None => fault.allowed(names.collect::<Vec<_>>().join(", ")),
                });
            }
        }
    }
    FailurePlan {
        mode,
        min_agents: spec.min_agents,
        retry_attempts,
        retry_delay: spec.retry_delay.0,
        reconnect_grace: spec.reconnect_grace.0,
        orphan_grace: orphan_grace.0,
        error_budget: ErrorBudget {
            percent: spec.error_budget.percent,
            consecutive: spec.error_budget.consecutive,
        },
        rules: spec
            .rules
            .iter()
            .map(|rule| FailureRule {
                reasons: rule.on_reasons.clone(),
                action: rule.action.into(),
                count_attempt: rule.count_attempt,
            })
            .collect(),
    }
}

pub(super) fn thresholds(
    spec: &BenchmarkRunSpec,
    stages: &[StagePlan],
    findings: &mut Findings,
) -> Vec<Threshold> {
    let mut plans: Vec<Threshold> = Vec::new();
    for (index, threshold) in spec.thresholds.iter().enumerate() {
        let at = path::item("spec.thresholds", index);
        judged(threshold, spec, stages, &at, findings);
        let limit = limit(threshold, &at, findings);
        let name = threshold.name.clone().unwrap_or_else(|| default_name(threshold));
        if let Some(first) = plans.iter().position(|other| other.name == name) {
            let message = format!("{name} is also the name of another threshold, number {}", first + 1);
            findings.fault(Fault::new(path::member(&at, "name"), message).allowed("names that differ"));
        }
        if let Some(limit) = limit {
            plans.push(Threshold {
                name,
                stage: threshold.stage.clone(),
                op: threshold.op.map(Into::into),
                metric: threshold.metric.into(),
                limit,
                on_breach: match threshold.on_breach {
                    OnBreach::Fail => lockstep_core::plan::OnBreach::Fail,
                    OnBreach::Report => lockstep_core::plan::OnBreach::Report,
                },
            });
        }
    }
    plans
}

fn default_name(threshold: &ThresholdSpec) -> String {
    let metric = serde_json::to_value(threshold.metric).unwrap_or_default();
    let metric = metric.as_str().unwrap_or_default();
    match threshold.op {
        Some(op) => format!("{}-{op:?}-{metric}", threshold.stage).to_lowercase(),
        None => format!("{}-{metric}", threshold.stage).to_lowercase(),
    }
}

/// Whether what the threshold looks at is measured at all.
fn judged(
    threshold: &ThresholdSpec,
    spec: &BenchmarkRunSpec,
    stages: &[StagePlan],
    at: &str,
    findings: &mut Findings,
) {
    let plan = stages.iter().find(|stage| stage.name == threshold.stage);
    let Some(stage) = plan.and_then(|stage| stage.kind.execute()) else {
        // A stage that is there but has faults of its own gets no second one here.
        let is_named =
            spec.stages.iter().any(|stage| stage.name == threshold.stage && stage.execute.is_some());
        if !is_named {
            let names =
                stages.iter().filter(|stage| stage.kind.execute().is_some()).map(|stage| stage.name.as_str());
            findings.fault(unknown_stage(&path::member(at, "stage"), &threshold.stage, names));
        }
        return;
    };
    if stage.discard {
        let message = format!("{} is discarded, so nothing of it can be judged", threshold.stage);
        findings.fault(Fault::new(path::member(at, "stage"), message));
    }
    if let Some(op) = threshold.op
        && !stage.operations_mix.iter().any(|plan| plan.op == op.into())
    {
        let ops: Vec<&str> = stage.operations_mix.iter().map(|plan| plan.op.name()).collect();
        let message = format!("{} does no {op:?}", threshold.stage);
        findings.fault(Fault::new(path::member(at, "op"), message).allowed(ops.join(", ")));
    }
}

fn limit(threshold: &ThresholdSpec, at: &str, findings: &mut Findings) -> Option<Limit> {
    let members = [threshold.at_most.is_some(), threshold.at_least.is_some()];
    if !exactly_one(at, &["atMost", "atLeast"], &members, findings) {
        return None;
    }
    let (field, text) = match (&threshold.at_most, &threshold.at_least) {
        (Some(text), _) => ("atMost", text),
        (None, text) => ("atLeast", text.as_ref()?),
    };
    let text = match text {
        LimitText::Integer(number) => number.to_string(),
        LimitText::Text(text) => text.clone(),
    };
    match amount(threshold.metric, &text) {
        Ok(amount) if field == "atMost" => Some(Limit::AtMost(amount)),
        Ok(amount) => Some(Limit::AtLeast(amount)),
        Err(allowed) => {
            let metric: Metric = threshold.metric.into();
            let message = format!("`{}` is no limit for {metric:?}", text.escape_debug());
            findings.fault(Fault::new(path::member(at, field), message).allowed(allowed));
            None
        }
    }
}

/// A limit in the unit of its metric; the error says what is allowed.
fn amount(metric: MetricName, text: &str) -> Result<u64, &'static str> {
    match metric {
        MetricName::Mean
        | MetricName::P50
        | MetricName::P90
        | MetricName::P99
        | MetricName::P999
        | MetricName::Max => nanoseconds(text).ok_or("a response time: 20ms, 1s, 350us, 1.5ms"),
        MetricName::OperationsPerSecond => thousandths(text).ok_or("operations per second: 4900, \"0.5\""),
        MetricName::BytesPerSecond => {
            text.parse::<ByteSize>().map(|size| size.0).map_err(|_| "bytes per second: 500Mi, 1Gi, 1000000")
        }
        MetricName::ErrorPercent => {
            thousandths(text).filter(|percent| *percent <= 100_000).ok_or("percent of operations: 1, \"0.5\"")
        }
    }
}

/// A response time in nanoseconds: one number, which may have a fraction, with `s`, `ms`, `us` or `ns`.
fn nanoseconds(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "µs" => 1_000,
        "ns" => 1,
        "m" => 60_000_000_000,
        _ => return None,
    };
    scaled(number, factor)
}

fn thousandths(text: &str) -> Option<u64> {
    scaled(text, 1000)
}

/// A decimal number times `factor`, which must come out whole.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u64.pow(fraction.len() as u32);
    let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor);
    if part % u128::from(scale) != 0 {
        return None;
    }
    let part = u64::try_from(part / u128::from(scale)).ok()?;
    whole.parse::<u64>().ok()?.checked_mul(factor)?.checked_add(part)
}

pub(super) fn results(spec: &ResultsSpec, local: bool, findings: &mut Findings) {
    if let Some(destination) = &spec.destination {
        let at = "spec.results.destination";
        secrets_in_uri(destination, at, findings);
        if !local {
            let fault = Fault::new(at, "is not supported by this version: nothing would be uploaded");
            findings.fault(fault.hint(
                "leave it out: the report is kept in a ConfigMap, and kubectl lockstep report reads it",
            ));
        }
    } else if spec.secret_name.is_some() {
        let fault = Fault::new("spec.results.secretName", "has no meaning without a destination");
        findings.fault(fault.hint("set spec.results.destination, or leave it out"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_in_the_unit_of_their_metric() {
        assert_eq!(amount(MetricName::P99, "20ms"), Ok(20_000_000));
        assert_eq!(amount(MetricName::P50, "1.5us"), Ok(1_500));
        assert_eq!(amount(MetricName::OperationsPerSecond, "4900"), Ok(4_900_000));
        assert_eq!(amount(MetricName::OperationsPerSecond, "0.5"), Ok(500));
        assert_eq!(amount(MetricName::BytesPerSecond, "1Gi"), Ok(1 << 30));
        assert_eq!(amount(MetricName::ErrorPercent, "0.5"), Ok(500));
        for (metric, text) in [
            (MetricName::P99, "20"),
            (MetricName::P99, "20Mi"),
            (MetricName::P99, "1.0005us"),
            (MetricName::Max, "99999999999999999999s"),
            (MetricName::OperationsPerSecond, "20ms"),
            (MetricName::OperationsPerSecond, "5k"),
            (MetricName::BytesPerSecond, "20ms"),
            (MetricName::ErrorPercent, "101"),
            (MetricName::ErrorPercent, "1..5"),
        ] {
            assert!(amount(metric, text).is_err(), "{metric:?} {text}");
        }
    }
}
