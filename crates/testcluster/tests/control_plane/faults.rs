//! Pods, nodes and API servers that fail.

use crate::story::{condition, main, phase, script, shared, terminated, waiting_message, waits};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use lockstep_testcluster::{
    ControlPlane, Fault, Image, LIMIT, NodeOptions, Options, eventually, until, until_gone,
};
use lockstep_testkit::process::{processes_of_group, wait_until};
use std::path::Path;
use std::time::Duration;

#[tokio::test]
async fn pods_fail_on_order() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("order").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    let pattern = format!("{namespace}/pull-*");
    node.order(&pattern, Fault::ImagePull("unauthorized".to_owned()));
    node.order(&format!("{namespace}/create"), Fault::CreateContainer("no space left".to_owned()));
    node.order(&format!("{namespace}/slow"), Fault::SlowStart(Duration::from_secs(3)));
    for name in ["pull-1", "create", "slow", "victim"] {
        cluster.apply(&namespace, &script(name, "[ $(hostname) != victim ] || exec sleep 1000", "")).await;
    }
    let pull = until(&pods, "pull-1", "refused", waits("ErrImagePull")).await;
    assert!(waiting_message(&pull).ends_with("unauthorized"), "{}", waiting_message(&pull));
    let create = until(&pods, "create", "refused", waits("CreateContainerError")).await;
    assert_eq!(waiting_message(&create), "no space left");

    until(&pods, "victim", "running", phase("Running")).await;
    let victim = node.processes(&format!("{namespace}/victim"), "main")[0];
    assert_eq!(node.kill_out_of_memory(&format!("{namespace}/victim"), "main"), 1);
    let pod = until(&pods, "victim", "killed", phase("Failed")).await;
    assert_eq!((terminated(&pod).exit_code, terminated(&pod).reason.as_deref()), (137, Some("OOMKilled")));
    assert!(!Path::new(&format!("/proc/{victim}")).exists());
    assert!(node.processes(&format!("{namespace}/*"), "main").is_empty());

    cluster.apply(&namespace, &script("evicted", "exec sleep 1000", "")).await;
    let limited = script("limited", "exec sleep 1000", "terminationGracePeriodSeconds: 1,");
    cluster.apply(&namespace, &limited).await;
    for name in ["evicted", "limited"] {
        until(&pods, name, "running", phase("Running")).await;
    }
    assert_eq!(node.evict(&format!("{namespace}/evicted"), "The node was low on resource: memory."), 1);
    let pod = until(&pods, "evicted", "evicted", phase("Failed")).await;
    assert_eq!(condition(&pod, "DisruptionTarget"), ("True".to_owned(), "TerminationByKubelet".to_owned()));
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("Evicted"));
    let lower = serde_json::json!({"spec": {"activeDeadlineSeconds": 1}});
    pods.patch("limited", &PatchParams::default(), &Patch::Merge(lower)).await.unwrap();
    let pod = until(&pods, "limited", "over", phase("Failed")).await;
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("DeadlineExceeded"));

    node.heal(&pattern);
    until(&pods, "pull-1", "done", phase("Succeeded")).await;
    let slow = until(&pods, "slow", "done", phase("Succeeded")).await;
    let status = slow.status.as_ref().unwrap();
    let waited = terminated(&slow).started_at.unwrap().0 - status.start_time.clone().unwrap().0;
    assert!(waited.get_seconds() >= 2, "{waited:?}");
}

/// The real node life-cycle controller takes the pods of a node that says nothing, and they go when it speaks again.
#[tokio::test]
async fn a_silent_node_loses_its_pods() {
    let cluster = ControlPlane::start_with(Options {
        node_monitor_grace: Duration::from_secs(4),
        unreachable_toleration: Duration::from_secs(1),
    })
    .await;
    let options = NodeOptions::named("quiet").image("host:1", Image::host());
    let node = cluster.node(options.lease_every(Duration::from_secs(1))).await;
    // Where all nodes are silent, the controller suspects itself and takes nobody's pods.
    let _other = cluster.node(NodeOptions::named("other").lease_every(Duration::from_secs(1))).await;
    let namespace = cluster.namespace("silent").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    cluster
        .apply(
            &namespace,
            &script(
                "orphan",
                "exec sleep 1000",
                "terminationGracePeriodSeconds: 1, nodeSelector: {kubernetes.io/hostname: quiet},",
            ),
        )
        .await;
    until(&pods, "orphan", "running", phase("Running")).await;
    let process = node.processes("orphan", "main")[0];

    node.fall_silent();
    let deleted = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let pod = until(&pods, "orphan", "deleted", deleted).await;
    assert_eq!(condition(&pod, "DisruptionTarget"), ("True".to_owned(), "DeletionByTaintManager".to_owned()));
    assert!(Path::new(&format!("/proc/{process}")).exists(), "nobody told the node");

    node.speak_again();
    until_gone(&pods, "orphan").await;
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

#[tokio::test]
async fn a_node_that_is_dropped_leaves_neither_processes_nor_itself() {
    let cluster = ControlPlane::start().await;
    let node = cluster.node(NodeOptions::named("short").image("host:1", Image::host())).await;
    let namespace = cluster.namespace("dropped").await;
    let client = cluster.client().await;
    cluster.apply(&namespace, &script("runs", "sleep 1000 & exec sleep 1000", "")).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    until(&pods, "runs", "running", phase("Running")).await;
    let process = node.processes("runs", "main")[0];
    drop(node);
    let group = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    assert!(wait_until(LIMIT, || processes_of_group(group).is_empty()), "they outlive their node");
    let nodes: Api<Node> = Api::all(client.clone());
    assert!(
        nodes.get_opt("short").await.unwrap().is_none_or(|node| node.metadata.deletion_timestamp.is_some())
    );
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    assert!(secrets.list(&ListParams::default()).await.unwrap().items.is_empty(), "tokens are never Secrets");
}

/// Pods neither end nor restart while the API server is gone, and what happened meanwhile is said when it is back.
#[tokio::test]
async fn pods_run_on_while_the_api_server_is_gone() {
    let cluster = ControlPlane::start().await;
    let node = cluster.node(NodeOptions::named("alone").image("host:1", Image::host())).await;
    let namespace = cluster.namespace("outage").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    cluster.apply(&namespace, &script("stays", "exec sleep 1000", "")).await;
    cluster.apply(&namespace, &script("ends", "exec sleep 1000", "")).await;
    for name in ["stays", "ends"] {
        until(&pods, name, "running", phase("Running")).await;
    }
    let stays = node.processes("stays", "main");

    cluster.stop_api_server();
    assert_eq!(node.kill_out_of_memory("ends", "main"), 1);
    eventually("killed", || node.processes("ends", "main").is_empty()).await;
    cluster.compact_etcd();
    cluster.start_api_server().await;

    let ends = until(&pods, "ends", "failed", phase("Failed")).await;
    assert_eq!(terminated(&ends).reason.as_deref(), Some("OOMKilled"));
    let pod = until(&pods, "stays", "running", phase("Running")).await;
    assert_eq!((main(&pod).restart_count, node.processes("stays", "main")), (0, stays));
    cluster.apply(&namespace, &script("after", "true", "")).await;
    until(&pods, "after", "done", phase("Succeeded")).await;
}

/// The machine of a node burns down, and a new one gets its name: what ran is nobody's any more, and is not run twice.
#[tokio::test]
async fn a_lost_machine_comes_back_without_its_processes() {
    let cluster = ControlPlane::start().await;
    let options = || NodeOptions::named("phoenix").image("host:1", Image::host());
    let node = cluster.node(options()).await;
    let namespace = cluster.namespace("lost").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    cluster.apply(&namespace, &script("once", "echo up; exec sleep 1000", "")).await;
    let again = script("again", "echo up; exec sleep 1000", "").replace("Never", "Always");
    cluster.apply(&namespace, &again).await;
    cluster.apply(&namespace, &script("deleted", "exec sleep 1000", "")).await;
    for name in ["once", "again", "deleted"] {
        until(&pods, name, "running", phase("Running")).await;
    }
    let process = node.processes("once", "main")[0];
    node.lose();
    let group = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    eventually("killed", || processes_of_group(group).is_empty()).await;
    pods.delete("deleted", &DeleteParams::default()).await.unwrap();
    assert!(pods.get("deleted").await.is_ok(), "nobody confirms that it is gone");

    let node = cluster.node(options()).await;
    until_gone(&pods, "deleted").await;
    let once = terminated(&until(&pods, "once", "failed", phase("Failed")).await);
    assert_eq!((once.exit_code, once.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    let restarted = |pod: Option<&Pod>| pod.is_some_and(|pod| main(pod).restart_count == 1);
    until(&pods, "again", "restarted", restarted).await;
    eventually("running", || node.processes("again", "main").len() == 1).await;
    assert!(node.processes("once", "main").is_empty());
}
