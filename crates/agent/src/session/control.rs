//! The control loop: reads, beats, and carries out what the session decides. Does nothing that can block.

use super::dial::{Greeting, Wire};
use super::lines::{self, Hail};
use super::report::{self, ToReport};
use super::stages;
use super::state::{Effect, Session};
use super::{Ended, Identity};
use crate::clock::now_ns;
use crate::engine::interface::{Command, EngineEvent};
use crate::engine::{self, Engine, EngineHandle};
use lockstep_core::link::{Inbox, Outbox};
use lockstep_core::plan::Plan;
use lockstep_core::results::part::NetworkHealth;
use lockstep_core::run::message::{Beat, Directive, Says};
use lockstep_core::run::standing::Standing;
use lockstep_proto::v1::{self, from_agent::Body as Up, from_coordinator::Body as Down};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// How often the loop looks at time though nothing is due: well within [`JUMP_NS`], which it has to notice.
const TICK_NS: u64 = 250_000_000;
/// The same while it waits for something that gives no sign.
const HURRY_NS: u64 = 20_000_000;
/// A gap between two ticks from which on the process itself was stopped.
const JUMP_NS: u64 = 2_000_000_000;
/// After a stop of the process: time for a beat to be answered before anybody is judged.
const SETTLE_NS: u64 = 2_000_000_000;
/// How long an orphan waits for its I/O to stop.
const ORPHAN_STOP_NS: u64 = 1_000_000_000;

/// Serves one run, and returns how it ended. `parent_gone` resolves when the coordinator is known to be dead.
/// Runs on the calling thread, which becomes the control thread.
///
/// # Errors
/// When the runtime or the report thread cannot be made.
pub fn run(identity: Identity, parent_gone: oneshot::Receiver<()>) -> std::io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (reports, to_report) = mpsc::unbounded_channel();
    let (submitted, receipts) = mpsc::unbounded_channel();
    report::spawn(identity.clone(), to_report, submitted)?;
    let local = tokio::task::LocalSet::new();
    Ok(local.block_on(&runtime, Control::new(identity, reports).serve(receipts, parent_gone)))
}

struct Control {
    identity: Identity,
    session: Session,
    engine: Option<EngineHandle>,
    engine_events: mpsc::UnboundedSender<EngineEvent>,
    engine_inbox: Option<mpsc::UnboundedReceiver<EngineEvent>>,
    reports: mpsc::UnboundedSender<ToReport>,
    /// Sessions with replicas that coordinate the run, or did; those of the others wait.
    outbound: BTreeMap<SocketAddr, mpsc::UnboundedSender<v1::FromAgent>>,
    /// Whom this agent obeys: the highest epoch that it has seen.
    leader: Option<SocketAddr>,
    standing: Standing,
    outbox: Outbox<Says>,
    inbox: Inbox,
    hail: Hail,
    epoch: u64,
    beat: u64,
    unanswered: VecDeque<(u64, u64)>,
    /// When the last beat that the coordinator answered was sent: the orphan grace counts from here, since the
    /// coordinator counts from when it answered.
    answered_ns: u64,
    /// When anything of the coordinator was read last.
    heard_ns: u64,
    /// When this process went on after it was stopped; 0 is never. Until its sockets are read, nothing is issued and
    /// nobody is judged.
    resumed_ns: u64,
    network: NetworkHealth,
    sessions: u64,
    orphaned_ns: Option<u64>,
    left: bool,
}

impl Control {
    fn new(identity: Identity, reports: mpsc::UnboundedSender<ToReport>) -> Self {
        let (engine_events, engine_inbox) = mpsc::unbounded_channel();
        Self {
            identity,
            session: Session::default(),
            engine: None,
            engine_events,
            engine_inbox: Some(engine_inbox),
            reports,
            outbound: BTreeMap::new(),
            leader: None,
            standing: Standing::default(),
            outbox: Outbox::default(),
            inbox: Inbox::default(),
            hail: Hail::default(),
            epoch: 0,
            beat: 0,
            unanswered: VecDeque::new(),
            answered_ns: now_ns(),
            heard_ns: now_ns(),
            resumed_ns: 0,
            network: NetworkHealth::default(),
            sessions: 0,
            orphaned_ns: None,
            left: false,
        }
    }

    async fn serve(
        mut self,
        mut receipts: mpsc::UnboundedReceiver<()>,
        parent_gone: oneshot::Receiver<()>,
    ) -> Ended {
        let (wire, mut wires) = mpsc::unbounded_channel();
        tokio::task::spawn_local(lines::keep(self.identity.clone(), self.hail.clone(), wire));
        let mut engine_inbox = self.engine_inbox.take().unwrap_or_else(|| mpsc::unbounded_channel().1);
        let mut parent_gone = Some(parent_gone);
        let (mut ticked_ns, mut beat_ns) = (now_ns(), 0);
        while !self.left {
            let due_ns = self.due_ns(ticked_ns, beat_ns).saturating_sub(now_ns());
            tokio::select! {
                // What the sockets hold is read before time is judged.
                biased;
                Some(wire) = wires.recv() => self.on_wire(wire),
                Some(event) = engine_inbox.recv() => {
                    let effects = self.session.on_engine(event, &self.network);
                    self.carry_out(effects);
                }
                Some(()) = receipts.recv() => {
                    let effects = self.session.on_submitted();
                    self.carry_out(effects);
                }
                () = gone(&mut parent_gone) => {
                    parent_gone = None;
                    self.become_orphan("the coordinator's process is gone");
                }
                () = sleep(Duration::from_nanos(due_ns)) => {
                    let now_ns = now_ns();
                    self.on_gap(ticked_ns, now_ns);
                    ticked_ns = now_ns;
                    if now_ns.saturating_sub(beat_ns) >= self.beat_interval_ns() {
                        beat_ns = now_ns;
                        self.send_beat(now_ns);
                    }
                    if let Some(ended) = self.on_tick(now_ns) {
                        return ended;
                    }
                }
            }
        }
        // What was said last goes out before the connection is dropped.
        sleep(Duration::from_millis(50)).await;
        Ended::Released
    }

    fn on_wire(&mut self, wire: Wire) {
        match wire {
            Wire::Up(at, outbound) => _ = self.outbound.insert(at, outbound),
            Wire::Down(at, reason) => {
                let known = at.and_then(|at| self.outbound.remove(&at)).is_some();
                if known && at == self.leader {
                    self.leader = None;
                    tracing::warn!(%reason, "disconnected from the coordinator; working on");
                } else {
                    tracing::debug!(%reason, ?at, "a coordinator cannot be reached");
                }
            }
            Wire::Message(at, message) => self.on_message(at, *message),
        }
    }

    fn outbound(&self) -> Option<&mpsc::UnboundedSender<v1::FromAgent>> {
        self.outbound.get(&self.leader?)
    }

    /// The replica at `at` coordinates the run in `epoch`, which is not lower than any that was seen.
    fn follow(&mut self, at: SocketAddr, epoch: u64) {
        let another = epoch > self.epoch;
        if !another && self.leader == Some(at) {
            return;
        }
        self.sessions += 1;
        self.network.reconnects = self.sessions - 1;
        tracing::info!(session = self.sessions, %at, epoch, "connected to the coordinator");
        self.leader = Some(at);
        if another {
            // To another coordinator both ends begin anew: it hears where this agent stands, and nothing of what was said
            // to the one before.
            (self.epoch, self.outbox, self.inbox) = (epoch, Outbox::default(), Inbox::default());
            self.unanswered.clear();
            let standing = Says::Standing(Box::new(self.standing.clone()), now_ns());
            self.outbox.push(standing);
        }
        let _ = self.reports.send(ToReport::Leader { at, epoch });
        self.greet();
        let Some(outbound) = self.outbound() else { return };
        for (seq, says) in self.outbox.unacknowledged() {
            let _ = outbound.send(self.numbered(*seq, Up::from(says)));
        }
    }

    fn numbered(&self, seq: u64, body: Up) -> v1::FromAgent {
        v1::FromAgent { seq, seen: self.inbox.seen(), epoch: self.epoch, body: Some(body) }
    }

    /// What the next hello and the next pong say.
    fn greet(&self) {
        self.hail.greeting.set(Greeting { epoch: self.epoch, seen: self.inbox.seen() });
    }

    fn on_message(&mut self, at: SocketAddr, message: v1::FromCoordinator) {
        let now_ns = now_ns();
        // Architecture invariant: directives of an older leader are refused.
        if message.epoch < self.epoch {
            return;
        }
        if matches!(message.body, Some(Down::Welcome(_))) {
            self.follow(at, message.epoch);
        }
        if message.epoch != self.epoch || self.leader != Some(at) {
            return;
        }
        self.network.gap_max_ns = self.network.gap_max_ns.max(now_ns.saturating_sub(self.heard_ns));
        self.heard_ns = now_ns;
        self.outbox.acknowledge(message.seen);
        let Some(body) = message.body else { return };
        match &body {
            Down::Welcome(welcome) => {
                let _ = self.reports.send(ToReport::Seen(welcome.interval_seq));
                return;
            }
            Down::Ack(ack) => return self.on_ack(ack.beat, now_ns),
            Down::Ping(_) => return,
            _ => {}
        }
        if !self.inbox.accept(message.seq) {
            return;
        }
        self.greet();
        let effects = match (&body, Directive::try_from(&body)) {
            (Down::Plan(plan), _) => self.session.on_plan(&plan.json),
            (_, Ok(directive)) => {
                tracing::info!(stage = self.name_of(stages::of_directive(&directive)), ?directive, "told");
                self.standing.told(&directive);
                self.session.on_directive(directive, now_ns)
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "not understood");
                Vec::new()
            }
        };
        self.carry_out(effects);
    }

    fn on_ack(&mut self, beat: u64, now_ns: u64) {
        while let Some((sent, sent_ns)) = self.unanswered.pop_front() {
            if sent < beat {
                continue;
            }
            self.answered_ns = sent_ns;
            let rtt_ns = now_ns.saturating_sub(sent_ns);
            let network = &mut self.network;
            network.rtt_min_ns =
                if network.heartbeats == 0 { rtt_ns } else { network.rtt_min_ns.min(rtt_ns) };
            network.rtt_max_ns = network.rtt_max_ns.max(rtt_ns);
            network.rtt_mean_ns =
                (network.rtt_mean_ns * network.heartbeats + rtt_ns) / (network.heartbeats + 1);
            network.heartbeats += 1;
            break;
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::StartEngine(plan) => {
                    let effects = match self.start_engine(plan) {
                        Ok(()) => self.session.on_engine_started(),
                        Err(problem) => self.session.on_engine_refused(problem),
                    };
                    self.carry_out(effects);
                }
                // An engine that could not be started has nothing to finish.
                Effect::Tell(Command::Finish) if self.engine.is_none() => self.left = true,
                Effect::Tell(command) => self.tell_engine(command),
                Effect::Say(says) => self.say(says),
                Effect::Report(interval) => {
                    let _ = self.reports.send(ToReport::Interval(interval));
                }
                Effect::Submit(parts) => {
                    let _ = self.reports.send(ToReport::Submit(parts));
                }
                Effect::Leave => self.left = true,
            }
        }
    }

    fn start_engine(&mut self, plan: Arc<Plan>) -> Result<(), lockstep_core::problem::Problem> {
        let version = env!("CARGO_PKG_VERSION");
        let Identity { run, index, attempt, cores, .. } = &self.identity;
        let identity = engine::Identity {
            index: *index,
            attempt: *attempt,
            keeper: false,
            cores: cores.clone(),
            user_agent: format!("lockstep/{version} run={run} agent={index}"),
        };
        self.engine = Some(Engine::start(plan, identity, self.engine_events.clone())?);
        Ok(())
    }

    fn tell_engine(&self, command: Command) {
        if let Some(engine) = &self.engine {
            engine.send(command);
        }
    }

    /// Name of a stage of the plan.
    fn name_of(&self, stage: Option<u32>) -> Option<&str> {
        Some(self.session.plan()?.stages.get(stage? as usize)?.name.as_str())
    }

    fn say(&mut self, says: Says) {
        tracing::info!(stage = self.name_of(stages::of_says(&says)), ?says, "said");
        self.standing.said(&says);
        let body = Up::from(&says);
        let seq = self.outbox.push(says);
        if let Some(outbound) = self.outbound() {
            let _ = outbound.send(self.numbered(seq, body));
        }
    }

    fn beat_interval_ns(&self) -> u64 {
        let of_plan = self.session.plan().and_then(|plan| plan.stages.first());
        of_plan.map_or(1_000_000_000, |stage| stage.barrier.heartbeat_interval.as_nanos() as u64)
    }

    fn send_beat(&mut self, now_ns: u64) {
        const UNANSWERED_MAX: usize = 128;
        if self.outbound().is_none() {
            return;
        }
        self.beat += 1;
        let progress = self.engine.as_ref().map(|engine| engine.progress.clone());
        let read = progress.map_or_else(Beat::default, |progress| Beat {
            what: progress.what().to_owned(),
            done: progress.done.load(Ordering::Relaxed),
            total: progress.total.load(Ordering::Relaxed),
            since_ns: progress.since_ns.load(Ordering::Relaxed),
            pulse: progress.pulse.load(Ordering::Relaxed),
        });
        let Beat { what, done, total, since_ns, pulse } = read;
        let beat = v1::Beat { beat: self.beat, what, done, total, since_ns, pulse };
        if let Some(outbound) = self.outbound() {
            let _ = outbound.send(self.numbered(0, Up::Beat(beat)));
        }
        self.unanswered.push_back((self.beat, now_ns));
        if self.unanswered.len() > UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
    }

    /// The process was stopped, or its machine slept. Its grace is not extended by that, since its index may have been
    /// given away meanwhile; but what its sockets hold is read first.
    fn on_gap(&mut self, before_ns: u64, now_ns: u64) {
        let gap_ns = now_ns.saturating_sub(before_ns);
        if gap_ns > JUMP_NS {
            tracing::warn!(seconds = gap_ns as f64 / 1e9, "this process was stopped");
            self.resumed_ns = now_ns;
            self.session.on_pause(before_ns, now_ns);
        }
    }

    /// Whether this process has been stopped and does not know yet what happened meanwhile. The answer to a beat that
    /// was sent since comes behind everything that its sockets held.
    fn is_settling(&self, now_ns: u64) -> bool {
        self.answered_ns < self.resumed_ns && now_ns < self.resumed_ns + SETTLE_NS
    }

    /// When time is to be looked at next.
    fn due_ns(&self, ticked_ns: u64, beat_ns: u64) -> u64 {
        let hurries = self.orphaned_ns.is_some() || self.is_settling(ticked_ns);
        let tick_ns = ticked_ns + if hurries { HURRY_NS } else { TICK_NS };
        let due_ns = tick_ns.min(beat_ns + self.beat_interval_ns());
        self.session.due_ns().map_or(due_ns, |armed_ns| due_ns.min(armed_ns))
    }

    fn on_tick(&mut self, now_ns: u64) -> Option<Ended> {
        let effects = self.session.on_tick(now_ns);
        self.carry_out(effects);
        let of_plan = self.session.plan().map(|plan| plan.failure.orphan_grace);
        let grace = of_plan.unwrap_or(self.identity.orphan_grace);
        let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
        let orphan_ns = self.answered_ns.saturating_add(grace_ns);
        let settling = self.is_settling(now_ns);
        if self.orphaned_ns.is_none() && now_ns > orphan_ns && !settling {
            self.become_orphan("the coordinator was silent for orphanGrace");
        }
        if let Some(engine) = &self.engine {
            // Not longer than this thread is known to run: one that is stopped takes the workers with it.
            engine.fence.set(if settling { 0 } else { orphan_ns.min(now_ns + JUMP_NS) });
        }
        let since_ns = self.orphaned_ns?;
        let stopped = !self.session.is_active() || now_ns.saturating_sub(since_ns) > ORPHAN_STOP_NS;
        stopped.then_some(Ended::Orphaned)
    }

    /// Really stops: no load is ever left running.
    fn become_orphan(&mut self, reason: &str) {
        if self.orphaned_ns.is_none() {
            tracing::error!(reason, "orphaned: stopping");
            self.orphaned_ns = Some(now_ns());
            self.tell_engine(Command::Abort { reason: reason.to_owned() });
        }
    }
}

/// Resolves when the coordinator is known to be dead; never, once that was seen or where it cannot be known.
async fn gone(parent: &mut Option<oneshot::Receiver<()>>) {
    match parent {
        Some(receiver) => {
            if receiver.await.is_err() {
                // Nobody watches the parent here.
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}
