//! Removes pods that nobody looks after: whose run is gone, and whom `--cascade=orphan` has taken their owner.
//!
//! [`crate::plan::orphans`] says which; a run that the watch does not show is asked for once more before anything of it is
//! deleted, since a store may be late. Everything else is the garbage collector's.

use super::apply;
use super::context::Context;
use crate::plan::Action;
use crate::plan::orphans::collect;
use crate::pods::facts::PodFacts;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_api::BenchmarkRun;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often is looked for pods that nobody looks after.
pub const EVERY: Duration = Duration::from_secs(20);

/// Looks from time to time, and first once both stores are whole: before that nobody knows what is missing. Ends with the
/// watches only.
pub async fn serve(context: Arc<Context>) {
    if context.runs.wait_until_ready().await.is_err() || context.pods.wait_until_ready().await.is_err() {
        return;
    }
    loop {
        // One replica is enough.
        if (context.may_write())() {
            sweep(&context).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Looks once, and deletes what is found. What the API server does not take is left for the next time.
async fn sweep(context: &Context) {
    let mut by_namespace: BTreeMap<String, Vec<PodFacts>> = BTreeMap::new();
    for pod in context.pods.state() {
        if let (Some(namespace), Some(facts)) = (pod.namespace(), PodFacts::of(&pod)) {
            by_namespace.entry(namespace).or_default().push(facts);
        }
    }
    let runs: BTreeSet<String> = context.runs.state().iter().filter_map(|run| run.uid()).collect();
    for (namespace, pods) in by_namespace {
        for step in collect(&namespace, &pods, &runs) {
            let Action::DeletePod { name, uid } = &step.action else { continue };
            let Some(pod) = pods.iter().find(|pod| pod.uid == *uid) else { continue };
            let gone = is_gone(context, &namespace, pod).await;
            if !gone.unwrap_or(false) {
                continue;
            }
            tracing::info!(namespace, pod = name, why = %step.why, "an orphan is removed");
            let api: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
            if let Err(error) = apply::delete(&api, name, uid).await {
                tracing::warn!(%error, namespace, pod = name, "an orphan was not removed");
            }
        }
    }
}

/// Whether the API server says, too, that the run of a pod is no more.
async fn is_gone(context: &Context, namespace: &str, pod: &PodFacts) -> Result<bool, kube::Error> {
    let runs: Api<BenchmarkRun> = Api::namespaced(context.client.clone(), namespace);
    // Listed and not got: the operator may list runs anyway.
    let named = ListParams::default().fields(&format!("metadata.name={}", pod.run));
    let there = runs.list_metadata(&named).await?;
    Ok(!there.items.iter().any(|run| run.metadata.uid.as_ref() == Some(&pod.run_uid)))
}
