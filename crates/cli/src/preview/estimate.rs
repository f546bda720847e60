//! What a run will take: bytes, memory, time.

use super::{agents, field, objects};
use lockstep_core::dataset::ByteEstimate;
use lockstep_core::format::{self, count, long_span};
use lockstep_core::plan::{Existing, Plan, StageKind};

/// Memory of an agent without workers, bytes. Preflight of the agents reckons with the same numbers.
const AGENT_BYTES: u64 = 32 << 20;
/// Memory of one worker: a buffer and a recorder, bytes.
const WORKER_BYTES: u64 = 2 << 20;
/// Rates at which the length of leased work is shown, objects per second of all agents.
const RATES_PER_S: [u64; 3] = [1_000, 10_000, 100_000];

/// Bytes as they are known: exact, or as an expectation with three standard deviations.
#[must_use]
pub fn estimate(bytes: &ByteEstimate) -> String {
    if bytes.is_exact() {
        return format::bytes(bytes.mean_bytes);
    }
    format!("≈ {} ± {} (3σ)", format::bytes(bytes.mean_bytes), format::bytes(bytes.three_sigma_bytes()))
}

/// The lines about memory and time.
pub fn render(plan: &Plan, page: &mut String) {
    let workers = plan.stages.iter().map(|stage| workers_of(&stage.kind)).max().unwrap_or(0);
    let each = AGENT_BYTES + u64::from(workers) * WORKER_BYTES;
    let all = u128::from(each) * u128::from(plan.replicas);
    let memory = format!(
        "about {} per agent with {} workers, {} for {}",
        format::bytes(each),
        workers,
        format::bytes(all),
        agents(plan.replicas)
    );
    field(page, "memory", &memory);
    field(page, "time", &time(plan));
}

fn workers_of(kind: &StageKind) -> u32 {
    match kind {
        StageKind::Preflight => 0,
        StageKind::Prepare { concurrency } | StageKind::Cleanup { concurrency, .. } => *concurrency,
        StageKind::Execute(execute) => execute.concurrency,
    }
}

fn time(plan: &Plan) -> String {
    let windows: u64 = plan
        .stages
        .iter()
        .filter_map(|stage| stage.kind.execute()?.duration)
        .map(|duration| duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
        .sum();
    let mut parts = Vec::new();
    if windows > 0 {
        parts.push(format!("{} of windows", long_span(windows)));
    }
    let work: u128 = plan.stages.iter().map(|stage| leased(plan, &stage.kind)).sum();
    if work > 0 {
        let at = |rate: u64| {
            let seconds = u64::try_from(work.div_ceil(u128::from(rate))).unwrap_or(u64::MAX);
            format!("{} at {}/s", long_span(seconds), count(rate))
        };
        let rates = RATES_PER_S.map(at).join(", ");
        parts.push(format!("{} objects or operations without a window: {rates}", count(work)));
    }
    parts.join(" + ")
}

/// Objects or operations that a stage works through, however long it takes.
fn leased(plan: &Plan, kind: &StageKind) -> u128 {
    match kind {
        StageKind::Preflight => 0,
        StageKind::Prepare { .. } if plan.existing == Existing::Reuse => 0,
        StageKind::Prepare { .. } | StageKind::Cleanup { .. } => objects(plan),
        StageKind::Execute(execute) => match (execute.duration, execute.operations) {
            (None, Some(operations)) => u128::from(operations),
            _ => 0,
        },
    }
}
