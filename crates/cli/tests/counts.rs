//! Counts are true: what a run says that it did is what the storage saw, request by request and byte by byte.
//!
//! The other side is always somebody else's: the server's own count of requests, boto3's listing of a SeaweedFS, `find`
//! and `sha256sum` over files, and a second program for data sets (`tests/independent/dataset.py`).

mod common;

use lockstep_core::op::Op;
use lockstep_testkit::counts::{self, verb};
use lockstep_testkit::objects::{self, Objects, table};
use lockstep_testkit::process::Dir;
use lockstep_testkit::s3::{self, TestS3};
use lockstep_testkit::seaweed::{self, Seaweed};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Objects of the data sets that are compared.
const OBJECTS: usize = 240;

const MIXED: &str = r#"
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: counts}
spec:
  agents: {replicas: 3}
  target: {uri: "s3://bench/counts", endpoints: ["ENDPOINT"]}
  dataset: {objects: 60, size: {uniform: {min: 0, max: 9000}}, prefixShards: 4}
  start: {maxSkew: 10s}
  stages:
    - {name: prepare, prepare: {concurrency: 2}}
    - {name: warmup, execute: {duration: 1s, like: mixed}, discard: true}
    - name: mixed
      execute:
        duration: 2s
        concurrency: 2
        rate: {operationsPerSecond: 150}
        operations:
          - {op: Get, weight: 40}
          - {op: Put, weight: 25}
          - {op: Head, weight: 15}
          - {op: List, weight: 10}
          - {op: Delete, weight: 10}
    - {name: cleanup, cleanup: {concurrency: 2}}
"#;

#[test]
fn operations_equal_the_requests_that_the_server_counted_by_verb_and_agent() {
    let server = TestS3::start();
    let dir = common::dir();
    dir.write("run.yaml", MIXED.replace("ENDPOINT", &server.endpoint()));
    let command = dir.command().args(["run", "--quiet", "-f", "run.yaml"]);
    let keys = [("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)];
    let command = keys.into_iter().fold(command, |command, (name, value)| command.env(name, value));
    command.run(common::LONG).expect_code(0);

    let report = common::report(&dir);
    let results = &common::results(&dir)[0];
    let seen = server.seen();
    let by_agent = |agent: u32| format!("run=counts agent={agent}");
    let mut counted: BTreeMap<(u32, &str), u64> = BTreeMap::new();
    for part in common::parts_in(results) {
        for op in Op::ALL {
            let cell = part.totals.by_op(op);
            *counted.entry((part.agent, verb(op))).or_default() += cell.count() + cell.error_count();
        }
    }
    let mut served: BTreeMap<(u32, &str), u64> = BTreeMap::new();
    for agent in 0..3 {
        for op in Op::ALL {
            let is_its = |seen: &&s3::Seen| seen.is_data && seen.verb == verb(op);
            let of_agent = |seen: &&s3::Seen| seen.user_agent.ends_with(&by_agent(agent));
            served.insert((agent, verb(op)), seen.iter().filter(is_its).filter(of_agent).count() as u64);
        }
    }
    assert_eq!(counted, served, "operations of the parts, and requests of the server");
    assert_eq!(served.values().sum::<u64>(), server.count(|seen| seen.is_data) as u64, "nobody else asked");

    // The same in the document: of all agents by operation, and of all operations by agent.
    counts::assert_served(&report, &server, &Op::ALL);
    for agent in 0..3 {
        let row = report.operations.iter().find(|row| row.agent == agent).expect("each agent has a row");
        let is_its = |seen: &s3::Seen| seen.user_agent.ends_with(&by_agent(agent));
        let data = server.count(|seen| seen.is_data && is_its(seen)) as u64;
        assert_eq!((row.operations_reported + row.errors_reported, row.requests_reported), (data, data));
        let others: Vec<_> = seen.iter().filter(|seen| !seen.is_data && is_its(seen)).collect();
        // The lock is given back when everything has been handed in, this row included.
        let is_lock = |seen: &&&s3::Seen| seen.key.ends_with(".lockstep.lock");
        let last = others.iter().rev().take_while(is_lock).count();
        let others = (others.len() - last) as u64;
        assert_eq!(row.other_requests, others, "requests of agent {agent} that served no operation");
        assert!(others > 0, "agent {agent} at least looked whether the target is there");
    }
}

const COMPARED: &str = r#"
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: compared}
spec:
  seed: 9007199254740991
  target: TARGET
  dataset: DATASET
  start: {maxSkew: 10s}
  stages:
    - {name: prepare, prepare: {concurrency: 4}}
"#;

/// What a data set must be, by the second program, from the plan that a run left.
fn expected(dir: &Dir, results: &Path) -> Objects {
    let plan = std::fs::read(results.join("plan.json")).expect("a run keeps its plan");
    let plan: serde_json::Value = serde_json::from_slice(&plan).expect("the plan is JSON");
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/independent/dataset.py");
    let mut command = Command::new("python3");
    command.current_dir(dir.path()).arg(program).arg(plan["dataset"].to_string());
    command.args((0..OBJECTS).map(|index| index.to_string()));
    table(&mut command)
}

#[test]
fn files_of_one_three_and_eight_agents_are_those_of_an_independent_program() {
    let dir = common::dir();
    let mut of_one = None;
    for agents in ["1", "3", "8"] {
        let place = dir.path().join(format!("place-{agents}"));
        let dataset = "{tree: {width: 3, depth: 2, filesPerDirectory: 20, files: AllLevels}, \
             size: {lognormal: {mean: 3000, stdDev: 3000, min: 0, max: 20000}}, content: {compress: 2}}";
        let target = format!("{{uri: \"file://{}\"}}", place.display());
        let manifest = COMPARED.replace("TARGET", &target).replace("DATASET", dataset);
        let before = common::results(&dir);
        common::run_quietly(&dir, &manifest, &["--agents", agents]).expect_code(0);
        let results =
            common::results(&dir).into_iter().find(|path| !before.contains(path)).expect("its results");
        // Walked and hashed by nothing of ours.
        let walk = "find . -type f ! -name '.lockstep*' -printf '%P\\t%s\\n' | while IFS=\"$(printf '\\t')\" read -r n s; \
             do printf '%s\\t%s\\t%s\\n' \"$n\" \"$s\" \"$(sha256sum < \"$n\" | cut -d' ' -f1)\"; done";
        let found = table(Command::new("sh").current_dir(&place).args(["-c", walk]));
        assert_eq!(found.len(), OBJECTS, "{agents} agents");
        assert_eq!(found, expected(&dir, &results), "{agents} agents");
        assert_eq!(&found, of_one.get_or_insert_with(|| found.clone()), "{agents} agents against one");
    }
}

#[test]
fn objects_of_one_three_and_eight_agents_are_what_boto3_and_an_independent_program_see() {
    let server = Seaweed::start();
    server.create_bucket("bench");
    let dir = common::dir();
    let mut of_one = None;
    for agents in ["1", "3", "8"] {
        let target = format!("{{uri: \"s3://bench/a{agents}\", endpoints: [\"{}\"]}}", server.endpoint());
        let dataset = format!(
            "{{objects: {OBJECTS}, prefixShards: 16, size: {{uniform: {{min: 0, max: 9000}}}}, content: {{verify: true}}}}"
        );
        dir.write("run.yaml", COMPARED.replace("TARGET", &target).replace("DATASET", &dataset));
        let before = common::results(&dir);
        let command = dir.command().args(["run", "--quiet", "-f", "run.yaml", "--agents", agents]);
        let command = command.env("AWS_ACCESS_KEY_ID", seaweed::ACCESS_KEY);
        command.env("AWS_SECRET_ACCESS_KEY", seaweed::SECRET_KEY).run(common::LONG).expect_code(0);
        let results =
            common::results(&dir).into_iter().find(|path| !before.contains(path)).expect("its results");
        let key = objects::Key { access: seaweed::ACCESS_KEY, secret: seaweed::SECRET_KEY };
        let found = objects::of_bucket(&server.endpoint(), key, "bench", &format!("a{agents}/"));
        assert_eq!(found.len(), OBJECTS, "{agents} agents");
        assert_eq!(found, expected(&dir, &results), "{agents} agents");
        assert_eq!(&found, of_one.get_or_insert_with(|| found.clone()), "{agents} agents against one");
    }
}
