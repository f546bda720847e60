//! A seat: one index of the run, with the attempt that holds it now, and what is known of its liveness.

use super::agent::{AgentState, LossReason, Position, Step};
use super::message::Beat;
use crate::clock::ClockEstimate;
use crate::plan::Barrier;
use serde::{Deserialize, Serialize};

/// One index of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seat {
    /// Index of the agent.
    pub index: u32,
    /// Attempt that holds the seat, from 0.
    pub attempt: u32,
    /// Its state.
    pub state: AgentState,
    /// Since when it is in that state, coordinator's clock, nanoseconds.
    pub since_ns: u64,
    /// Offset of its clock.
    #[serde(skip)]
    pub clock: ClockEstimate,
    /// Last time that anything of it was read.
    pub heard_ns: u64,
    /// Last heartbeat.
    pub beat: Beat,
    /// Since when `beat` shows the same progress.
    pub progress_ns: u64,
    /// Attempts used up so far, not counting the first one and those that a rule does not count.
    pub retries: u32,
    /// When the seat gets its next attempt, if it is waiting for one.
    pub replace_at_ns: Option<u64>,
    /// Ready to begin the current stage at an instant.
    pub staged: bool,
    /// Told to begin the stage late.
    pub joining: bool,
    /// After an abort: it issues no I/O any more.
    pub stopped: bool,
    /// Last arming that it acknowledged.
    pub armed_round: Option<u32>,
    /// When its workers were released in the current stage, coordinator's clock.
    pub released_ns: Option<u64>,
    /// Whether this attempt passed preflight.
    pub was_ready: bool,
    /// Whether the index was ready when the first stage began: stages without it are incomplete.
    pub in_quorum: bool,
    /// The stage that an abort interrupted, and that it has not handed in.
    pub aborted_in: Option<u32>,
    /// Since when its clock is measured.
    pub clock_since_ns: u64,
    /// Under a coordinator that took the run over: whether it has still to say where it stands. Nobody knows what it did
    /// since the record was written, so nothing is concluded about it.
    pub awaited: bool,
    #[serde(skip)]
    query: Query,
    next_ping_ns: u64,
}

/// The coordinator asks an agent that it has not heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Query {
    asked: u32,
    sent_ns: u64,
}

/// What silence means right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Nothing.
    Fine,
    /// Ask.
    Ask,
    /// It did not answer: disconnected.
    Unanswered,
}

/// Wait between two questions, nanoseconds.
const QUERY_PAUSE_NS: u64 = 1_000_000_000;
/// Time between two pings while a clock estimate is made, nanoseconds. Spread, so that one burst of load on the
/// network does not spoil them all.
const PING_FAST_NS: u64 = 20_000_000;
/// Time between two pings otherwise, nanoseconds.
const PING_SLOW_NS: u64 = 5_000_000_000;

impl Seat {
    /// A seat whose first attempt is about to be spawned.
    #[must_use]
    pub fn new(index: u32, now_ns: u64) -> Self {
        Self {
            index,
            attempt: 0,
            state: AgentState::Active(Position::Expected),
            since_ns: now_ns,
            clock: ClockEstimate::default(),
            heard_ns: now_ns,
            beat: Beat::default(),
            progress_ns: now_ns,
            retries: 0,
            replace_at_ns: None,
            staged: false,
            joining: false,
            stopped: false,
            armed_round: None,
            released_ns: None,
            was_ready: false,
            in_quorum: false,
            aborted_in: None,
            clock_since_ns: now_ns,
            awaited: false,
            query: Query::default(),
            next_ping_ns: now_ns,
        }
    }

    /// Gives the seat to its next attempt.
    pub fn replace(&mut self, now_ns: u64) {
        let (retries, attempt, in_quorum) = (self.retries, self.attempt + 1, self.in_quorum);
        *self = Self { retries, attempt, in_quorum, ..Self::new(self.index, now_ns) };
    }

    /// Under a coordinator that takes the run over: whoever had said hello is awaited, and no clock is known.
    pub fn resume(&mut self, now_ns: u64) {
        self.clock.reset();
        (self.clock_since_ns, self.next_ping_ns) = (now_ns, now_ns);
        (self.heard_ns, self.progress_ns) = (now_ns, now_ns);
        match self.state.position() {
            None => {}
            Some(Position::Expected) => {
                (self.state, self.since_ns) = (AgentState::Active(Position::Expected), now_ns);
            }
            Some(was) => {
                self.state = AgentState::Disconnected { since_ns: now_ns, was };
                (self.since_ns, self.awaited) = (now_ns, true);
            }
        }
    }

    /// Forgets the stage before: another one begins.
    pub fn begin(&mut self, now_ns: u64) {
        (self.staged, self.joining, self.stopped) = (false, false, false);
        (self.armed_round, self.released_ns, self.aborted_in) = (None, None, None);
        self.progress_ns = now_ns;
    }

    /// Whether the seat is held by an attempt that takes part, or will be.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.state.is_terminal() || self.replace_at_ns.is_some()
    }

    /// Where its agent is.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.state.position()
    }

    /// Stage and step, when it is in a stage of index 1 or more.
    #[must_use]
    pub fn in_stage(&self) -> Option<(u32, Step)> {
        match self.position() {
            Some(Position::Stage { stage, step }) if stage > 0 => Some((stage, step)),
            _ => None,
        }
    }

    /// Whether it waits, between stages, for the next one.
    #[must_use]
    pub fn is_free(&self) -> bool {
        match self.position() {
            Some(Position::Ready) => true,
            Some(Position::Stage { stage, step }) => stage > 0 && step == Step::AtBarrier,
            _ => false,
        }
    }

    /// Whether it is on its way to being ready.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.replace_at_ns.is_some()
            || matches!(
                self.position(),
                Some(
                    Position::Expected
                        | Position::Joined
                        | Position::Validated
                        | Position::Stage { stage: 0, .. }
                )
            )
    }

    /// Something of it was read.
    pub fn hear(&mut self, now_ns: u64) {
        self.heard_ns = self.heard_ns.max(now_ns);
        self.query = Query::default();
    }

    /// Takes a heartbeat in; returns whether it shows progress. An agent at work may wait for its turn: for an
    /// arrival of an open loop, for a lease.
    pub fn take_beat(&mut self, beat: Beat, now_ns: u64) -> bool {
        let at_work = matches!(self.in_stage(), Some((_, Step::Working | Step::Draining)));
        let moved = beat != self.beat || (at_work && beat.what == "waiting");
        if moved {
            self.beat = beat;
            self.progress_ns = now_ns;
        }
        moved
    }

    /// Judges its silence; see design/coordination, Liveness.
    pub fn judge_silence(&mut self, barrier: &Barrier, now_ns: u64) -> Silence {
        let allowed_ns = nanos(barrier.heartbeat_interval).saturating_mul(barrier.missed_threshold.into());
        if now_ns.saturating_sub(self.heard_ns) <= allowed_ns {
            return Silence::Fine;
        }
        let asked_for_ns = now_ns.saturating_sub(self.query.sent_ns);
        let answer_ns = nanos(barrier.query_timeout);
        if self.query.asked == 0 {
            self.query = Query { asked: 1, sent_ns: now_ns };
            Silence::Ask
        } else if asked_for_ns <= answer_ns {
            Silence::Fine
        } else if self.query.asked > barrier.query_retries {
            Silence::Unanswered
        } else if asked_for_ns > answer_ns + QUERY_PAUSE_NS {
            self.query = Query { asked: self.query.asked + 1, sent_ns: now_ns };
            Silence::Ask
        } else {
            Silence::Fine
        }
    }

    /// Whether a ping for the clock estimate is due; if so, plans the next one.
    pub fn is_ping_due(&mut self, now_ns: u64) -> bool {
        if now_ns < self.next_ping_ns || !self.state.is_heard() {
            return false;
        }
        let pause_ns = if self.clock.is_fresh() { PING_SLOW_NS } else { PING_FAST_NS };
        self.next_ping_ns = now_ns + pause_ns;
        true
    }

    /// Begins a new clock estimate.
    pub fn renew_clock(&mut self, now_ns: u64) {
        self.clock.reset();
        self.clock_since_ns = now_ns;
        self.next_ping_ns = now_ns;
    }

    /// The coordinator itself was stopped for `gap_ns`: nobody's silence in it counts.
    pub fn forgive(&mut self, gap_ns: u64) {
        self.heard_ns += gap_ns;
        self.progress_ns += gap_ns;
        self.since_ns += gap_ns;
        self.query = Query::default();
        if let AgentState::Disconnected { since_ns, .. } | AgentState::Stalled { since_ns, .. } =
            &mut self.state
        {
            *since_ns += gap_ns;
        }
    }
}

/// An attempt that was given up and may still act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ghost {
    /// Index of the agent.
    pub index: u32,
    /// Its attempt.
    pub attempt: u32,
    /// Why it was given up.
    pub reason: Option<LossReason>,
    /// When it has ended by itself at the latest, coordinator's clock: two seconds after its orphan grace is over.
    pub gone_ns: u64,
}

/// A duration in nanoseconds; durations of a plan are below 2^63 ns (292 years) by validation.
#[must_use]
pub fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
