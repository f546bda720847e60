//! One run of a thousand agents, each with a session of its own, reporting once a second.

use super::cluster::{finished, manifest, measuring};
use super::{Cluster, Figure, measure, story};
use std::time::{Duration, Instant};

/// Cores and MiB that the operator may use.
const GOAL: (f64, f64) = (0.5, 200.0);
/// Writes per run and minute.
const WRITES_GOAL: f64 = 40.0;
/// KiB of the status.
const STATUS_GOAL_KIB: f64 = 16.0;
/// Seconds from handing a result in to its acknowledgement.
const ACKNOWLEDGE_GOAL_S: f64 = 1.0;

/// Number of the stage that is measured; preflight is before it.
const LOAD: u32 = 1;

/// Measures it.
pub async fn measure(quick: bool) -> Vec<Figure> {
    let (agents, seconds) = if quick { (100, 30) } else { (1_000, 90) };
    let cluster = Cluster::new(agents).await;
    let namespace = cluster.plane.namespace("bench").await;
    let began = Instant::now();
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
    let waits = Waits::of(story::waits_s(&cluster.log(), LOAD));
    let seen_by_agents = Waits::of(story::waits_s(&cluster.crowd_log(), LOAD));
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
                "{waits} from a result's arrival to its acknowledgement; as its agents see it, {seen_by_agents}"
            ),
            format!("{ACKNOWLEDGE_GOAL_S} s"),
            waits.longest_s <= ACKNOWLEDGE_GOAL_S && waits.count == agents as usize,
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

/// How long results waited.
struct Waits {
    count: usize,
    median_s: f64,
    longest_s: f64,
}

impl Waits {
    fn of(mut waits_s: Vec<f64>) -> Self {
        waits_s.sort_by(f64::total_cmp);
        let at = |index: usize| waits_s.get(index).copied().unwrap_or(f64::INFINITY);
        let count = waits_s.len();
        Self { count, median_s: at(count / 2), longest_s: at(count.saturating_sub(1)) }
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, median_s, longest_s } = self;
        write!(f, "{longest_s:.2} s, the longest of {count} (median {median_s:.2} s)")
    }
}
