//! `<stage>.series.tsv`: what happened in each second.

use lockstep_core::results::stage::SeriesRow;
use std::fmt::Write as _;

/// The columns.
pub const HEADER: &str = "second\toperation\tcount\tbytes\terrors\tmean_us\tp50_us\tp99_us\tmax_us";

/// Renders the rows of one stage, header included. What is not known is empty.
#[must_use]
pub fn render(rows: &[SeriesRow]) -> String {
    let mut table = format!("{HEADER}\n");
    for row in rows {
        let known = [row.mean_ns, row.p50_ns, row.p99_ns].map(|ns| ns.map(micros).unwrap_or_default());
        // Writing to a String cannot fail.
        let _ = writeln!(
            table,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.second,
            row.op.name(),
            row.count,
            row.bytes,
            row.errors,
            known.join("\t"),
            if row.count > 0 { micros(row.max_ns) } else { String::new() },
        );
    }
    table
}

/// Microseconds with all digits of the nanoseconds.
#[must_use]
pub fn micros(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000, ns % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::op::Op;

    #[test]
    fn unknown_latencies_are_empty_and_not_zero() {
        let row = |second, count, mean_ns, p50_ns| SeriesRow {
            second,
            op: Op::Get,
            count,
            bytes: count * 10,
            errors: 1,
            mean_ns,
            p50_ns,
            p99_ns: None,
            max_ns: 2_500,
        };
        let table = render(&[row(0, 4, Some(1_500), Some(1_000)), row(1, 0, None, None)]);
        assert_eq!(
            table,
            format!("{HEADER}\n0\tGet\t4\t40\t1\t1.500\t1.000\t\t2.500\n1\tGet\t0\t0\t1\t\t\t\t\n")
        );
    }
}
