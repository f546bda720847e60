//! The operator's own namespace goes, and the operator with it: it stays for as long as it is let, until no run there holds
//! our finalizer.
//!
//! Pods of a namespace go before everything else in it, so the operator is asked to end while its runs are not even asked
//! to go. Nobody would take them over, and their finalizers would hold the namespace for ever. So they are asked to go, and
//! the desks let them, which takes about as long as their agents take to end. A namespace that stays costs a hand-over one
//! question, and only where runs are under way in it.

use super::apply;
use super::context::Context;
use crate::pods::rejected::is_of_a_namespace_that_goes;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use std::sync::Arc;
use std::time::Duration;

/// How often is looked whether they are let go.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Returns at once, unless our namespace goes; then, when no run there is ours to let go. `client`: of a replica that may not
/// lead too.
pub async fn until_let_go(context: &Context, client: Client) {
    let namespace = &context.installation.namespace;
    if held(context).is_empty() || !goes(client, namespace).await {
        return;
    }
    tracing::info!(namespace, "the namespace goes: its runs are let go first");
    let runs: Api<BenchmarkRun> = Api::namespaced(context.client.clone(), namespace);
    loop {
        let held = held(context);
        if held.is_empty() {
            return;
        }
        for run in held.iter().filter(|run| run.metadata.deletion_timestamp.is_none()) {
            // Refused to whoever does not lead; whoever leads tries again.
            if let Err(error) = apply::delete(&runs, &run.name_any(), &run.uid().unwrap_or_default()).await {
                tracing::debug!(%error, run = run.name_any(), "the run is not asked to go");
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Runs of our namespace that hold our finalizer.
fn held(context: &Context) -> Vec<Arc<BenchmarkRun>> {
    let is_held = |run: &Arc<BenchmarkRun>| {
        run.spec.managed_by == context.installation.managed_by
            && run.namespace().as_ref() == Some(&context.installation.namespace)
            && run.finalizers().iter().any(|finalizer| finalizer == labels::FINALIZER)
    };
    context.runs.state().into_iter().filter(is_held).collect()
}

/// Whether a namespace is being deleted: whoever may make something there is told so when he tries. Nothing is made.
async fn goes(client: Client, namespace: &str) -> bool {
    let maps: Api<ConfigMap> = Api::namespaced(client, namespace);
    let mut map = ConfigMap::default();
    map.metadata.generate_name = Some("lockstep-".to_owned());
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    match maps.create(&dry, &map).await {
        Err(kube::Error::Api(status)) => is_of_a_namespace_that_goes(status.code, &status.message),
        _ => false,
    }
}
