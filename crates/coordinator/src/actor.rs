//! One task per run. It feeds what sessions, timers and the host say into `core::run`, and carries the answers out.
//!
//! Architecture invariant: results are persisted before they are acknowledged, and off this task: a slow disk never
//! delays a heartbeat's answer.

use crate::buckets::SKEW_BOUNDS_NS;
use crate::clock::RunClock;
use crate::counters::{Counters, Tally};
use crate::host::{HostRequest, Persisted, ResultStore, RunEnd, Snapshot};
use crate::link::Link;
use crate::live::Live;
use crate::record::Replaced;
use lockstep_core::clock::ClockSample;
use lockstep_core::plan::Plan;
use lockstep_core::results::ledger::numbered;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::recorder::Interval;
use lockstep_core::results::series::Series;
use lockstep_core::run::Run;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::{Action, Directive, Event, Stop, Told};
use lockstep_proto::v1::{self, from_agent::Body as Up, from_coordinator::Body as Down};
use lockstep_proto::{PROTOCOL, directive_to_wire};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// What reaches a run's actor.
#[derive(Debug)]
pub(crate) enum Input {
    Hello {
        index: u32,
        attempt: u32,
        session: u64,
        /// Epoch, and the last number that was read in it.
        seen: (u64, u64),
        hello: Box<v1::Hello>,
        outbound: mpsc::UnboundedSender<v1::FromCoordinator>,
    },
    Message {
        index: u32,
        attempt: u32,
        session: u64,
        message: Box<v1::FromAgent>,
        received_ns: u64,
    },
    Closed {
        index: u32,
        attempt: u32,
        session: u64,
    },
    Interval {
        index: u32,
        attempt: u32,
        epoch: u64,
        seqs: (u64, u64),
        interval: Box<Interval>,
        /// With a record of all that another coordinator had acknowledged: the same by second.
        series: Option<Box<Series>>,
    },
    Submit {
        part: Box<StagePart>,
        done: oneshot::Sender<io::Result<()>>,
    },
    /// A result is on stable storage; `None` when it could not be brought there.
    Persisted {
        part: Option<Box<StagePart>>,
    },
    Ended {
        index: u32,
        attempt: u32,
        reason: LossReason,
        clean: bool,
    },
    Stop(Stop),
}

pub(crate) struct Actor {
    pub(crate) plan: Arc<Plan>,
    plan_json: Vec<u8>,
    pub(crate) run: Run,
    /// What the run has to do first.
    first: Vec<Action>,
    epoch: u64,
    pub(crate) clock: RunClock,
    links: HashMap<(u32, u32), Link>,
    live: Live,
    counters: Arc<Counters>,
    tally: Tally,
    parts: BTreeMap<(u32, u32, u32), StagePart>,
    pub(crate) store: Arc<dyn ResultStore>,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    back: mpsc::WeakUnboundedSender<Input>,
    host: mpsc::UnboundedSender<HostRequest>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) persisting: u32,
    /// When the run was written down last, and whether it has changed since.
    pub(crate) recorded_ns: u64,
    pub(crate) stale: bool,
    /// Details that are being written down.
    pub(crate) details: Option<tokio::task::JoinHandle<()>>,
    /// Stages that are over and whose end the host was not told yet.
    stages_over: Vec<u32>,
    began_ns: u64,
}

/// Inputs that are taken in before anything is done about them.
const TOGETHER_MAX: usize = 4_096;
/// Time between two snapshots, nanoseconds.
const SNAPSHOT_NS: u64 = 250_000_000;

/// How an actor comes to its run, and what it needs beside it.
pub(crate) struct Beginning {
    pub(crate) run: Run,
    pub(crate) first: Vec<Action>,
    pub(crate) clock: RunClock,
    /// When the run began, on that clock.
    pub(crate) began_ns: u64,
    pub(crate) epoch: u64,
    /// Results that were persisted under coordinators before.
    pub(crate) parts: Vec<StagePart>,
    pub(crate) store: Arc<dyn ResultStore>,
}

impl Actor {
    pub(crate) fn new(
        beginning: Beginning,
        plan_json: Vec<u8>,
        counters: Arc<Counters>,
        inputs: mpsc::UnboundedReceiver<Input>,
        back: mpsc::WeakUnboundedSender<Input>,
        host: mpsc::UnboundedSender<HostRequest>,
    ) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let Beginning { run, first, clock, began_ns, epoch, parts, store } = beginning;
        let now_ns = clock.now_ns();
        let plan = run.plan();
        let mut live = Live::new(plan.stages.len());
        parts.iter().for_each(|part| live.take_settled(part));
        let snapshot = Snapshot { at_ns: now_ns, began_ns, view: run.view(), live: live.stages(&[], now_ns) };
        let (snapshots, watcher) = watch::channel(Arc::new(snapshot));
        let kinds = plan.stages.iter().map(|stage| stage.kind.name()).collect();
        let mut tally = Tally::new(Arc::clone(&counters), kinds);
        parts.iter().for_each(|part| tally.counted_before((part.stage, part.agent, part.attempt)));
        let actor = Self {
            plan,
            plan_json,
            run,
            first,
            epoch,
            clock,
            links: HashMap::new(),
            live,
            counters,
            tally,
            parts: parts.into_iter().map(|part| ((part.stage, part.agent, part.attempt), part)).collect(),
            store,
            inputs,
            back,
            host,
            snapshots,
            persisting: 0,
            recorded_ns: now_ns,
            stale: false,
            details: None,
            stages_over: Vec::new(),
            began_ns,
        };
        (actor, watcher)
    }

    /// Drives the run to its end; `None` when another coordinator has taken it over.
    pub(crate) async fn drive(mut self) -> Option<RunEnd> {
        if self.go_on().await.is_err() {
            tracing::warn!("another coordinator has the run");
            self.ask_host(HostRequest::Replaced);
            return None;
        }
        self.collect_late_results().await;
        self.show(self.clock.now_ns());
        self.ask_host(HostRequest::Over);
        Some(RunEnd {
            outcome: self.run.outcome(),
            view: self.run.view(),
            story: self.run.story(),
            parts: self.parts.into_values().collect(),
            series: self.live.into_series(),
            plan: self.plan,
        })
    }

    async fn go_on(&mut self) -> Result<(), Replaced> {
        let first = std::mem::take(&mut self.first);
        self.settle(first).await?;
        let mut shown_ns = 0;
        while !self.run.is_over() {
            let wait = Duration::from_nanos(self.run.wake_in_ns());
            let input = tokio::time::timeout(wait, self.inputs.recv()).await;
            // What the sockets held is read before anybody is judged by time.
            let mut next = input.ok().flatten();
            // What comes together is settled together: a thousand agents that say the same cost one record.
            for together in 1.. {
                let Some(input) = next else { break };
                if let Some(event) = self.take(input, self.clock.now_ns()) {
                    self.run.absorb(event, self.clock.now_ns());
                }
                next = (together < TOGETHER_MAX).then(|| self.inputs.try_recv().ok()).flatten();
            }
            let now_ns = self.clock.now_ns();
            let actions = self.run.step(Event::Tick, now_ns);
            let notable =
                actions.iter().any(|action| matches!(action, Action::Tell(Told { notable: true, .. })));
            self.settle(actions).await?;
            if notable || now_ns.saturating_sub(shown_ns) >= SNAPSHOT_NS {
                shown_ns = now_ns;
                self.show(now_ns);
            }
        }
        Ok(())
    }

    /// Results that are being persisted while the run ends belong to it.
    async fn collect_late_results(&mut self) {
        while self.persisting > 0 {
            match self.inputs.recv().await {
                Some(Input::Persisted { part }) => self.on_persisted(part),
                Some(Input::Submit { part, done }) => self.persist(part, done),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn on_persisted(&mut self, part: Option<Box<StagePart>>) {
        self.persisting -= 1;
        if let Some(part) = part {
            self.keep(*part);
        }
        self.tell_stages_over();
    }

    /// A stage is over for the host when its results are on stable storage, those of lost agents too.
    fn tell_stages_over(&mut self) {
        if self.persisting == 0 {
            for stage in std::mem::take(&mut self.stages_over) {
                self.ask_host(HostRequest::StageOver { stage });
            }
        }
    }

    fn show(&self, now_ns: u64) {
        let view = self.run.view();
        let working: Vec<u32> =
            view.agents.iter().filter(|agent| agent.in_stage).map(|agent| agent.index).collect();
        let snapshot = Snapshot {
            at_ns: now_ns,
            began_ns: self.began_ns,
            live: self.live.stages(&working, now_ns),
            view,
        };
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    /// Does what is the shell's; answers with what the decider has to hear.
    pub(crate) fn take(&mut self, input: Input, now_ns: u64) -> Option<Event> {
        match input {
            Input::Hello { index, attempt, session, seen, hello, outbound } => {
                self.open_session(index, attempt, session, seen, &hello, outbound);
                Some(Event::Hello { index, attempt })
            }
            Input::Message { index, attempt, session, message, received_ns } => {
                self.read(index, attempt, session, *message, received_ns)
            }
            Input::Closed { index, attempt, session } => {
                self.link(index, attempt).close(session).then_some(Event::SessionClosed { index, attempt })
            }
            Input::Interval { index, attempt, epoch, seqs, interval, series } => {
                let ours = epoch == self.epoch;
                let link = self.link(index, attempt);
                if ours && seqs.0 == link.interval_seq + 1 {
                    link.interval_seq = seqs.1;
                    let key = (interval.stage, index, attempt);
                    match series {
                        Some(series) => {
                            self.live.restore(index, attempt, &interval, &series, now_ns);
                            self.tally.restored(key, &interval.totals);
                        }
                        None => {
                            self.live.add(index, attempt, &interval, now_ns);
                            self.tally.second(key, &interval.totals);
                        }
                    }
                }
                None
            }
            Input::Submit { part, done } => {
                self.persist(part, done);
                None
            }
            Input::Persisted { part } => {
                self.on_persisted(part);
                None
            }
            Input::Ended { index, attempt, reason, clean } => {
                Some(Event::Ended { index, attempt, reason, clean })
            }
            Input::Stop(stop) => Some(Event::Stop(stop)),
        }
    }

    fn link(&mut self, index: u32, attempt: u32) -> &mut Link {
        let epoch = self.epoch;
        self.links.entry((index, attempt)).or_insert_with(|| Link::new(epoch))
    }

    fn open_session(
        &mut self,
        index: u32,
        attempt: u32,
        session: u64,
        (epoch, seen): (u64, u64),
        hello: &v1::Hello,
        outbound: mpsc::UnboundedSender<v1::FromCoordinator>,
    ) {
        tracing::info!(
            agent = index, attempt, version = %hello.version, cores = hello.cores,
            memory_bytes = hello.memory_bytes, "session opened"
        );
        let plan_json = self.plan_json.clone();
        let link = self.link(index, attempt);
        let again = std::mem::replace(&mut link.was_open, true);
        link.acknowledge(epoch, seen);
        let welcome = v1::Welcome {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            interval_seq: link.interval_seq,
        };
        link.open(session, outbound);
        link.send(0, Down::Welcome(welcome));
        for (seq, directive) in link.unacknowledged() {
            link.send(seq, directive_to_wire(&directive, &plan_json));
        }
        if again {
            self.counters.change(|counted| counted.reconnects += 1);
        }
    }

    fn read(
        &mut self,
        index: u32,
        attempt: u32,
        session: u64,
        message: v1::FromAgent,
        received_ns: u64,
    ) -> Option<Event> {
        let link = self.links.get_mut(&(index, attempt))?;
        if !link.is_of(session) {
            return None;
        }
        link.acknowledge(message.epoch, message.seen);
        match message.body? {
            Up::Pong(pong) => {
                let clock = self.clock;
                let (sent_ns, received_ns) = (clock.of(pong.sent_ns), clock.of(received_ns));
                let sample = ClockSample { sent_ns, agent_ns: pong.agent_ns, received_ns };
                Some(Event::Clock { index, attempt, sample })
            }
            body => {
                if let Up::Beat(beat) = &body {
                    // An attempt without a seat must end by its orphan grace, which an answer would extend.
                    if self.run.holds_seat(index, attempt) {
                        link.send(0, Down::Ack(v1::Ack { beat: beat.beat }));
                    }
                } else if !link.accept(message.epoch, message.seq) {
                    return None;
                }
                let says = body.try_into().ok()?;
                Some(Event::Says { index, attempt, says })
            }
        }
    }

    pub(crate) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Spawn { index, attempt } => self.ask_host(HostRequest::Spawn { index, attempt }),
                Action::Kill { index, attempt } => self.ask_host(HostRequest::Kill { index, attempt }),
                Action::Send { index, attempt, directive } => self.direct(index, attempt, directive),
                Action::Ping { index, attempt } => {
                    if let Some(link) = self.links.get(&(index, attempt)) {
                        link.send(0, Down::Ping(v1::PingClock { sent_ns: 0 }));
                    }
                }
                Action::GiveUp { index, attempt, stage, reason, unheard } => {
                    self.give_up((index, attempt), stage, &reason, unheard);
                }
                Action::Tell(told) => self.tell(told),
                Action::StageOver { stage } => {
                    self.count_skew(stage);
                    self.stages_over.push(stage);
                    self.tell_stages_over();
                }
                // Told when everything that belongs to the run is in.
                Action::Over => {}
            }
        }
    }

    fn count_skew(&self, stage: u32) {
        let facts = self.run.view().stages.get(stage as usize).map(|stage| stage.facts.clone());
        if let Some(skew_ns) = facts.and_then(|facts| facts.skew_ns) {
            self.counters.change(|counted| counted.start_skew.observe(skew_ns, SKEW_BOUNDS_NS));
        }
    }

    fn ask_host(&self, request: HostRequest) {
        // A host that is gone has dropped the run; the actor ends with it.
        let _ = self.host.send(request);
    }

    fn direct(&mut self, index: u32, attempt: u32, directive: Directive) {
        let wire = directive_to_wire(&directive, &self.plan_json);
        let link = self.link(index, attempt);
        let seq = link.push(directive);
        link.send(seq, wire);
    }

    fn tell(&self, told: Told) {
        let stage = self.run.stage_now().and_then(|stage| self.plan.stages.get(stage as usize));
        let stage = stage.map(|stage| stage.name.as_str());
        match told.agent {
            Some((agent, attempt)) => {
                tracing::info!(stage, agent, attempt, state = &*told.what, reason = %told.reason, "agent");
            }
            None => tracing::info!(stage, what = &*told.what, reason = %told.reason, "run"),
        }
        self.ask_host(HostRequest::Told(told));
    }

    /// What a lost attempt reported is all that there will be of it, and becomes its result.
    pub(crate) fn give_up(&mut self, who: (u32, u32), stage: Option<u32>, reason: &str, unheard: bool) {
        let ((index, attempt), now_ns) = (who, self.clock.now_ns());
        // It alone knew since when it was at work.
        let since_ns = unheard.then_some(self.began_ns);
        for mut part in self.live.lost_parts(who, stage, reason, &self.run.view(), since_ns, now_ns) {
            let key = (part.stage, index, attempt);
            if self.parts.contains_key(&key) {
                continue;
            }
            // What it finished was acknowledged, lease by lease, and will not be done again.
            if let Some(finished) = self.run.finished_by(part.stage, (index, attempt)) {
                part.ranges_done = numbered(&finished.done, self.plan.dataset.len());
                (part.created, part.existed) = (finished.changed, finished.unchanged);
            }
            self.write(Box::new(part), |part, written| {
                if let Err(error) = &written {
                    let (agent, attempt) = (part.agent, part.attempt);
                    tracing::error!(stage_index = part.stage, agent, attempt, %error, "a lost agent's result is not durable");
                }
                // There is no other copy to come.
                (!matches!(written, Ok(Persisted::Repeat))).then_some(part)
            });
        }
    }

    fn persist(&mut self, mut part: Box<StagePart>, done: oneshot::Sender<io::Result<()>>) {
        self.place_in_time(&mut part);
        self.write(part, |part, written| {
            let counts = matches!(written, Ok(Persisted::Written));
            let _ = done.send(written.map(|_| ()));
            counts.then_some(part)
        });
    }

    /// Brings a part to stable storage, off this task; `then` says what counts as a result.
    fn write(
        &mut self,
        part: Box<StagePart>,
        then: impl FnOnce(Box<StagePart>, io::Result<Persisted>) -> Option<Box<StagePart>> + Send + 'static,
    ) {
        self.persisting += 1;
        let part: Arc<StagePart> = Arc::from(part);
        let (written, back) = (self.store.persist(Arc::clone(&part)), self.back.clone());
        tokio::spawn(async move {
            let written = written.await;
            let part = then(Box::new(Arc::unwrap_or_clone(part)), written);
            if let Some(back) = back.upgrade() {
                let _ = back.send(Input::Persisted { part });
            }
        });
    }

    /// Translates the instants of a part to the coordinator's clock.
    fn place_in_time(&self, part: &mut StagePart) {
        let released = self.run.released_at(part.stage, part.agent);
        part.released_coordinator_ns = released;
        part.first_operation_coordinator_ns = match (released, part.released_ns, part.first_operation_ns) {
            (Some(at_ns), Some(released_ns), Some(first_ns)) => {
                Some(at_ns.saturating_add(first_ns.saturating_sub(released_ns)))
            }
            _ => None,
        };
    }

    fn keep(&mut self, part: StagePart) {
        self.live.settle(&part);
        self.tally.result((part.stage, part.agent, part.attempt), &part.totals);
        self.parts.insert((part.stage, part.agent, part.attempt), part);
    }
}
