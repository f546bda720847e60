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
    let begun_s = story::first_s(&story, "Working", applied);
    let first_s = first_result_s(&cluster, applied, begun_s + seconds as f64 - 3.0);
    let acknowledged_s = story::last_s(&story, "AtBarrier", applied) - first_s;
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
                "{acknowledged_s:.2} s from the first result to the acknowledgement of the last {per_agents}"
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

/// When the first result of the stage was written, seconds after `applied`: agents that end together hand in at once, and
/// what agents say of their beginning comes late when they all say it. `from_s`: nothing before is looked at.
fn first_result_s(cluster: &Cluster, applied: Timestamp, from_s: f64) -> f64 {
    let entries = cluster.plane.audit().into_iter();
    let written = entries.filter(|entry| entry.verb == "update" && entry.name.ends_with("-parts"));
    let times = written.filter_map(|entry| entry.time.parse::<Timestamp>().ok());
    let mut after_s = times.map(|time| time.duration_since(applied).as_secs_f64());
    after_s.find(|after_s| *after_s >= from_s).expect("results were written")
}
