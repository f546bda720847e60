//! A control plane of one's own with a node, an operator from its chart, and agents in few processes.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_testcluster::{ControlPlane, Image, Node, NodeOptions};
use std::time::Duration;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/lockstep");
/// Agents in one process.
const CROWD: usize = 250;
/// How long a run may take, whatever its size.
const LIMIT: Duration = Duration::from_secs(900);

/// A control plane with an operator.
pub struct Cluster {
    pub plane: &'static ControlPlane,
    pub node: Node<'static>,
    pub client: Client,
    /// Namespace of the operator.
    pub home: String,
    /// The operator's pod.
    pub pod: String,
}

impl Cluster {
    /// Installs the operator; `plane` may hold something already. Figures of a process are of one replica.
    pub async fn on(plane: &'static ControlPlane, pods: u32, replicas: u32) -> Self {
        let image = Image::host().workspace_binary("lockstep-operator").workspace_binary("lockstep-agent");
        let image = image.crowd("/lockstep-agent", CROWD);
        // ConfigMaps of thousands of pods are not looked after every few seconds by any kubelet.
        let options = NodeOptions::named("node-0").image("lockstep:test", image).pods(pods + 10);
        let node = plane.node(options.refresh_every(Duration::from_secs(600))).await;
        let home = plane.namespace("system").await;
        let replicas = format!("replicas={replicas}");
        let install = [
            "install",
            "lockstep",
            CHART,
            "-n",
            &home,
            "--set",
            "image.tag=test",
            "--set",
            "limits.agentsPerRun=5000",
            "--set",
            &replicas,
            "--wait",
            "--timeout",
            "5m",
        ];
        plane.helm(&install).await.expect_code(0);
        let client = plane.client().await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &home);
        let pods = pods.list(&ListParams::default()).await.expect("the operator's pod");
        let pod = pods.items.first().map(ResourceExt::name_any).expect("a pod");
        Self { plane, node, client, home, pod }
    }

    /// One that holds nothing else.
    pub async fn new(pods: u32) -> Self {
        Self::on(plane().await, pods, 1).await
    }

    /// Process id of the operator.
    pub fn operator(&self) -> u32 {
        let found = self.node.processes(&format!("{}/{}", self.home, self.pod), "operator");
        *found.first().expect("the operator runs")
    }

    /// What the operator logged.
    pub fn log(&self) -> String {
        self.node.logs(&self.home, &self.pod, "operator")
    }

    /// What all agents logged.
    pub fn crowd_log(&self) -> String {
        let log = |number: u32| {
            let crowd = self.node.log_directory().join(format!("crowd-{number}"));
            std::fs::read_to_string(crowd.join("0.log")).ok()
        };
        (0..).map_while(log).collect()
    }

    /// The user that the operator is to the API server.
    pub fn user(&self) -> String {
        format!("system:serviceaccount:{}:lockstep", self.home)
    }

    pub fn runs(&self, namespace: &str) -> Api<BenchmarkRun> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Waits until a run is as it should be.
    pub async fn until(
        &self,
        namespace: &str,
        name: &str,
        is: impl Fn(&BenchmarkRun) -> bool + Clone,
    ) -> BenchmarkRun {
        let runs = self.runs(namespace);
        let condition = |run: Option<&BenchmarkRun>| run.is_some_and(&is);
        match tokio::time::timeout(LIMIT, await_condition(runs.clone(), name, condition)).await {
            Ok(Ok(Some(run))) => run,
            other => {
                let seen = runs.get(name).await.map(|run| run.status);
                let log = self.log();
                let last: Vec<&str> = log.lines().rev().take(40).collect();
                panic!("{name}: {:?}, {seen:#?}\n{}", other.is_ok(), last.join("\n"))
            }
        }
    }
}

/// A control plane for as long as this process lives.
pub async fn plane() -> &'static ControlPlane {
    Box::leak(Box::new(ControlPlane::start().await))
}

/// Whether a run is finished.
pub fn finished(run: &BenchmarkRun) -> bool {
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::truth(conditions, ConditionType::Finished) == Some(Truth::True)
}

/// Whether a run is measuring.
pub fn measuring(run: &BenchmarkRun) -> bool {
    let progress = run.status.as_ref().and_then(|status| status.progress.as_ref());
    run.status.as_ref().is_some_and(|status| status.phase == "Running")
        && progress.is_some_and(|progress| progress.stage == "load" && progress.done > 0)
}

/// A run over nothing: so many agents, each with so many operations a second, for so long.
pub fn manifest(name: &str, agents: u32, seconds: u64, per_agent: u32) -> String {
    let rate = agents * per_agent;
    format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  agents: {{replicas: {agents}}}
  target: {{uri: 'null://'}}
  dataset: {{objects: 1000000, size: {{fixed: 4Ki}}, existing: Reuse}}
  start: {{maxSkew: 30s, readyTimeout: 20m}}
  stages:
    - name: load
      execute:
        duration: {seconds}s
        concurrency: 1
        rate: {{operationsPerSecond: {rate}}}
        operations: [{{op: Get}}]
"
    )
}
