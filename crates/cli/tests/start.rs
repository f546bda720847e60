//! Agents start together: within a millisecond however far apart their clocks are, and never alone.
//!
//! Every agent has a monotonic clock of its own here, by a time namespace whose offset the test chose, and a wall clock
//! that is minutes wrong. All of them are one kernel clock, though, so the test knows the true skew, and can hold
//! the reported one against it.

mod common;

use lockstep_core::results::StagePart;
use lockstep_core::thresholds::Outcome;
use lockstep_testkit::process::{Dir, Running, signal, wait_until};
use lockstep_testkit::proxy::{Network, Proxy};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Starts per run; a manifest has at most 32 stages.
const STARTS: u32 = 10;
/// Offsets of the two agents' monotonic clocks in seconds, run by run.
const MONOTONIC_S: [[u64; 2]; 2] = [[0, 100_000], [86_399, 7]];
/// Offsets of their wall clocks in seconds.
const WALL_S: [i64; 2] = [-300, 300];

/// Makes the wall clock of a process wrong by `WALL_OFFSET_S` seconds.
const WALL_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = syscall(SYS_clock_gettime, clock, at);
    const char *offset = getenv("WALL_OFFSET_S");
    if (clock == CLOCK_REALTIME && offset) at->tv_sec += atol(offset);
    return result;
}
"#;

/// One test at a time: each wants both cores to itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a program that stands in for the agent: `script` runs with `$index` set, `$agent` the agent's program, and
/// the agent's arguments as its own.
fn stand_in(dir: &Dir, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let agent = dir.beside("lockstep-agent");
    let head =
        "#!/bin/sh\nindex=; name=\nfor word; do [ \"$name\" = --index ] && index=$word; name=$word; done\n";
    let path = dir.write("agent.sh", format!("{head}agent='{}'\n{script}\n", agent.display()));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .expect("a script that may be run");
    path
}

/// A library that makes wall clocks wrong.
fn wall_clock(dir: &Dir) -> PathBuf {
    let (source, library) = (dir.write("wall.c", WALL_CLOCK), dir.path().join("wall.so"));
    let output =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs a C compiler, `cc`: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// Panics where a process cannot be given a clock of its own.
fn need_time_namespaces() {
    let output =
        Command::new("unshare").args(["--time", "--monotonic", "100000", "cat", "/proc/uptime"]).output();
    let output = output.unwrap_or_else(|error| panic!("this test needs `unshare` of util-linux: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs root and Linux 6.3, for time namespaces: {said}");
}

fn starts_manifest() -> String {
    let mut manifest = r#"
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: starts}
spec:
  agents: {replicas: 2}
  target: {uri: "null://"}
  dataset: {objects: 100, size: {fixed: 0}, existing: Reuse}
  start: {maxSkew: 10s}
  stages:
"#
    .to_owned();
    let load =
        "rate: {operationsPerSecond: 20, arrival: Deterministic}, concurrency: 1, operations: [{op: Get}]";
    for stage in 0..STARTS {
        writeln!(manifest, "    - {{name: s{stage}, execute: {{duration: 200ms, {load}}}}}")
            .expect("a string");
    }
    manifest
}

/// When the logs of the agents of a run begin, by the agents' own wall clocks, seconds of the day.
fn log_times(results: &Path) -> [i64; 2] {
    [0, 1].map(|index| {
        let log =
            std::fs::read_to_string(results.join(format!("agents/agent-{index}-0.log"))).expect("a log");
        let time = log.split_once('T').expect("a line begins with its time").1;
        let part = |at: usize| time[at..at + 2].parse::<i64>().expect("digits");
        part(0) * 3600 + part(3) * 60 + part(6)
    })
}

#[test]
fn agents_start_within_a_millisecond_and_the_reported_skew_is_true_whatever_their_clocks_say() {
    let _alone = alone();
    need_time_namespaces();
    let (mut skews_us, mut errors_us, mut first_us) = (Vec::new(), Vec::new(), Vec::new());
    for offsets_s in MONOTONIC_S {
        let dir = common::dir();
        let library = wall_clock(&dir);
        let [one, two] = offsets_s;
        let agent = stand_in(
            &dir,
            &format!(
                "case $index in 0) s={one} w={};; 1) s={two} w={};; esac\nexport WALL_OFFSET_S=$w LD_PRELOAD='{}'\n\
                 exec unshare --time --monotonic $s \"$agent\" \"$@\"",
                WALL_S[0],
                WALL_S[1],
                library.display()
            ),
        );
        let named = agent.to_str().expect("a path in UTF-8");
        common::run_quietly(&dir, &starts_manifest(), &["--agent-binary", named]).expect_code(0);
        let (report, results) = (common::report(&dir), &common::results(&dir)[0]);
        let times = log_times(results);
        let apart_s = (times[1] - times[0]).rem_euclid(86_400);
        assert!((595..=605).contains(&apart_s), "the wall clocks are wrong as intended: {apart_s} s apart");
        let parts = common::parts_in(results);
        for stage in 1..=STARTS {
            let of = |agent: u32| -> &StagePart {
                let part = parts.iter().find(|part| (part.stage, part.agent) == (stage, agent));
                part.unwrap_or_else(|| panic!("stage {stage} of agent {agent}"))
            };
            let released = |agent: u32| {
                let own_ns = of(agent).released_ns.expect("it was released");
                let offset_ns = offsets_s[agent as usize] * 1_000_000_000;
                assert!(own_ns >= offset_ns, "the agent's clock is not that of its namespace");
                (own_ns - offset_ns, of(agent).released_coordinator_ns.expect("the coordinator knows it"))
            };
            // The first arrival is due at the start, on every agent.
            let first = |agent: u32| {
                let own_ns = of(agent).first_operation_ns.expect("it did something");
                own_ns.cast_signed() - (offsets_s[agent as usize] * 1_000_000_000).cast_signed()
            };
            first_us.push(first(0).abs_diff(first(1)) / 1000);
            let ((true_0, told_0), (true_1, told_1)) = (released(0), released(1));
            let start = &report.stages[stage as usize].start;
            let (bound_us, told_us) =
                (start.clock_error_micros.expect("a bound"), start.skew_micros.expect("a skew"));
            let true_ns = true_1.cast_signed() - true_0.cast_signed();
            let told_ns = told_1.cast_signed() - told_0.cast_signed();
            let off_ns = true_ns.abs_diff(told_ns);
            assert!(
                off_ns <= bound_us * 1000 + 999,
                "stage {stage}: the skew is {true_ns} ns, reported are {told_ns} ns ± {bound_us} µs"
            );
            // The document rounds to microseconds.
            assert!(
                told_us.abs_diff(told_ns.unsigned_abs() / 1000) <= 1,
                "stage {stage}: {told_us} µs, {told_ns} ns"
            );
            skews_us.push(true_ns.unsigned_abs() / 1000);
            errors_us.push(off_ns / 1000);
        }
    }
    skews_us.sort_unstable();
    errors_us.sort_unstable();
    first_us.sort_unstable();
    let median_us = skews_us[skews_us.len() / 2];
    let median_first_us = first_us[first_us.len() / 2];
    println!("true skew of {} starts, µs: {skews_us:?}; reported off by, µs: {errors_us:?}", skews_us.len());
    println!("true skew of first operations, µs: {first_us:?}");
    assert!(median_first_us <= 1000, "the median for first operations is {median_first_us} µs: {first_us:?}");
    assert!(median_us <= 1000, "the median of the true skew is {median_us} µs: {skews_us:?}");
}

const ALONE: &str = r#"
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: alone}
spec:
  agents: {replicas: 2}
  target: {uri: "null://"}
  dataset: {objects: 100, size: {fixed: 0}, existing: Reuse}
  start: {delay: DELAY, leadTime: LEAD, maxSkew: 10s}
  failurePolicy: {mode: BestEffort, retryAttempts: 0}
  stages:
    - name: read
      execute: {duration: 500ms, concurrency: 1, rate: {operationsPerSecond: 20}, operations: [{op: Get}]}
"#;

/// Starts a run, and waits until its first start is being counted down.
fn counting_down(dir: &Dir, manifest: &str, agent: Option<&Path>) -> Running {
    dir.write("run.yaml", manifest);
    let mut command = dir.command().args(["run", "-f", "run.yaml"]);
    if let Some(agent) = agent {
        command = command.arg("--agent-binary").arg(agent);
    }
    command.start()
}

/// Waits until a file below the results directory of the only run contains a text.
#[track_caller]
fn wait_for_line(dir: &Dir, file: &str, text: &str) {
    let read = || common::results(dir).first().map(|results| std::fs::read_to_string(results.join(file)));
    let found =
        wait_until(common::LONG, || read().is_some_and(|read| read.is_ok_and(|read| read.contains(text))));
    assert!(found, "{file} never said `{text}`:\n{:?}", read());
}

fn log(dir: &Dir, agent: u32) -> String {
    let path = common::results(dir)[0].join(format!("agents/agent-{agent}-0.log"));
    std::fs::read_to_string(path).expect("an agent has a log")
}

#[test]
fn nobody_starts_while_one_has_not_acknowledged() {
    let _alone = alone();
    let dir = common::dir();
    let mut run = counting_down(&dir, &ALONE.replace("DELAY", "4s").replace("LEAD", "200ms"), None);
    wait_for_line(&dir, "coordinator.log", "Countdown");
    let deaf = common::agents(run.pid()).into_iter().find(|agent| agent.index == 1).expect("agent 1 lives");
    signal(deaf.pid, Signal::STOP);
    // The first start came and went without agent 1: it is armed again.
    wait_for_line(&dir, "coordinator.log", "round 2");
    let others = log(&dir, 0);
    assert!(others.contains("says=Armed"), "agent 0 acknowledged the first start:\n{others}");
    assert!(!others.contains("says=Started"), "agent 0 started alone:\n{others}");
    signal(deaf.pid, Signal::CONT);
    assert!(run.is_running(), "{}", run.stderr());
    run.wait(common::LONG).expect_code(0);
    let report = common::report(&dir);
    let start = &report.stages[1].start;
    assert!(start.rearmed >= 1, "{start:?}");
    let parts = common::parts_in(&common::results(&dir)[0]);
    let started = parts.iter().filter(|part| part.stage == 1 && part.released_ns.is_some()).count();
    assert_eq!((report.outcome, started), (Outcome::Succeeded, 2), "both start, together: {start:?}");
}

#[test]
fn whoever_has_no_commit_does_not_start_and_says_so() {
    let _alone = alone();
    let dir = common::dir();
    // Agent 1 reaches its coordinator through a proxy, which is made once the coordinator's address is known.
    let agent = stand_in(
        &dir,
        &format!(
            "[ $index = 0 ] && exec \"$agent\" \"$@\"\nshift\necho \"$1\" > '{0}/up.new'; mv '{0}/up.new' '{0}/up'\n\
             while [ ! -f '{0}/proxy' ]; do sleep 0.01; done\nshift\n\
             exec \"$agent\" --coordinator \"$(cat '{0}/proxy')\" \"$@\"",
            dir.path().display()
        ),
    );
    let manifest = ALONE.replace("DELAY", "7s").replace("LEAD", "5s");
    let run = counting_down(&dir, &manifest, Some(&agent));
    assert!(wait_until(common::LONG, || dir.path().join("up").exists()), "{}", run.stderr());
    let proxy = Proxy::start(dir.read("up").trim().parse().expect("an address"));
    let made = dir.write("proxy.new", proxy.address().to_string());
    std::fs::rename(made, dir.path().join("proxy")).expect("the address is passed on");

    wait_for_line(&dir, "coordinator.log", "Countdown");
    let slow = common::agents(run.pid()).into_iter().find(|agent| agent.index == 0).expect("agent 0 lives");
    signal(slow.pid, Signal::STOP);
    // Agent 1 has acknowledged, agent 0 has not, so there is no commit yet; none gets through to agent 1 from here on.
    wait_for_line(&dir, "agents/agent-1-0.log", "says=Armed");
    proxy.set(Network::HoldDown);
    signal(slow.pid, Signal::CONT);
    wait_for_line(&dir, "coordinator.log", "Committed");
    wait_for_line(&dir, "agents/agent-1-0.log", "says=MissedStart");
    wait_for_line(&dir, "agents/agent-0-0.log", "says=Started");
    proxy.set(Network::Pass);
    let ended = run.wait(common::LONG);
    assert!(!log(&dir, 1).contains("says=Started"), "it started without a commit:\n{}", log(&dir, 1));
    let report = common::report(&dir);
    ended.expect_code(2);
    assert_eq!(report.outcome, Outcome::Partial, "a window of one agent is missing, and that is said");
    let told = |what: &str| report.timeline.iter().any(|event| event.what == what && event.agent == Some(1));
    assert!(told("LeftBehind"), "{:?}", report.timeline);
    let released = |agent| {
        let parts = common::parts_in(&common::results(&dir)[0]);
        parts.iter().any(|part| (part.stage, part.agent) == (1, agent) && part.released_ns.is_some())
    };
    assert_eq!((released(0), released(1)), (true, false));
    assert!(ended.took < Duration::from_secs(40), "{:?}", ended.took);
}
