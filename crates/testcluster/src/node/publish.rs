//! A pod's status, written as a kubelet does (pkg/kubelet/status/status_manager.go): a strategic merge patch with the pod's
//! uid, so that conditions of others stay and a pod of the same name is never hit.

use super::context::{PodContext, as_kubelet};
use super::state::status;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait after the API server refused or could not be reached.
const RETRY: Duration = Duration::from_millis(300);

/// Writes the status whenever something changed, for ever.
pub(super) async fn follow(ctx: Arc<PodContext>) {
    let mut changes = ctx.state.subscribe();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        changes.mark_unchanged();
        write(&ctx).await;
    }
}

/// Writes the status as it is now, unless it is written already; returns once it is, or the pod is gone.
pub(super) async fn write(ctx: &PodContext) {
    let mut published = ctx.published.lock().await;
    loop {
        let pods = pods(ctx).await;
        let state = ctx.state.borrow().clone();
        let status = status(&ctx.pod, &state, &published, ctx.address, ctx.node.address, Timestamp::now());
        if status == *published {
            return;
        }
        let mut patch = serde_json::json!({"metadata": {"uid": ctx.uid()}, "status": status});
        // These lists merge by address; a pod that starts anew has another one.
        for list in ["podIPs", "hostIPs"] {
            if let Some(addresses) = patch["status"][list].as_array_mut() {
                addresses.insert(0, serde_json::json!({"$patch": "replace"}));
            }
        }
        match pods.patch_status(ctx.name(), &as_kubelet(), &Patch::Strategic(patch)).await {
            Ok(_) => {
                *published = status;
                return;
            }
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => return,
            // A shape that no kubelet would send is a fault of this module, and must not look like a slow pod.
            Err(kube::Error::Api(answer)) if answer.is_invalid() => panic!("{}: {answer}", ctx.described()),
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

/// Takes the pod out of the API, once nothing of it is left here.
pub(super) async fn confirm_deletion(ctx: &PodContext) {
    let only_this = Preconditions { uid: Some(ctx.uid().to_owned()), resource_version: None };
    let now = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(only_this),
        ..DeleteParams::default()
    };
    loop {
        match pods(ctx).await.delete(ctx.name(), &now).await {
            Ok(_) => return,
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => return,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

async fn pods(ctx: &PodContext) -> Api<Pod> {
    Api::namespaced(ctx.node.client().await, ctx.namespace())
}
