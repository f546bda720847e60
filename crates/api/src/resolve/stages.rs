//! `spec.stages` into [`StagePlan`]s: `like` looked up, defaults filled in, preflight put in front.

use super::{Findings, dataset, exactly_one};
use crate::fault::Fault;
use crate::manifest::path;
use crate::manifest::suggest;
use crate::rules::KEYS;
use crate::span::Span;
use crate::spec::BenchmarkRunSpec;
use crate::spec::stages::{
    BarrierSpec, CONCURRENCY, CleanupSpec, ExecuteSpec, KeysSpec, OperationSpec, PrepareSpec, RateSpec,
    StageSpec,
};
use crate::spec::words::{Existing, OpName, RunOn, Sharing, Tolerance};
use lockstep_core::op::Op;
use lockstep_core::plan::{
    Barrier, ExecutePlan, KeyChoice, OpPlan, RatePlan, RunOn as RunOnPlan, StageKind, StagePlan, TargetPlan,
};
use std::time::Duration;

/// Name of the stage that comes first by itself.
pub const PREFLIGHT: &str = "preflight";

/// Length of the execute stage of a manifest without stages.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// Most agents × concurrency × stages need no limit of their own, but heartbeats do: a beat may not be slower.
const HEARTBEAT_MAX: Duration = Duration::from_secs(300);

/// The mix of a manifest that names none: what S3 benchmarks call mixed.
const DEFAULT_MIX: [(Op, u32); 4] = [(Op::Get, 70), (Op::Put, 20), (Op::Head, 8), (Op::Delete, 2)];

/// The stages of a manifest that has none: prepare, 30 s of `mixed`, cleanup.
#[must_use]
pub fn default_stages() -> Vec<StageSpec> {
    let stage = |name: &str, run_on| StageSpec {
        name: name.to_owned(),
        prepare: None,
        execute: None,
        cleanup: None,
        discard: false,
        barrier: None,
        run_on,
    };
    vec![
        StageSpec {
            prepare: Some(PrepareSpec { concurrency: CONCURRENCY }),
            ..stage("prepare", RunOn::Success)
        },
        StageSpec {
            execute: Some(ExecuteSpec { duration: Some(Span(DEFAULT_DURATION)), ..ExecuteSpec::default() }),
            ..stage("mixed", RunOn::Success)
        },
        StageSpec {
            cleanup: Some(CleanupSpec { tolerance: Tolerance::Tolerant, concurrency: CONCURRENCY }),
            ..stage("cleanup", RunOn::Always)
        },
    ]
}

/// Resolves all stages; those with faults are left out.
pub(super) fn resolve(
    spec: &BenchmarkRunSpec,
    target: Option<&TargetPlan>,
    findings: &mut Findings,
) -> Vec<StagePlan> {
    let default;
    let specs = if spec.stages.is_empty() {
        default = default_stages();
        &default
    } else {
        &spec.stages
    };
    let mut plans = vec![StagePlan {
        name: PREFLIGHT.to_owned(),
        kind: StageKind::Preflight,
        barrier: barrier(None, spec, PREFLIGHT, findings),
        run_on: RunOnPlan::Success,
    }];
    for (index, stage) in specs.iter().enumerate() {
        let at = path::item("spec.stages", index);
        if stage.name == PREFLIGHT {
            let fault = Fault::new(path::member(&at, "name"), "preflight comes first by itself");
            findings.fault(fault.allowed("another name"));
        }
        if let Some(first) = specs[..index].iter().position(|other| other.name == stage.name) {
            let message = format!("{} is also the name of spec.stages[{first}]", stage.name);
            findings.fault(Fault::new(path::member(&at, "name"), message).allowed("names that differ"));
        }
        let kind = kind(stage, specs, &at, target, findings);
        let barrier = barrier(stage.barrier.as_ref(), spec, &path::member(&at, "barrier"), findings);
        if stage.run_on == RunOn::Always && stage.cleanup.is_none() {
            let fault = Fault::new(path::member(&at, "runOn"), "Always makes sense for cleanup only");
            findings.fault(fault.allowed("Success"));
        }
        if stage.discard {
            discard(stage, specs.get(index + 1), &at, findings);
        }
        if let Some(kind) = kind {
            plans.push(StagePlan { name: stage.name.clone(), kind, barrier, run_on: stage.run_on.into() });
        }
    }
    order(spec, specs, &plans, findings);
    plans
}

fn kind(
    stage: &StageSpec,
    specs: &[StageSpec],
    at: &str,
    target: Option<&TargetPlan>,
    findings: &mut Findings,
) -> Option<StageKind> {
    let members = [stage.prepare.is_some(), stage.execute.is_some(), stage.cleanup.is_some()];
    if !exactly_one(at, &["prepare", "execute", "cleanup"], &members, findings) {
        return None;
    }
    if let Some(prepare) = &stage.prepare {
        return Some(StageKind::Prepare { concurrency: prepare.concurrency });
    }
    if let Some(cleanup) = &stage.cleanup {
        return Some(StageKind::Cleanup {
            tolerance: cleanup.tolerance.into(),
            concurrency: cleanup.concurrency,
        });
    }
    let own = stage.execute.as_ref()?;
    execute(own, stage, specs, &path::member(at, "execute"), target, findings).map(StageKind::Execute)
}

fn execute(
    own: &ExecuteSpec,
    stage: &StageSpec,
    specs: &[StageSpec],
    at: &str,
    target: Option<&TargetPlan>,
    findings: &mut Findings,
) -> Option<ExecutePlan> {
    let (merged, from) = inherit(own, stage, specs, at, findings)?;
    if merged.duration.is_none() && merged.operation_count.is_none() {
        let fault = Fault::new(at, "has neither duration nor operationCount, so it would never end");
        findings.fault(fault.allowed("duration, operationCount or both"));
    }
    // Faults in what was inherited are the other stage's own.
    let mut elsewhere = Findings::default();
    let rate = merged.rate.as_ref().and_then(|rate| {
        let findings = if own.rate.is_some() { &mut *findings } else { &mut elsewhere };
        resolve_rate(rate, &path::member(&from, "rate"), findings)
    });
    let findings = if own.operations.is_empty() { &mut elsewhere } else { findings };
    let operations_mix = mix(&merged.operations, &path::member(&from, "operations"), target, findings);
    Some(ExecutePlan {
        duration: merged.duration.map(|span| span.0),
        operations: merged.operation_count,
        discard: stage.discard,
        concurrency: merged.concurrency.unwrap_or(CONCURRENCY),
        rate,
        operations_mix,
    })
}

/// Fills what `own` leaves open from the stage that it is like. Returns the path of `own`, whose members name faults.
fn inherit(
    own: &ExecuteSpec,
    stage: &StageSpec,
    specs: &[StageSpec],
    at: &str,
    findings: &mut Findings,
) -> Option<(ExecuteSpec, String)> {
    let mut merged = own.clone();
    let mut seen = vec![stage.name.as_str()];
    let mut next = own.like.as_deref();
    while let Some(like) = next {
        let at = path::member(at, "like");
        if seen.contains(&like) {
            let chain = format!("{} → {like}", seen.join(" → "));
            findings.fault(Fault::new(at, format!("leads back to itself: {chain}")));
            return None;
        }
        seen.push(like);
        let Some(other) = specs.iter().find(|other| other.name == like) else {
            let names = specs.iter().filter(|other| other.execute.is_some()).map(|other| other.name.as_str());
            findings.fault(unknown_stage(&at, like, names));
            return None;
        };
        let Some(execute) = &other.execute else {
            findings.fault(Fault::new(at, format!("{like} is no execute stage")));
            return None;
        };
        merged.concurrency = merged.concurrency.or(execute.concurrency);
        merged.rate = merged.rate.or_else(|| execute.rate.clone());
        if merged.operations.is_empty() {
            merged.operations.clone_from(&execute.operations);
        }
        next = execute.like.as_deref();
    }
    Some((merged, at.to_owned()))
}

/// A name of a stage that is not there, with what was probably meant.
pub(super) fn unknown_stage<'a>(at: &str, name: &str, names: impl Iterator<Item = &'a str> + Clone) -> Fault {
    let fault = Fault::new(at, format!("there is no execute stage named {}", name.escape_debug()));
    match suggest::closest(name, names.clone()) {
        Some(close) => fault.hint(format!("did you mean {close}?")),
        None => fault.allowed(names.collect::<Vec<_>>().join(", ")),
    }
}

fn resolve_rate(rate: &RateSpec, at: &str, findings: &mut Findings) -> Option<RatePlan> {
    let members = [rate.operations_per_second.is_some(), rate.search.is_some()];
    if !exactly_one(at, &["operationsPerSecond", "search"], &members, findings) {
        return None;
    }
    let Some(per_second) = rate.operations_per_second else {
        let fault = Fault::new(path::member(at, "search"), "is not supported by this version");
        findings.fault(fault.hint("set operationsPerSecond, and run once for each rate of interest"));
        return None;
    };
    let milli = per_second * 1000.0;
    if !(1.0..=1e12).contains(&milli) {
        let fault =
            Fault::new(path::member(at, "operationsPerSecond"), format!("{per_second} is out of range"));
        findings.fault(fault.allowed("0.001 to 1000000000"));
        return None;
    }
    Some(RatePlan {
        milli_operations_per_second: milli.round() as u64,
        arrival: rate.arrival.into(),
        redistribute: rate.redistribute,
    })
}

fn mix(
    operations: &[OperationSpec],
    at: &str,
    target: Option<&TargetPlan>,
    findings: &mut Findings,
) -> Vec<OpPlan> {
    if operations.is_empty() {
        let plan = |(op, weight)| OpPlan { op, weight, keys: KeyChoice::Uniform, size: None };
        return DEFAULT_MIX.into_iter().map(plan).collect();
    }
    if operations.iter().all(|operation| operation.weight == 0) {
        let fault = Fault::new(at, "all weights are zero, so there is nothing to do");
        findings.fault(fault.allowed("weights of 0 to 10000, at least one positive"));
    }
    let puts = operations.iter().any(|operation| operation.op == OpName::Put && operation.weight > 0);
    let mut plans = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let at = path::item(at, index);
        let keys =
            operation.keys.as_ref().map(|keys| (keys, choice(keys, &path::member(&at, "keys"), findings)));
        if keys.is_some() && !matches!(operation.op, OpName::Get | OpName::Head | OpName::List) {
            let fault = Fault::new(
                path::member(&at, "keys"),
                "only Get, Head and List choose among existing objects",
            );
            findings.fault(fault.hint("Put makes new objects, and Delete removes those that this stage put"));
        }
        let size = operation
            .size
            .as_ref()
            .and_then(|size| dataset::size(size, &path::member(&at, "size"), findings));
        if operation.size.is_some() && operation.op != OpName::Put {
            findings.fault(Fault::new(
                path::member(&at, "size"),
                "only Put makes objects, so only it has a size",
            ));
        }
        if operation.op == OpName::Delete && operation.weight > 0 && !puts {
            let fault = Fault::new(&at, "Delete removes what this stage put, and this stage puts nothing");
            findings.fault(fault.allowed("Delete together with Put"));
        }
        if let Some(target) = target
            && !can(target, operation.op)
        {
            findings
                .fault(Fault::new(&at, format!("{:?} is nothing that {} can do", operation.op, target.uri)));
        }
        if operation.weight > 0 {
            let keys = keys.and_then(|(_, choice)| choice).unwrap_or_default();
            plans.push(OpPlan { op: operation.op.into(), weight: operation.weight, keys, size });
        }
    }
    plans
}

/// Whether a target can do an operation. All of today's can do all of today's operations; the match is here so that
/// neither list can grow without an answer.
fn can(target: &TargetPlan, op: OpName) -> bool {
    use lockstep_core::plan::Scheme;
    match (target.scheme, op) {
        (
            Scheme::File | Scheme::Mem | Scheme::Null | Scheme::S3,
            OpName::Get | OpName::Put | OpName::Head | OpName::List | OpName::Delete,
        ) => true,
    }
}

fn choice(keys: &KeysSpec, at: &str, findings: &mut Findings) -> Option<KeyChoice> {
    let members = [
        keys.uniform.is_some(),
        keys.zipf.is_some(),
        keys.hot_set.is_some(),
        keys.sequential.is_some(),
        keys.once.is_some(),
    ];
    if !exactly_one(at, KEYS, &members, findings) {
        return None;
    }
    if let Some(zipf) = keys.zipf {
        if !(zipf.exponent > 0.0 && zipf.exponent <= 5.0) {
            let fault = Fault::new(
                path::member(&path::member(at, "zipf"), "exponent"),
                format!("{} is out of range", zipf.exponent),
            );
            findings.fault(fault.allowed("0.01 to 5"));
        }
        return Some(KeyChoice::Zipf { exponent: zipf.exponent });
    }
    if let Some(hot) = keys.hot_set {
        return Some(KeyChoice::HotSet {
            objects_percent: hot.objects_percent,
            operations_percent: hot.operations_percent,
        });
    }
    Some(match (keys.sequential, keys.once) {
        (Some(_), _) => KeyChoice::Sequential,
        (_, Some(_)) => KeyChoice::Once,
        _ => KeyChoice::Uniform,
    })
}

fn barrier(own: Option<&BarrierSpec>, spec: &BenchmarkRunSpec, at: &str, findings: &mut Findings) -> Barrier {
    let default = Barrier { stall_timeout: spec.failure_policy.stall_timeout.0, ..Barrier::default() };
    let Some(own) = own else { return default };
    let span = |own: Option<Span>, default: Duration| own.map_or(default, |span| span.0);
    let barrier = Barrier {
        mode: own.mode.map_or(default.mode, Into::into),
        timeout: span(own.timeout, default.timeout),
        stall_timeout: span(own.stall_timeout, default.stall_timeout),
        heartbeat_interval: span(own.heartbeat_interval, default.heartbeat_interval),
        missed_threshold: own.missed_threshold.unwrap_or(default.missed_threshold),
        query_timeout: span(own.query_timeout, default.query_timeout),
        query_retries: own.query_retries.unwrap_or(default.query_retries),
    };
    if !(Duration::from_millis(100)..=HEARTBEAT_MAX).contains(&barrier.heartbeat_interval) {
        let interval = Span(barrier.heartbeat_interval);
        let fault = Fault::new(path::member(at, "heartbeatInterval"), format!("{interval} is out of range"));
        findings.fault(fault.allowed("100ms to 5m"));
    }
    barrier
}

fn discard(stage: &StageSpec, next: Option<&StageSpec>, at: &str, findings: &mut Findings) {
    let at_discard = path::member(at, "discard");
    let Some(execute) = &stage.execute else {
        findings.fault(Fault::new(at_discard, "only an execute stage can be discarded"));
        return;
    };
    if next.is_none_or(|next| next.execute.is_none()) {
        let fault = Fault::new(at_discard, "a discarded stage flows into the next one, which must measure");
        findings.fault(fault.allowed("an execute stage right after it"));
    }
    if stage.barrier.is_some() {
        let fault = Fault::new(
            path::member(at, "barrier"),
            "a discarded stage flows into the next one without a barrier",
        );
        findings.fault(fault.hint("leave it out"));
    }
    if execute.operation_count.is_some() {
        let message =
            "a discarded stage ends at one instant for all agents, which a number of operations cannot give";
        findings.fault(
            Fault::new(path::member(&path::member(at, "execute"), "operationCount"), message)
                .allowed("duration"),
        );
    }
}

/// What the order of stages must hold: data before it is read, nothing measured after cleanup.
fn order(spec: &BenchmarkRunSpec, specs: &[StageSpec], plans: &[StagePlan], findings: &mut Findings) {
    let reads = |stage: &StageSpec| {
        let plan = plans.iter().find(|plan| plan.name == stage.name).and_then(|plan| plan.kind.execute());
        plan.is_some_and(|plan| plan.operations_mix.iter().any(|op| matches!(op.op, Op::Get | Op::Head)))
    };
    let mut is_prepared = spec.dataset.existing == Existing::Reuse || spec.target.uri.starts_with("null://");
    let mut cleanup: Option<&str> = None;
    for (index, stage) in specs.iter().enumerate() {
        let at = path::item("spec.stages", index);
        if let Some(cleanup) = cleanup
            && stage.cleanup.is_none()
        {
            let message = format!("comes after {cleanup}, which removes the data");
            findings.fault(Fault::new(&at, message).allowed("cleanup last"));
        }
        if stage.cleanup.is_some() {
            cleanup = Some(&stage.name);
        }
        if stage.prepare.is_some() {
            is_prepared = true;
            if spec.dataset.existing == Existing::Reuse {
                let fault = Fault::new(
                    &at,
                    "existing: Reuse trusts that everything is there, so prepare has nothing to do",
                );
                findings.fault(fault.allowed("existing: FillGaps, or no prepare stage"));
            }
        } else if !is_prepared && reads(stage) {
            findings.fault(
                Fault::new(&at, format!("{} reads objects that nobody has written", stage.name)).allowed(
                    "a prepare stage before it, or dataset.existing: Reuse when an earlier run left them",
                ),
            );
            // Said once: the remedy is the same for all that follow.
            is_prepared = true;
        }
    }
    if spec.dataset.sharing == Sharing::PerAgent && spec.failure_policy.retry_attempts.unwrap_or(1) > 0 {
        // A replacement under the same index owns the same prefix, so this needs no fault; only memory is gone.
        if spec.target.uri.starts_with("mem://") {
            findings.note("mem://: an agent that is replaced begins with an empty memory");
        }
    }
}
