//! What happens to nodes: drained, gone from the network, without their kubelet or container runtime for a while.

use super::losses::{ends, under_way};
use super::{lost_and_replaced, problems};
use crate::nodes::{PLUG, RESTART_CONTAINERD, START_KUBELET, STOP_KUBELET, UNPLUG};
use crate::store;
use crate::suite::{Found, Suite, Undo};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, EvictParams, ListParams};
use lockstep_testcluster::runs::{report, run, status};
use lockstep_testcluster::{Runs, until_within};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long a kubelet is stopped: longer than its node is given before it is called unreachable, shorter than its pods are.
const SILENCE: Duration = Duration::from_secs(120);

async fn nodes(suite: &Suite) -> Vec<Node> {
    let nodes: Api<Node> = Api::all(suite.client.clone());
    nodes.list(&ListParams::default()).await.expect("nodes").items
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The node of a pod.
async fn node_of(runs: &Runs, pod: &str) -> String {
    let pod = runs.pods.get(pod).await.expect("a pod");
    pod.spec.and_then(|spec| spec.node_name).expect("a node")
}

/// Nodes that have something without which nothing could be shown: the storage, and whoever answers for names.
async fn spared(suite: &Suite) -> Vec<String> {
    let mut spared = Vec::new();
    for (namespace, selector) in [(store::NAMESPACE, ""), ("kube-system", "k8s-app=kube-dns")] {
        let pods: Api<Pod> = Api::namespaced(suite.client.clone(), namespace);
        let pods = pods.list(&ListParams::default().labels(selector)).await.expect("pods");
        spared.extend(pods.into_iter().filter_map(|pod| pod.spec?.node_name));
    }
    spared
}

/// An agent on a node that may go: its index, and the node.
async fn victim(suite: &Suite, runs: &Runs) -> Option<(u32, String)> {
    let spared = spared(suite).await;
    for index in 0..3 {
        let node = node_of(runs, &format!("run-{index}-0")).await;
        if !spared.contains(&node) {
            return Some((index, node));
        }
    }
    None
}

/// `kubectl drain` with an agent on the node: its index is taken over elsewhere. On one node: cordoned, and an agent evicted.
pub async fn drained(suite: &Suite) -> Found {
    let several = nodes(suite).await.len() > 1;
    let retries = u32::from(several);
    let policy = json!({"mode": "BestEffort", "retryAttempts": retries, "retryDelay": "1s"});
    let runs = under_way(suite, "drained", &policy, 30).await;
    let (index, node) = match victim(suite, &runs).await {
        Some(victim) => victim,
        None => (1, node_of(&runs, "run-1-0").await),
    };
    suite.finally(Undo::Kubectl(["uncordon", &node].map(str::to_owned).to_vec()));
    let began = Instant::now();
    if !several {
        suite.kubectl(&["cordon", &node]).await;
        runs.pods.evict("run-1-0", &EvictParams::default()).await.expect("it is evicted");
        let (_, held) = ends(suite, &runs, index, "Partial", "Evicted", (1, 0)).await;
        return Found::Shown(format!("one node, cordoned: Partial, Evicted; {held}"));
    }
    suite
        .kubectl(&[
            "drain",
            &node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--force",
            "--timeout=120s",
        ])
        .await;
    let took = began.elapsed();
    runs.until("run", "replaced", |status| status.agents.as_ref().is_some_and(|agents| agents.replaced > 0))
        .await;
    let replacement = format!("run-{index}-1");
    runs.pod(&replacement, "placed", |pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
        .await;
    let elsewhere = node_of(&runs, &replacement).await;
    assert_ne!(elsewhere, node, "the replacement is on the node that was drained");
    let replaced = lost_and_replaced(&runs.runs.get("run").await.expect("the run")).1;
    let (_, held) = ends(suite, &runs, index, "Partial", "Evicted", (0, replaced)).await;
    Found::Shown(format!(
        "drained in {:.0} s, {replaced} replaced, from {node} to {elsewhere}: Partial; {held}",
        took.as_secs_f64()
    ))
}

/// A run whose agents are not harmed by what happens to one of their nodes.
async fn unharmed(suite: &Suite, runs: &Runs) -> String {
    let done = runs.finished("run").await;
    assert_eq!(status(&done).phase, "Succeeded", "{}", problems(&done));
    assert_eq!(lost_and_replaced(&done), (0, 0), "{}", problems(&done));
    let measured = report(&suite.client, &done).await;
    let held = suite.store.holds(&runs.namespace, &measured).await;
    runs.nothing_left("run").await;
    held
}

/// Containers outlive their runtime's daemon; nobody notices.
pub async fn containerd_restarted(suite: &Suite) -> Found {
    if let Some(why) = suite.common.nodes.why_not() {
        return Found::NotShown(why);
    }
    let runs = under_way(suite, "containerd", &json!({"mode": "FailFast", "retryAttempts": 0}), 15).await;
    let node = node_of(&runs, "run-1-0").await;
    suite.common.nodes.order(&node, RESTART_CONTAINERD).unwrap_or_else(|error| panic!("{node}: {error:#}"));
    let held = unharmed(suite, &runs).await;
    Found::Shown(format!("of {node}: Succeeded under FailFast, nobody lost; {held}"))
}

/// A node leaves the network with its agent: given up after `reconnectGrace`, ended by itself after `orphanGrace`, and gone when the
/// node is back.
pub async fn unplugged(suite: &Suite) -> Found {
    if let Some(why) = suite.common.nodes.why_not() {
        return Found::NotShown(why);
    }
    if nodes(suite).await.len() < 2 {
        return Found::NotShown("the cluster has one node, whose loss is the cluster's".to_owned());
    }
    let policy =
        json!({"mode": "BestEffort", "retryAttempts": 0, "reconnectGrace": "8s", "orphanGrace": "12s"});
    let runs = under_way(suite, "unplugged", &policy, 30).await;
    let Some((index, node)) = victim(suite, &runs).await else {
        return Found::NotShown("every node with an agent has the storage or DNS too".to_owned());
    };
    suite.finally(Undo::Node(node.clone(), PLUG));
    suite.common.nodes.order(&node, UNPLUG).unwrap_or_else(|error| panic!("{node}: {error:#}"));
    let began = Instant::now();
    runs.until("run", "without one", |status| status.agents.as_ref().is_some_and(|agents| agents.lost == 1))
        .await;
    let lost = began.elapsed();
    let done = runs.finished("run").await;
    assert_eq!(status(&done).phase, "Partial", "{}", problems(&done));
    suite.common.nodes.order(&node, PLUG).unwrap_or_else(|error| panic!("{node}: {error:#}"));
    let all: Api<Node> = Api::all(suite.client.clone());
    until_within(&all, &node, "ready", runs.limit, |node: Option<&Node>| node.is_some_and(is_ready)).await;
    let (_, held) = ends(suite, &runs, index, "Partial", "Unreachable", (1, 0)).await;
    Found::Shown(format!(
        "{node}: lost {:.0} s after, Partial, nothing left once it was back; {held}",
        lost.as_secs_f64()
    ))
}

/// Pods go on without their kubelet, and the run does not notice.
pub async fn kubelet_stopped(suite: &Suite) -> Found {
    if let Some(why) = suite.common.nodes.why_not() {
        return Found::NotShown(why);
    }
    let runs = suite.runs("kubelet").await;
    let spec = json!({"failurePolicy": {"mode": "FailFast", "retryAttempts": 0}, "agents": {"replicas": 3}});
    runs.create(run("run", 150_000, &spec)).await;
    runs.measuring("run").await;
    let node = node_of(&runs, "run-1-0").await;
    suite.finally(Undo::Node(node.clone(), START_KUBELET));
    suite.common.nodes.order(&node, STOP_KUBELET).unwrap_or_else(|error| panic!("{node}: {error:#}"));
    let began = Instant::now();
    let all: Api<Node> = Api::all(suite.client.clone());
    let silent = |node: Option<&Node>| node.is_some_and(|node| !is_ready(node));
    until_within(&all, &node, "called unreachable", runs.limit, silent).await;
    let noticed = began.elapsed();
    tokio::time::sleep(SILENCE.saturating_sub(noticed)).await;
    suite.common.nodes.order(&node, START_KUBELET).unwrap_or_else(|error| panic!("{node}: {error:#}"));
    until_within(&all, &node, "ready again", runs.limit, |node: Option<&Node>| node.is_some_and(is_ready))
        .await;
    let done = runs.finished("run").await;
    assert_eq!(status(&done).phase, "Succeeded", "{}", problems(&done));
    assert_eq!(lost_and_replaced(&done), (0, 0), "{}", problems(&done));
    runs.nothing_left("run").await;
    Found::Shown(format!(
        "of {} for 2 min, NotReady after {:.0} s: Succeeded under FailFast",
        node,
        noticed.as_secs_f64()
    ))
}
