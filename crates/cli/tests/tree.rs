//! A data set is a function: a tree of any size costs no time to plan, none to begin with, and no memory.

mod common;

use lockstep_core::op::Op;
use lockstep_testkit::process::{Running, wait_until};
use lockstep_testkit::s3::{self, TestS3};
use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// 24^4 leaves of 193 files: 64,032,768.
const LARGE: &str = "{width: 24, depth: 4, filesPerDirectory: 193}";

fn manifest(uri: &str, tree: &str, more: &str) -> String {
    format!(
        "apiVersion: lockstep.dev/v1alpha1\nkind: BenchmarkRun\nmetadata: {{name: tree}}\nspec:\n  \
         agents: {{replicas: 2}}\n  target: {uri}\n  start: {{maxSkew: 10s}}\n  \
         dataset: {{tree: {tree}, size: {{fixed: 0}}, EXISTING}}\n{more}"
    )
}

#[test]
fn a_plan_of_64_million_files_takes_no_second_and_no_64_mib() {
    let dir = common::dir();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/tree-large.yaml");
    // Prints the peak of the child's memory in KiB, which only a parent learns.
    let script = "import resource, subprocess, sys\nsubprocess.run(sys.argv[1:], check=True)\n\
                  print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut command = Command::new("python3");
    command
        .current_dir(dir.path())
        .args(["-c", script, env!("CARGO_BIN_EXE_lockstep"), "plan", "-f"])
        .arg(example);
    let ended = Running::start(&mut command).wait(common::LONG);
    ended.expect_code(0);
    assert!(ended.stdout.contains("64,032,768 objects"), "{}", ended.stdout);
    let peak_kib: u64 = ended.stdout.lines().last().and_then(|line| line.parse().ok()).expect("the peak");
    println!("plan: {:?}, {peak_kib} KiB", ended.took);
    assert!(ended.took < Duration::from_secs(1), "{:?}, the interpreter included", ended.took);
    assert!(peak_kib <= 64 << 10, "{peak_kib} KiB");
}

/// The first file below a path, not counting those beside the data.
fn has_file(path: &Path) -> bool {
    std::fs::read_dir(path).into_iter().flatten().flatten().any(|entry| {
        let is_ours = entry.file_name().to_string_lossy().starts_with(".lockstep");
        !is_ours && (entry.file_type().is_ok_and(|kind| kind.is_file()) || has_file(&entry.path()))
    })
}

#[test]
fn the_first_of_64_million_files_is_there_half_a_second_after_the_start() {
    let dir = common::dir();
    let place = dir.path().join("place");
    let uri = format!("{{uri: \"file://{}\"}}", place.display());
    let stages = "  stages:\n    - {name: prepare, prepare: {concurrency: 1}}\n";
    dir.write("run.yaml", manifest(&uri, LARGE, stages).replace("EXISTING", "existing: FillGaps"));
    let mut run = dir.command().args(["run", "--quiet", "-f", "run.yaml"]).start();
    let found = wait_until(common::LONG, || has_file(&place) || !run.is_running());
    let now = clock_gettime(ClockId::Monotonic);
    let seen_ns = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    assert!(found && run.is_running(), "no file came:\n{}", run.stderr());
    run.signal(Signal::INT);
    run.wait(common::LONG).expect_code(3);
    // All of them have this machine's clock, so what the agents were told and what was seen here compare.
    let parts = common::parts_in(&common::results(&dir)[0]);
    let planned_ns = parts.iter().filter(|part| part.stage == 1).map(|part| part.planned_start_ns).min();
    let planned_ns = planned_ns.expect("an agent that is stopped hands in what it did");
    let after = Duration::from_nanos(seen_ns.saturating_sub(planned_ns));
    println!("the first file was seen {after:?} after the planned start");
    assert!(after <= Duration::from_millis(500), "{after:?}");
}

#[test]
fn the_memory_of_an_agent_does_not_grow_with_the_tree() {
    let stages = "  stages:\n    - name: mixed\n      execute:\n        operationCount: 100000\n        concurrency: 4\n        \
                  operations: [{op: Get, weight: 60}, {op: Put, weight: 20}, {op: Head, weight: 20}]\n";
    let (mut peaks, mut firsts) = (Vec::new(), Vec::new());
    // 10^3, 10^6 and 10^10 directories.
    for tree in [[10, 3], [1000, 2], [100_000, 2]] {
        let tree = format!("{{width: {}, depth: {}, filesPerDirectory: 1}}", tree[0], tree[1]);
        let dir = common::dir();
        let text = manifest("{uri: \"null://\"}", &tree, stages).replace("EXISTING", "existing: Reuse");
        common::run_quietly(&dir, &text, &[]).expect_code(0);
        let report = common::report(&dir);
        let stage = &report.stages[1];
        assert_eq!(stage.total.count, 100_000);
        peaks.push(stage.agents.iter().map(|agent| agent.client.max_rss_bytes).max().expect("agents"));
        let parts = common::parts_in(&common::results(&dir)[0]);
        let first = |part: &lockstep_core::results::StagePart| {
            part.first_operation_ns.map(|first_ns| first_ns.saturating_sub(part.planned_start_ns))
        };
        firsts.push(parts.iter().filter(|part| part.stage == 1).filter_map(first).max().expect("operations"));
    }
    println!(
        "peak of an agent at 10^3, 10^6 and 10^10 leaves: {peaks:?} bytes; first operation after {firsts:?} ns"
    );
    let (least, most) = (peaks.iter().min().expect("three"), peaks.iter().max().expect("three"));
    // What malloc and the kernel's accounting vary by, and one byte for each thousand leaves would be ten times as much.
    assert!(most - least <= 1 << 20, "{peaks:?}");
    assert!(firsts.iter().all(|first_ns| *first_ns <= 500_000_000), "{firsts:?}");
}

#[test]
fn the_memory_of_an_agent_does_not_grow_while_a_tree_is_filled() {
    let stages = "  stages:\n    - {name: prepare, prepare: {concurrency: 4}}\n";
    let (mut peaks, mut filled) = (Vec::new(), Vec::new());
    // 10^3, 10^6 and 10^10 directories; the last are far more than can be filled here, so that run is stopped.
    for tree in [[10, 3], [1000, 2], [100_000, 2]] {
        let tree = format!("{{width: {}, depth: {}, filesPerDirectory: 1}}", tree[0], tree[1]);
        let dir = common::dir();
        let text = manifest("{uri: \"null://\"}", &tree, stages).replace("EXISTING", "existing: Overwrite");
        dir.write("run.yaml", text);
        let mut run = dir.command().args(["run", "--quiet", "-f", "run.yaml"]).start();
        wait_until(Duration::from_secs(4), || !run.is_running());
        run.signal(Signal::INT);
        run.wait(common::LONG);
        let report = common::report(&dir);
        let stage = &report.stages[1];
        peaks.push(stage.agents.iter().map(|agent| agent.client.max_rss_bytes).max().expect("agents"));
        filled.push(stage.total.count);
    }
    println!(
        "peak of an agent after filling {filled:?} directories of 10^3, 10^6 and 10^10: {peaks:?} bytes"
    );
    assert_eq!((filled[0], filled[1]), (1_000, 1_000_000));
    assert!(filled[2] > 2_000_000, "{filled:?}");
    let (least, most) = (peaks.iter().min().expect("three"), peaks.iter().max().expect("three"));
    assert!(most - least <= 1 << 20, "{peaks:?}");
}

#[test]
fn a_run_that_only_reads_a_tree_lists_nothing_before_it_begins() {
    let server = TestS3::start();
    let dir = common::dir();
    // Somebody else's object: the place is not empty, and the run trusts that the data is there.
    std::fs::create_dir_all(server.file("tree")).expect("a prefix");
    std::fs::write(server.file("tree/README"), "theirs").expect("an object");
    let stages = "  failurePolicy: {errorBudget: {percent: 100, consecutive: 1000000}}\n  stages:\n    \
                  - {name: read, execute: {operationCount: 200, concurrency: 2, operations: [{op: Get}, {op: Head}]}}\n";
    let uri = format!("{{uri: \"s3://bench/tree\", endpoints: [\"{}\"]}}", server.endpoint());
    dir.write("run.yaml", manifest(&uri, LARGE, stages).replace("EXISTING", "existing: Reuse"));
    let command = dir.command().args(["run", "--quiet", "-f", "run.yaml"]);
    let command = command.env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY);
    let began = Instant::now();
    let run = command.env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY).start();
    assert!(wait_until(common::LONG, || server.data("GET") + server.data("HEAD") > 0), "{}", run.stderr());
    let first = began.elapsed();
    let ended = run.wait(common::LONG);
    let report = common::report(&dir);
    let done = |op: Op| -> u64 {
        let rows = report.stages[1].operations.iter().filter(|row| row.op == Some(op));
        rows.map(|row| row.count + row.error_count).sum()
    };
    assert_eq!(done(Op::Get) + done(Op::Head), 200, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(server.data("LIST"), 0, "no directory and no prefix was listed");
    let glances = server.count(|seen| seen.verb == "LIST");
    println!("first read {first:?} after the command began; {glances} glances at the place");
    assert!(glances <= 3 * 2, "only preflight looks, at a few names: {glances}");
    assert!(
        first < Duration::from_secs(5),
        "{first:?}, with the start of processes, preflight, clocks and lead"
    );
    let planned = common::parts_in(&common::results(&dir)[0]);
    for part in planned.iter().filter(|part| part.stage == 1) {
        let first_ns = part.first_operation_ns.expect("it worked").saturating_sub(part.planned_start_ns);
        assert!(first_ns <= 500_000_000, "agent {} began {first_ns} ns late", part.agent);
    }
}
