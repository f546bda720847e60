//! The director: takes commands, moves the stage under way from step to step, and looks at the workers.
//!
//! One thread and one inbox: commands of the session, news of workers and answers of the keeper all come through it,
//! so nothing here needs a lock. It never waits for storage: what may block is the keeper's or the workers'. What a
//! stage under way is made of, and how it ends, is in `stage`.

use super::Identity;
use super::crew::Crew;
use super::hands::Fence;
use super::interface::{Command, EngineEvent, Progress};
use super::job::{Job, JobSpec};
use super::keeper::{Answer, Found, Request};
use super::stage::{Active, Step};
use super::trouble::Trip;
use crate::clock;
use lockstep_core::lease::{Lease, LeaseDone, LeaseKind};
use lockstep_core::plan::{Existing, Plan, Sharing, StageKind};
use lockstep_core::problem::Problem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// How often the director looks at the workers while they work.
const TICK: Duration = Duration::from_millis(100);
/// How often it looks when nothing is under way.
const REST: Duration = Duration::from_secs(3600);

/// What comes into the director's inbox.
#[derive(Debug)]
pub enum Message {
    /// From the session.
    Command(Command),
    /// The session is gone: stop everything.
    HandleDropped,
    /// A worker is ready to begin.
    Ready {
        /// Of which job.
        serial: u64,
    },
    /// A worker has ended.
    Ended {
        /// Of which job.
        serial: u64,
    },
    /// A worker cannot work at all.
    Failed {
        /// Of which job.
        serial: u64,
        /// Why.
        problem: Box<Problem>,
    },
    /// A worker used up the error budget.
    Tripped {
        /// Of which job.
        serial: u64,
        /// How.
        trip: Box<Trip>,
    },
    /// The keeper answered.
    Kept {
        /// On behalf of which job; 0 for none.
        serial: u64,
        /// What it was asked for.
        request: Request,
        /// The answer.
        answer: Answer,
    },
}

/// What a director is made of.
pub struct Parts {
    /// The plan.
    pub plan: Arc<Plan>,
    /// Who this agent is.
    pub identity: Identity,
    /// The target's settings, for the environment of parts.
    pub settings: BTreeMap<String, String>,
    /// Where workers live.
    pub crew: Box<dyn Crew>,
    /// To the keeper.
    pub requests: Sender<(u64, Request)>,
    /// To itself, for workers.
    pub messages: Sender<Message>,
    /// To the session.
    pub events: UnboundedSender<EngineEvent>,
    /// What heartbeats read.
    pub progress: Arc<Progress>,
    /// Requests of the keeper that stand in no part yet.
    pub sent: Arc<AtomicU64>,
    /// Until when workers may issue I/O.
    pub fence: Arc<Fence>,
}

/// See the module's text.
pub struct Director {
    pub(super) plan: Arc<Plan>,
    pub(super) identity: Identity,
    pub(super) crew: Box<dyn Crew>,
    requests: Sender<(u64, Request)>,
    messages: Sender<Message>,
    pub(super) events: UnboundedSender<EngineEvent>,
    pub(super) progress: Arc<Progress>,
    pub(super) sent: Arc<AtomicU64>,
    fence: Arc<Fence>,
    pub(super) active: Option<Active>,
    serial: u64,
    /// Last stage that ended here.
    pub(super) ended: Option<u32>,
    /// Leases that came before their stage was staged.
    early_leases: Vec<Lease>,
    /// Stages that get no more leases.
    drained: BTreeSet<u32>,
    /// Agents that live, and our position among them.
    split: (u32, u32),
    /// Findings of preflight, for the environment of parts.
    pub(super) environment: BTreeMap<String, String>,
    /// Whether the keeper was asked to give back everything.
    finishing: bool,
}

impl Director {
    /// A director with nothing to do yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { plan, identity, settings, crew, requests, messages, events, progress, sent, fence } =
            parts;
        let mut environment = crate::preflight::environment();
        environment.extend(settings);
        let split = (plan.replicas, identity.index);
        Self {
            plan,
            identity,
            crew,
            requests,
            messages,
            events,
            progress,
            sent,
            fence,
            active: None,
            serial: 0,
            ended: None,
            early_leases: Vec::new(),
            drained: BTreeSet::new(),
            split,
            environment,
            finishing: false,
        }
    }

    /// Runs until the session finishes it or goes away.
    pub fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            let wait = if self.active.is_some() { TICK } else { REST };
            match inbox.recv_timeout(wait) {
                Ok(Message::HandleDropped) | Err(RecvTimeoutError::Disconnected) => {
                    if let Some(job) = self.active.as_ref().and_then(|active| active.job.as_ref()) {
                        job.stop_all();
                    }
                    return;
                }
                Ok(Message::Kept { request: Request::Unlock, answer, .. }) if self.finishing => {
                    if let Err(problem) = answer {
                        let _ = self.events.send(EngineEvent::Fault { stage: 0, problem, fatal: false });
                    }
                    let _ = self.events.send(EngineEvent::Finished);
                    return;
                }
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.tick(clock::now_ns());
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Command(command) => self.command(command),
            Message::HandleDropped => {}
            Message::Ready { serial } => {
                if let Some(active) = self.active.as_mut().filter(|active| active.serial == serial) {
                    active.ready += 1;
                    if active.step == Step::Mustering && active.ready >= active.workers() {
                        self.staged();
                    }
                }
            }
            Message::Ended { serial } => {
                if let Some(active) = self.active.as_mut().filter(|active| active.serial == serial) {
                    active.ended += 1;
                    if active.ended >= active.workers() {
                        self.workers_ended();
                    }
                }
            }
            Message::Failed { serial, problem } => {
                if self.active.as_ref().is_some_and(|active| active.serial == serial) {
                    self.fail(*problem);
                }
            }
            Message::Tripped { serial, trip } => {
                if self.active.as_ref().is_some_and(|active| active.serial == serial) {
                    let problem = self.trip_problem(&trip);
                    self.fail(problem);
                }
            }
            Message::Kept { serial, request, answer } => self.kept(serial, request, answer),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Stage { stage } => self.stage(stage),
            Command::Begin { stage, at_ns, spin } => {
                self.stage(stage);
                if let Some(active) = self.active.as_mut().filter(|active| active.stage == stage) {
                    active.begin = Some((at_ns, spin));
                    if active.step == Step::Staged {
                        self.begin();
                    }
                }
            }
            Command::Unstage => {
                if let Some(active) = self.active.as_mut().filter(|active| !active.released) {
                    active.begin = None;
                    if let Some(job) = &active.job {
                        job.gate.set(None);
                    }
                }
            }
            Command::Lease(lease) => self.lease(lease),
            Command::Drain { stage } => {
                self.drained.insert(stage);
                self.apply_drains();
            }
            Command::Keep { space: Some(other) } => self.ask(0, Request::Adopt(other)),
            Command::Keep { space: None } => {
                self.identity.keeper = true;
                // Before preflight the place may be anybody's: then preflight looks at it first, and locks it.
                let looked = self.active.as_ref().is_some_and(|active| active.step == Step::Closing);
                if (looked || self.ended.is_some()) && super::kept::writes(&self.plan) {
                    self.ask(0, Request::TakeOver);
                }
            }
            Command::Mark(mark) => self.ask(0, Request::Mark(mark)),
            Command::Resplit { agents, position } => {
                self.split = (agents, position);
                if let Some(job) = self.active.as_ref().and_then(|active| active.job.as_ref()) {
                    job.resplit(agents, position, clock::now_ns());
                }
            }
            Command::Abort { reason } => self.abort(reason),
            Command::Finish => {
                self.abort("the run is over".into());
                self.finishing = true;
                self.ask(0, Request::Unlock);
            }
        }
    }

    /// Whether this agent looks after the place.
    pub(super) fn keeps(&self) -> bool {
        self.identity.keeper || self.plan.sharing == Sharing::PerAgent
    }

    pub(super) fn ask(&self, serial: u64, request: Request) {
        // The keeper lives as long as its inbox, which is ours.
        let _ = self.requests.send((serial, request));
    }

    /// Gets a stage ready, unless it is already.
    fn stage(&mut self, stage: u32) {
        if let Some(active) = &self.active {
            if active.stage == stage {
                if active.step == Step::Staged {
                    let _ = self.events.send(EngineEvent::Staged { stage });
                }
                return;
            }
            let at = &self.plan.stages[active.stage as usize].name;
            let problem = Problem::new(
                "a stage was asked for before the last one ended",
                format!("stage '{at}' is under way"),
            );
            let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal: false });
            return;
        }
        let Some(planned) = self.plan.stages.get(stage as usize) else {
            let problem =
                Problem::new("a stage was asked for that the plan does not have", format!("number {stage}"));
            let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal: false });
            return;
        };
        self.serial += 1;
        let spec = JobSpec {
            serial: self.serial,
            plan: Arc::clone(&self.plan),
            agent: self.identity.index,
            stage,
            split: self.split,
            lanes: self.crew.lanes(),
            fence: Arc::clone(&self.fence),
            director: self.messages.clone(),
            events: self.events.clone(),
        };
        let job = Job::new(spec).map(Arc::new);
        let changes = match &planned.kind {
            StageKind::Preflight | StageKind::Execute(_) => false,
            StageKind::Prepare { .. } => self.plan.existing != Existing::Reuse,
            StageKind::Cleanup { .. } => true,
        };
        self.progress.begin("getting ready", 0, clock::now_ns());
        self.active = Some(Active::new(self.serial, stage, job));
        // Before the first object is written or deleted, the marker no longer says that they are all there.
        if changes && self.keeps() {
            self.ask(self.serial, Request::MarkUnfinished);
        } else {
            self.muster();
        }
    }

    /// Starts the workers of a stage that was staged.
    pub(super) fn muster(&mut self) {
        let Some(active) = self.active.as_mut() else { return };
        let Some(job) = active.job.clone() else { return self.staged() };
        active.step = Step::Mustering;
        let early = std::mem::take(&mut self.early_leases);
        early.into_iter().for_each(|lease| self.lease(lease));
        self.apply_drains();
        if let Err(problem) = self.crew.muster(&job) {
            // Workers that never started never end.
            let missing = job.seats.iter().filter(|seat| Arc::strong_count(seat) == 1).count();
            if let Some(active) = self.active.as_mut() {
                active.ended += missing;
            }
            self.fail(problem);
        }
    }

    fn lease(&mut self, lease: Lease) {
        let job = self.active.as_ref().and_then(|active| active.job.as_ref());
        let queue = job.and_then(|job| match lease.kind {
            LeaseKind::Prepare | LeaseKind::Cleanup => (lease.stage == job.stage).then_some(&job.indexes),
            LeaseKind::Put => job.segments().iter().any(|at| at.stage == lease.stage).then_some(&job.puts),
            LeaseKind::Operations => {
                let position = job.segments().iter().position(|segment| segment.stage == lease.stage)?;
                Some(&job.operations[position])
            }
        });
        let length = lease.end.saturating_sub(lease.start);
        if let Some(queue) = queue {
            let counts = lease.kind != LeaseKind::Put;
            match queue.add(lease) {
                Some(refused) => _ = self.events.send(EngineEvent::LeaseDone(refused)),
                None if counts => self.progress.add_total(length),
                None => {}
            }
            return;
        }
        let over = match &self.active {
            Some(active) => lease.stage < active.stage,
            None => self.ended.is_some_and(|ended| lease.stage <= ended),
        };
        if over {
            // Its stage is over: nothing of it was done.
            let refused = LeaseDone { id: lease.id, ..LeaseDone::default() };
            let _ = self.events.send(EngineEvent::LeaseDone(refused));
        } else {
            self.early_leases.push(lease);
        }
    }

    fn apply_drains(&mut self) {
        let Some(job) = self.active.as_ref().and_then(|active| active.job.as_ref()) else { return };
        if self.drained.contains(&job.stage) {
            job.indexes.drain();
        }
        for (segment, queue) in job.segments().iter().zip(&job.operations) {
            if self.drained.contains(&segment.stage) {
                queue.drain();
            }
        }
    }

    fn kept(&mut self, serial: u64, request: Request, answer: Answer) {
        let place = answer.as_ref().ok().and_then(|findings| findings.found);
        if let Some(Found { space, fresh, puts_below }) = place {
            let _ = self.events.send(EngineEvent::Place { space, fresh, puts_below });
        }
        if let (Request::Mark(mark), Ok(_)) = (request, &answer) {
            let _ = self.events.send(EngineEvent::Marked(mark));
        }
        let current = self.active.as_ref().is_some_and(|active| active.serial == serial);
        if !current {
            if let Err(problem) = answer {
                // A place that is another run's by now, or bears no word of what is put there, ends what is under way,
                // and between stages the run.
                let fatal = matches!(request, Request::TakeOver | Request::Adopt(_) | Request::Mark(_));
                if fatal && self.active.is_some() {
                    return self.fail(problem);
                }
                let fatal = request == Request::TakeOver;
                let stage = self.active.as_ref().map(|active| active.stage).or(self.ended).unwrap_or(0);
                let _ = self.events.send(EngineEvent::Fault { stage, problem, fatal });
            }
            return;
        }
        match request {
            Request::Preflight { .. } => self.checked(answer),
            Request::MarkUnfinished => match answer {
                Ok(_) => self.muster(),
                Err(problem) => self.fail(problem),
            },
            Request::TakeOver | Request::Adopt(_) | Request::Unlock | Request::Mark(_) => {}
            Request::Sync | Request::Unmark => {
                if let Err(problem) = answer {
                    self.fail(problem);
                } else {
                    self.end_stage();
                }
            }
        }
    }
}
