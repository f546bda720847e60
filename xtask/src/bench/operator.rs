//! Rows of the operator: measured by a program of its own (crates/operator/benches/scale), which has a control plane.

use super::table::Row;
use super::{Options, say};
use crate::scale;
use anyhow::Result;

/// What `--only` calls them, and what the program does.
const ROWS: [(&str, &str); 3] =
    [("run-overhead", "overhead"), ("operator", "thousand"), ("takeover", "takeover")];

/// Measures the rows that are wanted.
pub fn measure(options: &Options, rows: &mut Vec<Row>) -> Result<()> {
    let wanted = ROWS.into_iter().filter(|(name, _)| options.wants(name));
    let what: Vec<&str> = wanted.map(|(_, what)| what).collect();
    if what.is_empty() {
        return Ok(());
    }
    say(&format!("operator: {}", what.join(", ")));
    let none = || "-".to_owned();
    rows.extend(scale::run(&what, options.quick, true)?.into_iter().map(|figure| Row {
        name: figure.name,
        floor: none(),
        lockstep: figure.figure,
        ratio: none(),
        wall: none(),
        goal: figure.goal,
        met: figure.met,
    }));
    Ok(())
}
