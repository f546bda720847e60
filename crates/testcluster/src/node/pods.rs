//! Which pods this node runs: those that are bound to it.

use super::context::NodeContext;
use super::pod;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::Api;
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long to wait after a watch failed.
const RETRY: Duration = Duration::from_millis(300);

/// A pod that this node runs.
struct Held {
    latest: watch::Sender<Pod>,
    life: JoinHandle<()>,
    directory: PathBuf,
}

impl Held {
    /// Ends what is left of a pod that is gone from the API.
    async fn drop_all(self) {
        self.life.abort();
        // With its tasks its processes are killed.
        let _ = self.life.await;
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Runs the node's pods, for ever.
pub(super) async fn follow(node: Arc<NodeContext>) {
    let pods: Api<Pod> = Api::all(node.client().await);
    let bound = watcher::Config::default().fields(&format!("spec.nodeName={}", node.options.name));
    let mut events = watcher(pods, bound).boxed();
    let mut held: HashMap<String, Held> = HashMap::new();
    let mut listed: HashSet<String> = HashSet::new();
    while let Some(event) = events.next().await {
        // Who is cut off hears nothing.
        let mut silent = node.silent.subscribe();
        let _ = silent.wait_for(|silent| !silent).await;
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.insert(pod.uid().unwrap_or_default());
                take(&node, &mut held, pod);
            }
            Ok(Event::InitDone) => {
                let gone: Vec<String> = held.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                for uid in gone {
                    give_up(&mut held, &uid).await;
                }
            }
            Ok(Event::Apply(pod)) => take(&node, &mut held, pod),
            Ok(Event::Delete(pod)) => give_up(&mut held, &pod.uid().unwrap_or_default()).await,
            Err(_) => tokio::time::sleep(RETRY).await,
        }
    }
}

fn take(node: &Arc<NodeContext>, held: &mut HashMap<String, Held>, pod: Pod) {
    let uid = pod.uid().unwrap_or_default();
    if let Some(known) = held.get(&uid) {
        known.latest.send_replace(pod);
        return;
    }
    let directory = node.directory.join("pods").join(&uid);
    let latest = watch::Sender::new(pod);
    let life = tokio::spawn(pod::live(Arc::clone(node), latest.subscribe()));
    held.insert(uid, Held { latest, life, directory });
}

async fn give_up(held: &mut HashMap<String, Held>, uid: &str) {
    if let Some(pod) = held.remove(uid) {
        pod.drop_all().await;
    }
}
