//! A hundred runs at once with two agents each.

use super::cluster::{finished, manifest, measuring};
use super::{Cluster, Figure, measure};
use std::time::Duration;

/// Writes per run and minute; with a hundred runs the operator's own budget is below that.
const WRITES_GOAL: f64 = 40.0;

/// Measures it.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let (runs, seconds) = if quick { (10, 60) } else { (100, 150) };
    let cluster = Cluster::new(2 * runs).await;
    let namespace = cluster.plane.namespace("bench").await;
    let names: Vec<String> = (0..runs).map(|run| format!("run-{run}")).collect();
    let texts: Vec<String> = names.iter().map(|name| manifest(name, 2, seconds, 20)).collect();
    cluster.plane.apply(&namespace, &texts.join("---\n")).await;
    // From the first run that measures on, while others begin and none ends.
    cluster.until(&namespace, &names[0], measuring).await;
    let seen = measure::look(&cluster, Duration::from_secs(if quick { 20 } else { 90 })).await;
    let mut done = 0;
    for name in &names {
        let run = cluster.until(&namespace, name, finished).await;
        done += u32::from(run.status.is_some_and(|status| status.phase == "Succeeded"));
    }
    let disconnected = cluster.log().matches("state=\"Disconnected\"").count();
    let per_run = seen.writes_per_minute / f64::from(runs);
    vec![
        Figure::new(
            "hundred-runs",
            format!("{done} of {runs} Succeeded, {disconnected} agents Disconnected"),
            "all, none",
            done == runs && disconnected == 0,
        ),
        Figure::new(
            "hundred-runs-cost",
            format!(
                "{:.2} cores, {:.0} MiB, {per_run:.1} writes per run and minute, etcd grows {:.0} MiB per hour",
                seen.cores, seen.sample.peak_mib, seen.etcd_mib_per_hour
            ),
            format!("{WRITES_GOAL} writes"),
            per_run <= WRITES_GOAL,
        ),
    ]
}
