//! Manifests that are wrong: each is refused in four parts with exit code 5, before anything is made or touched.
//!
//! Places that are wrong are in `bad_target.rs`.

mod common;

use common::{LONG, dir, expect_problem, listing};
use lockstep_testkit::process::Dir;
use std::time::Duration;

/// A manifest with nothing wrong, whose place is `place` in the directory.
fn manifest(dir: &Dir) -> String {
    format!(
        "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: bad}}
spec:
  seed: 7
  agents: {{replicas: 2}}
  target: {{uri: \"file://{}\"}}
  dataset: {{objects: 100, size: {{fixed: 1Ki}}}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 2}}}}
    - name: mixed
      execute: {{duration: 1s, concurrency: 1, operations: [{{op: Get, weight: 70}}, {{op: Put, weight: 30}}]}}
    - {{name: cleanup, cleanup: {{concurrency: 2}}, runOn: Always}}
  thresholds:
    - {{stage: mixed, metric: p99, atMost: 1s}}
",
        dir.path().join("place").display()
    )
}

/// Runs what stands in `run.yaml`, which must be refused, with these words, and without a trace.
#[track_caller]
fn expect_refused(dir: &Dir, name: &str, words: &[&str]) {
    for command in ["validate", "run"] {
        let before = listing(dir.path());
        let ended = dir.command().args([command, "-f", "run.yaml"]).run(LONG);
        let said = format!("{command}: {name}\n{}\n{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, 5, "{said}");
        expect_problem(&ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "`{word}` is not said\n{said}");
        }
        assert!(ended.stdout.is_empty(), "{said}");
        assert!(ended.stderr.len() < 8_192, "{} bytes were said: {name}", ended.stderr.len());
        assert!(listing(dir.path()) == before, "something was created, changed or deleted: {said}");
        assert!(ended.took < Duration::from_secs(10), "{:?}: {said}", ended.took);
    }
}

#[test]
fn what_is_wrong_with_a_field_is_named_with_its_place_and_what_is_allowed() {
    let replace = [
        ("seed: 7", "sed: 7", "spec.sed", "did you mean seed?"),
        ("duration: 1s", "duration: 1parsec", "spec.stages[1].execute.duration", "90s, 1h30m, 500ms"),
        ("fixed: 1Ki", "fixed: 1Kx", "spec.dataset.size.fixed", "512, 64Ki"),
        ("objects: 100", "objects: 0", "spec.dataset.objects", "0 is out of range"),
        ("objects: 100", "objects: -5", "spec.dataset.objects", "-5 is out of range"),
        ("replicas: 2", "replicas: 0", "spec.agents.replicas", "0 is out of range"),
        ("replicas: 2", "replicas: -2", "spec.agents.replicas", "1 to 5000"),
        ("concurrency: 1,", "concurrency: 0,", "spec.stages[1].execute.concurrency", "0 is out of range"),
        ("duration: 1s", "duration: 0s", "spec.stages[1].execute.duration", "allowed"),
        ("weight: 70", "weight: -1", "spec.stages[1].execute.operations[0].weight", "-1 is out of range"),
        ("op: Get", "op: Append", "spec.stages[1].execute.operations[0].op", "Get, Put, Head, List, Delete"),
        ("op: Put", "op: Delete", "spec.stages[1].execute.operations[1]", "this stage puts nothing"),
        ("replicas: 2", "replicas: 101", "spec.dataset.objects", "101 agents share 100 objects"),
        ("name: mixed", "name: prepare", "spec.stages[1].name", "also the name of spec.stages[0]"),
        ("stage: mixed", "stage: nosuch", "spec.thresholds[0].stage", "no execute stage named nosuch"),
        ("stage: mixed", "stage: cleanup", "spec.thresholds[0].stage", "no execute stage named cleanup"),
        ("objects: 100", "objects: 100000000000000000000", "spec.dataset.objects", "out of range"),
        ("objects: 100", "objects: 1e20", "spec.dataset.objects", "out of range"),
        (
            "objects: 100",
            "tree: {width: 100000, depth: 4, filesPerDirectory: 1}",
            "spec.dataset.tree",
            "more objects than can be counted",
        ),
        ("file://", "ftp://", "spec.target.uri", "ftp"),
        ("file://", "mem://", "spec.dataset.sharing", "PerAgent"),
        ("v1alpha1", "v9", "apiVersion", "lockstep.dev/v1alpha1"),
    ];
    for (from, to, field, words) in replace {
        let dir = dir();
        dir.write("place/precious", "mine");
        let text = manifest(&dir);
        assert!(text.contains(from), "{from}");
        dir.write("run.yaml", text.replacen(from, to, 1));
        expect_refused(&dir, to, &[field, words, "run.yaml"]);
    }
}

#[test]
fn weights_that_sum_to_zero_are_refused() {
    let dir = dir();
    dir.write(
        "run.yaml",
        manifest(&dir).replace("weight: 70", "weight: 0").replace("weight: 30", "weight: 0"),
    );
    expect_refused(&dir, "weights", &["spec.stages[1].execute.operations", "all weights are zero"]);
}

#[test]
fn every_fault_is_told_at_once() {
    let dir = dir();
    let text = manifest(&dir).replace("seed: 7", "sed: 7").replace("replicas: 2", "replicas: 0");
    dir.write("run.yaml", text.replace("duration: 1s", "duration: 1parsec"));
    expect_refused(&dir, "three faults", &["3 faults", "spec.sed", "spec.agents.replicas", "duration"]);
}

#[test]
fn what_is_no_manifest_is_refused_quickly_whatever_it_is() {
    let bomb = |levels: u32| {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..=levels {
            let below = format!("*a{},", level - 1).repeat(9);
            text += &format!("a{level}: &a{level} [{below}]\n");
        }
        text
    };
    let sample = manifest(&dir());
    let large =
        format!("{sample}{}", "# a line of a log that somebody appended by mistake\n".repeat(1_000_000));
    assert!(large.len() > 50_000_000);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("50 MB", large.into_bytes(), "too large"),
        ("binary", (0..=u8::MAX).cycle().take(100_000).collect(), "refused"),
        ("zeros", vec![0; 100_000], "refused"),
        ("a bomb", bomb(30).into_bytes(), "refused"),
        ("a bomb in a manifest", format!("{sample}{}", bomb(30)).into_bytes(), "refused"),
        ("deep lists", vec![b'['; 500_000], "refused"),
        ("deep maps", "{a: ".repeat(100_000).into_bytes(), "refused"),
        ("nothing", Vec::new(), "refused"),
        ("a word", b"hello".to_vec(), "refused"),
        ("two documents", format!("{sample}---\n{sample}").into_bytes(), "refused"),
        ("a tag", b"!!python/object:os.system [ls]".to_vec(), "refused"),
    ];
    for (name, bytes, word) in cases {
        let dir = dir();
        dir.write("place/precious", "mine");
        dir.write("run.yaml", bytes);
        expect_refused(&dir, name, &[word]);
    }
    let dir = dir();
    expect_refused(&dir, "no file", &["run.yaml cannot be read"]);
}
