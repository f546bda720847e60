//! The operator against a real control plane, installed by its chart, with agents and the operator itself as processes
//! where a kubelet would run them.

mod chart;
mod kubectl;
mod leader;
mod leaks;
mod plain;
mod rights;
mod rotation;
mod runs;
mod scopes;
mod stores;
mod takeover;
mod trust;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::runtime::wait::{Condition, await_condition};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_testcluster::{ControlPlane, Image, LIMIT, Node, NodeOptions};
use std::time::Duration;
use tokio::sync::OnceCell;

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/lockstep");

/// A control plane with a node and an operator that serves it.
struct Served {
    cluster: &'static ControlPlane,
    node: Node<'static>,
    /// Namespace of the operator.
    home: String,
    /// The operator's pod.
    pod: String,
}

impl Served {
    /// Waits until a run satisfies a condition, and returns it; panics with everything that there is to know of it.
    async fn until(
        &self,
        runs: &Api<BenchmarkRun>,
        name: &str,
        what: &str,
        condition: impl Condition<BenchmarkRun>,
    ) -> BenchmarkRun {
        match tokio::time::timeout(LIMIT, await_condition(runs.clone(), name, condition)).await {
            Ok(Ok(Some(run))) => run,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => match runs.get(name).await {
                Ok(run) => panic!("{name} is not {what} within {LIMIT:?}: {}", self.said(&run)),
                Err(error) => panic!("{name} is not {what} within {LIMIT:?}: {error}"),
            },
        }
    }

    /// What there is to know of a run that went wrong.
    fn said(&self, run: &BenchmarkRun) -> String {
        format!("{:#?}\n{}", run.status, self.node.logs(&self.home, &self.pod, "operator"))
    }
}

/// The image of a release.
fn image() -> Image {
    Image::host().workspace_binary("lockstep-operator").workspace_binary("lockstep-agent")
}

/// The one of this test binary.
async fn served() -> &'static Served {
    static SERVED: OnceCell<Served> = OnceCell::const_new();
    SERVED
        .get_or_init(|| async {
            let cluster = ControlPlane::shared().await;
            let options = NodeOptions::named("node-0").image("lockstep:test", image());
            let node = cluster.node(options.refresh_every(Duration::from_millis(500))).await;
            let home = cluster.namespace("system").await;
            let install = ["install", "lockstep", CHART, "-n", &home, "--set", "image.tag=test", "--wait"];
            cluster.helm(&install).await.expect_code(0);
            let pods: Api<Pod> = Api::namespaced(cluster.client().await, &home);
            let pods = pods.list(&ListParams::default()).await.expect("the operator's pod");
            let pod = pods.items.first().map(kube::ResourceExt::name_any).unwrap_or_default();
            Served { cluster, node, home, pod }
        })
        .await
}

/// What a condition of a run says.
fn truth(run: &BenchmarkRun, type_: ConditionType) -> Option<Truth> {
    conditions::truth(&run.status.as_ref()?.conditions, type_)
}

/// Whether a run is finished.
fn finished(run: Option<&BenchmarkRun>) -> bool {
    run.is_some_and(|run| truth(run, ConditionType::Finished) == Some(Truth::True))
}
