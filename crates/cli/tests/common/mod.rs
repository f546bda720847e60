//! What the tests of the command share: a run in a directory of its own, its agents by index, its results.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use lockstep_core::results::Report;
use lockstep_core::results::part::StagePart;
use lockstep_testkit::process::{Dir, Ended, Running, children_of, signal, wait_until};
use rustix::process::{Pid, Signal};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A directory in which `lockstep` is run, with its agent built beside it.
pub fn dir() -> Dir {
    let dir = Dir::new(env!("CARGO_BIN_EXE_lockstep"));
    let _ = dir.beside("lockstep-agent");
    dir
}

/// An agent of a run: index, attempt, process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    pub index: u32,
    pub attempt: u32,
    pub pid: Pid,
}

/// The living agents of a run, by what their command lines say.
pub fn agents(run: Pid) -> Vec<Agent> {
    let of = |pid: Pid| {
        let line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        let words: Vec<&str> =
            line.split(|byte| *byte == 0).filter_map(|word| str::from_utf8(word).ok()).collect();
        let value = |name: &str| words.windows(2).find(|pair| pair[0] == name)?[1].parse().ok();
        Some(Agent { index: value("--index")?, attempt: value("--attempt")?, pid })
    };
    children_of(run).into_iter().filter_map(of).collect()
}

/// Ends the living attempt of an agent with SIGKILL, and says which it was.
#[track_caller]
pub fn kill_agent(run: Pid, index: u32) -> Agent {
    let mut found = None;
    wait_until(LONG, || {
        found = agents(run).into_iter().find(|agent| agent.index == index);
        found.is_some()
    });
    let agent = found.unwrap_or_else(|| panic!("agent {index} does not live"));
    signal(agent.pid, Signal::KILL);
    agent
}

/// Whether a process lives (a zombie does not).
pub fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// The results directories below `lockstep-results`, in order of their names.
pub fn results(dir: &Dir) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.path().join("lockstep-results"));
    let mut paths: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The report in a results directory.
#[track_caller]
pub fn report_in(results: &Path) -> Report {
    let path = results.join("results.json");
    let json = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The report of the only run in a directory.
#[track_caller]
pub fn report(dir: &Dir) -> Report {
    let found = results(dir);
    assert_eq!(found.len(), 1, "one run, one results directory: {found:?}");
    report_in(&found[0])
}

/// Every file below a path, with its content; directories with none. Empty when it is not there.
pub fn listing(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.insert(path.clone(), None);
                open.push(path);
            } else {
                let content = std::fs::read(&path).unwrap_or_default();
                found.insert(path, Some(content));
            }
        }
    }
    found
}

/// How many files of data lie below a path: all but the marker, the lock and their kin.
pub fn data_files(path: &Path) -> u64 {
    let own =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".lockstep"));
    let mut count = 0;
    let mut open = vec![path.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                _ => count += u64::from(!own(&entry.path())),
            }
        }
    }
    count
}

/// Waits until so many files of data lie below a path.
#[track_caller]
pub fn wait_for_files(run: &mut Running, path: &Path, at_least: u64) {
    let reached = wait_until(LONG, || data_files(path) >= at_least || !run.is_running());
    assert!(
        reached && data_files(path) >= at_least,
        "the run ended early:\n{}{}",
        run.stdout(),
        run.stderr()
    );
}

/// Runs a manifest to its end, quietly, which must come within [`LONG`]; `more` are further arguments.
#[track_caller]
pub fn run_quietly(dir: &Dir, manifest: &str, more: &[&str]) -> Ended {
    dir.write("run.yaml", manifest);
    dir.command().args(["run", "--quiet", "-f", "run.yaml"]).args(more).run(LONG)
}

/// Every part that was handed in, by stage, agent and attempt.
#[track_caller]
pub fn parts_in(results: &Path) -> Vec<StagePart> {
    let entries = std::fs::read_dir(results.join("parts")).expect("a run keeps its parts");
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        StagePart::from_bytes(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let mut parts: Vec<_> = entries.flatten().map(|entry| read(entry.path())).collect();
    parts.sort_by_key(|part| (part.stage, part.agent, part.attempt));
    parts
}

/// Panics unless this is a failure in four parts: what failed, its cause, and what is likely or comes next.
#[track_caller]
pub fn expect_problem(stderr: &str) {
    let has = |part: &str| stderr.lines().any(|line| line.starts_with(part) && line.len() > part.len());
    assert!(has("✖ ") && has("  cause      ") && (has("  likely     ") || has("  next       ")), "{stderr}");
}
