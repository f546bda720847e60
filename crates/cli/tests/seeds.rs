//! The four incidents that this project began with, as tests with real processes: each bears the name of its test
//! case. Slow targets and bad networks are made; nothing sleeps to be right.

#[path = "common/lab.rs"]
mod lab;

use lab::{
    Lab, SOON, agents_of, alone, assert_every_second, assert_exact, is_gone, longest_pause, on_s3, told_at_ms,
};
use lockstep_testkit::process::{Running, wait_until};
use lockstep_testkit::proxy::{Network, Proxy};
use lockstep_testkit::raw::closed_port;
use lockstep_testkit::s3::{Fault, TestS3};
use rustix::process::Signal;
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// Updates are at most this far apart.
const CADENCE: Duration = Duration::from_secs(2);
/// What a look at the output, on a busy machine, adds.
const LOOK: Duration = Duration::from_millis(500);

/// 24^4 directories, and 3 files in each, on a target that takes a millisecond for every call.
const TREE: &str = "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: tree}
spec:
  agents: {replicas: 2}
  target: {uri: \"mem://\", options: {latency: 1ms}}
  dataset:
    tree: {width: 24, depth: 4, filesPerDirectory: 3}
    size: {fixed: 1Ki}
    sharing: PerAgent
    existing: FillGaps
  stages:
    - {name: prepare, prepare: {concurrency: 16}}
";

/// A prepare that does not end before its test.
const ENDLESS: &str = "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: endless}
spec:
  agents: {replicas: 4}
  target: {uri: \"mem://\", options: {latency: 5ms}}
  dataset: {objects: 10000000, size: {fixed: 1Ki}, sharing: PerAgent}
  stages:
    - {name: prepare, prepare: {concurrency: 4}}
  failurePolicy: {mode: FailFast, reconnectGrace: 3s, orphanGrace: 5s}
";

/// The number in front of ` of 1,990,656 …` that stands last in a text.
fn files_done(text: &str) -> Option<u64> {
    let (before, _) = text.rsplit_once(" of 1,990,656 objects")?;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit() && c != ',').next()?;
    digits.replace(',', "").parse().ok()
}

/// The files that the last progress object tells.
fn files_in_json(text: &str) -> Option<u64> {
    let complete = &text[..text.rfind('\n')?];
    let line = complete.lines().rev().find(|line| line.contains("\"type\":\"progress\""))?;
    let object: Value = serde_json::from_str(line).expect("an object per line");
    let prepare = object["stages"].as_array()?.iter().find(|stage| stage["name"] == "prepare")?.clone();
    (prepare["state"] == "Working").then(|| prepare["done"].as_u64())?
}

#[test]
fn tree_manifest_timeout_progress_is_at_most_2_s_apart_in_json_and_on_the_control_stream() {
    let _alone = alone();
    let lab = Lab::new();
    let mut run = lab.run(TREE, &["--json"]);
    run.wait_for("\"stage\":\"prepare\"", SOON);
    let (longest, done, changes) = longest_pause(Duration::from_secs(15), || files_in_json(&run.stdout()));
    println!("json: longest pause {longest:?}, {done} of 1,990,656 files, {changes} updates");
    assert!(longest <= CADENCE + LOOK, "{longest:?} without an update");
    assert!(changes >= 7 && done > 10_000, "{changes} updates up to {done} files");
    run.signal(Signal::INT);
    let ended = run.wait(SOON).expect_code(3).clone();
    assert!(!ended.stderr.contains("timeout") && !ended.stderr.contains("h2"), "{}", ended.stderr);
    let report = lab.report();
    for agent in lab::stage(&report, "prepare")["agents"].as_array().expect("agents") {
        let gap_ns = agent["network"]["gapMaxNs"].as_u64().expect("a gap");
        println!("control stream: longest gap {:.3} s", gap_ns as f64 / 1e9);
        assert!(gap_ns <= CADENCE.as_nanos() as u64, "beats were answered {gap_ns} ns apart");
        assert!(agent["network"]["heartbeats"].as_u64() >= Some(12), "{agent:#}");
    }
}

#[test]
fn tree_manifest_timeout_progress_is_shown_on_terminals_and_in_lines() {
    let _alone = alone();
    let (on_terminal, in_lines) = (Lab::new(), Lab::new());
    on_terminal.dir.write("run.yaml", TREE);
    let binary = env!("CARGO_BIN_EXE_lockstep");
    let mut script = Command::new("script");
    script
        .args([
            "-qec",
            &format!("stty rows 24 cols 200; exec {binary} run -f run.yaml --results results"),
            "/dev/null",
        ])
        .current_dir(on_terminal.dir.path())
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    let mut terminal = Running::start(&mut script);
    let mut lines = in_lines.run(TREE, &[]);
    lines.wait_for("▶ prepare", SOON);
    terminal.wait_for(" of 1,990,656 objects", SOON);
    let (longest, done, changes) = longest_pause(Duration::from_secs(11), || files_done(&terminal.stdout()));
    println!("terminal: longest pause {longest:?}, {done} files, {changes} updates");
    assert!(longest <= CADENCE + LOOK, "{longest:?} without an update");
    assert!(changes >= 5, "{changes} updates");
    let second = wait_until(Duration::from_secs(5), || lines.stderr().matches("▶ prepare").count() >= 2);
    assert!(second, "no second line within 15 s:\n{}", lines.stderr());
    assert!(files_done(&lines.stderr()) > Some(0), "{}", lines.stderr());
    lines.signal(Signal::INT);
    lines.wait(SOON).expect_code(3);
}

#[test]
fn controller_dies_mid_workload_agents_stop_at_once_when_it_is_killed() {
    let _alone = alone();
    let lab = Lab::new();
    let mut run = lab.run(ENDLESS, &["--json"]);
    let agents = agents_of(&run, 4);
    assert!(wait_until(SOON, || files_in_json(&run.stdout()) > Some(100)), "{}", run.stderr());
    let killed = Instant::now();
    run.signal(Signal::KILL);
    assert!(wait_until(SOON, || agents.iter().all(|pid| is_gone(*pid))), "agents outlive their coordinator");
    let took = killed.elapsed();
    println!("4 agents were gone {took:?} after their coordinator");
    assert!(took <= CADENCE + LOOK, "agents ended {took:?} after the coordinator");
    for agent in 0..4 {
        let log = lab.agent_log(agent);
        assert!(log.contains("orphaned: stopping reason=\"the coordinator's process is gone\""), "{log}");
    }
}

#[test]
fn controller_dies_mid_workload_agents_stop_at_orphan_grace_when_it_hangs() {
    let _alone = alone();
    let lab = Lab::new();
    let mut run = lab.run(ENDLESS, &["--json"]);
    let agents = agents_of(&run, 4);
    assert!(wait_until(SOON, || files_in_json(&run.stdout()) > Some(100)), "{}", run.stderr());
    let stopped = Instant::now();
    run.signal(Signal::STOP);
    assert!(wait_until(SOON, || agents.iter().any(|pid| is_gone(*pid))), "agents outlive their grace");
    let first = stopped.elapsed();
    assert!(wait_until(SOON, || agents.iter().all(|pid| is_gone(*pid))), "agents outlive their grace");
    let took = stopped.elapsed();
    println!("4 agents ended {first:?} to {took:?} after their coordinator was stopped");
    assert!(
        first >= Duration::from_millis(3_900),
        "an agent gave up after {first:?}, before its grace of 5 s"
    );
    assert!(took <= Duration::from_secs(7), "an agent ended after {took:?}");
    assert!(lab.agent_log(0).contains("the coordinator was silent for orphanGrace"), "{}", lab.agent_log(0));
    // It was only stopped after all: it finds out, and says so.
    run.signal(Signal::CONT);
    let ended = run.wait(SOON).expect_code(1).clone();
    assert!(
        ended.stderr.contains("was lost in prepare") && ended.stderr.contains("orphanGrace"),
        "{}",
        ended.stderr
    );
    assert_human(&ended.stderr);
}

#[test]
fn transient_network_error_of_5_s_of_refused_dials_costs_nothing() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run_with(&on_s3(&s3, 2, 15, ""), &["--json"], &lab.detour(1));
    let proxy = Proxy::start(lab.coordinator());
    lab.let_dial(proxy.address());
    run.wait_for("\"what\":\"StageBegins\",\"reason\":\"mixed", SOON);
    assert!(wait_until(SOON, || s3.data("GET") > 100), "mixed does not read");
    let connections = proxy.connections();
    proxy.set_for(Network::Refuse, Duration::from_secs(5));
    let dialled = proxy.connections() - connections;
    run.wait(Duration::from_secs(40)).expect_code(0);
    let report = lab.report();
    let total = assert_back(&report, &s3, 15);
    let away = told_at_ms(&report, Some(1), "Disconnected", "").expect("Disconnected");
    let back = told_at_ms(&report, Some(1), "Working", "heard again").expect("heard again");
    println!("refused: {total} operations, away from {away} to {back} ms, {dialled} dials meanwhile");
    assert!((4_000..12_000).contains(&(back - away)), "away from {away} to {back} ms");
    let reconnects = &lab::stage(&report, "mixed")["agents"][1]["network"]["reconnects"];
    assert!(reconnects.as_u64() >= Some(1), "{reconnects}");
}

#[test]
fn transient_network_error_of_20_s_of_held_bytes_costs_nothing() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run_with(&on_s3(&s3, 2, 30, ""), &["--json"], &lab.detour(1));
    let proxy = Proxy::start(lab.coordinator());
    lab.let_dial(proxy.address());
    run.wait_for("\"what\":\"StageBegins\",\"reason\":\"mixed", SOON);
    assert!(wait_until(SOON, || s3.data("GET") > 100), "mixed does not read");
    proxy.set_for(Network::Hold, Duration::from_secs(20));
    run.wait(Duration::from_secs(40)).expect_code(0);
    let report = lab.report();
    let total = assert_back(&report, &s3, 30);
    let away = told_at_ms(&report, Some(1), "Disconnected", "").expect("Disconnected");
    let back = told_at_ms(&report, Some(1), "Working", "heard again").expect("heard again");
    println!("held: {total} operations, away from {away} to {back} ms");
    // Noticed within 12 s, so seen for at least the rest.
    assert!((7_000..20_000).contains(&(back - away)), "away from {away} to {back} ms");
}

/// Panics unless the run went through its gap whole; returns how many operations there were.
fn assert_back(report: &Value, s3: &TestS3, seconds: u64) -> u64 {
    assert_eq!(report["outcome"], "Succeeded", "{:#}", report["problems"]);
    let degraded = report["degraded"].to_string();
    assert!(degraded.contains("agent 1 was disconnected for"), "{degraded}");
    for agent in 0..2 {
        assert_eq!(told_at_ms(report, Some(agent), "Lost", ""), None);
    }
    assert_every_second(report, seconds);
    assert_exact(report, s3, 40)
}

/// Panics unless a text explains itself: four parts, and no bare words of a protocol.
fn assert_human(text: &str) {
    for part in ["✖ ", "cause ", "likely ", "next "] {
        assert!(text.contains(part), "`{part}` is missing:\n{text}");
    }
    let lower = text.to_lowercase();
    for bare in ["h2 ", "http2", "protocol error", "transport error", "grpc", "broken pipe", "status:"] {
        assert!(!lower.contains(bare), "`{bare}` is no word for people:\n{text}");
    }
}

#[test]
fn human_readable_errors_name_the_agent_that_was_killed() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let policy = "  failurePolicy: {mode: FailFast}\n";
    let mut run = lab.run(&on_s3(&s3, 2, 30, policy), &[]);
    run.wait_for("▶ mixed", SOON);
    let agents = agents_of(&run, 2);
    lockstep_testkit::process::signal(agents[1], Signal::KILL);
    let ended = run.wait(SOON).expect_code(1).clone();
    println!("{}", ended.stderr);
    assert_human(&ended.stderr);
    for word in ["run lab stopped", "agent 1 of 2", "in mixed", "signal 9", "FailFast"] {
        assert!(ended.stderr.contains(word), "`{word}` is missing:\n{}", ended.stderr);
    }
}

#[test]
fn human_readable_errors_name_the_agent_that_cannot_be_reached() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let policy = "  failurePolicy: {mode: FailFast, reconnectGrace: 3s, orphanGrace: 5s}\n";
    let mut run = lab.run_with(&on_s3(&s3, 2, 30, policy), &[], &lab.detour(1));
    let proxy = Proxy::start(lab.coordinator());
    lab.let_dial(proxy.address());
    run.wait_for("▶ mixed", SOON);
    proxy.set(Network::Refuse);
    let ended = run.wait(SOON).expect_code(1).clone();
    println!("{}", ended.stderr);
    assert_human(&ended.stderr);
    for word in ["run lab stopped", "agent 1 of 2", "in mixed", "reconnectGrace"] {
        assert!(ended.stderr.contains(word), "`{word}` is missing:\n{}", ended.stderr);
    }
}

#[test]
fn human_readable_errors_name_the_endpoint_that_refuses() {
    let lab = Lab::new();
    let s3 = TestS3::start();
    let closed = format!("http://{}", closed_port());
    let manifest = on_s3(&s3, 2, 30, "").replace(&s3.endpoint(), &closed);
    let ended = lab.run(&manifest, &[]).wait(SOON).expect_code(4).clone();
    println!("{}", ended.stderr);
    assert_human(&ended.stderr);
    for word in ["preflight", "agent ", "s3://bench/lab", &closed, "refused"] {
        assert!(ended.stderr.contains(word), "`{word}` is missing:\n{}", ended.stderr);
    }
}

#[test]
fn human_readable_errors_name_what_is_denied() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run(&on_s3(&s3, 2, 30, "  failurePolicy: {mode: FailFast}\n"), &[]);
    run.wait_for("▶ mixed", SOON);
    let _denied = s3.fault(Fault::deny().verb("GET"));
    let ended = run.wait(SOON).expect_code(1).clone();
    println!("{}", ended.stderr);
    assert_human(&ended.stderr);
    for word in ["mixed", "agent ", "of 2", "s3://bench/lab", &s3.endpoint(), "403 AccessDenied", "GET"] {
        assert!(ended.stderr.contains(word), "`{word}` is missing:\n{}", ended.stderr);
    }
}
