//! Amounts in status columns and messages: those of reports ([`lockstep_core::format`]), fit for columns; thresholds exact.

use lockstep_core::format;
use lockstep_core::plan::Limit;
use lockstep_core::thresholds::{ThresholdResult, Unit};

/// A time as reports show it, in plain ASCII, since it stands in columns: `850 ns`, `61 us`, `1.2 ms`, `75 s`.
#[must_use]
pub fn time(ns: u64) -> String {
    format::latency(ns).replace('µ', "u")
}

/// Throughput for a column: `28837 op/s 1.7 GiB/s`.
#[must_use]
pub fn throughput(operations_per_s: u64, bytes_per_s: u64) -> String {
    match bytes_per_s {
        0 => format!("{operations_per_s} op/s"),
        bytes_per_s => format!("{operations_per_s} op/s {}", format::bytes_per_s(bytes_per_s)),
    }
}

/// What was observed, with its unit.
#[must_use]
pub fn observed(result: &ThresholdResult) -> String {
    result.observed.map_or_else(|| "nothing to look at".to_owned(), |value| amount(value, result.unit))
}

/// The limit, with its unit and direction.
#[must_use]
pub fn limit(result: &ThresholdResult) -> String {
    match result.limit {
        Limit::AtMost(limit) => format!("<= {}", amount(limit, result.unit)),
        Limit::AtLeast(limit) => format!(">= {}", amount(limit, result.unit)),
    }
}

/// Exact: a threshold that fails by a little must show it.
fn amount(value: u64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds => match value {
            0..10_000_000 => format!("{} us", thousandths(value)),
            10_000_000.. => format!("{} ms", thousandths(value / 1_000)),
        },
        Unit::MilliOperationsPerSecond => format!("{} op/s", thousandths(value)),
        Unit::BytesPerSecond => format!("{value} B/s"),
        Unit::MilliPercent => format::percent(value),
    }
}

fn thousandths(value: u64) -> String {
    let text = format!("{}.{:03}", value / 1_000, value % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!(
            [time(850), time(61_000), time(1_240_000), time(75_000_000_000)],
            ["850 ns", "61 us", "1.2 ms", "75 s"]
        );
        assert_eq!(throughput(41_210, 2_684_354_560), "41210 op/s 2.5 GiB/s");
        assert_eq!(throughput(7, 0), "7 op/s");
    }

    #[test]
    fn thresholds_show_what_they_failed_by() {
        assert_eq!(amount(20_000_000, Unit::Nanoseconds), "20 ms");
        assert_eq!(amount(20_001_000, Unit::Nanoseconds), "20.001 ms");
        assert_eq!(amount(397_123, Unit::Nanoseconds), "397.123 us");
        assert_eq!(amount(4_899_999, Unit::MilliOperationsPerSecond), "4899.999 op/s");
        assert_eq!(amount(500, Unit::MilliPercent), "0.5 %");
    }
}
