//! The node as the API server knows it: a Node with its status, and a Lease that says it lives.
//!
//! Conditions as in pkg/kubelet/nodestatus/setters.go, the Lease as in k8s.io/component-helpers/apimachinery/lease.

use super::context::{NodeContext, as_kubelet};
use super::environment::{NODE_CPU, NODE_MEMORY};
use anyhow::{Context, Result};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where kubelets keep their Leases.
const LEASES: &str = "kube-node-lease";
/// How long the controllers may take to admit a node.
const ADMITTED_LIMIT: Duration = Duration::from_secs(60);
/// How long to wait after the API server could not be reached.
const RETRY: Duration = Duration::from_millis(300);

/// Grants nodes what kubelets may: the role that Kubernetes has for that, `system:node`.
pub(super) async fn grant(admin: Client) -> Result<()> {
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": "lockstep-test-nodes"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"},
        "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}],
    }))?;
    match Api::all(admin).create(&PostParams::default(), &binding).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(answer)) if answer.is_already_exists() => Ok(()),
        Err(error) => Err(error).context("failed to grant nodes what kubelets may"),
    }
}

/// Enters the node, and waits until the scheduler may use it.
pub(super) async fn enter(node: &NodeContext) -> Result<()> {
    let nodes: Api<Node> = Api::all(node.client().await);
    let name = &node.options.name;
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        (
            "kubernetes.io/arch".to_owned(),
            if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }.to_owned(),
        ),
    ]);
    labels.extend(node.options.labels.clone());
    let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
    let own = &node.options.taint;
    let taint =
        |key: &String| Taint { key: key.clone(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    let taints = own.as_ref().map(|key| vec![taint(key)]);
    let object = Node { metadata, spec: Some(NodeSpec { taints, ..NodeSpec::default() }), ..Node::default() };
    let end = Instant::now() + ADMITTED_LIMIT;
    loop {
        match nodes.create(&PostParams::default(), &object).await {
            Ok(_) => break,
            // One that was lost comes back, as after a reboot.
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => break,
            // The API server learns of the grant a moment after it was made.
            Err(kube::Error::Api(answer)) if answer.is_forbidden() && Instant::now() < end => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(error).with_context(|| format!("failed to enter node {name}")),
        }
    }
    renew(node).await?;
    say_ready(node).await?;
    let admitted = |node: Option<&Node>| {
        node.is_some_and(|node| {
            let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            taints.into_iter().all(|taint| Some(&taint.key) == own.as_ref())
        })
    };
    let admitted = tokio::time::timeout(ADMITTED_LIMIT, await_condition(nodes, name, admitted)).await;
    admitted.context("the node life-cycle controller does not admit the node")??;
    Ok(())
}

/// Takes the node out.
pub(super) async fn leave(node: &NodeContext, admin: Client) {
    // Nobody is left to care whether this works: the control plane mostly ends with it.
    let _ = Api::<Node>::all(admin).delete(&node.options.name, &kube::api::DeleteParams::default()).await;
}

/// Renews the Lease for ever, and says that the node is ready again after it was cut off.
pub(super) async fn keep(node: Arc<NodeContext>) {
    loop {
        tokio::time::sleep(node.options.lease_every).await;
        let was_silent = *node.silent.borrow();
        // Waits while the node is cut off.
        drop(node.client().await);
        while renew(&node).await.is_err() || (was_silent && say_ready(&node).await.is_err()) {
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn renew(node: &NodeContext) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(node.client().await, LEASES);
    let name = &node.options.name;
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(40),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    match leases.patch(name, &as_kubelet(), &Patch::Merge(json!({"spec": spec}))).await {
        Err(kube::Error::Api(answer)) if answer.is_not_found() => {
            let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
            leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await?;
        }
        answer => drop(answer?),
    }
    Ok(())
}

async fn say_ready(node: &NodeContext) -> Result<()> {
    let nodes: Api<Node> = Api::all(node.client().await);
    let now = Time(Timestamp::now());
    let condition = |type_: &str, status: &str, reason: &str, message: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": message,
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let capacity = json!({"cpu": NODE_CPU, "memory": NODE_MEMORY, "ephemeral-storage": "1Ti",
                          "pods": node.options.pods.to_string()});
    let status = json!({
        "capacity": capacity, "allocatable": capacity,
        "addresses": [
            {"type": "InternalIP", "address": node.address.to_string()},
            {"type": "Hostname", "address": node.options.name},
        ],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
        ],
    });
    nodes
        .patch_status(&node.options.name, &as_kubelet(), &Patch::Strategic(json!({"status": status})))
        .await?;
    Ok(())
}
