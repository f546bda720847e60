//! Watches: what the API server has, kept in stores, and which desk to wake when it changes.
//!
//! A desk exists as long as its run does. A watch that fails is taken up again with a back-off, and says so once.

use super::context::Context;
use super::desk::Desk;
use super::follow::{Changes, follow};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Every run of these namespaces; of all, if there are none.
#[must_use]
pub fn runs(
    client: &Client,
    namespaces: &[String],
) -> (reflector::Store<BenchmarkRun>, Changes<BenchmarkRun>) {
    follow(client, namespaces, &watcher::Config::default())
}

/// Every pod there that bears the labels of a run.
#[must_use]
pub fn pods(client: &Client, namespaces: &[String]) -> (reflector::Store<Pod>, Changes<Pod>) {
    follow(client, namespaces, &watcher::Config::default().labels(labels::RUN_UID))
}

/// Wakes desks by what changes, and opens one for each run that has none. Ends when a watch ends, which it never does.
pub async fn serve(context: Arc<Context>, mut runs: Changes<BenchmarkRun>, mut pods: Changes<Pod>) {
    let mut desks: HashMap<String, Arc<Notify>> = HashMap::new();
    let mut at_work = JoinSet::new();
    loop {
        tokio::select! {
            change = runs.next() => match change {
                Some(Ok(Event::Apply(run) | Event::Delete(run))) => wake(&context, &run, &mut desks, &mut at_work),
                // What is listed is in the store only when the list is complete.
                Some(Ok(Event::Init | Event::InitApply(_))) => {}
                Some(Ok(Event::InitDone)) => {
                    for run in context.runs.state() {
                        wake(&context, &run, &mut desks, &mut at_work);
                    }
                    // What went while nobody watched is seen only now.
                    desks.values().for_each(|wake| wake.notify_one());
                }
                Some(Err(error)) => tracing::warn!(%error, "the watch of runs is taken up again"),
                None => return,
            },
            change = pods.next() => match change {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod))) => {
                    if let Some(wake) = pod.labels().get(labels::RUN_UID).and_then(|uid| desks.get(uid)) {
                        wake.notify_one();
                    }
                }
                Some(Ok(Event::Init)) => {}
                // What went while nobody watched is seen only now.
                Some(Ok(Event::InitDone)) => desks.values().for_each(|wake| wake.notify_one()),
                Some(Err(error)) => tracing::warn!(%error, "the watch of pods is taken up again"),
                None => return,
            },
            Some(left) = at_work.join_next() => match left {
                Ok(uid) => _ = desks.remove(&uid),
                Err(error) => tracing::error!(%error, "the desk of a run broke"),
            },
        }
    }
}

/// Wakes the desk of a run, which is opened if there is none.
fn wake(
    context: &Arc<Context>,
    run: &BenchmarkRun,
    desks: &mut HashMap<String, Arc<Notify>>,
    at_work: &mut JoinSet<String>,
) {
    let Some(uid) = run.uid() else { return };
    let wake = desks.entry(uid.clone()).or_insert_with(|| {
        let wake = Arc::new(Notify::new());
        let desk = Desk::new(Arc::clone(context), run, Arc::clone(&wake));
        at_work.spawn(async move {
            desk.serve().await;
            uid
        });
        wake
    });
    wake.notify_one();
}
