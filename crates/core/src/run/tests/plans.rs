//! Plans to test with.

use crate::dataset::content::ContentSpec;
use crate::dataset::size::SizeSpec;
use crate::dataset::{DataSet, Layout};
use crate::op::Op;
use crate::plan::{
    Barrier, BarrierMode, EndpointSelection, ErrorBudget, ExecutePlan, Existing, FailureMode, FailurePlan,
    KeyChoice, LateJoin, Objection, OpPlan, PLAN_FORMAT, PageCache, Plan, RunOn, RunRef, Scheme, Sharing,
    StageKind, StagePlan, StartPlan, TargetPlan, Tolerance,
};
use crate::run::agent::LossReason;
use std::time::Duration;

pub(super) const OBJECTS: u64 = 20_000;

pub(super) fn plan(replicas: u32, stages: Vec<StagePlan>) -> Plan {
    let mut all = vec![stage("preflight", StageKind::Preflight)];
    all.extend(stages);
    Plan {
        format: PLAN_FORMAT,
        run: RunRef { name: "test".into(), uid: "1".into(), attempt: 1 },
        replicas,
        min_available: replicas,
        target: TargetPlan {
            scheme: Scheme::File,
            uri: "file:///data".into(),
            bucket: String::new(),
            path: "/data".into(),
            endpoints: Vec::new(),
            endpoint_selection: EndpointSelection::RoundRobin,
            options: [].into(),
            page_cache: PageCache::Keep,
        },
        dataset: DataSet {
            seed: 1,
            layout: Layout::Flat { objects: OBJECTS, prefix_shards: 0 },
            size: SizeSpec::Fixed(1),
            content: ContentSpec::default(),
        },
        sharing: Sharing::Shared,
        existing: Existing::FillGaps,
        stages: all,
        start: StartPlan {
            ready_timeout: Duration::from_secs(60),
            delay: Duration::ZERO,
            lead_time: Duration::from_millis(200),
            max_skew: Duration::from_millis(50),
            on_skew: Objection::Inconclusive,
            on_client_bound: Objection::Report,
            late_join: LateJoin::Refuse,
        },
        failure: FailurePlan {
            mode: FailureMode::ContinueIfMajority,
            min_agents: 0,
            retry_attempts: 1,
            retry_delay: Duration::from_secs(1),
            reconnect_grace: Duration::from_secs(60),
            orphan_grace: Duration::from_secs(60),
            error_budget: ErrorBudget { percent: 10, consecutive: 100 },
            rules: Vec::new(),
        },
        thresholds: Vec::new(),
        active_deadline: None,
    }
}

pub(super) fn stage(name: &str, kind: StageKind) -> StagePlan {
    StagePlan { name: name.into(), kind, barrier: Barrier::default(), run_on: RunOn::Success }
}

pub(super) fn prepare() -> StagePlan {
    stage("prepare", StageKind::Prepare { concurrency: 4 })
}

pub(super) fn cleanup() -> StagePlan {
    let kind = StageKind::Cleanup { tolerance: Tolerance::Tolerant, concurrency: 4 };
    StagePlan { run_on: RunOn::Always, ..stage("cleanup", kind) }
}

fn execute(name: &str, op: Op, duration: Option<u64>, operations: Option<u64>, discard: bool) -> StagePlan {
    let mix = vec![OpPlan { op, weight: 1, keys: KeyChoice::Uniform, size: None }];
    let kind = StageKind::Execute(ExecutePlan {
        duration: duration.map(Duration::from_secs),
        operations,
        discard,
        concurrency: 4,
        rate: None,
        operations_mix: mix,
    });
    stage(name, kind)
}

pub(super) fn timed(name: &str, seconds: u64) -> StagePlan {
    execute(name, Op::Get, Some(seconds), None, false)
}

pub(super) fn puts(name: &str, seconds: u64) -> StagePlan {
    execute(name, Op::Put, Some(seconds), None, false)
}

pub(super) fn warm_up(seconds: u64) -> StagePlan {
    execute("warm-up", Op::Get, Some(seconds), None, true)
}

pub(super) fn counted(name: &str, operations: u64) -> StagePlan {
    execute(name, Op::Get, None, Some(operations), false)
}

/// Prepare, one measured stage of 20 s, cleanup: what most scenarios need.
pub(super) fn usual(replicas: u32) -> Plan {
    plan(replicas, vec![prepare(), timed("read", 20), cleanup()])
}

pub(super) fn with_mode(mut plan: Plan, mode: FailureMode, retry_attempts: u32) -> Plan {
    plan.failure.mode = mode;
    plan.failure.retry_attempts = retry_attempts;
    plan
}

/// The same barrier at the end of every stage.
pub(super) fn with_barrier(mut plan: Plan, mode: BarrierMode, timeout_s: u64) -> Plan {
    for stage in &mut plan.stages {
        stage.barrier.mode = mode;
        stage.barrier.timeout = Duration::from_secs(timeout_s);
    }
    plan
}

/// How the death of a process is told.
pub(super) fn loss(how: &str) -> LossReason {
    match how {
        "CannotStart" => LossReason::CannotStart("InvalidImageName: no image".into()),
        how => LossReason::Ended(how.into()),
    }
}
