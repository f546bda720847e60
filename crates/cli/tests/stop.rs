//! Ctrl-C and its kin, with real processes: load stops at once, results are kept, cleanup runs if asked, nothing is left.

mod common;

use common::{Agent, LONG, agents, data_files, dir, lives, report, results, wait_for_files};
use lockstep_core::results::Report;
use lockstep_core::thresholds::Outcome;
use lockstep_testkit::process::{Dir, Running, children_of, signal, wait_until};
use rustix::process::Signal;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// Objects of the data set.
const OBJECTS: u64 = 2_000;

/// A run that puts 1,000 objects a second for far longer than any test waits, and then does as `cleanup` says.
fn manifest(dir: &Dir, objects: u64, cleanup: &str) {
    let text = format!(
        "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: stop}}
spec:
  seed: 7
  agents: {{replicas: 4}}
  target: {{uri: \"file://{}\"}}
  dataset: {{objects: {objects}, size: {{fixed: 1Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 1}}}}
    - name: mixed
      execute:
        duration: 5m
        concurrency: 1
        rate: {{operationsPerSecond: 1000}}
        operations: [{{op: Put, weight: 100, size: {{fixed: 1Ki}}}}]
{cleanup}",
        dir.path().join("place").display()
    );
    dir.write("run.yaml", text);
}

const ALWAYS: &str = "    - {name: cleanup, cleanup: {concurrency: 1}, runOn: Always}\n";
const ON_SUCCESS: &str = "    - {name: cleanup, cleanup: {concurrency: 1}, runOn: Success}\n";

/// A run that measures: its agents, and itself.
fn measuring(dir: &Dir) -> (Running, Vec<Agent>) {
    let mut run = dir.command().args(["run", "-f", "run.yaml"]).start();
    wait_for_files(&mut run, &dir.path().join("place"), OBJECTS + 1_500);
    let agents = agents(run.pid());
    assert_eq!(agents.len(), 4);
    (run, agents)
}

/// When the newest file of data below a path was written.
fn last_write(path: &Path) -> SystemTime {
    let entries = std::fs::read_dir(path).expect("a directory");
    let times = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        if metadata.is_dir() {
            return Some(last_write(&entry.path()));
        }
        let own = entry.file_name().to_string_lossy().starts_with(".lockstep");
        (!own).then(|| metadata.modified().ok())?
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Whether the results of stage `mixed` are written: every agent's part of it, and the report with them.
fn results_written(dir: &Dir) -> bool {
    let Some(results) = results(dir).pop() else { return false };
    let json = std::fs::read(results.join("results.json")).unwrap_or_default();
    let Ok(report) = serde_json::from_slice::<Report>(&json) else { return false };
    report.stages.get(2).is_some_and(|stage| stage.agents.len() == 4)
}

#[test]
fn a_signal_stops_the_load_within_a_second_and_keeps_the_results_within_two() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = dir();
        let place = dir.path().join("place");
        manifest(&dir, OBJECTS, ON_SUCCESS);
        let (mut run, agents) = measuring(&dir);
        let (at, wall) = (Instant::now(), SystemTime::now());
        run.signal(signal);
        run.wait_for("stopping: I/O ends within a second", LONG);
        assert!(wait_until(LONG, || results_written(&dir)));
        let written = at.elapsed();
        let ended = run.wait(LONG);
        let over = at.elapsed();
        let last = last_write(&place).duration_since(wall).unwrap_or_default();
        println!("{signal:?}: last write {last:?}, results {written:?}, over {over:?}");
        ended.expect_code(3);
        assert!(last < Duration::from_secs(1), "written {last:?} after the signal");
        assert!(written < Duration::from_secs(2), "results {written:?} after the signal");
        assert!(wait_until(Duration::from_secs(3), || agents.iter().all(|agent| !lives(agent.pid))));

        let report = report(&dir);
        assert_eq!((report.outcome, report.exit_code), (Outcome::Aborted, 3));
        let stage = &report.stages[2];
        let puts = stage.total.count;
        assert!(puts >= 1_500 && stage.agents.len() == 4, "{puts} puts, {:?}", stage.agents);
        assert_eq!(data_files(&place), OBJECTS + puts, "each put that counts is there, and nothing else");
        // The series ends where the load did.
        let window_s =
            stage.agents.iter().map(|row| row.window_ns).max().unwrap_or(0).div_ceil(1_000_000_000);
        let last_second =
            stage.series.iter().filter(|row| row.count > 0).map(|row| u64::from(row.second)).max();
        assert!(last_second.is_some_and(|second| second <= window_s), "{last_second:?} of {window_s}");
        assert!(ended.stdout.contains("Aborted"), "{}", ended.stdout);
        assert!(ended.stderr.contains("nothing is cleaned up"), "{}", ended.stderr);
    }
}

#[test]
fn a_signal_is_followed_by_the_cleanup_that_was_asked_for() {
    for signal in [Signal::INT, Signal::TERM] {
        let dir = dir();
        manifest(&dir, OBJECTS, ALWAYS);
        let (mut run, agents) = measuring(&dir);
        run.signal(signal);
        let ended = run.wait(LONG);
        ended.expect_code(3);
        assert!(!dir.path().join("place").exists(), "cleanup leaves nothing");
        let report = report(&dir);
        assert_eq!(report.outcome, Outcome::Aborted);
        assert_eq!((report.stages[3].kind.as_str(), report.stages[3].state.as_str()), ("cleanup", "Done"));
        assert!(report.stages[3].total.count >= OBJECTS + 1_500, "{:?}", report.stages[3].total);
        assert!(
            ended.stderr.contains("then cleanup runs") && ended.stderr.contains("✔ cleanup"),
            "{}",
            ended.stderr
        );
        assert!(wait_until(Duration::from_secs(3), || agents.iter().all(|agent| !lives(agent.pid))));
    }
}

#[test]
fn a_second_signal_skips_cleanup_and_says_what_is_left() {
    let dir = dir();
    let place = dir.path().join("place");
    // Enough to clean up for a while.
    manifest(&dir, 60_000, ALWAYS);
    let mut run = dir.command().args(["run", "-f", "run.yaml"]).start();
    wait_for_files(&mut run, &place, 60_000 + 1_000);
    let agents = agents(run.pid());
    run.signal(Signal::INT);
    run.wait_for("▶ cleanup", LONG);
    run.signal(Signal::INT);
    let at = Instant::now();
    let ended = run.wait(LONG);
    println!("over {:?} after the second signal", at.elapsed());
    ended.expect_code(3);
    assert!(at.elapsed() < Duration::from_secs(5), "{:?}", at.elapsed());
    let left = data_files(&place);
    assert!(left > 0, "cleanup was over before it could be skipped");
    assert!(ended.stderr.contains("skipping cleanup: about "), "{}", ended.stderr);
    assert!(ended.stderr.contains("objects stay under file://"), "{}", ended.stderr);
    assert_eq!(report(&dir).outcome, Outcome::Aborted);
    assert!(wait_until(Duration::from_secs(3), || agents.iter().all(|agent| !lives(agent.pid))));

    assert_the_next_run_removes_everything(&dir);
}

/// What is left of a run is still a data set of ours, with what its stages have put: the same manifest, measuring for
/// a second, removes all of it.
#[track_caller]
fn assert_the_next_run_removes_everything(dir: &Dir) {
    let place = dir.path().join("place");
    dir.write("run.yaml", dir.read("run.yaml").replace("duration: 5m", "duration: 1s"));
    let ended = dir.command().args(["run", "-f", "run.yaml"]).run(LONG);
    ended.expect_code(0);
    assert!(!place.exists(), "{} files stay: {}", data_files(&place), ended.stderr);
}

#[test]
fn what_a_killed_run_has_put_is_removed_by_the_next_one() {
    let dir = dir();
    manifest(&dir, OBJECTS, ALWAYS);
    let (mut run, agents) = measuring(&dir);
    // All at once: nobody is left to write anything down.
    agents.iter().for_each(|agent| signal(agent.pid, Signal::KILL));
    run.signal(Signal::KILL);
    run.wait(LONG).expect_code(128 + 9);
    assert!(data_files(&dir.path().join("place")) > OBJECTS + 1_000);
    assert_the_next_run_removes_everything(&dir);
}

#[test]
fn a_run_without_cleanup_leaves_a_place_to_reuse_and_to_clean_up() {
    let dir = dir();
    let place = dir.path().join("place");
    manifest(&dir, OBJECTS, "");
    let whole = dir.read("run.yaml").replace("duration: 5m", "duration: 1s");
    let run = |text: &str| {
        dir.write("run.yaml", text);
        dir.command().args(["run", "-f", "run.yaml"]).run(LONG).expect_code(0);
    };
    let (measure, head) = (whole.find("    - name: mixed"), whole.find("    - {name: prepare"));
    let (measure, head) = (measure.expect("a stage"), head.expect("a stage"));
    // Prepared, and nothing else; then used as it stands, twice; then removed.
    run(&whole[..measure]);
    let reuse = format!("{}{}", &whole[..head], &whole[measure..]);
    let reuse =
        reuse.replace("size: {fixed: 1Ki}}\n  start", "size: {fixed: 1Ki}, existing: Reuse}\n  start");
    assert!(reuse.contains("Reuse"), "{reuse}");
    run(&reuse);
    let once = data_files(&place);
    assert!(once > OBJECTS, "{once}");
    run(&reuse);
    assert!(data_files(&place) > once, "the second run puts beside what the first one has put");
    run(&format!("{}{ALWAYS}", &whole[..head]));
    assert!(!place.exists(), "{} files stay", data_files(&place));
}

#[test]
fn no_process_outlives_a_run_however_it_ends() {
    for signal in [None, Some(Signal::KILL)] {
        let dir = dir();
        manifest(&dir, OBJECTS, ALWAYS);
        if signal.is_none() {
            dir.write("run.yaml", dir.read("run.yaml").replace("duration: 5m", "duration: 2s"));
        }
        let mut run = dir.command().args(["run", "-f", "run.yaml"]).start();
        wait_for_files(&mut run, &dir.path().join("place"), OBJECTS + 100);
        let (pid, agents) = (run.pid(), agents(run.pid()));
        assert_eq!(agents.len(), 4);
        if let Some(signal) = signal {
            run.signal(signal);
        }
        let ended = run.wait(LONG);
        let at = Instant::now();
        let gone = wait_until(Duration::from_secs(3), || agents.iter().all(|agent| !lives(agent.pid)));
        println!("{signal:?}: code {}, agents gone after {:?}", ended.code, at.elapsed());
        assert!(
            gone,
            "agents live on: {:?}",
            agents.iter().filter(|agent| lives(agent.pid)).collect::<Vec<_>>()
        );
        assert!(children_of(pid).is_empty());
        assert_eq!(ended.code, if signal.is_some() { 128 + 9 } else { 0 });
    }
}

#[test]
fn a_run_that_is_killed_keeps_each_stage_that_was_over_and_report_says_interrupted() {
    let dir = dir();
    manifest(&dir, OBJECTS, ALWAYS);
    let mut run = dir.command().args(["run", "-f", "run.yaml"]).start();
    // The line is printed once the stage's receipts are out.
    run.wait_for("✔ prepare", LONG);
    let agents = agents(run.pid());
    run.signal(Signal::KILL);
    run.wait(LONG).expect_code(128 + 9);
    assert!(wait_until(Duration::from_secs(3), || agents.iter().all(|agent| !lives(agent.pid))));

    let results = results(&dir).pop().expect("a results directory");
    let shown = dir.command().arg("report").arg(&results).run(LONG);
    shown.expect_code(1);
    assert!(shown.stdout.contains("Interrupted"), "{}", shown.stdout);
    assert!(shown.stdout.contains("2,000 of 2,000 objects are there"), "{}", shown.stdout);
    let puts = shown.stdout.lines().find(|line| line.trim_start().starts_with("Put "));
    assert!(puts.is_some_and(|line| line.contains(" 2,000 ")), "{}", shown.stdout);
}
