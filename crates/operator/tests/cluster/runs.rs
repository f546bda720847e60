//! Runs from `kubectl apply` to their results, and the ways in which they end otherwise.

use crate::{finished, report, served, truth};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_core::thresholds::Outcome;
use lockstep_testcluster::{until_event, until_gone};
use serde_json::json;

/// A run over the memory of its agents that measures for so many seconds; `more` stands in its spec.
pub(crate) fn manifest(name: &str, seconds: u32, more: &str) -> String {
    format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  {more}
  target: {{uri: 'mem://'}}
  dataset: {{objects: 1000, size: {{fixed: 4Ki}}, sharing: PerAgent}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 2}}}}
    - name: mixed
      execute:
        duration: {seconds}s
        concurrency: 2
        rate: {{operationsPerSecond: 3000}}
        operations: [{{op: Get, weight: 3}}, {{op: Put, size: {{fixed: 4Ki}}}}]
    - {{name: cleanup, cleanup: {{concurrency: 2}}, runOn: Always}}
"
    )
}

fn status(run: &BenchmarkRun) -> &BenchmarkRunStatus {
    run.status.as_ref().expect("a status")
}

/// Whether a stage is under way.
pub(crate) fn in_stage(name: &'static str) -> impl Fn(Option<&BenchmarkRun>) -> bool {
    move |run| {
        let progress = run.and_then(|run| run.status.as_ref()?.progress.as_ref());
        progress.is_some_and(|progress| progress.stage == name)
    }
}

#[tokio::test]
async fn a_run_goes_from_apply_to_its_results() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    served.cluster.apply(&namespace, &manifest("nightly", 2, "agents: {replicas: 3}")).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let run = served.until(&runs, "nightly", "finished", finished).await;
    assert_eq!(status(&run).phase, "Succeeded", "{}", served.said(&run));
    for (type_, expected) in [
        (ConditionType::Accepted, Truth::True),
        (ConditionType::Complete, Truth::True),
        (ConditionType::Failed, Truth::False),
        (ConditionType::ResultsPublished, Truth::True),
    ] {
        assert_eq!(truth(&run, type_), Some(expected), "{type_:?} {}", served.said(&run));
    }
    assert_eq!(status(&run).agents.as_ref().map(|agents| agents.summary.as_str()), Some("3/3"));
    assert_eq!(status(&run).stages.len(), 4);
    assert_eq!(Some(status(&run).observed_generation), run.metadata.generation);

    let report = report(&client, &run).await;
    assert_eq!(report.outcome, Outcome::Succeeded);
    let mixed = report.stages.iter().find(|stage| stage.name == "mixed").expect("a stage");
    assert!(mixed.agents.len() == 3 && mixed.total.count > 1_000, "{:?}", mixed.total);
    assert_eq!(report.dataset.as_ref().map(|ledger| (ledger.planned, ledger.done)), Some((3_000, 3_000)));

    // Nothing holds the run any more, and its pods are gone.
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    for index in 0..3 {
        until_gone(&pods, &format!("nightly-{index}-0")).await;
    }
    served
        .until(&runs, "nightly", "without a finalizer", |run: Option<&BenchmarkRun>| {
            run.is_some_and(|run| run.metadata.finalizers.as_ref().is_none_or(Vec::is_empty))
        })
        .await;
    let table = served.cluster.kubectl(&["get", "brun", "-n", &namespace]).await;
    assert!(table.stdout.contains("nightly") && table.stdout.contains("Succeeded"), "{}", table.stdout);
    until_event(&client, &namespace, "AgentsReady", "3 of 3 agents").await;
    until_event(&client, &namespace, "Completed", "").await;
}

#[tokio::test]
async fn a_spec_that_cannot_be_run_ends_at_once_and_says_every_fault() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let text =
        manifest("wrong", 2, "agents: {replicas: 2}").replace("mem://", "s3://bench/x?X-Amz-Signature=0");
    served.cluster.apply(&namespace, &text).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let run = served.until(&runs, "wrong", "finished", finished).await;
    assert_eq!(truth(&run, ConditionType::Failed), Some(Truth::True), "{}", served.said(&run));
    let said = served.said(&run);
    assert!(status(&run).message.contains("spec.target.uri"), "{said}");
    assert!(status(&run).agent_attempts.is_empty(), "no pod was ever named: {said}");
}

#[tokio::test]
async fn an_agent_that_dies_is_replaced_and_the_run_says_so() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let policy =
        "agents: {replicas: 3}\n  failurePolicy: {mode: BestEffort, retryAttempts: 1, retryDelay: 1s}";
    // What a process had in its memory is gone with it; here nothing has to be there.
    let text = manifest("lossy", 8, policy)
        .replace("mem://", "null://")
        .replace("sharing: PerAgent", "sharing: Shared");
    served.cluster.apply(&namespace, &text).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    served.until(&runs, "lossy", "measuring", in_stage("mixed")).await;
    assert_eq!(served.node.kill_out_of_memory(&format!("{namespace}/lossy-1-0"), "agent"), 1);
    let run = served.until(&runs, "lossy", "finished", finished).await;
    let said = served.said(&run);
    assert_eq!(status(&run).phase, "Partial", "{said}");
    assert_eq!(truth(&run, ConditionType::Degraded), Some(Truth::True), "{said}");
    assert_eq!(truth(&run, ConditionType::Passed), Some(Truth::Unknown), "{said}");
    assert_eq!(status(&run).agents.as_ref().map(|agents| agents.replaced), Some(1), "{said}");
    let lost = until_event(&client, &namespace, "AgentLost", "lossy-1-0").await;
    assert!(lost.message.is_some_and(|message| message.contains("OOMKilled")));
    until_event(&client, &namespace, "AgentReplaced", "lossy-1-1").await;
}

#[tokio::test]
async fn a_run_is_stopped_deleted_and_made_again() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let text = manifest("long", 300, "agents: {replicas: 2}");
    served.cluster.apply(&namespace, &text).await;
    served.until(&runs, "long", "measuring", in_stage("mixed")).await;
    let stop = json!({"spec": {"stop": {"mode": "Graceful", "reason": "lunch"}}});
    runs.patch("long", &PatchParams::default(), &Patch::Merge(stop)).await.expect("stop is accepted");
    let run = served.until(&runs, "long", "finished", finished).await;
    assert_eq!(status(&run).phase, "Aborted", "{}", served.said(&run));
    let cleanup = status(&run).stages.iter().find(|stage| stage.name == "cleanup").expect("a stage");
    assert_eq!(cleanup.state, "Done", "{}", served.said(&run));

    // The same name at once, for another run.
    runs.delete("long", &DeleteParams::default()).await.expect("it is deleted");
    until_gone(&runs, "long").await;
    served.cluster.apply(&namespace, &text).await;
    served.until(&runs, "long", "measuring", in_stage("mixed")).await;
    runs.delete("long", &DeleteParams::default()).await.expect("it is deleted");
    until_gone(&runs, "long").await;
    for index in 0..2 {
        until_gone(&pods, &format!("long-{index}-0")).await;
    }
}

#[tokio::test]
async fn an_image_that_nobody_has_is_told_while_the_run_waits() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let template =
        "agents: {replicas: 2, template: {spec: {containers: [{name: agent, image: 'nobody/has:1'}]}}}";
    served.cluster.apply(&namespace, &manifest("pull", 2, template)).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let told = |run: Option<&BenchmarkRun>| {
        let problems = run.and_then(|run| run.status.as_ref()).map(|status| &status.agent_problems);
        problems
            .is_some_and(|all| all.iter().any(|one| one.reason.contains("Image") && !one.message.is_empty()))
    };
    let run = served.until(&runs, "pull", "told what is wrong with its pods", told).await;
    assert!(!finished(Some(&run)), "somebody may push it: {}", served.said(&run));
    runs.delete("pull", &DeleteParams::default()).await.expect("it is deleted");
    until_gone(&runs, "pull").await;
}
