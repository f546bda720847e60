//! Thresholds in words: `read-tail p99 ≤ 20 ms ✔ 0.397 ms`.

use lockstep_core::format::{bytes_per_s, count, decimal_milli, latency, latency_as, percent};
use lockstep_core::plan::{Limit, Metric, OnBreach, Threshold};
use lockstep_core::thresholds::{ThresholdResult, Unit};

/// A threshold of a plan.
#[must_use]
pub fn limit(threshold: &Threshold) -> String {
    let unit = Unit::of(threshold.metric);
    let where_ = match threshold.op {
        None => threshold.stage.clone(),
        Some(op) => format!("{} of {}", op.name(), threshold.stage),
    };
    let breach = match threshold.on_breach {
        OnBreach::Fail => "",
        OnBreach::Report => " (only reported)",
    };
    format!(
        "{}: {where_}, {} {}{breach}",
        threshold.name,
        metric(threshold.metric),
        bound(threshold.limit, unit)
    )
}

/// A threshold that was held against results.
#[must_use]
pub fn result(result: &ThresholdResult) -> String {
    let sign = match result.passed {
        Some(true) => "✔",
        Some(false) => "✖",
        None => "?",
    };
    let observed = match (result.observed, result.limit) {
        (None, _) => "nothing to look at".to_owned(),
        (Some(observed), Limit::AtMost(limit) | Limit::AtLeast(limit)) => {
            amount(observed, result.unit, limit)
        }
    };
    let breach = match (result.on_breach, result.passed) {
        (OnBreach::Report, Some(false) | None) => " (only reported)",
        _ => "",
    };
    let samples = if result.unit == Unit::Nanoseconds && result.samples > 0 {
        format!(" of {}", count(result.samples))
    } else {
        String::new()
    };
    format!(
        "{} {} {} {sign} {observed}{samples}{breach}",
        result.name,
        metric(result.metric),
        bound(result.limit, result.unit)
    )
}

fn bound(limit: Limit, unit: Unit) -> String {
    match limit {
        Limit::AtMost(limit) => format!("≤ {}", amount_alone(limit, unit)),
        Limit::AtLeast(limit) => format!("≥ {}", amount_alone(limit, unit)),
    }
}

fn amount_alone(value: u64, unit: Unit) -> String {
    match unit {
        // A limit is a round number: show it as it was written, not as 20.0.
        Unit::Nanoseconds => latency_as(value, value.max(1_000)),
        unit => amount(value, unit, value),
    }
}

fn amount(value: u64, unit: Unit, like: u64) -> String {
    match unit {
        Unit::Nanoseconds if like == 0 => latency(value),
        Unit::Nanoseconds => latency_as(value, like),
        Unit::MilliOperationsPerSecond => format!("{} op/s", decimal_milli(value)),
        Unit::BytesPerSecond => bytes_per_s(value),
        Unit::MilliPercent => percent(value),
    }
}

/// The metric as manifests name it, shorter where a unit follows that says the rest.
fn metric(metric: Metric) -> &'static str {
    match metric {
        Metric::Mean => "mean",
        Metric::P50 => "p50",
        Metric::P90 => "p90",
        Metric::P99 => "p99",
        Metric::P999 => "p99.9",
        Metric::Max => "max",
        Metric::OperationsPerSecond => "rate",
        Metric::BytesPerSecond => "throughput",
        Metric::ErrorPercent => "errors",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::op::Op;
    use lockstep_core::thresholds::evaluate;

    fn held(metric: Metric, limit: Limit, observed: Option<u64>) -> String {
        let threshold = Threshold {
            name: "t".to_owned(),
            stage: "mixed".to_owned(),
            op: Some(Op::Get),
            metric,
            limit,
            on_breach: OnBreach::Report,
        };
        let mut held = evaluate(&threshold, None);
        (held.observed, held.samples) = (observed, 1_234);
        held.passed = observed.map(|observed| match limit {
            Limit::AtMost(limit) => observed <= limit,
            Limit::AtLeast(limit) => observed >= limit,
        });
        result(&held)
    }

    #[test]
    fn observed_values_stand_in_the_unit_of_their_limit() {
        use Limit::{AtLeast, AtMost};
        assert_eq!(held(Metric::P99, AtMost(20_000_000), Some(397_000)), "t p99 ≤ 20 ms ✔ 0.397 ms of 1,234");
        assert_eq!(
            held(Metric::OperationsPerSecond, AtLeast(4_900_000), Some(4_899_900)),
            "t rate ≥ 4,900.0 op/s ✖ 4,899.9 op/s (only reported)"
        );
        assert_eq!(held(Metric::ErrorPercent, AtMost(500), Some(0)), "t errors ≤ 0.5 % ✔ 0 %");
        assert_eq!(
            held(Metric::P50, AtMost(350_000), None),
            "t p50 ≤ 350 µs ? nothing to look at of 1,234 (only reported)"
        );
    }
}
