//! Many runs at once, small enough for every day; what takes thousands is `cargo xtask soak` and `cargo xtask bench`.

use crate::{finished, served};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_api::BenchmarkRun;
use std::collections::HashSet;

/// Runs at once.
const RUNS: usize = 6;
/// Agents of each.
const AGENTS: usize = 2;

#[tokio::test]
async fn runs_that_come_together_go_on_together_and_none_loses_sight_of_its_agents() {
    let served = served().await;
    let namespace = served.cluster.namespace("together").await;
    let client = served.cluster.client().await;
    let text = |number: usize| {
        format!(
            "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: run-{number}}}
spec:
  agents: {{replicas: {AGENTS}, cleanupPolicy: Never}}
  target: {{uri: 'null://'}}
  dataset: {{objects: 1000, size: {{fixed: 4Ki}}, existing: Reuse}}
  start: {{maxSkew: 30s}}
  stages:
    - {{name: load, execute: {{duration: 5s, concurrency: 1, rate: {{operationsPerSecond: 40}}, operations: [{{op: Get}}]}}}}
"
        )
    };
    let texts: Vec<String> = (0..RUNS).map(text).collect();
    served.cluster.apply(&namespace, &texts.join("---\n")).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    for number in 0..RUNS {
        let run = served.until(&runs, &format!("run-{number}"), "finished", finished).await;
        let status = run.status.as_ref().expect("a status");
        assert_eq!(status.phase, "Succeeded", "{}", served.said(&run));
        let bytes = serde_json::to_vec(&run).expect("JSON").len();
        assert!(bytes < 16 * 1024, "{bytes} bytes with managedFields: {}", served.said(&run));
    }
    // Each has its own pods, and one attempt of each was enough.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let names: HashSet<String> =
        pods.list(&ListParams::default()).await.expect("pods").iter().map(ResourceExt::name_any).collect();
    let expected = (0..RUNS).flat_map(|run| (0..AGENTS).map(move |agent| format!("run-{run}-{agent}-0")));
    assert_eq!(names, expected.collect());
    let events: Api<Event> = Api::namespaced(client, &namespace);
    let reasons = events.list(&ListParams::default()).await.expect("Events").items;
    let lost = reasons.iter().filter(|event| event.reason.as_deref() == Some("Disconnected")).count();
    assert_eq!(lost, 0, "{reasons:?}");
}
