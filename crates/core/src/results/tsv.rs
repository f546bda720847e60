//! The 13-column result table of sai3-bench, so that what people have built on it reads our results, too.
//!
//! One row per operation and size bucket, then a total row each: META (index 97), GET (98) and PUT (99).
//! `Head`, `List` and `Delete` are META there. Latencies are response times in microseconds of `count`
//! operations; rates are of those within the window. Deliberately no errors and no service times: the format has
//! no place for them, `results.json` has.

use super::cell::Cell;
use super::totals::Totals;
use crate::op::{Op, SizeClass};
use std::fmt::Write as _;

/// The header line, without line end.
pub const HEADER: &str = "operation\tsize_bucket\tbucket_idx\tmean_us\tp50_us\tp90_us\tp95_us\tp99_us\tmax_us\tavg_bytes\t\
                          ops_per_sec\tthroughput_mibps\tcount";

/// The format's operations with the index of their total rows.
const GROUPS: [(&str, usize, &[Op]); 3] =
    [("META", 97, &[Op::Head, Op::List, Op::Delete]), ("GET", 98, &[Op::Get]), ("PUT", 99, &[Op::Put])];

/// Renders the table, header included; `window_ns` is what rates divide by. Rows without operations are left out.
#[must_use]
pub fn render(totals: &Totals, window_ns: u64) -> String {
    let mut table = format!("{HEADER}\n");
    for (name, _, ops) in GROUPS {
        for bucket in 0..SizeClass::COUNT {
            let cell = totals.rolled_up(|op, class| ops.contains(&op) && class.index() == bucket);
            push_row(&mut table, name, SizeClass::NAMES[bucket], bucket, &cell, window_ns);
        }
    }
    for (name, index, ops) in GROUPS {
        let cell = totals.rolled_up(|op, _| ops.contains(&op));
        push_row(&mut table, name, "ALL", index, &cell, window_ns);
    }
    table
}

fn push_row(table: &mut String, name: &str, bucket: &str, index: usize, cell: &Cell, window_ns: u64) {
    if cell.count() == 0 {
        return;
    }
    let response = cell.response();
    let micros = |ns: u64| ns as f64 / 1e3;
    let quantile = |quantile| micros(response.quantile_ns(quantile).unwrap_or(0));
    let per_second = |amount: u64| if window_ns == 0 { 0.0 } else { amount as f64 * 1e9 / window_ns as f64 };
    // Writing to a String cannot fail.
    let _ = writeln!(
        table,
        "{name}\t{bucket}\t{index}\t{:.2}\t{:.2}\t{:.2}\t{:.2}\t{:.2}\t{:.2}\t{:.0}\t{:.2}\t{:.2}\t{}",
        response.sum_ns as f64 / 1e3 / cell.count() as f64,
        quantile(0.5),
        quantile(0.9),
        quantile(0.95),
        quantile(0.99),
        micros(response.max_ns),
        cell.bytes as f64 / cell.count() as f64,
        per_second(cell.count().saturating_sub(cell.drained)),
        per_second(cell.bytes.saturating_sub(cell.drained_bytes)) / f64::from(1 << 20),
        cell.count(),
    );
}

#[cfg(test)]
mod tests {
    use super::super::cell::Sample;
    use super::*;

    #[test]
    fn rows_are_those_that_readers_of_the_format_expect() {
        let mut totals = Totals::new();
        let mut record = |op, size_bytes, service_ns, drained| {
            let end_ns = service_ns;
            let sample = Sample { op, size_bytes, intended_ns: 0, start_ns: 0, first_byte_ns: None, end_ns };
            totals.record_ok(&sample, false, drained);
        };
        record(Op::Get, 4096, 64_000, false);
        record(Op::Get, 1 << 20, 128_000, false);
        record(Op::Get, 1 << 20, 128_000, true);
        record(Op::Head, 0, 32_000, false);
        record(Op::Delete, 0, 96_000, false);
        let want = [
            HEADER,
            "META\tzero\t0\t64.00\t32.06\t96.00\t96.00\t96.00\t96.00\t0\t1.00\t0.00\t2",
            "GET\t1B-8KiB\t1\t64.00\t64.00\t64.00\t64.00\t64.00\t64.00\t4096\t0.50\t0.00\t1",
            "GET\t512KiB-4MiB\t4\t128.00\t128.00\t128.00\t128.00\t128.00\t128.00\t1048576\t0.50\t0.50\t2",
            "META\tALL\t97\t64.00\t32.06\t96.00\t96.00\t96.00\t96.00\t0\t1.00\t0.00\t2",
            "GET\tALL\t98\t106.67\t128.00\t128.00\t128.00\t128.00\t128.00\t700416\t1.00\t0.50\t3",
        ];
        assert_eq!(render(&totals, 2_000_000_000), want.join("\n") + "\n");
    }

    #[test]
    fn the_header_has_thirteen_columns() {
        assert_eq!(HEADER.split('\t').count(), 13);
        assert_eq!(render(&Totals::new(), 0), format!("{HEADER}\n"));
    }
}
