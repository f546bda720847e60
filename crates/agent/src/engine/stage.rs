//! The stage under way: begin, look at it while it lasts, end it.
//!
//! Steps: `Marking` (the keeper writes the marker) → `Mustering` (workers start) → `Staged` (they wait at the gate) →
//! `Running` → `Closing` (the keeper syncs, or removes the marker) → over. A stop may come in any of them: then
//! workers have one second; who has not ended by then is stuck in the kernel, is named, and left behind.

use super::director::Director;
use super::gate::Start;
use super::interface::EngineEvent;
use super::job::{Job, Work};
use super::keeper::{Answer, Request};
use super::parts;
use super::trouble::Trip;
use crate::clock;
use crate::cpu::Usage;
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::plan::StageKind;
use lockstep_core::problem::Problem;
use lockstep_core::results::recorder::{Interval, StageRecord};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long workers that were told to stop may take, nanoseconds.
const STOP_NS: u64 = 1_000_000_000;
/// How long after a second's end its interval is gathered, nanoseconds: the last records of it are in by then.
const SETTLE_NS: u64 = 5_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Where a stage under way stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The keeper writes the marker.
    Marking,
    /// Workers start.
    Mustering,
    /// Workers wait for the start.
    Staged,
    /// Workers work.
    Running,
    /// The keeper does what comes after the work.
    Closing,
}

/// What is known of one stage of a chain.
#[derive(Debug, Default)]
pub struct StageState {
    /// What was recorded.
    pub record: StageRecord,
    /// The agent's use of its machine at the stage's start.
    pub usage: Usage,
    /// Its use during the stage, once it is over.
    pub used: Option<Usage>,
    /// Largest resident memory seen, bytes.
    pub rss_max: u64,
}

/// The stage under way.
#[derive(Debug)]
pub struct Active {
    /// Counts stages of this engine.
    pub serial: u64,
    /// First stage of the chain.
    pub stage: u32,
    /// Its workers; `None` for preflight.
    pub job: Option<Arc<Job>>,
    /// Where it stands.
    pub step: Step,
    /// Workers that are ready.
    pub ready: usize,
    /// Workers that have ended.
    pub ended: usize,
    /// Start that was asked for: instant and whether to spin.
    pub begin: Option<(u64, bool)>,
    /// When it began for this agent: the common start.
    pub origin_ns: Option<u64>,
    /// Whether the release was told.
    pub released: bool,
    /// Why it was stopped.
    pub stopped: Option<String>,
    /// When stopped workers are given up, agent's clock.
    pub give_up_ns: Option<u64>,
    /// When the last worker ended, agent's clock.
    pub ended_ns: Option<u64>,
    /// Problems for the parts.
    pub problems: Vec<Problem>,
    /// By stage of the chain.
    pub states: Vec<StageState>,
    /// When the next interval is gathered, agent's clock.
    gather_ns: u64,
    /// How often nothing was to be done.
    rests: u64,
}

impl Active {
    /// A stage that was just staged.
    #[must_use]
    pub fn new(serial: u64, stage: u32, job: Option<Arc<Job>>) -> Self {
        let states = job.as_ref().map_or(1, |job| job.segments().len().max(1));
        Self {
            serial,
            stage,
            job,
            step: Step::Marking,
            ready: 0,
            ended: 0,
            begin: None,
            origin_ns: None,
            released: false,
            stopped: None,
            give_up_ns: None,
            ended_ns: None,
            problems: Vec::new(),
            states: (0..states).map(|_| StageState::default()).collect(),
            gather_ns: u64::MAX,
            rests: 0,
        }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.seats.len())
    }

    /// The stages of the chain.
    #[must_use]
    pub fn stages(&self) -> Vec<u32> {
        let last = self.stage + self.states.len() as u32;
        (self.stage..last).collect()
    }
}

impl Director {
    /// All workers wait at the gate.
    pub(super) fn staged(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        active.step = Step::Staged;
        let _ = self.events.send(EngineEvent::Staged { stage: active.stage });
        self.progress.begin("waiting", 0, clock::now_ns());
        if active.begin.is_some() {
            self.begin();
        }
    }

    /// The start is known: opens the gate, or runs preflight's checks.
    pub(super) fn begin(&mut self) {
        let keep = self.keeps();
        let Some(active) = self.active.as_mut() else { return };
        let Some((at_ns, spin)) = active.begin else { return };
        let now_ns = clock::now_ns();
        active.origin_ns = Some(at_ns);
        let Some(job) = active.job.clone() else {
            active.step = Step::Closing;
            active.states[0].usage = Usage::read();
            let serial = active.serial;
            self.progress.begin("checking", 0, now_ns);
            self.ask(serial, Request::Preflight { keep });
            return;
        };
        active.gather_ns = at_ns.max(now_ns) / SECOND_NS * SECOND_NS;
        let since_ns = active.gather_ns.saturating_sub(at_ns) / SECOND_NS * SECOND_NS;
        active.gather_ns = at_ns + since_ns + SECOND_NS + SETTLE_NS;
        for state in &mut active.states {
            state.usage = Usage::read();
        }
        job.set_paces(at_ns, now_ns);
        let cores = match self.identity.cores.len() {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cores => cores,
        };
        job.gate.set(Some(Start { at_ns, spinners: if spin { cores as u32 } else { 0 } }));
    }

    /// Looks at the stage under way.
    pub(super) fn tick(&mut self, now_ns: u64) {
        let Some(active) = self.active.as_mut() else { return };
        if active.give_up_ns.is_some_and(|give_up_ns| now_ns >= give_up_ns) {
            return self.give_up();
        }
        let Some(job) = active.job.clone() else { return };
        if active.step == Step::Staged && active.begin.is_some() {
            let released: Option<Vec<u64>> = job
                .seats
                .iter()
                .map(|seat| Some(seat.hands.slot.released_ns.load(Ordering::Acquire)).filter(|at| *at > 0))
                .collect();
            if let Some(released_ns) = released.and_then(|all| all.into_iter().max()) {
                active.step = Step::Running;
                active.released = true;
                let _ = self.events.send(EngineEvent::Released { stage: active.stage, released_ns });
                let total = self.progress.total.load(Ordering::Relaxed);
                self.progress.begin(doing(&job), total, now_ns);
            }
        }
        if active.step != Step::Running {
            return;
        }
        let sum = |counter: fn(&super::hands::Slot) -> u64| -> u64 {
            job.seats.iter().map(|seat| counter(&seat.hands.slot)).sum()
        };
        let operations = sum(|slot| slot.operations.load(Ordering::Relaxed));
        let errors = sum(|slot| slot.errors.load(Ordering::Relaxed));
        let objects = sum(|slot| slot.objects.load(Ordering::Relaxed));
        let pulse = sum(|slot| slot.pulse.load(Ordering::Relaxed));
        let leased = !matches!(job.work, Work::Execute(_));
        // Whose schedule has nothing for it does not stand still; whose operation does not end, does.
        let rests = job.seats.iter().all(|seat| seat.hands.slot.under_way().is_none());
        active.rests += u64::from(!leased && rests);
        self.progress.done.store(if leased { objects } else { operations }, Ordering::Relaxed);
        self.progress
            .pulse
            .store(pulse.wrapping_add(operations).wrapping_add(active.rests), Ordering::Relaxed);
        if now_ns >= active.gather_ns {
            self.gather(now_ns, false);
        }
        if errors > 0
            && let Some(limit) = job.trouble.check(operations, errors, false)
        {
            let problem = self.budget_problem(&job, limit);
            self.fail(problem);
        }
    }

    /// Gathers what workers recorded since the last time. `all`: also of the second that is not over yet.
    pub(super) fn gather(&mut self, now_ns: u64, all: bool) {
        let Some(active) = self.active.as_mut() else { return };
        let Some(job) = active.job.clone() else { return };
        let mut merged: BTreeMap<(u32, u32), Interval> = BTreeMap::new();
        for seat in &job.seats {
            let mut taken = Vec::new();
            if let Some(recorder) = seat.recorder().as_mut() {
                if all {
                    recorder.flush();
                } else {
                    // Counting nothing now closes a second that is over, also of a worker that has had nothing
                    // to record since.
                    recorder.count_dropped_starts(now_ns, 0);
                }
                taken.extend(std::iter::from_fn(|| recorder.take_finished()));
            }
            // Merged outside the lock, so that the worker is held up by a swap and no more.
            for interval in taken {
                match merged.entry((interval.stage, interval.second)) {
                    std::collections::btree_map::Entry::Vacant(free) => _ = free.insert(interval),
                    std::collections::btree_map::Entry::Occupied(mut sum) => {
                        sum.get_mut().totals.merge(&interval.totals);
                        if let Some(recorder) = seat.recorder().as_mut() {
                            recorder.recycle(interval.totals);
                        }
                    }
                }
            }
        }
        let rss = crate::cpu::resident_bytes().unwrap_or(0);
        for ((stage, _), interval) in merged {
            if let Some(state) = active.states.get_mut((stage - active.stage) as usize) {
                state.record.absorb(&interval);
                state.rss_max = state.rss_max.max(rss);
            }
            let _ = self.events.send(EngineEvent::Interval { stage, interval });
        }
        if let Some(origin_ns) = active.origin_ns {
            // A stage that flowed on has used what was used by now; the next one begins here.
            for (position, segment) in job.segments().iter().enumerate() {
                let over = segment.to_ns.is_some_and(|to_ns| now_ns >= origin_ns + to_ns);
                if over && active.states[position].used.is_none() {
                    let usage = Usage::read();
                    active.states[position].used = Some(usage.since(&active.states[position].usage));
                    if let Some(next) = active.states.get_mut(position + 1) {
                        next.usage = usage;
                    }
                }
            }
            let seconds = now_ns.saturating_sub(origin_ns).saturating_sub(SETTLE_NS) / SECOND_NS;
            active.gather_ns = origin_ns + (seconds + 1) * SECOND_NS + SETTLE_NS;
        }
    }

    /// Stops the stage under way, if there is one, keeping what was measured.
    pub(super) fn abort(&mut self, reason: String) {
        let Some(active) = self.active.as_mut() else {
            // Nothing to stop: said, so that nobody waits for parts.
            let _ = self.events.send(EngineEvent::Idle);
            return;
        };
        if active.stopped.is_some() {
            return;
        }
        active.stopped = Some(reason);
        active.give_up_ns = Some(clock::now_ns() + STOP_NS);
        match (&active.job, active.step) {
            (Some(job), Step::Mustering | Step::Staged | Step::Running) => job.stop_all(),
            // No workers yet, or none any more: nothing is kept waiting but the keeper's answer.
            (_, Step::Marking | Step::Staged) => self.end_stage(),
            _ => {}
        }
    }

    /// The stage failed on this agent: says so, and stops it.
    pub(super) fn fail(&mut self, problem: Problem) {
        let Some(active) = self.active.as_mut() else { return };
        // Failures of a stage that is being stopped are its echo.
        if active.stopped.is_none() {
            let reason = problem.what.clone();
            let stage = active.stage;
            active.problems.push(problem.clone());
            let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal: true });
            self.abort(reason);
        } else {
            active.problems.push(problem);
        }
        let Some(active) = self.active.as_ref() else { return };
        if active.step == Step::Closing {
            self.end_stage();
        } else if active.workers() > 0 && active.ended >= active.workers() {
            self.workers_ended();
        }
    }

    /// Every worker has ended: what is left is the keeper's.
    pub(super) fn workers_ended(&mut self) {
        let keeps = self.keeps();
        let Some(active) = self.active.as_mut() else { return };
        let Some(job) = active.job.clone() else { return };
        if matches!(active.step, Step::Closing) {
            return;
        }
        let now_ns = clock::now_ns();
        active.ended_ns = Some(now_ns);
        active.step = Step::Closing;
        if !active.released {
            let at = job.seats.iter().map(|seat| seat.hands.slot.released_ns.load(Ordering::Acquire)).max();
            if let Some(released_ns) = at.filter(|at| *at > 0) {
                active.released = true;
                let _ = self.events.send(EngineEvent::Released { stage: active.stage, released_ns });
            }
        }
        self.gather(now_ns, true);
        self.close_queues(&job);
        let sum = |counter: fn(&super::hands::Slot) -> u64| -> u64 {
            job.seats.iter().map(|seat| counter(&seat.hands.slot)).sum()
        };
        let operations = sum(|slot| slot.operations.load(Ordering::Relaxed));
        let errors = sum(|slot| slot.errors.load(Ordering::Relaxed));
        let objects = sum(|slot| slot.objects.load(Ordering::Relaxed));
        let leased = !matches!(job.work, Work::Execute(_));
        self.progress.done.store(if leased { objects } else { operations }, Ordering::Relaxed);
        if let Some(limit) = job.trouble.check(operations, errors, true) {
            let problem = self.budget_problem(&job, limit);
            return self.fail(problem);
        }
        let Some(active) = self.active.as_ref() else { return };
        let request = match job.work {
            _ if active.stopped.is_some() => None,
            Work::Prepare => Some(Request::Sync),
            Work::Cleanup(_) => keeps.then_some(Request::Unmark),
            Work::Execute(_) => None,
        };
        match request {
            Some(request) => {
                let what = if request == Request::Sync { "syncing" } else { "removing the marker" };
                self.progress.begin(what, 0, now_ns);
                self.ask(active.serial, request);
            }
            None => self.end_stage(),
        }
    }

    /// Gives the leases in hand back.
    fn close_queues(&self, job: &Job) {
        // Names that a lost worker held may have been written; cleanup must know them.
        let puts = job.puts.close(true);
        let others = job.operations.iter().flat_map(|queue| queue.close(false));
        for done in job.indexes.close(false).into_iter().chain(puts).chain(others) {
            let _ = self.events.send(EngineEvent::LeaseDone(done));
        }
    }

    /// Workers that were told to stop had their time. Names those that are stuck, and ends without them.
    fn give_up(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        let Some(job) = active.job.clone().filter(|_| active.step != Step::Closing) else {
            return self.end_stage();
        };
        let stuck: Vec<String> = job
            .seats
            .iter()
            .filter(|seat| !seat.hands.slot.ended.load(Ordering::Acquire))
            .map(|seat| match seat.hands.slot.under_way() {
                Some((op, index)) => {
                    let mut name = String::new();
                    job.space.name(index, &mut name);
                    format!("worker {}: {} of {name}", seat.hands.worker, op.name())
                }
                None => format!("worker {}: between operations", seat.hands.worker),
            })
            .collect();
        let what = format!("{} workers did not stop within a second", stuck.len());
        let problem = Problem::new(what, stuck.join("\n"))
            .likely("the storage does not answer, and the kernel waits for it (a dead NFS server, a failing disk)")
            .next("dmesg, and the state of the mount; the threads end when the kernel lets them go");
        let stage = active.stage;
        active.problems.push(problem.clone());
        let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal: false });
        let now_ns = clock::now_ns();
        active.ended_ns = Some(now_ns);
        self.gather(now_ns, true);
        self.close_queues(&job);
        self.end_stage();
    }

    /// Preflight's checks are done.
    pub(super) fn checked(&mut self, answer: Answer) {
        match answer {
            Err(problem) => self.fail(problem),
            Ok(findings) => {
                let mut fatal = Vec::new();
                for check in findings.checks {
                    let mut finding = check.finding;
                    if let Some(problem) = check.problem {
                        finding = format!("FAILED: {finding}");
                        fatal.push(problem);
                    }
                    self.environment.insert(format!("check.{}", check.name), finding);
                }
                let Some(active) = self.active.as_mut() else { return };
                active.ended_ns = Some(clock::now_ns());
                for problem in fatal {
                    let stage = active.stage;
                    active.stopped.get_or_insert_with(|| problem.what.clone());
                    active.problems.push(problem.clone());
                    let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal: true });
                }
                self.end_stage();
            }
        }
    }

    /// Hands in the parts; nothing is under way any more.
    pub(super) fn end_stage(&mut self) {
        let Some(active) = self.active.take() else { return };
        self.ended = Some(active.stage);
        for part in parts::parts(self, &active) {
            self.ended = self.ended.max(Some(part.stage));
            let _ = self.events.send(EngineEvent::StageEnded { stage: part.stage, part: Box::new(part) });
        }
        let _ = self.events.send(EngineEvent::Idle);
        self.progress.begin("waiting", 0, clock::now_ns());
    }

    /// What a person reads when a worker used up the budget.
    pub(super) fn trip_problem(&self, trip: &Trip) -> Problem {
        let stage = self.active.as_ref().map_or(0, |active| active.stage);
        let Trip { op, name, failure, limit } = trip;
        let what = format!(
            "{} stopped: agent {} of {} failed to {} on {}",
            self.plan.stages[stage as usize].name,
            self.identity.index,
            self.plan.replicas,
            op.name(),
            self.plan.target.uri
        );
        let problem = Problem::new(what, format!("{}\n{limit} (object {name})", failure.detail));
        advise(problem, failure.class, &self.plan.target.uri)
    }

    /// What a person reads when too many operations failed.
    fn budget_problem(&self, job: &Job, limit: String) -> Problem {
        let failures = job.failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match failures.iter().max_by_key(|seen| seen.count) {
            Some(seen) => self.trip_problem(&Trip {
                op: seen.op,
                name: seen.name.clone(),
                failure: seen.failure.clone(),
                limit,
            }),
            None => Problem::new("too many operations failed", limit),
        }
    }
}

/// Likely reasons and next steps by class.
fn advise(problem: Problem, class: ErrorClass, uri: &str) -> Problem {
    let problem = problem.class(class).kept("what was measured so far is in the results");
    match class {
        ErrorClass::NotFound => problem
            .likely("the data set was not prepared, or not all of it")
            .likely("somebody removes objects while the run reads them")
            .next("add a prepare stage with `existing: FillGaps`"),
        ErrorClass::Permission => problem
            .likely("the agent's user or credentials may not do this there")
            .next(format!("lockstep validate --connect, and the rights on {uri}")),
        ErrorClass::Full => problem
            .likely("the volume, its inodes or a quota are used up")
            .next("df -h, df -i and the quota of the volume; then clean up"),
        ErrorClass::Corrupt => problem
            .likely("the objects were written with other parameters or another seed")
            .likely("the storage returned what was never written")
            .next("set `existing: Overwrite`, and run again"),
        ErrorClass::Throttled => {
            problem.likely("the rate is above what the service allows").next("lower `concurrency` or `rate`")
        }
        ErrorClass::Connect | ErrorClass::Reset | ErrorClass::Timeout => problem
            .likely("the service is overloaded, restarting, or out of reach")
            .next("the state and logs of the storage at that time"),
        ErrorClass::Protocol | ErrorClass::Other => problem.next("the agent's log, and the storage's"),
    }
}

/// What a job's workers are doing, as heartbeats say it.
fn doing(job: &Job) -> &'static str {
    match &job.plan.stages[job.stage as usize].kind {
        StageKind::Preflight => "checking",
        StageKind::Prepare { .. } => "creating",
        StageKind::Cleanup { .. } => "deleting",
        StageKind::Execute(execute) => match execute.operations_mix.as_slice() {
            [one] => match one.op {
                Op::Get => "reading",
                Op::Put => "writing",
                Op::Head => "looking up",
                Op::List => "listing",
                Op::Delete => "deleting",
            },
            _ => "measuring",
        },
    }
}
