//! The operator against a real control plane, installed by its chart, with agents and the operator itself as processes
//! where a kubelet would run them.

mod admin;
mod chart;
mod disasters;
mod examples;
mod gangs;
mod gate;
mod helm_test;
mod kills;
mod kubectl;
mod leader;
mod leaks;
mod lines;
mod lives;
mod losses;
mod outcomes;
mod pages;
mod plain;
mod rights;
mod rotation;
mod rules;
mod runs;
mod scale;
mod scopes;
mod space;
mod stores;
mod takeover;
mod troubles;
mod trust;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use kube::runtime::wait::await_condition;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::runs::{finished, report, report_text, truth};
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
        condition: impl Fn(Option<&BenchmarkRun>) -> bool,
    ) -> BenchmarkRun {
        // One instance of the watcher for all conditions: they are many, and it is large.
        self.until_dyn(runs, name, what, &condition).await
    }

    async fn until_dyn(
        &self,
        runs: &Api<BenchmarkRun>,
        name: &str,
        what: &str,
        condition: &dyn Fn(Option<&BenchmarkRun>) -> bool,
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
    ["lockstep-operator", "lockstep-agent", "lockstep"]
        .into_iter()
        .fold(Image::host(), Image::workspace_binary)
}

/// An agent that fails, and says why.
const BROKEN: &str = r#"echo '{"what":"no target","cause":"the moon is full","likely":[],"next":[],"kept":"","class":null,"exit":1}' \
    > /dev/termination-log
exit 3"#;

/// An agent that runs, and says nothing.
const MUTE: &str = "exec sleep 1000";

/// An image with a script in the place of the agent.
fn scripted(cluster: &ControlPlane, name: &str, script: &str) -> Image {
    let path = cluster.directory().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("an executable");
    Image::host().file("/lockstep-agent", path)
}

/// The one of this test binary.
async fn served() -> &'static Served {
    static SERVED: OnceCell<Served> = OnceCell::const_new();
    SERVED
        .get_or_init(|| async {
            let cluster = ControlPlane::shared().await;
            let options = NodeOptions::named("node-0")
                .image("lockstep:test", image())
                .image("broken:test", scripted(cluster, "broken", BROKEN))
                .image("mute:test", scripted(cluster, "mute", MUTE));
            let node = cluster.node(options.refresh_every(Duration::from_millis(500))).await;
            let home = cluster.namespace("system").await;
            let install = ["install", "lockstep", CHART, "-n", &home, "--set", "image.tag=test", "--wait"];
            cluster.helm(&install).await.expect_code(0);
            let pods: Api<Pod> = Api::namespaced(cluster.client().await, &home);
            let pods = pods.list(&ListParams::default()).await.expect("the operator's pod");
            let pod = pods.items.first().map(ResourceExt::name_any).unwrap_or_default();
            Served { cluster, node, home, pod }
        })
        .await
}
