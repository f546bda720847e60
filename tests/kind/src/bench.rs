//! `make bench-cluster`: what a cluster adds to a run, on the one at hand. A table, medians of a few runs; missed goals are shown, and are no
//! failures, since clusters differ.
//!
//! Where an instant lies is taken from whoever knows it: pods and nodes from a watch of this program, agents from their logs, the
//! rest from the report, whose times are the operator's clock. On one machine these clocks are the same; on a real cluster they
//! are as far apart as its NTP lets them be, and phases that lie between two of them are off by that.

use crate::installation::{self, HOME};
use crate::suite::{Common, Suite};
use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams, LogParams};
use lockstep_testcluster::Runs;
use lockstep_testcluster::runs::{report, run};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Runs that are measured.
const TURNS: usize = 5;
/// Agents of each.
const AGENTS: usize = 4;
const OPERATORS: &str = "app.kubernetes.io/name=lockstep,app.kubernetes.io/component=operator";
/// What agents may take from their begin to their first session.
const START_GOAL_MS: f64 = 200.0;
/// What the image may take, compressed.
const IMAGE_GOAL_MIB: f64 = 60.0;

/// The phases between `apply` and the first operation, milliseconds each.
const PHASES: [(&str, &str); 5] = [
    ("API", "from the request that creates the run to the last of its pods"),
    ("scheduling", "to the last pod with a node"),
    ("image and container", "to the last agent that begins"),
    ("join", "to all agents ready"),
    ("arm", "to the planned start of the first operation"),
];

/// Measures, and prints the table.
///
/// # Errors
/// The cluster cannot be used.
pub fn measure(kubeconfig: PathBuf) -> Result<bool> {
    let directory = tempfile::tempdir().context("a directory")?;
    let common = Common::of(kubeconfig, directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let suite = Suite::begin("bench", &common).await?;
        let measured = table(&suite).await;
        suite.leave().await;
        measured
    })?;
    Ok(true)
}

async fn table(suite: &Suite) -> Result<()> {
    installation::install(suite).await.expect_code(0);
    let runs = suite.runs("bench").await;
    let (mut phases, mut starts): (Vec<[f64; 5]>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut use_of_operators = Vec::new();
    // The first brings whatever a node does once: it is not counted.
    for turn in 0..=TURNS {
        let before = processes(suite).await?;
        let (split, started) = one(suite, &runs, &format!("turn-{turn}")).await?;
        let after = processes(suite).await?;
        if turn > 0 {
            phases.push(split);
            starts.extend(started);
            use_of_operators.push(used(&before, &after));
        }
        eprintln!("  turn {turn}: {split:.0?} ms");
    }
    println!("| what | figure | goal |\n|---|---|---|");
    let totals = spread(phases.iter().map(|split| split.iter().sum()), "ms");
    println!("| apply → first operation, {AGENTS} agents | {totals} | |");
    for (index, (name, what)) in PHASES.iter().enumerate() {
        println!("| {name}: {what} | {} | |", spread(phases.iter().map(|split| split[index]), "ms"));
    }
    let is_met = |met: bool| if met { "met" } else { "missed" };
    let worst = starts.iter().copied().fold(0.0, f64::max);
    let goal = is_met(worst <= START_GOAL_MS);
    println!(
        "| agent start: begin of the program → session | {} | ≤ {START_GOAL_MS} ms: {goal} |",
        spread(starts.iter().copied(), "ms")
    );
    println!(
        "| operator that leads: CPU of a run | {} | |",
        spread(use_of_operators.iter().map(|one| one.0), "ms")
    );
    println!(
        "| operator that leads: memory after it | {} | |",
        spread(use_of_operators.iter().map(|one| one.1), "MiB")
    );
    match image_mib(suite).await {
        Some(size) => println!(
            "| image, as the nodes keep it | {size:.1} MiB | ≤ {IMAGE_GOAL_MIB} MiB compressed: {} |",
            is_met(size <= IMAGE_GOAL_MIB)
        ),
        None => println!("| image | no node tells its size | ≤ {IMAGE_GOAL_MIB} MiB compressed |"),
    }
    Ok(())
}

fn now_ms() -> f64 {
    Timestamp::now().as_microsecond() as f64 / 1_000.0
}

/// One run: its phases, and how long each agent took from its begin to its session.
async fn one(suite: &Suite, runs: &Runs, name: &str) -> Result<([f64; 5], Vec<f64>)> {
    let applied = now_ms();
    let seen = async {
        let (mut made, mut placed) = (BTreeMap::new(), BTreeMap::new());
        while placed.len() < AGENTS {
            let pods =
                runs.pods.list(&ListParams::default().labels(&format!("lockstep.dev/run={name}"))).await;
            for pod in pods.map(|pods| pods.items).unwrap_or_default() {
                made.entry(pod.name_any()).or_insert_with(now_ms);
                if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                    placed.entry(pod.name_any()).or_insert_with(now_ms);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let last = |of: &BTreeMap<String, f64>| of.values().copied().fold(0.0, f64::max);
        (last(&made), last(&placed))
    };
    let spec = json!({"agents": {"replicas": AGENTS, "cleanupPolicy": "Never"}, "start": {"maxSkew": "1s"}});
    let (made, placed) = tokio::join!(seen, runs.create(run(name, 2_000, &spec))).0;
    let done = runs.finished(name).await;
    let measured = report(&suite.client, &done).await;
    let began: Timestamp = measured.run.started.parse().context("when the run began")?;
    let at = |what: &str| {
        let event = measured.timeline.iter().rev().find(|event| event.what == what && event.agent.is_none());
        let event = event.with_context(|| format!("the timeline has no {what}"))?;
        anyhow::Ok((began.as_microsecond() as f64 / 1_000.0 + event.at_ms as f64, event.reason.as_str()))
    };
    let (ready, _) = at("AgentsReady")?;
    // `load in 212 ms, round 1`
    let (armed, lead) = at("Armed")?;
    let lead_ms = lead.split_once(" in ").and_then(|(_, rest)| rest.split(' ').next());
    let planned = armed + lead_ms.context("a lead")?.parse::<f64>()?;
    let mut begun = Vec::new();
    let mut started = Vec::new();
    for index in 0..AGENTS {
        let log = runs.pods.logs(&format!("{name}-{index}-0"), &LogParams::default()).await?;
        let first = log.lines().find(|line| line.contains("begins")).context("the log's first line")?;
        let session =
            log.lines().find(|line| line.contains("connected to the coordinator")).context("a session")?;
        begun.push(line_ms(first)?);
        started.push(line_ms(session)? - line_ms(first)?);
    }
    runs.delete(name).await;
    let begun = begun.into_iter().fold(0.0, f64::max);
    Ok(([made - applied, placed - made, begun - placed, ready - begun, planned - ready], started))
}

/// When a line of a log was written.
fn line_ms(line: &str) -> Result<f64> {
    let time: Timestamp =
        line.split_whitespace().next().unwrap_or_default().parse().with_context(|| line.to_owned())?;
    Ok(time.as_microsecond() as f64 / 1_000.0)
}

/// CPU milliseconds and resident MiB of each operator, and which of them leads.
type Processes = BTreeMap<String, (f64, f64, bool)>;

async fn processes(suite: &Suite) -> Result<Processes> {
    let pods: Api<Pod> = Api::namespaced(suite.client.clone(), HOME);
    let mut found = Processes::new();
    for pod in pods.list(&ListParams::default().labels(OPERATORS)).await? {
        let path = format!("/api/v1/namespaces/{HOME}/pods/{}:8080/proxy/metrics", pod.name_any());
        let text = suite.client.request_text(http::Request::get(path).body(Vec::new())?).await?;
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok()).unwrap_or_default()
        };
        let memory = of("process_resident_memory_bytes") / f64::from(1 << 20);
        found.insert(
            pod.name_any(),
            (of("process_cpu_seconds_total") * 1_000.0, memory, of("lockstep_leader") > 0.0),
        );
    }
    Ok(found)
}

/// CPU milliseconds that the leader used between two looks, and what it has resident, MiB.
fn used(before: &Processes, after: &Processes) -> (f64, f64) {
    let leader = after.iter().find(|(_, (_, _, leads))| *leads);
    leader.map_or((f64::NAN, f64::NAN), |(name, (cpu, memory, _))| {
        (cpu - before.get(name).map_or(0.0, |(cpu, _, _)| *cpu), *memory)
    })
}

/// Size of the image as a node tells it, MiB.
async fn image_mib(suite: &Suite) -> Option<f64> {
    let nodes: Api<Node> = Api::all(suite.client.clone());
    let name = suite.common.image.name();
    let nodes = nodes.list(&ListParams::default()).await.ok()?;
    let images = nodes.items.iter().filter_map(|node| node.status.as_ref()?.images.as_ref()).flatten();
    let is_it = |names: &[String]| names.iter().any(|one| one == &name || one.ends_with(&format!("/{name}")));
    let size =
        images.filter(|image| image.names.as_deref().is_some_and(is_it)).find_map(|image| image.size_bytes);
    size.map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Median, with lowest and highest.
fn spread(values: impl Iterator<Item = f64>, unit: &str) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return "nothing was measured".to_owned();
    };
    format!("{:.0} {unit} ({low:.0} to {high:.0})", values[values.len() / 2])
}
