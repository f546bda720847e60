//! The plain manifest, on a cluster of its own, whose definition of the resource is another version's: objects that this
//! version cannot read, or that say what it does not know, stop nobody.

use crate::chart::run;
use crate::finished;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::runtime::wait::conditions::is_crd_established;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{ControlPlane, Image, NodeOptions, until};
use serde_json::json;
use std::path::Path;

const DEFINITION: &str = "benchmarkruns.lockstep.dev";

/// A file of `deploy/`.
fn deploy(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file).display().to_string()
}

#[tokio::test]
async fn a_run_that_cannot_be_read_stops_no_other() {
    let cluster = ControlPlane::start().await;
    let image = Image::host().workspace_binary("lockstep-operator").workspace_binary("lockstep-agent");
    let version = concat!("lockstep:", env!("CARGO_PKG_VERSION"));
    let _node = cluster.node(NodeOptions::named("node-0").image(version, image)).await;
    let crd = deploy("crds/lockstep.dev_benchmarkruns.yaml");
    cluster.kubectl(&["apply", "--server-side", "-f", &crd]).await.expect_code(0);
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await);
    until(&definitions, DEFINITION, "served", is_crd_established()).await;
    // Another version's definition: it has fields of which this one knows nothing.
    let open = json!([{"op": "add", "value": true, "path":
        "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-preserve-unknown-fields"}]);
    cluster
        .kubectl(&["patch", "crd", DEFINITION, "--type=json", "-p", &open.to_string()])
        .await
        .expect_code(0);

    let namespace = cluster.namespace("perf").await;
    let runs: Api<BenchmarkRun> = Api::namespaced(cluster.client().await, &namespace);
    let kind = ApiResource::erase::<BenchmarkRun>(&());
    let raw: Api<DynamicObject> = Api::namespaced_with(cluster.client().await, &namespace, &kind);
    let managed_by = "lockstep.dev/operator";
    let novel = run("novel", managed_by, 1, "novelty: {of: tomorrow}");
    applied_whole(&raw, &novel, &cluster, &namespace).await;
    cluster.apply(&namespace, &run("odd", managed_by, 1, "suspend: true")).await;
    let odd = json!({"status": {"phase": "Hibernating", "verdict": "Maybe", "novelty": 1}});
    runs.patch_status("odd", &PatchParams::default(), &Patch::Merge(odd)).await.expect("no enums in status");

    // Without --force-conflicts it says that the definition was changed, and does not change it back.
    let plain = ["apply", "--server-side", "-f", &deploy("lockstep.yaml")];
    let applied = cluster.kubectl(&plain).await;
    assert!(
        applied.stderr.contains("1 conflict") && applied.stderr.contains(".spec.versions"),
        "{applied:?}"
    );
    let ready = ["rollout", "status", "deployment/lockstep", "-n", "lockstep-system", "--timeout=120s"];
    cluster.kubectl(&ready).await.expect_code(0);
    cluster.apply(&namespace, &run("plain", managed_by, 1, "")).await;
    let done = until(&runs, "plain", "finished", finished).await;
    assert_eq!(done.status.map(|status| status.phase).as_deref(), Some("Succeeded"));
    // What is not understood in a status is not in the way; the run is held, as it says.
    until(&runs, "odd", "suspended", |run: Option<&BenchmarkRun>| {
        run.and_then(|run| run.status.as_ref()).is_some_and(|status| status.phase == "Suspended")
    })
    .await;
    let novel = raw.get("novel").await.expect("it is there");
    assert!(novel.data["status"]["controller"].is_null(), "left alone: {:?}", novel.data["status"]);
}

/// Applies the run until the field that only the other version knows is kept: a definition is served a moment after it
/// was written.
async fn applied_whole(raw: &Api<DynamicObject>, text: &str, cluster: &ControlPlane, namespace: &str) {
    let end = std::time::Instant::now() + lockstep_testcluster::LIMIT;
    loop {
        let again = ["apply", "-n", namespace, "--validate=false", "-f", "-"];
        cluster.kubectl_with(text, &again).await.expect_code(0);
        let novel = raw.get("novel").await.expect("it is there");
        if novel.data["spec"]["novelty"]["of"] == "tomorrow" {
            return;
        }
        assert!(std::time::Instant::now() < end, "the field is pruned: {:?}", novel.data["spec"]);
        cluster.kubectl(&["delete", "brun", "novel", "-n", namespace]).await.expect_code(0);
    }
}
