//! Row `coordinator`: CPU and memory of one coordinator with many agents, all of them real processes.
//!
//! The agents do little (`null://` at a low rate), so that what is seen is heartbeats, reports, merging and progress.

use super::lockstep::{Lockstep, Under, manifest};
use super::table::Row;
use super::{Options, say};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Instant;

/// Cores and MiB that it may use.
const GOAL: (f64, f64) = (0.5, 256.0);

/// CPU time of a process, and the most memory it held.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    cpu_s: f64,
    peak_mib: f64,
}

/// Measures it.
pub fn measure(options: &Options, lockstep: &Lockstep) -> Result<Row> {
    let (agents, seconds) = if options.quick { (50, 5) } else { (200, 15) };
    say(&format!("coordinator: {agents} agents"));
    let load = format!(
        "{{name: load, execute: {{duration: {seconds}s, concurrency: 1, rate: {{operationsPerSecond: {}}}, \
         operations: [{{op: Get}}]}}}}",
        agents * 20
    );
    let manifest = manifest("null://", "{objects: 1000000, size: {fixed: 4Ki}, existing: Reuse}", &[load]);
    let (mut first, mut last): (Option<Sample>, Option<Sample>) = (None, None);
    lockstep.watch(&manifest, agents, &mut |under| {
        if last.is_none_or(|last| last.at.elapsed().as_millis() >= 500) && loads(under) {
            let sample = sample(under.id)?;
            first.get_or_insert(sample);
            last = Some(sample);
        }
        Ok(())
    })?;
    let (first, last) = first.zip(last).context("the load was never seen")?;
    let span_s = (last.at - first.at).as_secs_f64();
    ensure!(span_s >= 1.0, "the load was seen for {span_s:.1} s only");
    let cores = (last.cpu_s - first.cpu_s) / span_s;
    let none = || "-".to_owned();
    Ok(Row {
        name: "coordinator".to_owned(),
        floor: none(),
        lockstep: format!("{cores:.2} cores, {:.0} MiB with {agents} agents", last.peak_mib),
        ratio: none(),
        wall: none(),
        goal: format!("{} cores, {} MiB", GOAL.0, GOAL.1),
        met: cores <= GOAL.0 && last.peak_mib <= GOAL.1,
    })
}

/// Whether the load is on: what the latest complete line of progress says.
fn loads(under: &Under<'_>) -> bool {
    let text = std::fs::read_to_string(under.progress).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = complete.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let latest = lines.find(|line| line["type"] == "progress");
    latest.is_some_and(|line| {
        let stages = line["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
        stages.iter().any(|stage| stage["name"] == "load" && stage["state"] == "Working")
    })
}

fn sample(id: u32) -> Result<Sample> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name before may hold spaces; user and system time are the 12th and 13th field behind it.
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("CPU times")?;
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let peak_kib: f64 = peak.trim().trim_end_matches("kB").trim().parse()?;
    Ok(Sample {
        at: Instant::now(),
        cpu_s: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        peak_mib: peak_kib / 1024.0,
    })
}
