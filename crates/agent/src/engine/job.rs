//! One stage, or one chain of stages that flow into each other, as its workers see it.
//!
//! Made by the director when a stage is staged and shared by all its workers: what to do, from when on, until when,
//! whether to stop, and where to leave results. Deliberately holds nothing that is written per operation: each
//! worker has a [`Seat`] of its own for that.

use super::director::Message;
use super::gate::Gate;
use super::hands::{Fence, Hands, Slot, Stop};
use super::interface::EngineEvent;
use super::queue::{Cut, Queue};
use super::trouble::{Trip, Trouble};
use crate::target::Failure;
use crate::target::backend::{Account, Role};
use lockstep_core::dataset::names::{Names, write_agent_prefix};
use lockstep_core::dataset::{DataSet, FilesIn, Layout};
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::pacing::{Arrivals, split_rate, stagger_ns};
use lockstep_core::plan::{ErrorBudget, ExecutePlan, Plan, Sharing, StageKind, Tolerance};
use lockstep_core::problem::Problem;
use lockstep_core::results::recorder::{LoopKind, Recorder, StageWindow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::mpsc::UnboundedSender;

/// Most indexes of a block of leased work: some milliseconds of it, so that an end comes soon.
const BLOCK_MOST: u64 = 512;
/// Most names of puts, or operations, that a worker takes at a time.
const SMALL_BLOCK_MOST: u64 = 64;

/// One execute stage of a chain.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Index in the plan.
    pub stage: u32,
    /// What it does.
    pub plan: ExecutePlan,
    /// From the start of the chain, nanoseconds.
    pub from_ns: u64,
    /// To, nanoseconds; `None` for a stage that ends with its operations.
    pub to_ns: Option<u64>,
}

impl Segment {
    /// Its window, when the chain starts at `origin_ns`.
    #[must_use]
    pub fn window(&self, origin_ns: u64) -> StageWindow {
        StageWindow {
            stage: self.stage,
            origin_ns: origin_ns + self.from_ns,
            end_ns: self.to_ns.map(|to_ns| origin_ns + to_ns),
            kind: if self.plan.rate.is_some() { LoopKind::Open } else { LoopKind::Closed },
        }
    }
}

/// What the workers do.
#[derive(Clone, Debug)]
pub enum Work {
    /// Write leased indexes.
    Prepare,
    /// Measure; at least one segment.
    Execute(Vec<Segment>),
    /// Remove leased indexes.
    Cleanup(Tolerance),
}

/// A key space: the shared one, or an agent's own.
#[derive(Clone, Debug)]
pub struct Space {
    /// Whose it is; `None` is the shared one.
    pub agent: Option<u32>,
    /// Its data set.
    pub data: Arc<DataSet>,
    /// Its names.
    pub names: Names,
    /// What stands before each name.
    pub prefix: String,
}

impl Space {
    /// The key space of `agent` in this plan.
    #[must_use]
    pub fn of(plan: &Plan, agent: Option<u32>) -> Self {
        let mut prefix = String::new();
        let data = match agent {
            Some(agent) => {
                write_agent_prefix(agent, &mut prefix);
                plan.dataset.for_agent(agent)
            }
            None => plan.dataset.clone(),
        };
        Self { agent, names: data.names(), data: Arc::new(data), prefix }
    }

    /// Writes the name of an object over `name`.
    #[inline]
    pub fn name(&self, index: u64, name: &mut String) {
        name.clear();
        name.push_str(&self.prefix);
        self.names.write_name(index, name);
    }
}

/// Intended starts that several workers share, and how well they were kept.
#[derive(Debug)]
pub struct Pace {
    /// Since the start of the segment, nanoseconds.
    pub arrivals: Arrivals,
    /// Longest time between intended and real start, nanoseconds.
    pub lag_max_ns: u64,
    /// Sum of these times.
    pub lag_sum_ns: u128,
    /// How many starts.
    pub starts: u64,
}

/// What belongs to one worker.
#[derive(Debug)]
pub struct Seat {
    /// Its connection to the director.
    pub hands: Hands,
    /// Its recorder, made at the start. The worker locks it once per operation and the director once per second:
    /// an uncontended lock of some nanoseconds buys exact seconds also of workers that are stuck in one operation.
    pub recorder: Mutex<Option<Recorder>>,
}

impl Seat {
    /// The recorder.
    pub fn recorder(&self) -> MutexGuard<'_, Option<Recorder>> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Job {
    /// Counts jobs of this engine, so that news of an old one is not taken for news of this one.
    pub serial: u64,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Index of the agent.
    pub agent: u32,
    /// Agents among which rates and shares are split, and our position; (agents << 32) | position.
    position: AtomicU64,
    /// What to do.
    pub work: Work,
    /// When to begin.
    pub gate: Gate,
    /// Whether to stop.
    pub stop: Arc<Stop>,
    /// Until when to issue I/O.
    pub fence: Arc<Fence>,
    /// The workers.
    pub seats: Vec<Arc<Seat>>,
    /// Leases of indexes (prepare, cleanup).
    pub indexes: Queue,
    /// Leases of fresh indexes for puts.
    pub puts: Queue,
    /// Leases of operations, one queue per segment.
    pub operations: Vec<Queue>,
    /// Failures so far.
    pub trouble: Trouble,
    /// Paces of the segments, by lane; set at the start, empty in closed loops.
    pub paces: OnceLock<Vec<Vec<Mutex<Pace>>>>,
    /// Runtimes that share the work; 1 for plain threads.
    pub lanes: usize,
    /// The key space of this agent.
    pub space: Space,
    /// What targets counted beside operations.
    pub accounts: Mutex<Account>,
    /// Samples of failures, one per operation and class.
    pub failures: Mutex<Vec<FailureSample>>,
    /// Whether contents are checked when they are read.
    pub verify: bool,
    /// First stage of the chain.
    pub stage: u32,
    /// To the director.
    pub director: Sender<Message>,
    /// To the session.
    pub events: UnboundedSender<EngineEvent>,
}

/// The first failure of an operation and class, and how many more there were.
#[derive(Clone, Debug)]
pub struct FailureSample {
    /// What was being done.
    pub op: Op,
    /// To which object.
    pub name: String,
    /// What happened.
    pub failure: Failure,
    /// How often the like of it happened.
    pub count: u64,
}

/// What a job is made of.
pub struct JobSpec {
    /// See [`Job::serial`].
    pub serial: u64,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Index of the agent.
    pub agent: u32,
    /// First stage of the chain.
    pub stage: u32,
    /// Agents that live, and our position among them.
    pub split: (u32, u32),
    /// Runtimes; 1 for plain threads.
    pub lanes: usize,
    /// Until when to issue I/O.
    pub fence: Arc<Fence>,
    /// To the director.
    pub director: Sender<Message>,
    /// To the session.
    pub events: UnboundedSender<EngineEvent>,
}

impl Job {
    /// The job of a stage and of those that it flows into; `None` for preflight, which has no workers.
    #[must_use]
    pub fn new(spec: JobSpec) -> Option<Self> {
        let JobSpec { serial, plan, agent, stage, split, lanes, fence, director, events } = spec;
        let (work, workers) = match &plan.stages.get(stage as usize)?.kind {
            StageKind::Preflight => return None,
            StageKind::Prepare { concurrency } => (Work::Prepare, *concurrency),
            StageKind::Cleanup { tolerance, concurrency } => (Work::Cleanup(*tolerance), *concurrency),
            StageKind::Execute(_) => {
                let chain = chain(&plan, stage);
                let workers = chain.iter().map(|segment| segment.plan.concurrency).max().unwrap_or(1);
                (Work::Execute(chain), workers)
            }
        };
        let workers = workers.max(1);
        let stop = Arc::new(Stop::default());
        let seats = (0..workers).map(|worker| {
            let hands = Hands { worker, stop: Arc::clone(&stop), slot: Arc::new(Slot::default()) };
            Arc::new(Seat { hands, recorder: Mutex::new(None) })
        });
        let align = align(&plan.dataset);
        let queue = |most, align| Queue::new(Cut { most, align, workers: u64::from(workers) });
        let fatal: &'static [ErrorClass] = match work {
            Work::Prepare => &[ErrorClass::Full, ErrorClass::Permission],
            Work::Cleanup(Tolerance::BestEffort) => &[],
            _ => &[ErrorClass::Full],
        };
        let budget = match work {
            Work::Cleanup(Tolerance::BestEffort) => ErrorBudget { percent: 100, consecutive: 0 },
            Work::Cleanup(Tolerance::Strict) => ErrorBudget { percent: 0, consecutive: 1 },
            _ => plan.failure.error_budget,
        };
        let segments = if let Work::Execute(chain) = &work { chain.len() } else { 0 };
        let own = (plan.sharing == Sharing::PerAgent).then_some(agent);
        Some(Self {
            serial,
            agent,
            position: AtomicU64::new(pack(split)),
            gate: Gate::default(),
            seats: seats.collect(),
            stop,
            fence,
            indexes: queue(BLOCK_MOST.max(align), align),
            puts: queue(SMALL_BLOCK_MOST, 1),
            operations: (0..segments).map(|_| queue(SMALL_BLOCK_MOST, 1)).collect(),
            trouble: Trouble::new(budget, fatal),
            paces: OnceLock::new(),
            lanes,
            space: Space::of(&plan, own),
            accounts: Mutex::default(),
            failures: Mutex::default(),
            verify: plan.dataset.content.verify,
            stage,
            work,
            plan,
            director,
            events,
        })
    }

    /// What targets are made for.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.work {
            Work::Prepare => Role::Prepare,
            Work::Execute(_) => Role::Execute,
            Work::Cleanup(_) => Role::Cleanup,
        }
    }

    /// The chain of an execute job; empty for others.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        if let Work::Execute(segments) = &self.work { segments } else { &[] }
    }

    /// Agents that live, and our position among them.
    #[must_use]
    pub fn split(&self) -> (u32, u32) {
        let packed = self.position.load(Ordering::Relaxed);
        ((packed >> 32) as u32, packed as u32)
    }

    /// Makes the paces of all segments; at the start, once. Arrivals that were due before `now_ns`, while the others had
    /// started at `origin_ns` already, are nobody's: whoever joins late does not make up for what it missed.
    pub fn set_paces(&self, origin_ns: u64, now_ns: u64) {
        let (agents, position) = self.split();
        let seed = self.plan.dataset.seed;
        let paces = self.segments().iter().map(|segment| {
            let Some(rate) = segment.plan.rate else { return Vec::new() };
            let whole = rate.milli_operations_per_second;
            let mine = split_rate(whole, agents, position);
            let lanes = self.lanes as u32;
            let missed_ns = now_ns.saturating_sub(origin_ns + segment.from_ns);
            (0..lanes)
                .map(|lane| {
                    let ordinal = u64::from(lane) * u64::from(agents) + u64::from(position);
                    let own = lockstep_core::rng::word(seed, u64::from(segment.stage));
                    let part = split_rate(mine, lanes, lane);
                    let mut arrivals = match missed_ns {
                        0 => Arrivals::new(rate.arrival, part, own, ordinal),
                        _ => Arrivals::new(rate.arrival, 0, own, ordinal),
                    };
                    if missed_ns > 0 {
                        arrivals.rebase(missed_ns, part);
                    }
                    let arrivals = match rate.arrival {
                        lockstep_core::plan::Arrival::Deterministic => {
                            // Every agent begins at the common start; within it, runtimes take turns.
                            arrivals.starting_at(stagger_ns(mine, u64::from(lane)))
                        }
                        _ => arrivals,
                    };
                    Mutex::new(Pace { arrivals, lag_max_ns: 0, lag_sum_ns: 0, starts: 0 })
                })
                .collect()
        });
        let _ = self.paces.set(paces.collect());
    }

    /// Splits rates over other agents from `now_ns` on.
    pub fn resplit(&self, agents: u32, position: u32, now_ns: u64) {
        self.position.store(pack((agents, position)), Ordering::Relaxed);
        let (Some(paces), Some(origin_ns)) = (self.paces.get(), self.gate.origin_ns()) else { return };
        for (segment, lanes) in self.segments().iter().zip(paces) {
            let Some(rate) = segment.plan.rate else { continue };
            let mine = split_rate(rate.milli_operations_per_second, agents, position);
            let since_ns = now_ns.saturating_sub(origin_ns + segment.from_ns);
            for (lane, pace) in lanes.iter().enumerate() {
                let part = split_rate(mine, lanes.len() as u32, lane as u32);
                let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
                pace.arrivals.rebase(since_ns, part);
            }
        }
    }

    /// Stops everybody.
    pub fn stop_all(&self) {
        self.stop.stop();
        self.gate.wake();
        self.indexes.wake();
        self.puts.wake();
        self.operations.iter().for_each(Queue::wake);
    }

    /// Keeps a sample of a failure.
    #[cold]
    pub fn note_failure(&self, op: Op, name: &str, failure: Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.iter_mut().find(|seen| seen.op == op && seen.failure.class == failure.class) {
            Some(seen) => seen.count += 1,
            None => failures.push(FailureSample { op, name: name.to_owned(), failure, count: 1 }),
        }
    }

    /// Tells the director that a worker cannot work at all.
    #[cold]
    pub fn failed(&self, problem: Problem) {
        let _ = self.director.send(Message::Failed { serial: self.serial, problem: Box::new(problem) });
    }

    /// Tells the director that a limit was broken.
    pub fn tripped(&self, trip: Trip) {
        // A director that is gone has nobody left to tell.
        let _ = self.director.send(Message::Tripped { serial: self.serial, trip: Box::new(trip) });
    }
}

fn pack((agents, position): (u32, u32)) -> u64 {
    (u64::from(agents.max(1)) << 32) | u64::from(position)
}

/// The stages from `stage` on that flow into each other.
fn chain(plan: &Plan, stage: u32) -> Vec<Segment> {
    let mut chain: Vec<Segment> = Vec::new();
    let mut from_ns = 0;
    for (index, stage) in plan.stages.iter().enumerate().skip(stage as usize) {
        let Some(execute) = stage.kind.execute() else { break };
        let to_ns = execute.duration.map(|duration| from_ns + duration.as_nanos() as u64);
        chain.push(Segment { stage: index as u32, plan: execute.clone(), from_ns, to_ns });
        // A discard stage without a window has no common instant at which it could flow on.
        match to_ns {
            Some(to_ns) if execute.discard => from_ns = to_ns,
            _ => break,
        }
    }
    chain
}

/// After how many indexes workers should change hands: whole directories, and as many levels of them as make a block
/// of a few hundred, so that no two workers make entries of one directory at a time.
fn align(data: &DataSet) -> u64 {
    let Layout::Tree(tree) = &data.layout else { return 1 };
    let files = tree.files_per_directory.max(1);
    let mut align = files;
    if tree.files == FilesIn::Leaves {
        for _ in 1..tree.depth {
            let wider = align.saturating_mul(u64::from(tree.width.max(1)));
            if wider > 2 * BLOCK_MOST {
                break;
            }
            align = wider;
        }
    }
    align
}
