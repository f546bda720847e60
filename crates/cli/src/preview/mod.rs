//! A dry run: what a plan will do, in a page of text.
//!
//! Everything is computed from the plan by the functions that agents use, and nothing is enumerated: neither time nor
//! memory grows with the data set. Deliberately no promise about speed, which depends on the target; where work has no
//! length of its own, the page says how long it takes at some rates.

mod dataset;
mod estimate;
mod stages;

pub use dataset::{bytes, objects};
pub use estimate::estimate;

use lockstep_core::plan::{FailureMode, Plan};
use std::fmt::Write as _;

/// The page.
#[must_use]
pub fn render(plan: &Plan, notes: &[String]) -> String {
    let mut page = String::new();
    let target = &plan.target;
    let mut title = vec![
        format!("plan of {}", plan.run.name),
        agents(plan.replicas),
        target.uri.clone(),
        format!("seed {}", plan.dataset.seed),
    ];
    if plan.min_available < plan.replicas {
        title.insert(2, format!("starts with {}", plan.min_available));
    }
    let _ = writeln!(page, "{}\n", title.join(" · "));
    if !target.endpoints.is_empty() {
        field(
            &mut page,
            "endpoints",
            &format!("{} · {:?}", target.endpoints.join(", "), target.endpoint_selection),
        );
    }
    dataset::render(plan, &mut page);
    page.push('\n');
    stages::render(plan, &mut page);
    page.push('\n');
    estimate::render(plan, &mut page);
    field(&mut page, "failures", &failures(plan));
    for threshold in &plan.thresholds {
        field(&mut page, "threshold", &crate::display::thresholds::limit(threshold));
    }
    if let Some(deadline) = plan.active_deadline {
        field(&mut page, "deadline", &lockstep_core::format::long_span(deadline.as_secs()));
    }
    for note in notes {
        field(&mut page, "note", note);
    }
    page
}

/// How many agents, in words.
#[must_use]
pub fn agents(number: impl Into<u64>) -> String {
    let number = number.into();
    format!("{} {}", lockstep_core::format::count(number), if number == 1 { "agent" } else { "agents" })
}

/// One line with its name in front.
fn field(page: &mut String, name: &str, text: &str) {
    let _ = writeln!(page, "  {name:<10}  {text}");
}

fn failures(plan: &Plan) -> String {
    let failure = &plan.failure;
    let mode = match failure.mode {
        FailureMode::FailFast => "the first agent that is lost for good ends the run (FailFast)",
        FailureMode::ContinueIfMajority => {
            "goes on while more than half of the agents live (ContinueIfMajority)"
        }
        FailureMode::BestEffort => "goes on while one agent lives (BestEffort)",
    };
    let mut parts = vec![mode.to_owned()];
    parts.push(match failure.retry_attempts {
        0 => "no agent is replaced".to_owned(),
        1 => "each is replaced once".to_owned(),
        times => format!("each is replaced up to {times} times"),
    });
    if failure.min_agents > 0 {
        parts.push(format!("at least {}", agents(failure.min_agents)));
    }
    let budget = &failure.error_budget;
    parts.push(format!(
        "{} % of an agent's operations may fail, {} in a row",
        budget.percent, budget.consecutive
    ));
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_api::resolve::ResolveOptions;

    fn page(yaml: &str) -> String {
        let manifest = lockstep_api::manifest::load(yaml.as_bytes(), &[]).expect("fits the schema");
        let options = ResolveOptions { local: true, ..ResolveOptions::default() };
        let resolved = manifest.resolve(&options).expect("makes sense");
        render(&resolved.plan, &resolved.notes)
    }

    const TREE: &str = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: tree-large}
spec:
  agents: {replicas: 8}
  target: {uri: 'file:///mnt/bench/tree-large', pageCache: Drop}
  dataset:
    tree: {width: 24, depth: 4, filesPerDirectory: 193}
    size: {lognormal: {mean: 8Mi, stdDev: 1Mi, min: 1Mi, max: 16Mi}}
  stages:
    - {name: prepare, prepare: {concurrency: 32}}
    - {name: warmup, execute: {duration: 1m, like: read}, discard: true}
    - name: read
      execute:
        duration: 30m
        concurrency: 32
        operations: [{op: Get, weight: 90}, {op: Head, weight: 10}]
    - {name: cleanup, cleanup: {concurrency: 32}}
  failurePolicy: {minAgents: 6, retryAttempts: 3}
";

    #[test]
    fn a_tree_of_331_776_leaves_is_a_page_that_costs_nothing() {
        assert_eq!(page(TREE), include_str!("golden/tree-large.txt"));
    }

    #[test]
    fn a_flat_data_set_of_each_agent_its_own() {
        let yaml = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: own}
spec:
  seed: 42
  agents: {replicas: 3, minAvailable: 2}
  target: {uri: 'mem://'}
  dataset: {objects: 1001, size: {fixed: 64Ki}, sharing: PerAgent, prefixShards: 16}
  stages:
    - {name: prepare, prepare: {}}
    - name: mixed
      execute:
        operations: [{op: Get, weight: 1, keys: {zipf: {exponent: 0.99}}}, {op: Put, weight: 1, size: {fixed: 4Ki}}]
        duration: 10s
        rate: {operationsPerSecond: 500}
  thresholds:
    - {name: tail, stage: mixed, op: Get, metric: p99, atMost: 20ms}
";
        assert_eq!(page(yaml), include_str!("golden/own.txt"));
    }
}
