//! The checks. Each makes a directory, runs `lockstep run` there, does its harm, and looks at `results.json`.

use super::detour::Detour;
use super::{Found, Machine};
use anyhow::{Context, Result, ensure};
use lockstep_testkit::process::{Dir, Running, children_of, signal, wait_until};
use lockstep_testkit::proxy::Network;
use rustix::process::Signal;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What a start, an end and a machine under load may add.
const SLACK: Duration = Duration::from_secs(120);
/// The local default of `failurePolicy.orphanGrace`.
const ORPHAN_GRACE_S: f64 = 60.0;

/// Writes a manifest over `null://` with one stage of this length, and defaults where `more` says nothing else.
fn manifest(dir: &Dir, agents: u32, seconds: u64, more: &str) {
    dir.write(
        "run.yaml",
        format!(
            "apiVersion: lockstep.dev/v1alpha1\nkind: BenchmarkRun\nmetadata: {{name: soak}}\nspec:\n  \
             agents: {{replicas: {agents}}}\n  target: {{uri: \"null://\"}}\n  \
             dataset: {{objects: 100000, size: {{fixed: 4Ki}}, existing: Reuse}}\n{more}  stages:\n    \
             - {{name: load, execute: {{duration: {seconds}s, concurrency: 1, \
             rate: {{operationsPerSecond: {}}}, operations: [{{op: Get}}]}}}}\n",
            agents * 50
        ),
    );
}

/// `results.json` of the only run below the directory.
fn results(dir: &Dir) -> Result<Value> {
    let run = std::fs::read_dir(dir.path().join("results"))?.next().context("no results directory")??;
    Ok(serde_json::from_slice(&std::fs::read(run.path().join("results.json"))?)?)
}

fn load(results: &Value) -> Result<&Value> {
    let stages = results["stages"].as_array().context("no stages")?;
    stages.iter().find(|stage| stage["name"] == "load").context("no stage `load`")
}

fn start(dir: &Dir, agent: &std::path::Path) -> Running {
    dir.command()
        .args(["run", "--json", "-f", "run.yaml", "--results", "results", "--agent-binary"])
        .arg(agent)
        .start()
}

/// Waits until the stage works.
fn wait_for_load(run: &mut Running) {
    let working = |run: &Running| {
        let lines = run.stdout();
        let progress = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        progress.filter_map(|line| line["stages"].as_array().cloned()).flatten().any(|stage| {
            stage["name"] == "load" && stage["state"] == "Working" && stage["done"].as_u64() > Some(2_000)
        })
    };
    let end = Instant::now() + SLACK;
    while !working(run) {
        assert!(run.is_running() && Instant::now() < end, "the load never began\n{}", run.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Two hundred agents start together.
pub fn start_skew(machine: &Machine) -> Found {
    const AGENTS: u32 = 200;
    let dir = Dir::new(&machine.lockstep);
    manifest(&dir, AGENTS, 5, "");
    let ended = start(&dir, &machine.agent).wait(SLACK);
    let results = results(&dir)?;
    let stage = load(&results)?;
    let skew_us = stage["start"]["skewMicros"].as_u64().context("no skew")?;
    let complete = stage["agentsComplete"].as_u64();
    let text = format!("{AGENTS} agents within {} ms", skew_us.div_ceil(1000));
    ensure!(ended.code == 0, "exit code {}, {text}: {}", ended.code, results["degraded"]);
    ensure!(complete == Some(u64::from(AGENTS)), "{complete:?} of {AGENTS} complete");
    ensure!(skew_us <= 50_000, "{text}, more than 50 ms");
    Ok(text)
}

/// An agent is cut off for a while, within every default, and nothing is lost.
pub fn disconnect(machine: &Machine, cut: Duration) -> Found {
    let dir = Dir::new(&machine.lockstep);
    manifest(&dir, 2, cut.as_secs() + 30, "");
    let detour = Detour::new(&dir, &machine.agent);
    let mut run = start(&dir, &detour.program);
    let proxy = detour.proxy();
    wait_for_load(&mut run);
    proxy.set(Network::Hold);
    std::thread::sleep(cut);
    proxy.set(Network::Pass);
    let ended = run.wait(cut + SLACK);
    let results = results(&dir)?;
    let stage = load(&results)?;
    ensure!(ended.code == 0, "exit code {}: {}", ended.code, results["degraded"]);
    ensure!(stage["agentsComplete"] == 2, "{} of 2 complete", stage["agentsComplete"]);
    let agents = stage["agents"].as_array().context("no agents")?;
    ensure!(agents.len() == 2 && agents.iter().all(|agent| agent["attempt"] == 0), "an agent was replaced");
    let counted: u64 = agents.iter().filter_map(|agent| agent["count"].as_u64()).sum();
    ensure!(stage["total"]["count"] == counted, "{counted} operations are not the total");
    let gap_ns = agents[1]["network"]["gapMaxNs"].as_u64().context("no gap")?;
    ensure!(u128::from(gap_ns) + 5_000_000_000 > cut.as_nanos(), "a gap of {gap_ns} ns was seen");
    let reconnects = &agents[1]["network"]["reconnects"];
    Ok(format!("both complete; longest gap {} s, {reconnects} reconnects", gap_ns / 1_000_000_000))
}

/// An agent is cut off for good: it ends by itself.
pub fn orphan_grace(machine: &Machine) -> Found {
    let dir = Dir::new(&machine.lockstep);
    manifest(&dir, 2, 110, "");
    let detour = Detour::new(&dir, &machine.agent);
    let mut run = start(&dir, &detour.program);
    let proxy = detour.proxy();
    wait_for_load(&mut run);
    proxy.set(Network::Hold);
    let cut = Instant::now();
    let ended_itself = wait_until(Duration::from_secs(90), || detour.exit().is_some());
    let after_s = cut.elapsed().as_secs_f64();
    ensure!(ended_itself, "it did not end by itself within {after_s:.0} s");
    ensure!(detour.exit() == Some(70), "exit code {:?} instead of 70", detour.exit());
    let near = (after_s - ORPHAN_GRACE_S).abs() < 10.0;
    ensure!(near, "it ended {after_s:.0} s after it was cut off, not {ORPHAN_GRACE_S} s");
    let ended = run.wait(Duration::from_secs(110) + SLACK);
    let results = results(&dir)?;
    // The rest went on; that a part is missing is said.
    ensure!(ended.code == 2, "exit code {} instead of 2: {}", ended.code, results["degraded"]);
    ensure!(results["degraded"].as_array().is_some_and(|why| !why.is_empty()), "not said to be degraded");
    Ok(format!("ended {after_s:.0} s after it was cut off; the run is {}", results["outcome"]))
}

/// An agent is killed every minute, and replaced.
pub fn losses(machine: &Machine) -> Found {
    const AGENTS: u32 = 4;
    let dir = Dir::new(&machine.lockstep);
    let length = Duration::from_secs(machine.minutes * 60);
    let policy = "  failurePolicy: {mode: BestEffort, retryAttempts: 100}\n";
    manifest(&dir, AGENTS, length.as_secs(), policy);
    let mut run = start(&dir, &machine.agent);
    wait_for_load(&mut run);
    let (begin, mut killed) = (Instant::now(), 0);
    // The last kill leaves its replacement half a minute.
    for minute in 1..machine.minutes {
        let at = Duration::from_secs(minute * 60 - 30);
        std::thread::sleep(at.saturating_sub(begin.elapsed()));
        let agents = children_of(run.pid());
        ensure!(run.is_running() && !agents.is_empty(), "no agent was left after {killed} losses");
        signal(agents[minute as usize % agents.len()], Signal::KILL);
        killed += 1;
    }
    let pid = run.pid();
    let ended = run.wait(length.saturating_sub(begin.elapsed()) + SLACK);
    ensure!(children_of(pid).is_empty(), "agents were left behind");
    let results = results(&dir)?;
    let stage = load(&results)?;
    let attempts = stage["agents"].as_array().context("no agents")?.len();
    let again = results["operations"].as_array().context("no ledger")?.iter();
    let replaced = again.filter(|row| row["attempt"].as_u64() > Some(0)).count();
    let text = format!("{killed} killed, {replaced} replacements, {attempts} attempts in the result");
    ensure!(ended.code == 2, "exit code {} instead of 2; {text}", ended.code);
    ensure!(replaced == killed, "{text}");
    // Somebody worked in every second.
    let seconds: std::collections::HashSet<u64> =
        stage["series"].as_array().into_iter().flatten().filter_map(|row| row["second"].as_u64()).collect();
    ensure!(seconds.len() as u64 >= length.as_secs(), "{text}; {} seconds in the series", seconds.len());
    Ok(text)
}

/// The operator at scale; see crates/operator/benches/scale.
pub fn scale(what: &str) -> Found {
    let figures = crate::scale::run(&[what], false, false)?;
    let text = |figure: &crate::scale::Figure| format!("{}: {}", figure.name, figure.figure);
    let all: Vec<String> = figures.iter().map(text).collect();
    let missed: Vec<String> = figures.iter().filter(|figure| !figure.met).map(text).collect();
    ensure!(missed.is_empty(), "{}, which misses its goal", missed.join("; "));
    Ok(all.join("; "))
}
