//! Every example is read strictly and resolved, on one machine and on a cluster, and says first what it needs.

#![allow(clippy::unwrap_used)]

use lockstep_api::{ResolveOptions, load};
use lockstep_core::plan::Plan;
use std::collections::BTreeMap;
use std::path::Path;

fn plans() -> BTreeMap<String, Plan> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut plans = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.starts_with("# ") && text.lines().next().unwrap().contains("Needs: "),
            "{}",
            path.display()
        );
        let manifest = load(&bytes, &[]).unwrap_or_else(|faults| panic!("{}: {faults:#?}", path.display()));
        for local in [true, false] {
            let options = ResolveOptions { replicas: None, uid: "uid".into(), local };
            let resolved =
                manifest.resolve(&options).unwrap_or_else(|faults| panic!("{}: {faults:#?}", path.display()));
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert_eq!(resolved.plan.run.name, name);
            plans.insert(name, resolved.plan);
        }
    }
    plans
}

#[test]
fn every_example_resolves_to_what_its_comment_says() {
    let plans = plans();
    assert_eq!(plans.len(), 10);
    let objects = |name: &str| plans[name].dataset.layout.objects_checked().unwrap();
    assert_eq!(objects("tree-small"), 576 * 193);
    assert_eq!(objects("tree-medium"), 2_668_032);
    assert_eq!(objects("tree-large"), 64_032_768);
    assert_eq!(objects("training-images"), 401_408);
    assert_eq!(objects("training-small"), 4_915_200);
    let quickstart = &plans["quickstart"];
    let names: Vec<&str> = quickstart.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["preflight", "prepare", "warmup", "mixed", "cleanup"]);
    let mix = |stage: usize| &quickstart.stages[stage].kind.execute().unwrap().operations_mix;
    assert_eq!(mix(2), mix(3), "warm-up does what the measurement does");
}

/// Of samples that hold other objects too, the runs.
#[test]
fn every_run_in_a_sample_resolves_on_a_cluster() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut runs = 0;
    for directory in ["ci", "ci/nightly", "gitops/argocd", "gitops/kueue"] {
        for entry in std::fs::read_dir(deploy.join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let documents = text.split("\n---\n");
            for run in documents.filter(|text| text.lines().any(|line| line == "kind: BenchmarkRun")) {
                let options = ResolveOptions { replicas: None, uid: "uid".into(), local: false };
                let resolved = load(run.as_bytes(), &[]).and_then(|manifest| manifest.resolve(&options));
                assert!(resolved.is_ok(), "{}: {resolved:#?}", path.display());
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 9, "a sample came or went");
}
