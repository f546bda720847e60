//! Runs from `kubectl apply` to their results.

use crate::{finished, served};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::Api;
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_core::results::Report;
use lockstep_core::thresholds::Outcome;
use lockstep_testcluster::{until, until_gone};

const NIGHTLY: &str = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: nightly}
spec:
  agents: {replicas: 3}
  target: {uri: 'mem://'}
  dataset: {objects: 1000, size: {fixed: 4Ki}, sharing: PerAgent}
  start: {maxSkew: 10s}
  stages:
    - {name: prepare, prepare: {concurrency: 2}}
    - {name: mixed, execute: {duration: 2s, concurrency: 2, operations: [{op: Get, weight: 3}, {op: Put, size: {fixed: 4Ki}}]}}
    - {name: cleanup, cleanup: {concurrency: 2}}
";

#[tokio::test]
async fn a_run_goes_from_apply_to_its_results() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    served.cluster.apply(&namespace, NIGHTLY).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let run = until(&runs, "nightly", "finished", finished).await;
    let status = run.status.as_ref().expect("a status");
    let said = || format!("{status:#?}\n{}", served.node.logs(&served.home, "lockstep-operator", "operator"));
    let truth = |type_| conditions::truth(&status.conditions, type_);
    assert_eq!(status.phase, "Succeeded", "{}", said());
    assert_eq!(truth(ConditionType::Complete), Some(Truth::True), "{}", said());
    assert_eq!(status.agents.as_ref().map(|agents| agents.summary.as_str()), Some("3/3"));
    assert_eq!(status.stages.len(), 4);
    assert_eq!(Some(status.observed_generation), run.metadata.generation);

    let results =
        status.results.as_ref().and_then(|results| results.config_map.clone()).expect("a ConfigMap");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let map = maps.get(&results).await.expect("the ConfigMap that status names");
    let json = &map.data.expect("data")["results.json"];
    let report: Report = serde_json::from_str(json).expect("a report");
    assert_eq!(report.outcome, Outcome::Succeeded);
    let mixed = report.stages.iter().find(|stage| stage.name == "mixed").expect("a stage");
    assert!(mixed.agents.len() == 3 && mixed.total.count > 1_000, "{:?}", mixed.total);
    assert_eq!(report.dataset.as_ref().map(|ledger| (ledger.planned, ledger.done)), Some((3_000, 3_000)));

    // Nothing holds the run any more, and its pods are gone.
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    for index in 0..3 {
        until_gone(&pods, &format!("nightly-{index}-0")).await;
    }
    let run = until(&runs, "nightly", "without a finalizer", |run: Option<&BenchmarkRun>| {
        run.is_some_and(|run| run.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
    })
    .await;
    assert!(finished(Some(&run)));

    let table = served.cluster.kubectl(&["get", "brun", "-n", &namespace]).await;
    assert!(table.stdout.contains("nightly") && table.stdout.contains("Succeeded"), "{}", table.stdout);
}
