//! Runs for tests: a short spec completed into a whole one, and its plan.

use lockstep_api::spec::BenchmarkRun;
use lockstep_api::{ResolveOptions, resolve};
use lockstep_core::plan::Plan;
use serde_json::{Value, json};

/// Uid of every run in tests.
pub(crate) const UID: &str = "3f9a0b1c-0000-4000-8000-000000000001";

/// The run `perf/nightly` with `spec` over a short one, and its plan.
pub(crate) fn run(spec: &Value) -> (BenchmarkRun, Plan) {
    let mut whole = json!({
        "agents": {"replicas": 4},
        "target": {"uri": "null://"},
        "dataset": {"objects": 100_000, "size": {"fixed": "4Ki"}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    let run: BenchmarkRun = serde_json::from_value(json!({
        "apiVersion": "lockstep.dev/v1alpha1",
        "kind": "BenchmarkRun",
        "metadata": {
            "name": "nightly", "namespace": "perf", "uid": UID, "generation": 1,
            "creationTimestamp": "2026-11-24T10:00:00Z",
        },
        "spec": whole,
    }))
    .expect("a run");
    let options = ResolveOptions { replicas: None, uid: UID.to_owned(), local: false };
    let resolved = resolve(&run, &options).expect("a plan");
    (run, resolved.plan)
}
