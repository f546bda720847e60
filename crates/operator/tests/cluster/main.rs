//! The operator against a real control plane, with agents and the operator itself as processes where a kubelet would
//! run them.

mod runs;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_testcluster::{ControlPlane, Image, Node, NodeOptions, until};
use std::time::Duration;
use tokio::sync::OnceCell;

const INSTALL: &str = include_str!("install.yaml");
const CRD: &str = include_str!("../../../../deploy/crds/lockstep.dev_benchmarkruns.yaml");

/// A control plane with a node and an operator that serves it.
struct Served {
    cluster: &'static ControlPlane,
    node: Node<'static>,
    /// Namespace of the operator.
    home: String,
}

/// The one of this test binary.
async fn served() -> &'static Served {
    static SERVED: OnceCell<Served> = OnceCell::const_new();
    SERVED
        .get_or_init(|| async {
            let cluster = ControlPlane::shared().await;
            let image =
                Image::host().workspace_binary("lockstep-operator").workspace_binary("lockstep-agent");
            let options = NodeOptions::named("node-0").image("lockstep:test", image);
            let node = cluster.node(options.refresh_every(Duration::from_millis(500))).await;
            let home = cluster.namespace("system").await;
            cluster.apply(&home, CRD).await;
            cluster.apply(&home, &INSTALL.replace("NAMESPACE", &home)).await;
            let deployments: Api<Deployment> = Api::namespaced(cluster.client().await, &home);
            let available = |deployment: Option<&Deployment>| {
                let status = deployment.and_then(|deployment| deployment.status.as_ref());
                status.and_then(|status| status.available_replicas) == Some(1)
            };
            until(&deployments, "lockstep-operator", "an available operator", available).await;
            Served { cluster, node, home }
        })
        .await
}

/// Whether a run is finished.
fn finished(run: Option<&BenchmarkRun>) -> bool {
    let conditions = run.and_then(|run| run.status.as_ref()).map(|status| &status.conditions);
    conditions.is_some_and(|all| conditions::truth(all, ConditionType::Finished) == Some(Truth::True))
}
