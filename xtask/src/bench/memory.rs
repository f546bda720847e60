//! Row `memory`: the most that an agent holds with many threads, several operations and latencies far apart.

use super::lockstep::{Lockstep, manifest, stage};
use super::place::Place;
use super::table::{Row, median};
use super::{Options, say};
use anyhow::{Context, Result};

/// Most that it may hold, MiB.
const GOAL_MIB: f64 = 128.0;

/// Measures it. There is no floor: a loop that measures nothing holds nothing.
pub fn measure(options: &Options, lockstep: &Lockstep) -> Result<Row> {
    say("memory: 64 threads, 4 operations");
    let place = Place::new()?;
    // 64 threads on few cores wait for each other: latencies from a microsecond to tenths of a second, on top of
    // sizes that fall into four size classes.
    let manifest = manifest(
        &format!("file://{}", place.join("data").display()),
        "{objects: 2000, size: {buckets: [{size: 1Ki, weight: 40}, {size: 32Ki, weight: 30}, \
         {size: 256Ki, weight: 20}, {size: 1Mi, weight: 10}]}}",
        &[
            "{name: prepare, prepare: {concurrency: 64}}".to_owned(),
            format!(
                "{{name: load, execute: {{duration: {}s, concurrency: 64, operations: [{{op: Get, weight: 50}}, \
                 {{op: Head, weight: 20}}, {{op: Put, weight: 15}}, {{op: Delete, weight: 15}}]}}}}",
                options.seconds() * 4
            ),
            "{name: cleanup, cleanup: {concurrency: 4}, runOn: Always}".to_owned(),
        ],
    );
    let mut seen = Vec::new();
    for _ in 0..if options.quick { 1 } else { 3 } {
        let results = lockstep.run(&manifest, 1)?;
        let agent = &stage(&results, "load")?["agents"][0];
        let bytes = agent["client"]["maxRssBytes"].as_u64().context("no memory in results.json")?;
        seen.push(bytes as f64 / f64::from(1 << 20));
    }
    let most = seen.iter().copied().fold(0.0, f64::max);
    let none = || "-".to_owned();
    Ok(Row {
        name: "memory".to_owned(),
        floor: none(),
        lockstep: format!("{:.0} MiB", median(seen)),
        ratio: none(),
        wall: none(),
        goal: format!("{GOAL_MIB:.0} MiB"),
        met: most <= GOAL_MIB,
    })
}
