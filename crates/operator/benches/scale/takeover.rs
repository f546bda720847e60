//! A thousand agents when their leader dies: how long until the other replica has them all in hand.

use super::cluster::{finished, manifest, measuring, plane};
use super::{Cluster, Figure};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use lockstep_api::BenchmarkRun;
use rustix::process::{Pid, Signal, kill_process};

/// Seconds until all agents are in hand.
const GOAL_S: f64 = 5.0;

/// Measures it. Agents are in session with every replica before: handshakes and tokens are paid for while nobody waits. What
/// is counted begins with the Lease and ends when somebody who watches the run reads of it, the write included.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let (agents, seconds) = if quick { (100, 60) } else { (1_000, 90) };
    let cluster = Cluster::on(plane().await, agents, 2).await;
    let namespace = cluster.plane.namespace("bench").await;
    cluster.plane.apply(&namespace, &manifest("many", agents, seconds, 1)).await;
    let before = epoch(&cluster.until(&namespace, "many", measuring).await);
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.home);
    let lease = async || leases.get("lockstep").await.expect("the Lease").spec.expect("a spec");
    let holder = lease().await.holder_identity.expect("a leader");
    let pod = holder.split_once('_').expect("a pod and a suffix").0;
    let killed = Timestamp::now();
    for process in cluster.node.processes(&format!("{}/{pod}", cluster.home), "operator") {
        let process = Pid::from_raw(process.cast_signed()).expect("a process id");
        kill_process(process, Signal::KILL).expect("it runs");
    }
    let all = i64::from(agents);
    let is_in_hand = move |run: &BenchmarkRun| epoch(run) > before && in_hand(run) == all;
    cluster.until(&namespace, "many", is_in_hand).await;
    let seen = Timestamp::now();
    let acquired = lease().await.acquire_time.expect("when it was acquired").0;
    let took_s = seen.duration_since(acquired).as_secs_f64();
    let whole_s = seen.duration_since(killed).as_secs_f64();
    let run = cluster.until(&namespace, "many", finished).await;
    let status = run.status.unwrap_or_default();
    let completed = status.agents.unwrap_or_default().completed;
    vec![
        Figure::new(
            "takeover",
            format!("{took_s:.2} s from the Lease, {whole_s:.1} s from the kill, with {agents} agents"),
            format!("{GOAL_S} s from the Lease"),
            took_s <= GOAL_S,
        ),
        Figure::new(
            "takeover-cost",
            format!("{}, {completed} of {agents} agents done", status.phase),
            "Succeeded, all done",
            status.phase == "Succeeded" && completed == all,
        ),
    ]
}

fn epoch(run: &BenchmarkRun) -> i64 {
    run.status.as_ref().map_or(0, |status| status.epoch)
}

/// Agents that the leader hears.
fn in_hand(run: &BenchmarkRun) -> i64 {
    let agents = run.status.as_ref().and_then(|status| status.agents.as_ref());
    agents.map_or(0, |agents| agents.heard)
}
