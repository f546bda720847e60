//! Of the control plane itself.

use crate::story::script;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, WatchParams};
use kube::runtime::wait::Condition;
use lockstep_testcluster::{Caller, ControlPlane, Image, LIMIT, NodeOptions, PodSecurity, eventually, until};
use lockstep_testkit::process::wait_until;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'nowhere:1'}]}
";

/// A server whose version nothing can parse is the trap of building it from modules.
#[tokio::test]
async fn kubectl_understands_the_version() {
    let cluster = ControlPlane::shared().await;
    let said = cluster.kubectl(&["version", "-o", "json"]).await;
    let versions: Value = serde_json::from_str(&said.expect_code(0).stdout).unwrap();
    for side in ["clientVersion", "serverVersion"] {
        let version = versions[side]["gitVersion"].as_str().unwrap();
        assert!(version.starts_with("v1."), "{side} {version}");
    }
    assert_eq!(versions["serverVersion"]["major"], "1");
    assert!(said.stderr.is_empty(), "kubectl warns: {}", said.stderr);
}

#[tokio::test]
async fn rbac_denies_a_service_account_what_it_was_not_granted_and_the_audit_log_says_so() {
    let cluster = ControlPlane::shared().await;
    let namespace = cluster.namespace("rbac").await;
    let nobody = Caller::service_account(&namespace, "default");
    let pods: Api<Pod> = Api::namespaced(cluster.client_as(&nobody).await, &namespace);
    let refused = pods.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.is_forbidden()), "{refused}");

    let user = format!("system:serviceaccount:{namespace}:default");
    let entry = cluster.audited(LIMIT, |entry| entry.user == user && entry.resource == "pods").await;
    assert_eq!((entry.right().as_str(), entry.code, entry.is_write()), ("list /pods", 403, false));
    assert_eq!(entry.namespace, namespace);
}

#[tokio::test]
async fn who_is_impersonated_is_who_the_audit_log_knows() {
    let cluster = ControlPlane::shared().await;
    let namespace = cluster.namespace("users").await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client_as(&Caller::user("alice")).await, &namespace);
    assert!(maps.get("kube-root-ca.crt").await.is_err());
    let entry = cluster.audited(LIMIT, |entry| entry.user == "alice").await;
    assert_eq!((entry.name.as_str(), entry.code), ("kube-root-ca.crt", 403));
    let said = cluster.kubectl_as(&Caller::user("alice"), &["auth", "can-i", "list", "pods"]).await;
    assert_eq!(said.stdout.trim(), "no");
}

/// Without a node the real controllers still make the pod, and the real scheduler says why it waits.
#[tokio::test]
async fn deployment_controller_and_scheduler_act_and_kstatus_answers() {
    let cluster = ControlPlane::start().await;
    let namespace = cluster.namespace("deployment").await;
    cluster.apply(&namespace, DEPLOYMENT).await;
    let client = cluster.client().await;

    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let end = Instant::now() + LIMIT;
    let pod = loop {
        let found = pods.list(&ListParams::default().labels("app=web")).await.unwrap();
        if let Some(pod) = found.items.into_iter().next() {
            break pod.metadata.name.unwrap();
        }
        assert!(Instant::now() < end, "the deployment controller makes no pod");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    until(&pods, &pod, "unschedulable", is_unschedulable()).await;

    let deployments: Api<Deployment> = Api::namespaced(client, &namespace);
    let deployment = deployments.get("web").await.unwrap();
    let answers = cluster.kstatus(&[&deployment]).await;
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].status, "InProgress", "{answers:?}");
}

fn is_unschedulable() -> impl Condition<Pod> {
    |pod: Option<&Pod>| {
        let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_ref());
        conditions.into_iter().flatten().any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
    }
}

#[tokio::test]
async fn pod_security_is_enforced_where_it_is_asked_for() {
    let cluster = ControlPlane::shared().await;
    let restricted = cluster.namespace_with("restricted", PodSecurity::Restricted).await;
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}";
    let args = ["apply", "--namespace", &restricted, "-f", "-"];
    let said = cluster.kubectl_with(pod, &args).await;
    assert!(said.code != 0 && said.stderr.contains("violates PodSecurity"), "{said:?}");
    let free = cluster.namespace("free").await;
    cluster.apply(&free, pod).await;
}

/// RS256, as nearly everywhere: whoever checks tokens by the cluster's keys is tested with what he will meet.
#[tokio::test]
async fn tokens_are_signed_with_the_published_key() {
    let cluster = ControlPlane::shared().await;
    let said = cluster.kubectl(&["get", "--raw", "/openid/v1/jwks"]).await;
    let keys: Value = serde_json::from_str(&said.expect_code(0).stdout).unwrap();
    assert_eq!(
        (&keys["keys"][0]["alg"], keys["keys"].as_array().map(Vec::len)),
        (&Value::from("RS256"), Some(1))
    );
    let namespace = cluster.namespace("tokens").await;
    let token = cluster.token(&namespace, "default", &["lockstep"]).await;
    let review = format!(
        "{{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {{token: {token}, audiences: [lockstep, other]}}}}"
    );
    let said = cluster.kubectl_with(&review, &["create", "-o", "json", "-f", "-"]).await;
    let review: Value = serde_json::from_str(&said.expect_code(0).stdout).unwrap();
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(review["status"]["audiences"], serde_json::json!(["lockstep"]));
}

#[tokio::test]
async fn helm_lists_releases() {
    let cluster = ControlPlane::shared().await;
    let said = cluster.helm(&["list", "--all-namespaces", "-o", "json"]).await;
    assert_eq!(said.expect_code(0).stdout.trim(), "[]");
    let version = cluster.helm(&["version", "--template", "{{.Version}}"]).await.stdout;
    assert!(version.starts_with("v4."), "{version}");
}

/// A stopped API server refuses connections, and comes back at its address with its data; after a compaction, who
/// watches from before is told that it is gone.
#[tokio::test]
async fn the_api_server_goes_and_comes_back_and_old_watches_end_after_a_compaction() {
    let cluster = ControlPlane::start().await;
    let namespace = cluster.namespace("outage").await;
    let client = cluster.client().await;
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let before = maps.get("kube-root-ca.crt").await.unwrap().metadata.resource_version.unwrap();

    // Something must have happened since, for "before" to be too long ago.
    cluster.namespace("between").await;
    cluster.stop_api_server();
    let error = maps.get("kube-root-ca.crt").await.unwrap_err();
    assert!(format!("{error:?}").contains("ConnectionRefused"), "{error:?}");

    cluster.compact_etcd();
    cluster.start_api_server().await;
    maps.get("kube-root-ca.crt").await.unwrap();
    let mut watch = std::pin::pin!(maps.watch(&WatchParams::default(), &before).await.unwrap());
    let event = futures::StreamExt::next(&mut watch).await.expect("an answer").unwrap();
    assert!(matches!(&event, kube::api::WatchEvent::Error(status) if status.code == 410), "{event:?}");
    assert!(cluster.etcd_size_bytes().0 > 0);
}

#[tokio::test]
async fn what_is_dropped_leaves_neither_processes_nor_files() {
    let cluster = ControlPlane::start().await;
    let (directory, processes) = (cluster.directory().to_owned(), cluster.processes());
    assert_eq!(processes.len(), 4);
    assert!(directory.join("kube-apiserver.log").exists() && processes.iter().all(|id| is_alive(*id)));
    drop(cluster);
    assert_eq!(processes.iter().filter(|id| is_alive(**id)).count(), 0);
    assert!(!directory.exists());
}

/// This test binary, run again for the one test below and killed: what it started must end all the same.
#[tokio::test]
async fn what_is_killed_leaves_nothing_either() {
    let report = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "harness::a_control_plane_for_somebody_who_kills_it"]).env(REPORT, report.path());
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let said = || std::fs::read_to_string(report.path()).unwrap();
    assert!(wait_until(LIMIT, || said().ends_with('\n')), "the other test binary starts no control plane");
    child.kill().unwrap();
    child.wait().unwrap();

    let (directory, processes) =
        said().trim().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let processes: Vec<u32> = processes.split(' ').map(|id| id.parse().unwrap()).collect();
    assert_eq!(processes.len(), 5, "four components and a container");
    assert!(
        wait_until(LIMIT, || !processes.iter().any(|id| is_alive(*id))),
        "{processes:?} outlive their test"
    );
    assert!(wait_until(LIMIT, || !Path::new(&directory).exists()), "{directory} outlives its test");
}

/// Names the file in which the other process says what it has; set by nobody but the test above.
const REPORT: &str = "LOCKSTEP_TESTCLUSTER_REPORT";

#[tokio::test]
async fn a_control_plane_for_somebody_who_kills_it() {
    let cluster = ControlPlane::start().await;
    let node = cluster.node(NodeOptions::named("killed").image("host:1", Image::host())).await;
    let namespace = cluster.namespace("killed").await;
    cluster.apply(&namespace, &script("runs", "exec sleep 1000", "")).await;
    eventually("running", || !node.processes("runs", "main").is_empty()).await;
    let processes = [cluster.processes(), node.processes("runs", "main")].concat();
    assert!(processes.iter().all(|id| is_alive(*id)));
    let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
    if let Some(report) = std::env::var_os(REPORT) {
        std::fs::write(report, format!("{} {}\n", cluster.directory().display(), processes.join(" ")))
            .unwrap();
        // Until it is killed; should nobody do so, the test fails.
        tokio::time::sleep(LIMIT).await;
        panic!("nobody killed this process");
    }
}

/// Whether a process runs; one that is dead and not waited for does not.
fn is_alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
