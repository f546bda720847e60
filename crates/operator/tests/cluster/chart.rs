//! What the chart makes, what it refuses, and how a release lives: install, upgrade, rollback, uninstall.

use crate::{CHART, Served, finished, served, truth};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_testcluster::{Caller, Ended, PodSecurity, until, until_gone};
use serde_json::{Value, json};

/// A release of the chart beside the one of [`served`].
pub(crate) struct Release {
    /// Its namespace.
    pub home: String,
    /// `spec.managedBy` of the runs that it serves.
    pub managed_by: String,
}

impl Release {
    /// Installs one into a namespace, by somebody, with values of the form `key=value`.
    pub async fn install(
        served: &Served,
        by: &Caller,
        home: &str,
        managed_by: &str,
        values: &[&str],
    ) -> Self {
        let release = Self { home: home.to_owned(), managed_by: managed_by.to_owned() };
        release.helm(served, by, "install", values).await.expect_code(0);
        release
    }

    /// `helm install` or `upgrade`.
    pub async fn helm(&self, served: &Served, by: &Caller, verb: &str, values: &[&str]) -> Ended {
        let managed_by = format!("operator.managedBy={}", self.managed_by);
        let mut args = vec![verb, "lockstep", CHART, "-n", &self.home, "--wait", "--timeout", "3m"];
        let ours = ["image.tag=test", "crds.install=false", "crds.roles=false", &managed_by];
        for value in ours.iter().chain(values) {
            args.extend(["--set-json", value]);
        }
        // Plain words are JSON only in quotes.
        let quoted: Vec<String> = args.iter().map(|arg| as_json(arg)).collect();
        served.cluster.helm_as(by, &quoted.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// The operator's ServiceAccount.
    pub fn account(&self) -> Caller {
        Caller::service_account(&self.home, "lockstep")
    }

    /// What `status.controller` says of its runs.
    pub fn claim(&self) -> String {
        format!("{}/lockstep", self.home)
    }

    pub async fn uninstall(&self, served: &Served) {
        served.cluster.helm(&["uninstall", "lockstep", "-n", &self.home, "--wait"]).await.expect_code(0);
    }
}

/// `a=b` as `a="b"`, unless it is JSON already, or no value of ours.
fn as_json(arg: &str) -> String {
    match arg.split_once('=') {
        Some((key, value)) if serde_json::from_str::<Value>(value).is_err() => {
            format!("{key}={}", json!(value))
        }
        _ => arg.to_owned(),
    }
}

/// A run over nothing that measures for so many seconds.
pub(crate) fn run(name: &str, managed_by: &str, seconds: u32, more: &str) -> String {
    format!(
        "
---
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  managedBy: {managed_by}
  {more}
  target: {{uri: 'null://'}}
  dataset: {{objects: 100, size: {{fixed: 4Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - name: mixed
      execute:
        duration: {seconds}s
        concurrency: 1
        rate: {{operationsPerSecond: 100}}
        operations: [{{op: Get}}]
"
    )
}

/// Whether a run is measuring.
pub(crate) fn measuring(run: Option<&BenchmarkRun>) -> bool {
    let progress = run.and_then(|run| run.status.as_ref()?.progress.as_ref());
    progress.is_some_and(|progress| progress.stage == "mixed")
}

/// Values with which everything is there that other values are about.
const EVERYTHING: [&str; 6] = [
    "metrics.serviceMonitor.enabled=true",
    "networkPolicy.enabled=true",
    "networkPolicy.agents.enabled=true",
    "watchNamespaces=[\"perf\"]",
    "admissionPolicy.enabled=true",
    "replicas=2",
];

async fn rendered(values: &[String]) -> Ended {
    let mut args = vec!["template", "lockstep", CHART, "-n", "home"];
    args.extend(["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"]);
    for value in values {
        args.extend(["--set-json", value]);
    }
    served().await.cluster.helm(&args).await
}

/// Every value of a schema that has an example, with it.
fn examples(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        found.extend(
            below["examples"].as_array().into_iter().flatten().map(|value| (path.clone(), value.clone())),
        );
        examples(below, &path, found);
    }
}

#[tokio::test]
async fn every_documented_value_is_taken_and_changes_what_is_made() {
    let schema = include_str!("../../../../deploy/helm/lockstep/values.schema.json");
    let mut values = Vec::new();
    examples(&serde_json::from_str(schema).expect("JSON"), "", &mut values);
    assert!(values.len() > 30, "docs/values.md has more: {values:?}");
    let everything = EVERYTHING.map(ToOwned::to_owned);
    let plain = rendered(&everything).await.expect_code(0).stdout.clone();
    let checks = values.iter().map(|(path, value)| {
        let mut set = everything.to_vec();
        // Its opposite, where everything has it already.
        let opposite = everything.iter().find_map(|one| one.strip_prefix(&format!("{path}=")));
        let value = if opposite == Some("true") { &Value::Bool(false) } else { value };
        if path == "scope" {
            set.retain(|one| !one.starts_with("watchNamespaces"));
        }
        set.push(format!("{path}={value}"));
        async move { (path, rendered(&set).await) }
    });
    let checks: Vec<_> = futures::stream::iter(checks).buffer_unordered(2).collect().await;
    let without = served().await.cluster.helm(&["template", "x", CHART, "--set", EVERYTHING[0]]).await;
    assert!(!without.expect_code(0).stdout.contains("ServiceMonitor"), "only where its API is");
    for (path, ended) in checks {
        assert!(ended.code == 0, "{path}: {}", ended.stderr);
        assert!(ended.stdout != plain, "{path} changes nothing");
    }
}

#[tokio::test]
async fn values_that_the_chart_does_not_know_are_refused() {
    let served = served().await;
    for (values, says) in [
        (&["nonsense=1"][..], "nonsense"),
        (&["image.pullPolicy=Sometimes"], "pullPolicy"),
        (&["limits.agentsPerRun=0"], "agentsPerRun"),
        (&["agent.labels.team=7"], "team"),
        (&["operator.logFormat=xml"], "logFormat"),
        (&["certificates.servingSeconds=1"], "servingSeconds"),
        (&["operator.managedBy=second"], "managedBy"),
        (&["networkPolicy.agents.ingress=1"], "ingress"),
        (&["scope=namespace", "watchNamespaces={perf}"], "serves its own"),
    ] {
        let mut args = vec!["template", "x", CHART];
        values.iter().for_each(|value| args.extend(["--set", value]));
        let ended = served.cluster.helm(&args).await;
        assert!(
            ended.code != 0 && ended.stderr.contains(says),
            "{values:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
    }
    served.cluster.helm(&["lint", "--strict", CHART]).await.expect_code(0);
    served.cluster.helm(&["lint", "--strict", CHART, "--set", "scope=namespace"]).await.expect_code(0);
}

#[tokio::test]
async fn the_chart_fits_a_restricted_namespace_and_keeps_the_resource_when_it_goes() {
    let served = served().await;
    let home = served.cluster.namespace_with("second", PodSecurity::Restricted).await;
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/second", &[]).await;
    release.helm(served, &Caller::Admin, "upgrade", &["limits.agentsPerRun=7"]).await.expect_code(0);
    served.cluster.helm(&["rollback", "lockstep", "-n", &home, "--wait"]).await.expect_code(0);
    // The key of the authority is not the chart's to write: no upgrade empties it.
    let secret = ["get", "secret", "lockstep-ca", "-n", &home, "-o", "jsonpath={.data}"];
    let key = served.cluster.kubectl(&secret).await;
    assert!(key.stdout.contains("ca.key") && key.stdout.contains("ca.crt"), "{}{}", key.stdout, key.stderr);
    release.uninstall(served).await;
    served.cluster.kubectl(&["get", "crd", "benchmarkruns.lockstep.dev"]).await.expect_code(0);
}

#[tokio::test]
async fn runs_stay_when_their_release_goes_and_what_is_left_can_be_removed() {
    let served = served().await;
    let home = served.cluster.namespace("leaves").await;
    let namespace = served.cluster.namespace("perf").await;
    let watched = format!("watchNamespaces=[\"{namespace}\"]");
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/leaves", &[&watched]).await;
    let managed_by = release.managed_by.as_str();
    let policy = "failurePolicy: {reconnectGrace: 2s, orphanGrace: 3s}";
    let both = run("done", managed_by, 1, "") + &run("going", managed_by, 600, policy);
    served.cluster.apply(&namespace, &both).await;
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    served.until(&runs, "done", "finished", finished).await;
    served.until(&runs, "going", "measuring", measuring).await;
    release.uninstall(served).await;

    // Nobody tells the agents to end: they do so by themselves.
    let ended = |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref());
        matches!(phase, Some("Failed" | "Succeeded"))
    };
    until(&pods, "going-0-0", "over", ended).await;
    let done = runs.get("done").await.expect("it stays");
    assert_eq!(truth(&done, ConditionType::Complete), Some(Truth::True));
    // A finished run can be deleted without anybody; one under way takes what docs/installing.md says.
    runs.delete("done", &DeleteParams::default()).await.expect("it is deleted");
    until_gone(&runs, "done").await;
    runs.delete("going", &DeleteParams::default()).await.expect("it is to be deleted");
    let free = [
        "patch",
        "brun",
        "going",
        "-n",
        &namespace,
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ];
    served.cluster.kubectl(&free).await.expect_code(0);
    until_gone(&runs, "going").await;
    until_gone(&pods, "going-0-0").await;
}
