//! What a person is told about a manifest that is wrong: where, what, and what would be right.

#![allow(clippy::unwrap_used)]

use lockstep_api::{Fault, ResolveOptions, fault, load};
use proptest::prelude::*;

const GOOD: &str = include_str!("../../../examples/s3-mixed.yaml");
const SHORTEST: &str = include_str!("../../../examples/twelve-lines.yaml");

fn faults(text: &str, overrides: &[(&str, &str)]) -> Vec<Fault> {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect();
    let options = ResolveOptions { replicas: None, uid: "uid".into(), local: false };
    match load(text.as_bytes(), &overrides) {
        Ok(manifest) => manifest.resolve(&options).err().unwrap_or_default(),
        Err(faults) => faults,
    }
}

/// One override that breaks s3-mixed, the path at which it must be reported, and a part of what must be said.
const TABLE: &[(&str, &str, &str, &str)] = &[
    // Form.
    ("spec.agent.replicas", "3", "spec.agent", "did you mean agents?"),
    (
        "spec.stages[mixed].execute.Duration",
        "5m",
        "spec.stages[2].execute.Duration",
        "did you mean duration?",
    ),
    ("spec.target.end_points", "[]", "spec.target.end_points", "did you mean endpoints?"),
    ("spec.agents.replicas", "0", "spec.agents.replicas", "1 to 5000"),
    ("spec.agents.replicas", "-3", "spec.agents.replicas", "1 to 5000"),
    ("spec.agents.replicas", "5001", "spec.agents.replicas", "1 to 5000"),
    ("spec.agents.replicas", "1.5", "spec.agents.replicas", "a whole number"),
    ("spec.agents.replicas", "eight", "spec.agents.replicas", "a whole number"),
    ("spec.agents.placement", "spread", "spec.agents.placement", "did you mean Spread?"),
    ("spec.agents.template.spec.contaners", "[]", "spec.agents.template.spec.contaners", "containers"),
    (
        "spec.agents.template.spec.nodeSelector.disk",
        "1",
        "spec.agents.template.spec.nodeSelector.disk",
        "quotes",
    ),
    ("spec.dataset.objects", "0", "spec.dataset.objects", "out of range"),
    ("spec.dataset.objects", "100000000000000000000", "spec.dataset.objects", "out of range"),
    ("spec.dataset.size.lognormal.mean", "8Mb", "spec.dataset.size.lognormal.mean", "64Ki, 8Mi"),
    ("spec.dataset.size.lognormal.mean", "-8", "spec.dataset.size.lognormal.mean", "bytes, as an integer"),
    ("spec.dataset.size.lognormal.mean", "8.5", "spec.dataset.size.lognormal.mean", "bytes, as an integer"),
    (
        "spec.dataset.size.lognormal.mean",
        "1.0001k",
        "spec.dataset.size.lognormal.mean",
        "whole number of bytes",
    ),
    ("spec.stages[mixed].execute.duration", "30", "spec.stages[2].execute.duration", "did you mean 30s?"),
    (
        "spec.stages[mixed].execute.duration",
        "5 minutes",
        "spec.stages[2].execute.duration",
        "90s, 1h30m, 500ms",
    ),
    ("spec.stages[mixed].execute.duration", "0s", "spec.stages[2].execute.duration", "more than zero"),
    ("spec.stages[mixed].execute.concurrency", "5000", "spec.stages[2].execute.concurrency", "1 to 4096"),
    (
        "spec.stages[mixed].execute.operations[0].op",
        "Read",
        "spec.stages[2].execute.operations[0].op",
        "Get, Put",
    ),
    (
        "spec.stages[mixed].execute.operations[0].op",
        "Copy",
        "spec.stages[2].execute.operations[0].op",
        "Get, Put",
    ),
    (
        "spec.stages[mixed].execute.operations[0].weight",
        "-1",
        "spec.stages[2].execute.operations[0].weight",
        "0 to 10000",
    ),
    ("spec.stages[nope].execute.duration", "1s", "spec.stages[nope].execute.duration", "no item named nope"),
    ("spec.stages.mixed", "1", "spec.stages.mixed", "is a list"),
    ("stages[0].name", "x", "stages[0].name", "did you mean spec.stages[0].name?"),
    ("spec.stages[0", "x", "spec.stages[0", "is not a path"),
    ("spec.target.uri", "http://bench", "spec.target.uri", "s3://bucket/prefix"),
    ("spec.target.uri", "", "spec.target.uri", "is missing"),
    ("spec.target.endpoints[0]", "s3:9000", "spec.target.endpoints[0]", "http://host:port"),
    ("spec.suspend", "yes", "spec.suspend", "true or false"),
    ("metadata.nmae", "x", "metadata.nmae", "did you mean name?"),
    ("kind", "Benchmark", "kind", "allowed: BenchmarkRun"),
    // Meaning.
    ("metadata.name", "Nightly_1", "metadata.name", "not of the right form"),
    (
        "metadata.name",
        "a23456789012345678901234567890123456789012345678901234",
        "metadata.name",
        "52 at most",
    ),
    ("spec.agents.minAvailable", "9", "spec.agents.minAvailable", "1 to 8, the replicas"),
    (
        "spec.dataset.tree",
        "{width: 2, depth: 2, filesPerDirectory: 2}",
        "spec.dataset",
        "objects and tree at once",
    ),
    ("spec.dataset.objects", "7", "spec.dataset.objects", "at least 8 objects"),
    ("spec.dataset.size.fixed", "1Mi", "spec.dataset.size", "fixed and lognormal at once"),
    ("spec.dataset.size.lognormal.min", "9Mi", "spec.dataset.size.lognormal", "min ≤ mean ≤ max"),
    ("spec.dataset.size.lognormal.max", "6Ti", "spec.dataset.size.lognormal.max", "at most 5Ti"),
    ("spec.dataset.size", "{uniform: {min: 2Mi, max: 1Mi}}", "spec.dataset.size.uniform", "min ≤ max"),
    (
        "spec.dataset.size",
        "{buckets: [{size: 1Ki, weight: 0}]}",
        "spec.dataset.size.buckets",
        "all weights are zero",
    ),
    ("spec.dataset.existing", "Reuse", "spec.stages[0]", "prepare has nothing to do"),
    ("spec.stages[0].name", "mixed", "spec.stages[2].name", "also the name of spec.stages[0]"),
    ("spec.stages[0].name", "preflight", "spec.stages[0].name", "comes first by itself"),
    ("spec.stages[0].execute.duration", "1s", "spec.stages[0]", "prepare and execute at once"),
    ("spec.stages[0].discard", "true", "spec.stages[0].discard", "only an execute stage"),
    ("spec.stages[mixed].discard", "true", "spec.stages[2].discard", "an execute stage right after it"),
    ("spec.stages[warmup].barrier", "{mode: All}", "spec.stages[1].barrier", "without a barrier"),
    (
        "spec.stages[warmup].execute.operationCount",
        "10",
        "spec.stages[1].execute.operationCount",
        "allowed: duration",
    ),
    ("spec.stages[warmup].execute.like", "mixd", "spec.stages[1].execute.like", "did you mean mixed?"),
    ("spec.stages[warmup].execute.like", "prepare", "spec.stages[1].execute.like", "no execute stage"),
    ("spec.stages[mixed].execute.like", "warmup", "spec.stages[2].execute.like", "leads back to itself"),
    ("spec.stages[mixed].execute.duration", "", "spec.stages[2].execute", "never end"),
    ("spec.stages[mixed].runOn", "Always", "spec.stages[2].runOn", "cleanup only"),
    (
        "spec.stages[mixed].execute.operations",
        "[{op: Get, weight: 0}]",
        "spec.stages[2].execute.operations",
        "all weights are zero",
    ),
    (
        "spec.stages[mixed].execute.operations",
        "[{op: Get}, {op: Delete}]",
        "spec.stages[2].execute.operations[1]",
        "puts nothing",
    ),
    (
        "spec.stages[mixed].execute.operations[1].keys",
        "{uniform: {}}",
        "spec.stages[2].execute.operations[1].keys",
        "only Get, Head and List",
    ),
    (
        "spec.stages[mixed].execute.operations[0].keys.once",
        "{}",
        "spec.stages[2].execute.operations[0].keys",
        "zipf and once at once",
    ),
    (
        "spec.stages[mixed].execute.operations[0].size",
        "{fixed: 1}",
        "spec.stages[2].execute.operations[0].size",
        "only Put",
    ),
    (
        "spec.stages[mixed].execute.rate",
        "{search: {metric: p99, atMost: 10ms}}",
        "spec.stages[2].execute.rate.search",
        "not supported by this version",
    ),
    (
        "spec.stages[mixed].execute.rate",
        "{arrival: Poisson}",
        "spec.stages[2].execute.rate",
        "has none of operationsPerSecond",
    ),
    (
        "spec.stages[mixed].barrier.heartbeatInterval",
        "1h",
        "spec.stages[2].barrier.heartbeatInterval",
        "100ms to 5m",
    ),
    ("spec.stages[4]", "{name: late, execute: {duration: 1s}}", "spec.stages[4]", "cleanup last"),
    ("spec.failurePolicy.orphanGrace", "10s", "spec.failurePolicy.orphanGrace", "reconnectGrace or more"),
    ("spec.failurePolicy.minAgents", "9", "spec.failurePolicy.minAgents", "0 to 8"),
    ("spec.failurePolicy.mode", "RetryOnce", "spec.failurePolicy.retryAttempts", "contradicts"),
    (
        "spec.failurePolicy.rules[1].onReasons[0]",
        "OOMkilled",
        "spec.failurePolicy.rules[1].onReasons[0]",
        "did you mean OOMKilled?",
    ),
    ("spec.thresholds[0].stage", "mixt", "spec.thresholds[0].stage", "did you mean mixed?"),
    ("spec.thresholds[0].stage", "warmup", "spec.thresholds[0].stage", "is discarded"),
    ("spec.thresholds[0].op", "List", "spec.thresholds[0].op", "does no List"),
    ("spec.thresholds[0].atMost", "20", "spec.thresholds[0].atMost", "20ms, 1s"),
    ("spec.thresholds[0].atMost", "0.5", "spec.thresholds[0].atMost", "quotes"),
    ("spec.thresholds[0].atLeast", "20ms", "spec.thresholds[0]", "atMost and atLeast at once"),
    ("spec.thresholds[1].name", "read-tail", "spec.thresholds[1].name", "names that differ"),
    ("spec.target.uri", "gs://bench/x", "spec.target.uri", "not supported by this version"),
    ("spec.target.uri", "az://bench/x", "spec.target.uri", "not supported by this version"),
    ("spec.target.uri", "direct:///x", "spec.target.uri", "not supported by this version"),
    ("spec.target.uri", "s3://key:secret@bench/x", "spec.target.uri", "has credentials in it"),
    ("spec.target.uri", "s3://bench/x?X-Amz-Signature=1", "spec.target.uri", "may hold a signature"),
    ("spec.target.uri", "s3://b", "spec.target.uri", "no name of a bucket"),
    ("spec.target.uri", "file://relative/x", "spec.target.uri", "not an absolute path"),
    ("spec.target.uri", "file:///a/../etc", "spec.target.uri", ". or .."),
    ("spec.target.uri", "file:///", "spec.target.uri", "root of the file system"),
    ("spec.target.uri", "file:///mnt/x", "spec.target.endpoints", "with s3:// only"),
    ("spec.target.uri", "mem://", "spec.dataset.sharing", "PerAgent"),
    ("spec.target.endpoints[0]", "http://a:b@s3:9000", "spec.target.endpoints[0]", "has credentials in it"),
    (
        "spec.target.endpoints[1]",
        "http://s3-0.storage:9000/",
        "spec.target.endpoints[1]",
        "in the list twice",
    ),
    (
        "spec.target.options.secret_access_key",
        "x",
        "spec.target.options.secret_access_key",
        "looks like a secret",
    ),
    ("spec.target.options.regoin", "x", "spec.target.options.regoin", "did you mean region?"),
    ("spec.target.options.anonymous", "'yes'", "spec.target.options.anonymous", "does not fit"),
    ("spec.target.options.latency", "1ms", "spec.target.options.latency", "no such option for this target"),
    ("spec.target.volume", "{emptyDir: {}}", "spec.target.volume", "with file:// only"),
    ("spec.target.pageCache", "Drop", "spec.target.pageCache", "with file:// only"),
    (
        "spec.results.destination",
        "s3://reports/nightly",
        "spec.results.destination",
        "nothing would be uploaded",
    ),
    ("spec.results.secretName", "x", "spec.results.secretName", "without a destination"),
];

#[test]
fn every_mistake_is_named_with_its_path_and_a_way_out() {
    assert_eq!(faults(GOOD, &[]), []);
    let mut missed = String::new();
    for (path, value, at, said) in TABLE {
        let found = faults(GOOD, &[(path, value)]);
        let hit = found.iter().any(|fault| fault.path == *at && fault.to_string().contains(said));
        if !hit {
            missed.push_str(&format!("\n--set {path}={value}: wanted {said:?} at {at}, got {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[test]
fn a_number_of_objects_that_overflows_is_refused() {
    for tree in [
        "{width: 100000, depth: 4, filesPerDirectory: 1}",
        "{width: 1000000, depth: 32, filesPerDirectory: 9}",
    ] {
        let found = faults(GOOD, &[("spec.dataset.objects", ""), ("spec.dataset.tree", tree)]);
        assert!(
            found.iter().any(|fault| fault.path == "spec.dataset.tree" && fault.message.contains("counted"))
        );
    }
}

#[test]
fn all_faults_are_told_at_once_with_their_lines() {
    let text = SHORTEST
        .replace("replicas: 2", "replicas: 0")
        .replace("size: {fixed: 64Ki}", "size: {fixed: big}")
        .replace("sharing: PerAgent", "sharing: PerAgent\n  stagse: []");
    let found: Vec<String> = faults(&text, &[]).iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("spec.agents.replicas (line 7): 0 is out of range; allowed: 1 to 5000"),
        "{}",
        found[0]
    );
    assert!(found[1].starts_with("spec.dataset.size.fixed (line 12): `big` is not a size"), "{}", found[1]);
    assert!(
        found[2].starts_with("spec.stagse (line 14): there is no such field; did you mean stages?"),
        "{}",
        found[2]
    );
    let problem = fault::problem("x.yaml", &faults(&text, &[])).to_string();
    assert!(problem.contains("x.yaml was refused: 3 faults") && problem.contains("stagse"), "{problem}");
    // Faults of meaning carry lines too.
    let found = faults(GOOD, &[("spec.agents.replicas", "9"), ("spec.dataset.objects", "3")]);
    assert_eq!(found[0].line, Some(17), "{found:#?}");
}

#[test]
fn what_is_no_manifest_is_refused_before_it_is_understood() {
    let one = |bytes: &[u8]| load(bytes, &[]).unwrap_err().remove(0).to_string();
    assert!(one(&vec![b'a'; 50_000_000]).contains("is 50000000 bytes long; allowed: at most 1048576"));
    assert!(one(b"\x7fELF\x02\x01\x01\0\0\0").contains("control characters"));
    assert!(one(b"kind: x\n\xff\xfe\0").contains("line 2: the manifest is not text in UTF-8"));
    assert!(one(b"").contains("is empty"));
    assert!(one(b"# nothing\n").contains("is empty"));
    assert!(one(b"[1, 2]").contains("is not an object"));
    assert!(one(b"hello").contains("is not an object"));
    assert!(one(b"kind: {").contains("is not valid YAML"));
    assert!(
        one(b"kind: Pod\napiVersion: v1\n")
            .contains("apiVersion (line 2): is \"v1\"; allowed: lockstep.dev/v1alpha1")
    );
    assert!(one(format!("{SHORTEST}---\n{SHORTEST}").as_bytes()).contains("has 2 documents"));
    assert!(one(format!("{SHORTEST}spec: {{}}\n").as_bytes()).contains("is there twice; first on line 6"));
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (this, before) in ('b'..='z').zip('a'..) {
        bomb.push_str(&format!("{this}: &{this} [{}]\n", vec![format!("*{before}"); 10].join(", ")));
    }
    assert!(one(bomb.as_bytes()).contains("more than 50000 values"));
}

#[test]
fn overrides_are_recorded_and_reach_the_plan() {
    let overrides = [
        ("spec.stages[mixed].execute.duration".to_owned(), "1s".to_owned()),
        ("spec.agents.minAvailable".to_owned(), String::new()),
        ("spec.dataset.size".to_owned(), "{fixed: 4Ki}".to_owned()),
    ];
    let manifest = load(GOOD.as_bytes(), &overrides).unwrap();
    assert_eq!(manifest.document["spec"]["stages"][2]["execute"]["duration"], "1s");
    let options = ResolveOptions { replicas: Some(2), uid: "u".into(), local: true };
    let failure = manifest.resolve(&options).unwrap_err();
    assert_eq!(failure[0].path, "spec.failurePolicy.minAgents", "two agents cannot be six");
    let mut overrides = overrides.to_vec();
    overrides.push(("spec.failurePolicy.minAgents".to_owned(), "1".to_owned()));
    let resolved = load(GOOD.as_bytes(), &overrides).unwrap().resolve(&options).unwrap();
    assert_eq!((resolved.plan.replicas, resolved.plan.min_available), (2, 2));
    assert_eq!(resolved.plan.failure.orphan_grace.as_secs(), 60);
    let noted = |field: &str| resolved.notes.iter().any(|note| note.contains(field));
    assert!(
        noted("target.credentials") && noted("exclusive") && !noted("placement"),
        "{:#?}",
        resolved.notes
    );
}

#[test]
fn the_shortest_manifest_means_what_the_documentation_says() {
    assert_eq!(SHORTEST.lines().filter(|line| !line.starts_with('#')).count(), 12);
    let options = ResolveOptions { replicas: None, uid: "u".into(), local: false };
    let plan = load(SHORTEST.as_bytes(), &[]).unwrap().resolve(&options).unwrap().plan;
    let want = include_str!("golden/twelve-lines.json");
    let found = serde_json::to_string_pretty(&plan).unwrap();
    assert_eq!(found.trim(), want.trim(), "the plan of twelve-lines.yaml changed:\n{found}");
}

#[test]
fn suspended_and_stopped_runs_are_refused_on_one_machine() {
    let overrides = [
        ("spec.suspend".to_owned(), "true".to_owned()),
        ("spec.stop".to_owned(), "{mode: Graceful}".to_owned()),
    ];
    let manifest = load(SHORTEST.as_bytes(), &overrides).unwrap();
    let options = ResolveOptions { replicas: None, uid: "u".into(), local: true };
    let paths: Vec<String> =
        manifest.resolve(&options).unwrap_err().into_iter().map(|fault| fault.path).collect();
    assert_eq!(paths, ["spec.suspend", "spec.stop"]);
    assert!(manifest.resolve(&ResolveOptions { local: false, ..options }).is_ok());
}

proptest! {
    #[test]
    fn reading_never_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(&bytes, &[]);
    }

    #[test]
    fn reading_never_panics_on_what_looks_like_yaml(text in r##"[a-c:\-\[\]{}&*!|>'"#%@,? \n\t0-9~.]{0,200}"##) {
        let _ = load(text.as_bytes(), &[]);
    }

    #[test]
    fn reading_never_panics_on_a_damaged_manifest(at in 0..GOOD.len(), byte in any::<u8>(), value in ".{0,20}") {
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(manifest) = load(&bytes, &[("spec.dataset.size".to_owned(), value)]) {
            let _ = manifest.resolve(&ResolveOptions { replicas: None, uid: "u".into(), local: true });
        }
    }
}
