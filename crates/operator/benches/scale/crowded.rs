//! A cluster that is full of what others do and of what is over: 10,000 finished runs, 20,000 pods that are not ours.

use super::cluster::{finished, manifest, plane};
use super::{Cluster, Figure, measure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use lockstep_api::BenchmarkRun;
use serde_json::json;
use std::time::{Duration, Instant};

/// Requests at once.
const AT_ONCE: usize = 32;
/// How long it may take until there is nothing to be done.
const LIMIT: Duration = Duration::from_secs(1_800);
/// Cores and MiB that an idle operator may use.
const GOAL: (f64, f64) = (0.05, 200.0);

/// Measures it.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let (runs, foreign) = if quick { (1_000, 2_000) } else { (10_000, 20_000) };
    let (plane, began) = (plane().await, Instant::now());
    let others = plane.namespace("others").await;
    pods(&plane.client().await, &others, foreign).await;
    eprintln!("  {foreign} foreign pods after {:.0} s", began.elapsed().as_secs_f64());
    let cluster = Cluster::on(plane, 100, 1).await;
    let empty = measure::sample(cluster.operator());
    let namespace = plane.namespace("bench").await;
    cluster.plane.apply(&namespace, &manifest("first", 8, 2, 20)).await;
    let first = cluster.until(&namespace, "first", finished).await;
    copies(&cluster, &first, runs).await;
    eprintln!("  {runs} finished runs after {:.0} s", began.elapsed().as_secs_f64());
    // Whatever their coming set off is over.
    while measure::look(&cluster, Duration::from_secs(20)).await.writes_per_minute > 0.0 {
        assert!(began.elapsed() < LIMIT, "the operator writes on and on");
    }
    eprintln!("  at rest after {:.0} s", began.elapsed().as_secs_f64());
    let seen = measure::look(&cluster, Duration::from_secs(if quick { 30 } else { 90 })).await;
    let began = Instant::now();
    cluster.plane.apply(&namespace, &manifest("last", 8, 2, 20)).await;
    let last = cluster.until(&namespace, "last", finished).await;
    let took_s = began.elapsed().as_secs_f64();
    let phase = last.status.map(|status| status.phase).unwrap_or_default();
    let disconnected = cluster.log().matches("state=\"Disconnected\"").count();
    vec![
        Figure::new(
            "crowded",
            format!(
                "{:.3} cores idle, {:.0} MiB ({:.0} MiB before the runs came), {} writes per minute, etcd grows {:.0} \
                 MiB per hour, with {runs} finished runs and {foreign} foreign pods",
                seen.cores,
                seen.sample.resident_mib,
                empty.resident_mib,
                seen.writes_per_minute,
                seen.etcd_mib_per_hour
            ),
            format!("{} cores, {} MiB, no write", GOAL.0, GOAL.1),
            seen.cores <= GOAL.0 && seen.sample.resident_mib <= GOAL.1 && seen.writes_per_minute == 0.0,
        ),
        Figure::new(
            "crowded-run",
            format!("{phase} in {took_s:.1} s among them, {disconnected} agents Disconnected"),
            "Succeeded, none",
            phase == "Succeeded" && disconnected == 0,
        ),
    ]
}

/// Pods that nobody schedules.
async fn pods(client: &Client, namespace: &str, count: usize) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let create = |number: usize| {
        let pods = pods.clone();
        async move {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": format!("other-{number}"), "labels": {"app": "other"}},
                "spec": {
                    "schedulingGates": [{"name": "example.com/never"}],
                    "containers": [{"name": "main", "image": "other:1"}],
                },
            }))
            .expect("a pod");
            pods.create(&PostParams::default(), &pod).await.expect("it is taken");
        }
    };
    futures::stream::iter((0..count).map(create)).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
}

/// Runs that end as this one did.
async fn copies(cluster: &Cluster, run: &BenchmarkRun, count: usize) {
    let namespace = run.namespace().expect("its namespace");
    let runs = cluster.runs(&namespace);
    let create = |number: usize| {
        let runs = runs.clone();
        async move {
            let mut copy = BenchmarkRun::new(&format!("copy-{number}"), run.spec.clone());
            // Suspended, so that nothing begins before its status says that it is over.
            copy.spec.suspend = true;
            let made = runs.create(&PostParams::default(), &copy).await.expect("it is taken");
            let status = json!({"status": run.status});
            let name = made.name_any();
            runs.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
                .await
                .expect("its status");
        }
    };
    futures::stream::iter((0..count).map(create)).buffer_unordered(AT_ONCE).for_each(async |()| {}).await;
}
