//! The run's state machine: the only place that decides.
//!
//! **Theory of operation.** [`Run::step`] takes one event and the time, and returns actions. It works in two halves.
//! The first ([`says`], [`judge`], [`loss`]) writes down what the event says about one agent. The second ([`flow`]) is
//! level-triggered: it looks at the whole and does what is due, until nothing is. So nothing depends on the order in
//! which messages of different agents arrive, and a `Tick` alone is enough to go on after any of them.
//!
//! ```text
//! Gathering ─quorum ready→ Stage 1 … n ─────────────→ Finishing ─all ended→ Over
//!     │                      │ fatal fault, policy gave up, stop      ↗
//!     └──────────────────────┴→ Aborting ─stopped→ [cleanup] ────────┘
//!                                        (cleanup waits until nobody can write any more)
//!
//! a stage:  Staging ─all staged, clocks fresh→ Arming ─all acknowledged→ Going ─barrier→ over
//!              ↑ someone disconnected ──────────┘ └─ too late: arm again ┘
//! ```
//!
//! Architecture invariant: every decision on stages, barriers, starts, losses, retries and outcomes is made here.
//! The operator and the local runner only carry out actions, so the same tests cover both.
//! It deliberately knows nothing of sockets, pods, files or results; a stage's arrival means that its result is
//! persisted already.

pub mod agent;
mod barrier;
mod ending;
mod flow;
mod judge;
mod loss;
mod marks;
pub mod message;
pub mod pool;
pub mod record;
mod resume;
mod says;
pub mod seat;
pub mod standing;
mod start;
#[cfg(test)]
mod tests;
pub mod view;
mod work;

use crate::pairs;
use crate::plan::Plan;
use crate::problem::Problem;
use agent::{AgentState, Position, is_legal};
use message::{Action, Directive, Event, Stop, Told};
use pool::Pool;
use record::Weight;
use seat::{Ghost, Seat};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A gap between two steps from which on the coordinator itself was stopped, and judges nobody by it.
const JUMP_NS: u64 = 2_000_000_000;
/// Faults that are kept word for word; the rest is counted.
const FAULTS_MAX: usize = 32;
/// Lines of the run's story that are kept; later ones are only logged.
const TIMELINE_MAX: usize = 2_000;

/// A run under way. As a document, it is what a coordinator that takes the run over goes on from ([`Run::resume`]).
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    #[serde(serialize_with = "record::plan_out", deserialize_with = "record::plan_in")]
    plan: Arc<Plan>,
    /// Agents share the machine with at least as many cores: the last stretch before a start may be spun.
    spin: bool,
    seats: Vec<Seat>,
    ghosts: Vec<Ghost>,
    phase: Phase,
    pools: BTreeMap<u32, Pool>,
    puts: Option<Pool>,
    next_lease: u64,
    /// Index and attempt of the agent that keeps the lock and the marker of the place.
    keeper: Option<(u32, u32)>,
    /// What is known of each place, by key space.
    #[serde(with = "pairs")]
    places: BTreeMap<Option<u32>, marks::PlaceFacts>,
    /// Who keeps the places of agents that are gone for good, by their index.
    adopters: BTreeMap<u32, pool::Holder>,
    delayed: bool,
    deadline_passed: bool,
    stop: Option<Stop>,
    failure: Option<Problem>,
    faults: Vec<Problem>,
    faults_dropped: u64,
    degraded: Vec<String>,
    partial: Vec<String>,
    stages: Vec<StageFacts>,
    timeline: Vec<Told>,
    refused: u64,
    began_ns: u64,
    last_step_ns: u64,
    #[serde(skip)]
    actions: Vec<Action>,
    #[serde(skip)]
    unrecorded: Option<Weight>,
}

/// What the run as a whole is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Gathering,
    Stage(Current),
    /// `then`: the cleanup stage that follows, if one does.
    Aborting {
        since_ns: u64,
        then: Option<u32>,
    },
    Finishing {
        since_ns: u64,
    },
    Over,
}

/// The stage under way, or the chain of stages that flow into each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Current {
    first: u32,
    last: u32,
    start: Start,
    /// When the first agent arrived: the barrier's timeout counts from here.
    arrived_since_ns: Option<u64>,
    /// Since when enough agents have nothing left to do while others hold work: stragglers are judged from here.
    idle_since_ns: Option<u64>,
    /// Whether everybody was told that no more leases will come.
    drained: bool,
}

/// How far the start of a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Start {
    /// Waits until everybody is staged and every clock is known. `measured`: the clocks were measured anew since
    /// everybody was.
    Staging { round: u32, not_before_ns: u64, measured: bool },
    /// Everybody sees the start coming.
    Countdown { until_ns: u64, round: u32 },
    /// An instant was sent; waits for acknowledgements.
    Arming { at_ns: u64, commit_by_ns: u64, round: u32 },
    /// Committed, or in need of no common start.
    Going { at_ns: u64 },
}

/// What is known of a stage beyond its agents' results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFacts {
    /// How far it is.
    pub state: StageState,
    /// Common start, coordinator's clock, nanoseconds.
    pub planned_start_ns: Option<u64>,
    /// When it was over.
    pub ended_ns: Option<u64>,
    /// How often it was armed again before its commit.
    pub rearmed: u32,
    /// Latest release minus earliest, nanoseconds; `None` until two agents have started.
    pub skew_ns: Option<u64>,
    /// Bound of the error of `skew_ns`, nanoseconds.
    pub clock_error_ns: u64,
    /// Release instant of each agent that began at the common start: (index, coordinator's clock).
    pub releases: Vec<(u32, u64)>,
    /// Agents that took part.
    pub agents: u32,
}

impl StageFacts {
    /// The agent at `index` began at the common start.
    fn note_release(&mut self, index: u32, released_ns: u64) {
        self.releases.push((index, released_ns));
        let earliest = self.releases.iter().map(|(_, at_ns)| *at_ns).min();
        let latest = self.releases.iter().map(|(_, at_ns)| *at_ns).max();
        self.skew_ns = earliest.zip(latest).filter(|_| self.releases.len() > 1).map(|(low, high)| high - low);
    }
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StageState {
    /// Not begun.
    #[default]
    Waiting,
    /// Getting ready to start together.
    Starting,
    /// Under way.
    Working,
    /// Over, as it should.
    Done,
    /// Over before its time.
    Failed,
    /// Never begun, and will not be.
    Skipped,
}

impl StageState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Starting, Self::Working, Self::Done, Self::Failed, Self::Skipped];

    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::Starting => "Starting",
            Self::Working => "Working",
            Self::Done => "Done",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }
}

impl Run {
    /// A run of `plan`, beginning at `now_ns`. `spin`: see [`Directive::Arm`]. The first actions spawn the agents.
    #[must_use]
    pub fn new(plan: Arc<Plan>, spin: bool, now_ns: u64) -> Self {
        let seats: Vec<Seat> = (0..plan.replicas).map(|index| Seat::new(index, now_ns)).collect();
        let actions = seats.iter().map(|seat| Action::Spawn { index: seat.index, attempt: 0 }).collect();
        let mut stages = vec![StageFacts::default(); plan.stages.len()];
        if let Some(preflight) = stages.first_mut() {
            preflight.state = StageState::Working;
        }
        let puts = work::put_pool(&plan);
        Self {
            spin,
            seats,
            ghosts: Vec::new(),
            phase: Phase::Gathering,
            pools: BTreeMap::new(),
            puts,
            next_lease: 0,
            keeper: None,
            places: BTreeMap::new(),
            adopters: BTreeMap::new(),
            delayed: false,
            deadline_passed: false,
            stop: None,
            failure: None,
            faults: Vec::new(),
            faults_dropped: 0,
            degraded: Vec::new(),
            partial: Vec::new(),
            stages,
            timeline: Vec::new(),
            refused: 0,
            began_ns: now_ns,
            last_step_ns: now_ns,
            actions,
            unrecorded: Some(Weight::Decisive),
            plan,
        }
    }

    /// The actions with which a new run begins.
    pub fn begin(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Takes one event in at `now_ns` (coordinator's monotonic clock), and returns what is to be done.
    pub fn step(&mut self, event: Event, now_ns: u64) -> Vec<Action> {
        self.absorb(event, now_ns);
        self.decide(now_ns)
    }

    /// Takes one event in; what follows from it, [`Self::decide`] says, which has to come at once. When a thousand agents say the
    /// same, they are looked through once then, not a thousand times.
    pub fn absorb(&mut self, event: Event, now_ns: u64) {
        if self.phase == Phase::Over {
            return;
        }
        let gap_ns = now_ns.saturating_sub(self.last_step_ns);
        if gap_ns > JUMP_NS {
            self.forgive(gap_ns, "the coordinator was stopped", now_ns);
        }
        self.last_step_ns = self.last_step_ns.max(now_ns);
        match event {
            Event::Hello { index, attempt } => self.on_hello(index, attempt, now_ns),
            Event::SessionClosed { index, attempt } => self.on_closed(index, attempt, now_ns),
            Event::Says { index, attempt, says } => self.on_says(index, attempt, says, now_ns),
            Event::Clock { index, attempt, sample } => {
                if self.hear(index, attempt, now_ns) {
                    self.seats[index as usize].clock.add(sample);
                }
            }
            Event::Ended { index, attempt, reason, clean } => {
                self.on_ended(index, attempt, &reason, clean, now_ns);
            }
            Event::Stop(stop) => self.on_stop(stop, now_ns),
            Event::Tick => self.judge(now_ns),
        }
    }

    /// What is to be done after all that was heard.
    pub fn decide(&mut self, now_ns: u64) -> Vec<Action> {
        if self.phase != Phase::Over {
            self.advance(now_ns);
        }
        std::mem::take(&mut self.actions)
    }

    /// When the next `Tick` is wanted at the latest, counted from `now_ns`.
    #[must_use]
    pub fn wake_in_ns(&self) -> u64 {
        match &self.phase {
            Phase::Stage(Current { start: Start::Going { .. }, .. }) | Phase::Over => 250_000_000,
            Phase::Gathering | Phase::Stage(_) | Phase::Aborting { .. } | Phase::Finishing { .. } => {
                10_000_000
            }
        }
    }

    /// A step was held from `since_ns` until now, since what it decided could not be written down.
    pub fn excuse(&mut self, since_ns: u64, now_ns: u64) -> Vec<Action> {
        let gap_ns = now_ns.saturating_sub(since_ns);
        if gap_ns > JUMP_NS && !self.is_over() {
            self.forgive(gap_ns, "the run could not be written down, and began nothing new,", now_ns);
        }
        self.last_step_ns = self.last_step_ns.max(now_ns);
        std::mem::take(&mut self.actions)
    }

    /// The plan that is run.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// When the run began, on its clock, nanoseconds.
    #[must_use]
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// The coordinator was stopped, or its machine slept: nobody is judged by a silence that was its own.
    fn forgive(&mut self, gap_ns: u64, why: &str, now_ns: u64) {
        for seat in &mut self.seats {
            seat.forgive(gap_ns);
        }
        let later = |since_ns: &mut u64| *since_ns = since_ns.saturating_add(gap_ns);
        match &mut self.phase {
            Phase::Aborting { since_ns, .. } | Phase::Finishing { since_ns } => later(since_ns),
            Phase::Stage(current) => {
                current.arrived_since_ns.as_mut().map(later);
                current.idle_since_ns.as_mut().map(later);
            }
            Phase::Gathering | Phase::Over => {}
        }
        let seconds = gap_ns as f64 / 1e9;
        let reason = format!("{why} for {seconds:.1} s");
        self.degrade(reason.clone());
        self.tell_since(now_ns, Some(now_ns.saturating_sub(gap_ns)), None, "Paused", reason, true);
    }

    /// Whether this attempt takes part. One that does not must get no acknowledgement of its heartbeats: it counts its
    /// orphan grace from the last one, and another attempt may have its index by then.
    #[must_use]
    pub fn holds_seat(&self, index: u32, attempt: u32) -> bool {
        let seat = self.seats.get(index as usize);
        seat.is_some_and(|seat| seat.attempt == attempt && !seat.state.is_terminal())
    }

    /// What an attempt said of the leases of a stage that it finished: the data set's ledger of one that was lost.
    #[must_use]
    pub fn finished_by(&self, stage: u32, holder: pool::Holder) -> Option<&pool::Finished> {
        self.pools.get(&stage)?.finished_by(holder)
    }

    /// When the agent at `index` was released into `stage`, coordinator's clock, nanoseconds.
    #[must_use]
    pub fn released_at(&self, stage: u32, index: u32) -> Option<u64> {
        let releases = &self.stages.get(stage as usize)?.releases;
        releases.iter().find(|(of, _)| *of == index).map(|(_, at_ns)| *at_ns)
    }

    fn seat_of(&mut self, index: u32, attempt: u32) -> Option<&mut Seat> {
        self.seats.get_mut(index as usize).filter(|seat| seat.attempt == attempt && !seat.state.is_terminal())
    }

    /// Moves the agent at `index` where that is legal; answers `false` and counts where it is not.
    fn move_to(&mut self, index: u32, to: AgentState, reason: &str, now_ns: u64) -> bool {
        let Some(seat) = self.seats.get(index as usize) else { return false };
        if seat.state == to {
            return true;
        }
        if !is_legal(&seat.state, &to) {
            let what = format!("{} cannot become {}: {reason}", seat.state.name(), to.name());
            self.refuse(index, what, now_ns);
            return false;
        }
        if to.is_terminal() {
            self.give_standing_up(index);
        }
        let seat = &mut self.seats[index as usize];
        let notable = matches!(to, AgentState::Disconnected { .. } | AgentState::Stalled { .. })
            || matches!(seat.state, AgentState::Disconnected { .. } | AgentState::Stalled { .. })
            || matches!(to, AgentState::Lost(_) | AgentState::Failed | AgentState::LeftBehind);
        let agent = Some((index, seat.attempt));
        let what = to.name();
        let since_ns = match seat.state {
            AgentState::Disconnected { since_ns, .. } | AgentState::Stalled { since_ns, .. } => {
                Some(since_ns)
            }
            _ => None,
        };
        if seat.state.position() != to.position() {
            seat.progress_ns = now_ns;
        }
        seat.state = to;
        seat.since_ns = now_ns;
        self.tell_since(now_ns, since_ns, agent, what, reason.to_owned(), notable);
        true
    }

    /// Moves the agent at `index` by the coordinator's own decision. One that is not heard is moved too: it finds
    /// out from what it is sent when it is heard again.
    fn place(&mut self, index: u32, to: Position, reason: &str, now_ns: u64) -> bool {
        let seat = &mut self.seats[index as usize];
        let AgentState::Disconnected { was, .. } = &mut seat.state else {
            return self.move_to(index, AgentState::Active(to), reason, now_ns);
        };
        let legal = *was == to || is_legal(&AgentState::Active(*was), &AgentState::Active(to));
        if legal {
            *was = to;
        }
        legal
    }

    /// What an agent said is not legal now: it is ignored, counted, and the agent is told.
    fn refuse(&mut self, index: u32, what: String, now_ns: u64) {
        self.refused += 1;
        let attempt = self.seats[index as usize].attempt;
        self.send(index, Directive::Refused { what: what.clone() });
        self.tell(now_ns, Some((index, attempt)), "Refused", what, false);
    }

    fn send(&mut self, index: u32, directive: Directive) {
        if let Some(seat) = self.seats.get(index as usize) {
            self.actions.push(Action::Send { index, attempt: seat.attempt, directive });
        }
    }

    fn tell(
        &mut self,
        at_ns: u64,
        agent: Option<(u32, u32)>,
        what: &'static str,
        reason: String,
        notable: bool,
    ) {
        self.tell_since(at_ns, None, agent, what, reason, notable);
    }

    /// Tells of something that lasted from `since_ns` until now.
    fn tell_since(
        &mut self,
        at_ns: u64,
        since_ns: Option<u64>,
        agent: Option<(u32, u32)>,
        what: &'static str,
        reason: String,
        notable: bool,
    ) {
        let told = Told { at_ns, since_ns, agent, what: what.into(), reason, notable };
        if self.timeline.len() < TIMELINE_MAX {
            self.timeline.push(told.clone());
        }
        self.actions.push(Action::Tell(told));
    }

    fn degrade(&mut self, reason: String) {
        if self.degraded.len() < FAULTS_MAX && !self.degraded.contains(&reason) {
            self.degraded.push(reason);
        }
    }

    /// Agents whose seats are held, or will be again.
    fn live(&self) -> u32 {
        self.seats.iter().filter(|seat| seat.is_live()).count() as u32
    }

    /// Whether the run has failed, or was asked to stop: only what runs `Always` still does.
    fn is_troubled(&self) -> bool {
        self.failure.is_some() || self.stop.is_some()
    }

    /// Whether every attempt that was given up is known to be gone, or must be.
    fn ghosts_gone(&self, now_ns: u64) -> bool {
        self.ghosts.iter().all(|ghost| ghost.gone_ns <= now_ns)
    }
}
