//! One run of a thousand agents, each with a session of its own, reporting once a second.

use super::cluster::{finished, manifest, measuring};
use super::{Cluster, Figure, measure, story};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Cores and MiB that the operator may use.
const GOAL: (f64, f64) = (0.5, 200.0);
/// Writes per run and minute.
const WRITES_GOAL: f64 = 40.0;
/// KiB of the status.
const STATUS_GOAL_KIB: f64 = 16.0;
/// Seconds until the last result is acknowledged.
const ACKNOWLEDGE_GOAL_S: f64 = 1.0;

/// Measures it.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let (agents, seconds) = if quick { (100, 30) } else { (1_000, 90) };
    let cluster = Cluster::new(agents).await;
    let namespace = cluster.plane.namespace("bench").await;
    let (applied, began) = (Timestamp::now(), Instant::now());
    cluster.plane.apply(&namespace, &manifest("many", agents, seconds, 1)).await;
    cluster.until(&namespace, "many", measuring).await;
    eprintln!("  {agents} agents work after {:.0} s", began.elapsed().as_secs_f64());
    let span = Duration::from_secs(seconds * 2 / 3 - 10);
    let seen = measure::look(&cluster, span).await;
    eprintln!("  {seen:?}");
    let under_way = cluster.runs(&namespace).get("many").await.expect("the run");
    let bytes = serde_json::to_vec(&under_way.status).expect("JSON").len();
    let status_kib = bytes as f64 / 1024.0;
    let run = cluster.until(&namespace, "many", finished).await;
    let status = run.status.as_ref().expect("a status");
    let story = story::of(&cluster.log(), "many");
    let disconnected = story::count(&story, "Disconnected");
    // All of them began together; who says so last was held up by the others.
    let end_s = story::first_s(&story, "Working", applied) + seconds as f64;
    let acknowledged_s = story::last_s(&story, "AtBarrier", applied) - end_s;
    let per_agents = format!("with {agents} agents");
    let counts = status.agents.clone().unwrap_or_default();
    let goal = format!("{} cores, {} MiB", GOAL.0, GOAL.1);
    vec![
        Figure::new(
            "operator",
            format!("{:.2} cores, {:.0} MiB {per_agents}", seen.cores, seen.sample.peak_mib),
            goal,
            seen.cores <= GOAL.0 && seen.sample.peak_mib <= GOAL.1,
        ),
        Figure::new(
            "api-writes",
            format!("{:.0} per run and minute {per_agents}: {:?}", seen.writes_per_minute, seen.rights),
            format!("{WRITES_GOAL}"),
            seen.writes_per_minute <= WRITES_GOAL,
        ),
        Figure::new(
            "status-size",
            format!("{status_kib:.1} KiB {per_agents}"),
            format!("{STATUS_GOAL_KIB} KiB"),
            status_kib <= STATUS_GOAL_KIB,
        ),
        Figure::new(
            "acknowledged",
            format!(
                "{acknowledged_s:.2} s from the window's end to the last result's acknowledgement {per_agents}"
            ),
            format!("{ACKNOWLEDGE_GOAL_S} s"),
            acknowledged_s <= ACKNOWLEDGE_GOAL_S,
        ),
        Figure::new(
            "thousand-agents",
            format!(
                "{}, {} of {agents} agents done, {disconnected} Disconnected",
                status.phase, counts.completed
            ),
            "Succeeded, none Disconnected",
            status.phase == "Succeeded" && disconnected == 0 && counts.completed == i64::from(agents),
        ),
    ]
}
