//! The world around the decider: network, processes and time. It checks the invariants after every step.

mod checks;
mod succession;

use super::model::{Agent, MS, Phase, Quirks, S};
use super::plans::loss;
use crate::clock::ClockSample;
use crate::op::ErrorClass;
use crate::plan::Plan;
use crate::ranges::RangeSet;
use crate::rng::Stream;
use crate::run::Run;
use crate::run::agent::{AgentState, LossReason};
use crate::run::message::{Action, Beat, Directive, Event, Says, Stop};
use crate::run::standing::Standing;
use crate::run::view::{RunView, Story};
use crate::thresholds::Outcome;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

pub(super) type Id = (u32, u32);

/// Something that a person, or fate, does at an instant.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    /// The process of the index's present attempt dies, or can never live (`CannotStart`).
    Kill(u32, &'static str),
    /// Its stream closes, and it redials after this long.
    Cut(u32, u64),
    /// Packets vanish for this long; nobody on the coordinator's side can reach its machine either.
    Partition(u32, u64),
    /// Its process is stopped for this long.
    Pause(u32, u64),
    /// The coordinator is stopped for this long.
    PauseCoordinator(u64),
    /// The coordinator dies; after this long another one goes on from what was recorded.
    TakeOver(u64),
    /// A request to stop.
    Stop(Stop),
    /// Its workers hang in this stage, or go on.
    Hang(u32, Option<u32>),
    /// It says that its target refuses: the storage, with this class, or because the place is another's.
    Refused(u32, Option<ErrorClass>),
}

#[derive(Clone, Debug)]
enum Happens {
    Fate(Fate),
    Tick,
    Poll(Id),
    Up(Id),
    Down(Id),
    Beat(Id, Beat, u64),
    Acknowledge(Id, u64),
    PingAt(Id, u64),
    PongAt(Id, ClockSample),
    Hello(Id),
    Ended(Id, LossReason, bool),
    Killed(Id),
    Heal(Id),
    Resume,
    Decide,
}

/// The link and the process of one attempt.
#[derive(Clone, Debug)]
struct Peer {
    agent: Agent,
    offset_ns: u64,
    inbox: VecDeque<Directive>,
    sent: usize,
    connected: bool,
    partitioned_until_ns: u64,
    paused_until_ns: u64,
    alive: bool,
    last_beat_ns: u64,
    doomed: Option<LossReason>,
    woken_ns: u64,
    standing: Standing,
    /// How its process ended.
    ended: Option<(LossReason, bool)>,
}

pub(super) struct World {
    pub run: Run,
    pub plan: Arc<Plan>,
    pub now_ns: u64,
    peers: BTreeMap<Id, Peer>,
    queue: BTreeMap<(u64, u64), Happens>,
    order: u64,
    rng: Stream,
    /// Quirks of attempts to come.
    pub quirks: BTreeMap<Id, Quirks>,
    frozen_until_ns: u64,
    /// Whether the coordinator takes in what comes within a millisecond before it decides, and whether it has something to
    /// decide on.
    together: bool,
    decides: bool,
    pub objects: BTreeMap<Option<u32>, RangeSet>,
    pub overs: u32,
    pub stage_overs: Vec<u32>,
    pub actions: u64,
    terminal: BTreeMap<Id, AgentState>,
    /// What was written down of the run, durably.
    record: Vec<u8>,
    /// Whether there is no coordinator.
    headless: bool,
    /// Decides which details are written down in time.
    luck: Stream,
}

impl World {
    pub(super) fn new(plan: Plan, seed: u64) -> Self {
        let plan = Arc::new(plan);
        let mut run = Run::new(plan.clone(), false, S);
        let first = run.begin();
        let mut world = Self {
            run,
            plan,
            now_ns: S,
            peers: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            rng: Stream::new(seed, 0),
            quirks: BTreeMap::new(),
            frozen_until_ns: 0,
            together: false,
            decides: false,
            objects: BTreeMap::new(),
            overs: 0,
            stage_overs: Vec::new(),
            actions: 0,
            terminal: BTreeMap::new(),
            record: Vec::new(),
            headless: false,
            luck: Stream::new(seed, 7),
        };
        world.write_down();
        // Spawned with a delay, so that quirks can be set first.
        world.carry_out(first);
        world.at(S, Happens::Tick);
        world
    }

    pub(super) fn with(mut self, index: u32, quirks: Quirks) -> Self {
        self.quirks.insert((index, 0), quirks);
        if let Some(peer) = self.peers.get_mut(&(index, 0)) {
            peer.agent.quirks = quirks;
        }
        self
    }

    /// Quirks of an attempt to come.
    pub(super) fn later(mut self, index: u32, attempt: u32, quirks: Quirks) -> Self {
        self.quirks.insert((index, attempt), quirks);
        self
    }

    /// Whether the coordinator takes in what comes together before it decides.
    pub(super) fn set_together(&mut self, together: bool) {
        self.together = together;
    }

    /// Whether the place holds nothing before the run.
    pub(super) fn set_fresh(&mut self, fresh: bool) {
        self.peers.values_mut().for_each(|peer| peer.agent.fresh = fresh);
    }

    /// Puts of an earlier run lie at the place, below this index.
    pub(super) fn set_found(&mut self, below: u64) {
        self.set_fresh(false);
        self.peers.values_mut().for_each(|peer| peer.agent.found_below = below);
    }

    /// Plans a fate, in milliseconds after the beginning of the run.
    pub(super) fn fate(mut self, at_ms: u64, fate: Fate) -> Self {
        self.at(S + at_ms * MS, Happens::Fate(fate));
        self
    }

    fn at(&mut self, at_ns: u64, what: Happens) {
        self.order += 1;
        self.queue.insert((at_ns.max(self.now_ns), self.order), what);
    }

    fn soon(&mut self, what: Happens) {
        let delay_ns = 100_000 + self.rng.below(2 * MS);
        self.at(self.now_ns + delay_ns, what);
    }

    pub(super) fn present(&self, index: u32) -> Id {
        (index, self.run.view().agents[index as usize].attempt)
    }

    pub(super) fn agent(&self, id: Id) -> &Agent {
        &self.peers[&id].agent
    }

    pub(super) fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.peers.values().map(|peer| &peer.agent)
    }

    /// Runs on until `done` or for `limit_s`; returns whether `done` came true.
    pub(super) fn run_until(&mut self, limit_s: u64, mut done: impl FnMut(&Self) -> bool) -> bool {
        let limit_ns = self.now_ns + limit_s * S;
        while !done(self) {
            let Some((&key, _)) = self.queue.first_key_value() else { return false };
            if key.0 > limit_ns {
                return false;
            }
            let what = self.queue.remove(&key).expect("it was just seen");
            self.now_ns = key.0;
            self.happen(what);
        }
        true
    }

    /// Runs to the end; a run that does not end within a day is a bug.
    pub(super) fn finish(mut self) -> Self {
        assert!(self.run_until(86_400, |world| world.run.is_over()), "{}", self.describe());
        assert_eq!(self.overs, 1);
        let after = self.run.step(Event::Tick, self.now_ns + S);
        assert!(after.is_empty(), "actions after the end: {after:?}");
        self.check_ledgers();
        self
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.run.outcome()
    }

    pub(super) fn story(&self) -> Story {
        self.run.story()
    }

    pub(super) fn view(&self) -> RunView {
        self.run.view()
    }

    pub(super) fn describe(&self) -> String {
        let story = self.run.story();
        let lines: Vec<String> = story
            .timeline
            .iter()
            .map(|told| {
                format!("{:>9.3} {:?} {} {}", told.at_ns as f64 / 1e9, told.agent, told.what, told.reason)
            })
            .collect();
        format!("at {} s, {:?}\n{}", self.now_ns / S, self.run.phase, lines.join("\n"))
    }

    fn happen(&mut self, what: Happens) {
        let for_coordinator = matches!(
            what,
            Happens::Tick
                | Happens::Up(_)
                | Happens::Beat(..)
                | Happens::PongAt(..)
                | Happens::Hello(_)
                | Happens::Ended(..)
                | Happens::Decide
        );
        if for_coordinator && self.now_ns < self.frozen_until_ns {
            self.at(self.frozen_until_ns, what);
            return;
        }
        match what {
            Happens::Tick => {
                self.step(Event::Tick);
                if !self.run.is_over() {
                    self.at(self.now_ns + self.run.wake_in_ns(), Happens::Tick);
                }
            }
            Happens::Fate(fate) => self.befall(&fate),
            Happens::Poll(id) => self.poll(id),
            Happens::Up(id) => self.deliver_up(id),
            Happens::Down(id) => self.deliver_down(id),
            Happens::Beat(id, beat, sent_ns) => {
                if self.is_open(id) {
                    self.step(Event::Says { index: id.0, attempt: id.1, says: Says::Beat(beat) });
                    if self.run.holds_seat(id.0, id.1) {
                        self.soon(Happens::Acknowledge(id, sent_ns));
                    }
                }
            }
            Happens::Acknowledge(id, sent_ns) => {
                if self.is_open(id)
                    && let Some(peer) = self.peers.get_mut(&id)
                {
                    peer.agent.acknowledged_ns = peer.agent.acknowledged_ns.max(sent_ns);
                }
            }
            Happens::PingAt(id, sent_ns) => self.ping_at(id, sent_ns),
            Happens::PongAt(id, sample) => {
                if self.is_open(id) {
                    let sample = ClockSample { received_ns: self.now_ns, ..sample };
                    self.step(Event::Clock { index: id.0, attempt: id.1, sample });
                }
            }
            Happens::Hello(id) => self.hello(id),
            Happens::Ended(id, reason, clean) => {
                self.step(Event::Ended { index: id.0, attempt: id.1, reason, clean });
            }
            Happens::Resume => self.resume(),
            Happens::Decide => {
                self.decides = false;
                self.step(Event::Tick);
            }
            Happens::Killed(id) => self.die(id, LossReason::Ended("signal 9".into()), false),
            Happens::Heal(id) => self.heal(id),
        }
    }

    /// Whether packets pass between the coordinator and the attempt's process.
    fn is_open(&self, id: Id) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.alive && peer.connected && peer.partitioned_until_ns <= self.now_ns)
    }

    fn befall(&mut self, fate: &Fate) {
        match *fate {
            Fate::Kill(index, how) => self.die(self.present(index), loss(how), false),
            Fate::Cut(index, away_ns) => {
                let id = self.present(index);
                if self.is_open(id)
                    && let Some(peer) = self.peers.get_mut(&id)
                {
                    peer.connected = false;
                    self.step(Event::SessionClosed { index: id.0, attempt: id.1 });
                    self.at(self.now_ns + away_ns, Happens::Hello(id));
                }
            }
            Fate::Partition(index, length_ns) => {
                let (id, until_ns) = (self.present(index), self.now_ns + length_ns);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.partitioned_until_ns = until_ns;
                    self.at(until_ns, Happens::Heal(id));
                }
            }
            Fate::Pause(index, length_ns) => {
                let (id, until_ns) = (self.present(index), self.now_ns + length_ns);
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.paused_until_ns = until_ns;
                    self.at(until_ns, Happens::Poll(id));
                    self.at(until_ns, Happens::Heal(id));
                }
            }
            Fate::PauseCoordinator(length_ns) => self.frozen_until_ns = self.now_ns + length_ns,
            Fate::TakeOver(away_ns) => {
                if !self.headless {
                    self.headless = true;
                    self.peers.values_mut().for_each(|peer| peer.connected = false);
                    self.at(self.now_ns + away_ns, Happens::Resume);
                }
            }
            Fate::Stop(stop) => self.step(Event::Stop(stop)),
            Fate::Hang(index, stage) => {
                if let Some(peer) = self.peers.get_mut(&self.present(index)) {
                    peer.agent.quirks.hang_in = stage;
                }
            }
            Fate::Refused(index, class) => {
                if let Some(peer) = self.peers.get_mut(&self.present(index)) {
                    peer.agent.refuse(class);
                }
            }
        }
    }

    fn poll(&mut self, id: Id) {
        let now_ns = self.now_ns;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.alive || peer.paused_until_ns > now_ns {
            return;
        }
        let clock_ns = now_ns + peer.offset_ns;
        peer.agent.poll(clock_ns);
        for (removed, space, start, end) in std::mem::take(&mut peer.agent.touched) {
            let set = self.objects.entry(space).or_default();
            if removed {
                set.remove(start, end);
            } else {
                set.insert(start, end);
            }
        }
        let fresh = peer.agent.outbox.len().saturating_sub(peer.sent);
        peer.agent.outbox.iter().skip(peer.sent).for_each(|says| peer.standing.said(says));
        peer.sent += fresh;
        let beat_due = now_ns >= peer.last_beat_ns + S && peer.connected;
        if beat_due {
            peer.last_beat_ns = now_ns;
            let beat = peer.agent.beat();
            self.soon(Happens::Beat(id, beat, clock_ns));
        }
        (0..fresh).for_each(|_| self.soon(Happens::Up(id)));
        let peer = &self.peers[&id];
        if let Some((reason, clean)) = peer.agent.exit.clone() {
            self.die(id, reason, clean);
            return;
        }
        if peer.woken_ns <= now_ns {
            let start = match peer.agent.phase {
                Phase::Armed { at_ns, .. } if at_ns > clock_ns => at_ns - peer.offset_ns,
                _ => u64::MAX,
            };
            let next_ns = start.min(now_ns + 50 * MS);
            self.peers.get_mut(&id).expect("it was just seen").woken_ns = next_ns;
            self.at(next_ns, Happens::Poll(id));
        }
    }

    fn deliver_up(&mut self, id: Id) {
        if !self.is_open(id) {
            return;
        }
        let peer = self.peers.get_mut(&id).expect("it is open");
        if let Some(says) = peer.agent.outbox.pop_front() {
            peer.sent = peer.sent.saturating_sub(1);
            self.step(Event::Says { index: id.0, attempt: id.1, says });
        }
    }

    fn deliver_down(&mut self, id: Id) {
        let now_ns = self.now_ns;
        if !self.is_open(id) || self.peers[&id].paused_until_ns > now_ns {
            return;
        }
        let peer = self.peers.get_mut(&id).expect("it is open");
        let Some(directive) = peer.inbox.pop_front() else { return };
        let clock_ns = now_ns + peer.offset_ns;
        peer.agent.poll(clock_ns);
        if peer.agent.exit.is_none() {
            peer.standing.told(&directive);
            peer.agent.take(directive, clock_ns);
        }
        self.poll(id);
    }

    fn ping_at(&mut self, id: Id, sent_ns: u64) {
        let Some(peer) = self.peers.get(&id).filter(|_| self.is_open(id)) else { return };
        if peer.paused_until_ns > self.now_ns {
            self.at(peer.paused_until_ns, Happens::PingAt(id, sent_ns));
            return;
        }
        let agent_ns = self.now_ns + peer.offset_ns;
        self.soon(Happens::PongAt(id, ClockSample { sent_ns, agent_ns, received_ns: sent_ns }));
    }

    fn hello(&mut self, id: Id) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.alive && !peer.agent.quirks.mute) else {
            return;
        };
        if self.headless {
            return;
        }
        let until_ns = peer.partitioned_until_ns.max(peer.paused_until_ns);
        if until_ns > self.now_ns {
            self.at(until_ns, Happens::Hello(id));
            return;
        }
        peer.connected = true;
        if self.run.holds_seat(id.0, id.1) {
            peer.agent.acknowledged_ns = peer.agent.acknowledged_ns.max(self.now_ns + peer.offset_ns);
        }
        self.step(Event::Hello { index: id.0, attempt: id.1 });
        self.heal(id);
    }

    /// Everything that did not pass before passes now, in order.
    fn heal(&mut self, id: Id) {
        let Some(peer) = self.peers.get(&id).filter(|peer| peer.alive) else { return };
        if let Some(reason) = peer.doomed.clone() {
            self.die(id, reason, false);
            return;
        }
        let (up, down) = (peer.agent.outbox.len(), peer.inbox.len());
        (0..up).for_each(|_| self.soon(Happens::Up(id)));
        (0..down).for_each(|_| self.soon(Happens::Down(id)));
    }

    fn die(&mut self, id: Id, reason: LossReason, clean: bool) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.alive) else { return };
        let cut_off = peer.partitioned_until_ns > self.now_ns;
        if cut_off && peer.agent.exit.is_none() && reason == LossReason::Ended("signal 9".into()) {
            // Nobody can reach it to end it, until the network is back.
            peer.doomed = Some(reason);
            return;
        }
        peer.alive = false;
        peer.ended = Some((reason.clone(), clean));
        let told_ns = if cut_off { peer.partitioned_until_ns } else { self.now_ns + 20 * MS };
        self.at(told_ns, Happens::Ended(id, reason, clean));
        if !cut_off && self.peers[&id].connected {
            self.step(Event::SessionClosed { index: id.0, attempt: id.1 });
        }
    }

    fn step(&mut self, event: Event) {
        if self.now_ns < self.frozen_until_ns || self.headless {
            return;
        }
        // A coordinator takes in what came together, and decides then.
        if self.together && !matches!(event, Event::Tick) && (self.now_ns / MS).is_multiple_of(2) {
            self.run.absorb(event, self.now_ns);
            if !std::mem::replace(&mut self.decides, true) {
                self.at(self.now_ns + MS, Happens::Decide);
            }
            return;
        }
        let actions = self.run.step(event, self.now_ns);
        self.check_states();
        self.write_down();
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        self.actions += actions.len() as u64;
        for action in actions {
            match action {
                Action::Spawn { index, attempt } => self.spawn((index, attempt)),
                Action::Kill { index, attempt } => {
                    self.at(self.now_ns + 50 * MS, Happens::Killed((index, attempt)));
                }
                Action::Send { index, attempt, directive } => {
                    let id = (index, attempt);
                    if let Directive::Commit { stage, round } = directive {
                        self.check_commit(stage, round);
                    }
                    if let Directive::Lease(lease) = &directive {
                        self.check_marked(lease);
                    }
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.inbox.push_back(directive);
                        self.soon(Happens::Down(id));
                    }
                }
                Action::Ping { index, attempt } => self.soon(Happens::PingAt((index, attempt), self.now_ns)),
                Action::StageOver { stage } => {
                    self.stage_overs.push(stage);
                    self.check_quiet(stage);
                }
                Action::Over => self.overs += 1,
                Action::GiveUp { stage, .. } => {
                    assert!(
                        stage.is_none_or(|stage| !self.stage_overs.contains(&stage)),
                        "given up too late"
                    );
                }
                Action::Tell(_) => {}
            }
        }
    }

    fn spawn(&mut self, id: Id) {
        if self.peers.contains_key(&id) {
            return;
        }
        for (other, peer) in self.peers.range((id.0, 0)..id) {
            let clock_ns = self.now_ns + peer.offset_ns;
            let may_act = peer.alive && peer.agent.has_plan && !peer.agent.is_orphan(clock_ns);
            let stopped = matches!(peer.agent.phase, Phase::Leaving { .. });
            assert!(
                !may_act || stopped,
                "{other:?} may still act when {id:?} is started\n{}",
                self.describe()
            );
        }
        let offset_ns = self.rng.below(1_000 * S);
        let quirks = self.quirks.get(&id).copied().unwrap_or_default();
        let agent = Agent::new(id.0, self.plan.clone(), quirks, self.now_ns + offset_ns);
        let peer = Peer {
            agent,
            offset_ns,
            inbox: VecDeque::new(),
            sent: 0,
            connected: false,
            partitioned_until_ns: 0,
            paused_until_ns: 0,
            alive: true,
            last_beat_ns: 0,
            doomed: None,
            woken_ns: 0,
            standing: Standing::default(),
            ended: None,
        };
        self.peers.insert(id, peer);
        let delay_ns = 50 * MS + self.rng.below(500 * MS);
        self.at(self.now_ns + delay_ns, Happens::Hello(id));
        self.at(self.now_ns + delay_ns, Happens::Poll(id));
    }
}
