//! The stages in a dry run: how long, how many workers, in which pieces, with which mix.

use lockstep_core::dataset::Layout;
use lockstep_core::dataset::size::SizeSpec;
use lockstep_core::format::{self, count};
use lockstep_core::plan::{
    Arrival, BarrierMode, ExecutePlan, Existing, KeyChoice, OpPlan, Plan, RunOn, StageKind, StagePlan,
};
use std::fmt::Write as _;

/// Indexes of an agent's first lease, per worker; the coordinator's pools begin with so many.
const FIRST_LEASE_PER_WORKER: u64 = 16;

/// A line per stage, with what does not fit on a second one.
pub fn render(plan: &Plan, page: &mut String) {
    let wide = plan.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let _ = writeln!(page, "  stages");
    for (number, stage) in plan.stages.iter().enumerate() {
        let (first, second) = describe(plan, stage);
        let name = format::table::fitted(&stage.name, wide);
        let _ = writeln!(page, "  {:>3} {name}  {first}", number + 1);
        if !second.is_empty() {
            let _ = writeln!(page, "      {}  {second}", " ".repeat(wide));
        }
    }
}

fn describe(plan: &Plan, stage: &StagePlan) -> (String, String) {
    let (mut first, mut second) = match &stage.kind {
        StageKind::Preflight => {
            (vec!["checks of every agent and of the target, before any load".to_owned()], vec![])
        }
        StageKind::Prepare { concurrency } => {
            let objects = if plan.existing == Existing::Reuse { 0 } else { super::objects(plan) };
            let first = vec![format!("writes {} objects", count(objects)), workers(plan, *concurrency)];
            (first, vec![leases(plan, *concurrency)])
        }
        StageKind::Execute(execute) => describe_execute(plan, execute),
        StageKind::Cleanup { tolerance, concurrency } => {
            let first = vec!["removes what the run wrote".to_owned(), workers(plan, *concurrency)];
            (first, vec![leases(plan, *concurrency), format!("{tolerance:?}")])
        }
    };
    if stage.run_on == RunOn::Always {
        first.push("also after a failure".to_owned());
    }
    match stage.barrier.mode {
        BarrierMode::All => {}
        mode => second.push(format!("barrier {mode:?} after {}", span(stage.barrier.timeout))),
    }
    (first.join(" · "), second.join(" · "))
}

fn describe_execute(plan: &Plan, execute: &ExecutePlan) -> (Vec<String>, Vec<String>) {
    let mut first = Vec::new();
    first.extend(execute.duration.map(span));
    first.extend(execute.operations.map(|operations| format!("{} operations", count(operations))));
    first.push(workers(plan, execute.concurrency));
    first.push(match &execute.rate {
        None => "closed loop".to_owned(),
        Some(rate) => {
            let arrival = match rate.arrival {
                Arrival::Poisson => "Poisson",
                Arrival::Uniform => "uniform",
                Arrival::Deterministic => "deterministic",
            };
            let rate = format::decimal_milli(rate.milli_operations_per_second);
            format!("open loop of {rate} op/s over all agents, {arrival} arrivals")
        }
    });
    if execute.discard {
        first.push("warm-up: results are discarded".to_owned());
    }
    let weights = execute.operations_mix.iter().map(|op| u64::from(op.weight)).sum::<u64>().max(1);
    let mix: Vec<String> = execute.operations_mix.iter().map(|op| describe_op(op, weights)).collect();
    (first, vec![mix.join(", ")])
}

fn describe_op(op: &OpPlan, weights: u64) -> String {
    let milli_percent = u64::from(op.weight) * 100_000 / weights;
    let mut text = format!("{} {}", op.op.name(), format::percent(milli_percent));
    match op.keys {
        KeyChoice::Uniform => {}
        KeyChoice::Zipf { exponent } => _ = write!(text, " (Zipf {exponent})"),
        KeyChoice::HotSet { objects_percent, operations_percent } => {
            _ = write!(text, " ({operations_percent} % to {objects_percent} % of the objects)");
        }
        KeyChoice::Sequential => text.push_str(" (sequential)"),
        KeyChoice::Once => text.push_str(" (each object once)"),
    }
    match &op.size {
        None => {}
        Some(SizeSpec::Fixed(bytes)) => _ = write!(text, " of {}", format::bytes(*bytes)),
        Some(size) => _ = write!(text, " of {} on average", format::bytes(size.mean_bytes() as u128)),
    }
    text
}

fn workers(plan: &Plan, concurrency: u32) -> String {
    let all = u64::from(concurrency) * u64::from(plan.replicas);
    format!("{} workers ({} × {})", count(all), plan.replicas, concurrency)
}

/// How the work is cut: the first lease of an agent, then pieces of about a second.
fn leases(plan: &Plan, concurrency: u32) -> String {
    let first = u64::from(concurrency) * FIRST_LEASE_PER_WORKER;
    match &plan.dataset.layout {
        Layout::Tree(tree) if tree.files_per_directory > 1 => {
            let whole = first.div_ceil(tree.files_per_directory).saturating_mul(tree.files_per_directory);
            format!(
                "leases of whole directories: {} objects at first, then about a second of work each",
                count(whole.min(plan.dataset.len()))
            )
        }
        _ => format!(
            "leases of {} objects at first, then about a second of work each",
            count(first.min(plan.dataset.len()))
        ),
    }
}

fn span(duration: std::time::Duration) -> String {
    match duration.as_secs() {
        60.. => format::long_span(duration.as_secs()),
        _ => format::span(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
    }
}
