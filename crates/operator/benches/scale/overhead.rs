//! What a run takes beyond the start of its pods and its window, from apply to Finished.

use super::cluster::{finished, manifest};
use super::{Cluster, Figure, story};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use std::collections::HashSet;

/// Agents of the run.
const AGENTS: u32 = 8;
/// Seconds that it measures.
const SECONDS: u64 = 2;
/// Seconds beyond pod start and window that it may take.
const GOAL_S: f64 = 1.0;

/// Measures it, several times; the median counts.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let cluster = Cluster::new(100).await;
    let mut turns = Vec::new();
    // The first one warms caches up.
    for turn in 0..if quick { 3 } else { 8 } {
        let taken = once(&cluster, &format!("turn-{turn}")).await;
        if turn > 0 {
            turns.push(taken);
        }
    }
    turns.sort_by(|one, other| one.total_s().total_cmp(&other.total_s()));
    let Taken { to_pods_s, to_start_s, to_finish_s, pods_s } = turns[turns.len() / 2];
    let total_s = turns[turns.len() / 2].total_s();
    let figure = format!(
        "{total_s:.2} s: {to_pods_s:.2} to the first pod, {to_start_s:.2} from the last agent to the start, \
         {to_finish_s:.2} from the window's end to Finished (pods took {pods_s:.2} s); {:.2}-{:.2} s in {} turns",
        turns[0].total_s(),
        turns[turns.len() - 1].total_s(),
        turns.len()
    );
    vec![Figure::new("run-overhead", figure, format!("{GOAL_S} s"), total_s <= GOAL_S)]
}

/// Where the time went.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// From apply to the first pod.
    to_pods_s: f64,
    /// From the last container that runs to the common start.
    to_start_s: f64,
    /// From the end of the window to Finished.
    to_finish_s: f64,
    /// From the first pod to the last container that runs.
    pods_s: f64,
}

impl Taken {
    fn total_s(&self) -> f64 {
        self.to_pods_s + self.to_start_s + self.to_finish_s
    }
}

async fn once(cluster: &Cluster, name: &str) -> Taken {
    let namespace = cluster.plane.namespace("bench").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &namespace);
    let seen = tokio::spawn(follow(pods));
    let text = manifest(name, AGENTS, SECONDS, 20);
    let run: lockstep_api::BenchmarkRun = serde_yaml::from_str(&text).expect("a run");
    let applied = Timestamp::now();
    cluster.runs(&namespace).create(&kube::api::PostParams::default(), &run).await.expect("it is taken");
    cluster.until(&namespace, name, finished).await;
    let done = Timestamp::now();
    let (first_pod, all_run) = seen.await.expect("the pods were followed");
    let story = story::of(&cluster.log(), name);
    let start_s = story::last_s(&story, "Working", applied);
    let seconds = |at: Timestamp| at.duration_since(applied).as_secs_f64();
    Taken {
        to_pods_s: seconds(first_pod),
        pods_s: seconds(all_run) - seconds(first_pod),
        to_start_s: start_s - seconds(all_run),
        to_finish_s: seconds(done) - start_s - SECONDS as f64,
    }
}

/// When the first pod was seen, and when all were seen to run.
async fn follow(pods: Api<Pod>) -> (Timestamp, Timestamp) {
    let mut events = watcher(pods, watcher::Config::default()).boxed();
    let (mut first, mut running) = (None, HashSet::new());
    loop {
        let Some(event) = events.next().await else { panic!("the watch ended") };
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let first = *first.get_or_insert_with(Timestamp::now);
        if pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running") {
            running.insert(pod.metadata.name.clone());
        }
        if running.len() as u32 == AGENTS {
            return (first, Timestamp::now());
        }
    }
}
