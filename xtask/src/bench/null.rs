//! Row `null`: what the engine itself costs per operation, over a target that does nothing.

use super::lockstep::{Lockstep, manifest, turn};
use super::machine::cores;
use super::table::{Pair, Row, median};
use super::{Options, floor, say};
use anyhow::Result;

/// Operations per second that one core shall do.
const GOAL: f64 = 1e6;

/// Measures it.
pub fn measure(options: &Options, lockstep: &Lockstep) -> Result<Row> {
    say("null: the engine without storage");
    let (threads, seconds) = (cores(), options.seconds());
    let load = format!(
        "{{name: load, execute: {{duration: {seconds}s, concurrency: {threads}, operations: [{{op: Get}}]}}}}"
    );
    let manifest = manifest("null://", "{objects: 1000000, size: {fixed: 4Ki}, existing: Reuse}", &[load]);
    let mut pairs = Vec::new();
    for _ in 0..options.pairs() {
        let floor = floor::clock(threads, seconds)?;
        pairs.push(Pair { floor, lockstep: turn(&lockstep.run(&manifest, 1)?, "load")? });
    }
    let rate = median(pairs.iter().map(|pair| pair.lockstep.per_core()));
    Ok(Row { goal: "1 M /s/core".to_owned(), met: rate >= GOAL, ..Row::of_pairs("null", &pairs) })
}
