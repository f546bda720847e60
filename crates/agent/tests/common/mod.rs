//! Drives an engine the way a session does: commands in, events out, leases from a pool. Waits on events with
//! deadlines, and never sleeps to be right.

#![allow(dead_code, reason = "each test file uses a part of it")]

use lockstep_agent::clock;
use lockstep_agent::engine::interface::{Command, EngineEvent};
use lockstep_agent::engine::{Engine, EngineHandle, Identity, start_with};
use lockstep_agent::target::backend::Backend;
use lockstep_core::dataset::content::ContentSpec;
use lockstep_core::dataset::size::SizeSpec;
use lockstep_core::dataset::{DataSet, FilesIn, Layout, Tree};
use lockstep_core::lease::{Lease, LeaseDone, LeaseKind};
use lockstep_core::op::Op;
use lockstep_core::plan::*;
use lockstep_core::problem::Problem;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::recorder::Interval;
use lockstep_core::run::message::Mark;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Length of a stage that something else ends, milliseconds.
pub const LONG_STAGE_MS: u64 = 60_000;

pub fn flat(objects: u64) -> Layout {
    Layout::Flat { objects, prefix_shards: 0 }
}

pub fn tree(width: u32, depth: u32, files_per_directory: u64) -> Layout {
    Layout::Tree(Tree { width, depth, files_per_directory, files: FilesIn::Leaves })
}

pub fn mix(ops: &[(Op, u32)]) -> Vec<OpPlan> {
    let plan = |&(op, weight)| OpPlan { op, weight, keys: KeyChoice::Uniform, size: None };
    ops.iter().map(plan).collect()
}

pub fn execute(ops: &[(Op, u32)], duration_ms: u64) -> ExecutePlan {
    ExecutePlan {
        duration: (duration_ms > 0).then(|| Duration::from_millis(duration_ms)),
        operations: None,
        discard: false,
        concurrency: 2,
        rate: None,
        operations_mix: mix(ops),
    }
}

fn stage(name: &str, kind: StageKind) -> StagePlan {
    StagePlan { name: name.into(), kind, barrier: Barrier::default(), run_on: RunOn::Success }
}

/// Preflight, prepare, these execute stages, cleanup.
pub fn plan(scheme: Scheme, path: &str, layout: Layout, executes: Vec<ExecutePlan>) -> Plan {
    let mut stages = vec![
        stage("preflight", StageKind::Preflight),
        stage("prepare", StageKind::Prepare { concurrency: 3 }),
    ];
    for (number, execute) in executes.into_iter().enumerate() {
        stages.push(stage(&format!("execute-{number}"), StageKind::Execute(execute)));
    }
    let cleanup = StageKind::Cleanup { tolerance: Tolerance::Tolerant, concurrency: 3 };
    stages.push(stage("cleanup", cleanup));
    Plan {
        format: PLAN_FORMAT,
        run: RunRef { name: "test".into(), uid: "uid-1".into(), attempt: 1 },
        replicas: 1,
        min_available: 1,
        target: TargetPlan {
            scheme,
            uri: format!("{}://{path}", if scheme == Scheme::File { "file" } else { "mem" }),
            bucket: String::new(),
            path: path.into(),
            endpoints: Vec::new(),
            endpoint_selection: EndpointSelection::RoundRobin,
            options: BTreeMap::new(),
            page_cache: PageCache::Keep,
        },
        dataset: DataSet { seed: 7, layout, size: SizeSpec::Fixed(512), content: ContentSpec::default() },
        sharing: Sharing::Shared,
        existing: Existing::FillGaps,
        stages,
        start: StartPlan {
            ready_timeout: DEADLINE,
            delay: Duration::ZERO,
            lead_time: Duration::from_millis(5),
            max_skew: Duration::from_millis(5),
            on_skew: Objection::Report,
            on_client_bound: Objection::Report,
            late_join: LateJoin::Admit,
        },
        failure: FailurePlan {
            mode: FailureMode::FailFast,
            min_agents: 0,
            retry_attempts: 0,
            retry_delay: Duration::from_secs(1),
            reconnect_grace: DEADLINE,
            orphan_grace: DEADLINE,
            error_budget: ErrorBudget { percent: 1, consecutive: 100 },
            rules: Vec::new(),
        },
        thresholds: Vec::new(),
        active_deadline: None,
    }
}

/// What came of a stage.
#[derive(Debug, Default)]
pub struct Seen {
    pub parts: Vec<StagePart>,
    pub faults: Vec<(Problem, bool)>,
    pub leases: Vec<LeaseDone>,
    pub intervals: Vec<Interval>,
    pub released_ns: Option<u64>,
    /// What was found at the place, if it was looked at.
    pub puts_below: Option<u64>,
}

impl Seen {
    pub fn part(&self) -> &StagePart {
        self.parts.last().expect("a part")
    }

    pub fn changed(&self) -> u64 {
        self.leases.iter().map(|done| done.changed).sum()
    }

    pub fn unchanged(&self) -> u64 {
        self.leases.iter().map(|done| done.unchanged).sum()
    }
}

pub struct Driver {
    pub plan: Arc<Plan>,
    pub handle: EngineHandle,
    pub events: UnboundedReceiver<EngineEvent>,
    next_lease: u64,
}

impl Driver {
    pub fn new(plan: Plan) -> Self {
        Self::at(plan, 0, true)
    }

    pub fn at(plan: Plan, index: u32, keeper: bool) -> Self {
        Self::start(plan, index, keeper, |plan, identity, events| {
            Engine::start(plan, identity, events).expect("an engine")
        })
    }

    /// The only agent, over a backend that the plan's target does not make.
    pub fn over<B: Backend>(plan: Plan, backend: B) -> Self {
        Self::start(plan, 0, true, |plan, identity, events| {
            start_with(backend, plan, identity, events).expect("an engine")
        })
    }

    fn start(
        plan: Plan,
        index: u32,
        keeper: bool,
        start: impl FnOnce(Arc<Plan>, Identity, UnboundedSender<EngineEvent>) -> EngineHandle,
    ) -> Self {
        let plan = Arc::new(plan);
        let (send, events) = unbounded_channel();
        let identity = Identity { index, attempt: 1, keeper, cores: Vec::new(), user_agent: "test".into() };
        let handle = start(Arc::clone(&plan), identity, send);
        Self { plan, handle, events, next_lease: 1 }
    }

    /// The next event; panics after [`DEADLINE`].
    pub fn next(&mut self) -> EngineEvent {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let next = async { tokio::time::timeout(DEADLINE, self.events.recv()).await };
        runtime.block_on(next).expect("an event in time").expect("an engine that lives")
    }

    pub fn lease(&mut self, stage: u32, kind: LeaseKind, start: u64, end: u64) -> u64 {
        self.lease_in(stage, kind, None, start, end)
    }

    pub fn lease_in(&mut self, stage: u32, kind: LeaseKind, space: Option<u32>, start: u64, end: u64) -> u64 {
        let id = self.next_lease;
        self.next_lease += 1;
        self.handle.send(Command::Lease(Lease { id, stage, kind, space, start, end }));
        id
    }

    pub fn stage_and_begin(&mut self, stage: u32) -> u64 {
        self.handle.send(Command::Stage { stage });
        loop {
            match self.next() {
                EngineEvent::Staged { stage: staged } => {
                    assert_eq!(staged, stage);
                    break;
                }
                EngineEvent::Fault { problem, .. } => panic!("{problem}"),
                _ => {}
            }
        }
        let at_ns = clock::now_ns() + 5_000_000;
        self.handle.send(Command::Begin { stage, at_ns, spin: false });
        at_ns
    }

    /// Everything until the stage `last` has ended.
    pub fn until_ended(&mut self, last: u32) -> Seen {
        let mut seen = Seen::default();
        loop {
            match self.next() {
                EngineEvent::StageEnded { stage, part } => {
                    seen.parts.push(*part);
                    if stage == last {
                        return seen;
                    }
                }
                EngineEvent::Fault { problem, fatal, .. } => seen.faults.push((problem, fatal)),
                EngineEvent::LeaseDone(done) => seen.leases.push(done),
                EngineEvent::Interval { interval, .. } => seen.intervals.push(interval),
                EngineEvent::Released { released_ns, .. } => seen.released_ns = Some(released_ns),
                EngineEvent::Place { puts_below, .. } => seen.puts_below = Some(puts_below),
                EngineEvent::Staged { .. }
                | EngineEvent::Marked(_)
                | EngineEvent::Idle
                | EngineEvent::Finished => {}
            }
        }
    }

    pub fn preflight(&mut self) -> Seen {
        self.handle.send(Command::Begin { stage: 0, at_ns: clock::now_ns(), spin: false });
        self.until_ended(0)
    }

    /// Prepares `0..end` in leases of `each`.
    pub fn prepare(&mut self, end: u64, each: u64) -> Seen {
        for start in (0..end).step_by(each as usize) {
            self.lease(1, LeaseKind::Prepare, start, (start + each).min(end));
        }
        self.handle.send(Command::Drain { stage: 1 });
        self.stage_and_begin(1);
        self.until_ended(1)
    }

    /// Writes into the marker, and waits until it stands there.
    pub fn mark(&mut self, mark: Mark) {
        self.handle.send(Command::Mark(mark));
        loop {
            match self.next() {
                EngineEvent::Marked(marked) => return assert_eq!(marked, mark),
                EngineEvent::Fault { problem, .. } => panic!("{problem}"),
                _ => {}
            }
        }
    }

    pub fn execute(&mut self, stage: u32) -> Seen {
        self.stage_and_begin(stage);
        self.until_ended(stage)
    }

    pub fn cleanup(&mut self, end: u64) -> Seen {
        let stage = self.plan.stages.len() as u32 - 1;
        self.lease(stage, LeaseKind::Cleanup, 0, end);
        self.handle.send(Command::Drain { stage });
        self.handle.send(Command::Begin { stage, at_ns: clock::now_ns(), spin: false });
        self.until_ended(stage)
    }

    pub fn finish(mut self) {
        self.handle.send(Command::Finish);
        while !matches!(self.next(), EngineEvent::Finished) {}
    }
}

/// How many objects lie below a directory, Lockstep's own files not counted.
pub fn files_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let count = entries.map(|entry| {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if entry.file_type().expect("a type").is_dir() {
            files_below(&entry.path())
        } else {
            u64::from(!name.to_string_lossy().starts_with(".lockstep"))
        }
    });
    count.sum()
}
