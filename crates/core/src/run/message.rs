//! What goes into the decider and what comes out of it: events and actions, and the messages that agents and
//! coordinator exchange. `proto/` carries the same on the wire; `lockstep-proto` converts.

use super::agent::LossReason;
use super::standing::Standing;
use crate::clock::ClockSample;
use crate::lease::{Lease, LeaseDone};
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Something that happened. Every event of an agent names its attempt: one of an attempt that is no longer the
/// seat's is answered with [`Directive::Superseded`] and changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An agent opened a session and was authenticated, for the first time or again.
    Hello {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// The session of an agent closed.
    SessionClosed {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// An agent said something.
    Says {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
        /// What.
        says: Says,
    },
    /// A ping came back.
    Clock {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
        /// The exchange.
        sample: ClockSample,
    },
    /// The process or container of an attempt is known to have ended.
    Ended {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
        /// Why, as a loss would be named.
        reason: LossReason,
        /// Whether it ended by itself, with success.
        clean: bool,
    },
    /// A person, or the resource, asks to stop.
    Stop(Stop),
    /// Time passed.
    Tick,
}

/// How a run is stopped. May only harden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stop {
    /// Abort, keep what was measured, then clean up where asked.
    Graceful,
    /// Abort, and skip cleanup.
    Immediate,
}

/// What an agent says. Everything but `Beat` is delivered once and in order, over any number of sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Says {
    /// Alive, and this far.
    Beat(Beat),
    /// Read and accepted its plan.
    Accepted,
    /// Ready to begin the stage at an instant.
    Staged {
        /// Index of the stage.
        stage: u32,
    },
    /// Acknowledges a start.
    Armed {
        /// Index of the stage.
        stage: u32,
        /// Which arming.
        round: u32,
    },
    /// Began the stage.
    Started {
        /// Index of the stage.
        stage: u32,
        /// When the last worker was released, agent's monotonic clock, nanoseconds.
        released_ns: u64,
    },
    /// The start passed without a commit; nothing was started.
    MissedStart {
        /// Index of the stage.
        stage: u32,
    },
    /// A lease is through.
    LeaseDone(LeaseDone),
    /// I/O of the stage is over; the result is being handed in.
    Draining {
        /// Index of the stage.
        stage: u32,
    },
    /// The result of the stage is persisted; waits for the others.
    Arrived {
        /// Index of the stage.
        stage: u32,
        /// What happened in it that makes the run `Degraded`, e.g. a pause of the process.
        degraded: Vec<String>,
    },
    /// What was found at a place that this agent keeps.
    Place {
        /// Whose place: an agent's own key space, or the shared one.
        space: Option<u32>,
        /// It held nothing.
        fresh: bool,
        /// Below which index puts of earlier runs may lie; 0 where there are none.
        puts_below: u64,
    },
    /// The marker of a place that this agent keeps says this now, durably.
    Marked(Mark),
    /// Something that a person must know; a fatal one fails the stage.
    Fault {
        /// Index of the stage.
        stage: u32,
        /// The four parts.
        problem: Problem,
        /// Whether the stage failed.
        fatal: bool,
    },
    /// After an abort: no I/O is issued any more, and what was measured is persisted.
    Stopped,
    /// First to each coordinator: where it stands, said at this instant of its monotonic clock, nanoseconds.
    Standing(Box<Standing>, u64),
}

/// What the marker of a place says for this run, beside whose and which data set it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which place: an agent's own key space, or the shared one.
    pub space: Option<u32>,
    /// Every object of the data set is written. `false`: as it was found.
    pub prepared: bool,
    /// Below which index puts of this run may lie, beyond the data set; 0 where there are none.
    pub puts_below: u64,
}

/// A heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// What the agent is doing: `creating`, `reading`, `listing`, `waiting`, …
    pub what: String,
    /// How many are done.
    pub done: u64,
    /// Out of how many; 0 is unknown.
    pub total: u64,
    /// Since when, agent's monotonic clock, nanoseconds.
    pub since_ns: u64,
    /// Moves whenever anything does; standing still means that all workers hang.
    pub pulse: u64,
}

/// What the coordinator tells an agent. Everything is delivered once and in order, over any number of sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Directive {
    /// Your plan; accept it before anything else.
    Plan,
    /// Begin the stage now (preflight, cleanup).
    Release {
        /// Index of the stage.
        stage: u32,
    },
    /// You keep the lock and the marker of a place.
    Keep {
        /// The shared one, or that of an agent that is gone for good. Its own each agent keeps unasked.
        space: Option<u32>,
    },
    /// Write this into the marker of a place that you keep.
    Mark(Mark),
    /// Get ready to begin the stage at an instant.
    Stage {
        /// Index of the stage.
        stage: u32,
    },
    /// Begin at this instant, if a commit follows. A later round replaces an earlier one.
    Arm {
        /// Index of the stage.
        stage: u32,
        /// Which arming.
        round: u32,
        /// The instant, agent's monotonic clock, nanoseconds.
        at_ns: u64,
        /// Whether to spin for the last stretch: there are no more agents than cores on the machine.
        spin: bool,
    },
    /// Everybody acknowledged: begin as armed.
    Commit {
        /// Index of the stage.
        stage: u32,
        /// Which arming.
        round: u32,
    },
    /// Begin late: the others began at this instant, and you end with them.
    Join {
        /// Index of the stage.
        stage: u32,
        /// When the others began, agent's monotonic clock, nanoseconds.
        at_ns: u64,
    },
    /// Work.
    Lease(Lease),
    /// No more leases will come in this stage.
    Drain {
        /// Index of the stage.
        stage: u32,
    },
    /// The cluster's rate is split again.
    Resplit {
        /// Agents that share it.
        agents: u32,
        /// Your number among them, from 0.
        position: u32,
    },
    /// Stop I/O within a second, hand in what you have.
    Abort {
        /// Why.
        reason: String,
    },
    /// The barrier went on without you: stop, hand in what you have, end.
    LeftBehind {
        /// Index of the stage.
        stage: u32,
    },
    /// Another attempt has your index: hand in what you have, end.
    Superseded,
    /// The run is over for you: end.
    Finish,
    /// What you said is not legal now; it was ignored.
    Refused {
        /// What and why.
        what: String,
    },
}

/// What the shell around the decider has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start an agent under this index.
    Spawn {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// End the process of an attempt; answered by [`Event::Ended`].
    Kill {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// Tell an agent.
    Send {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
        /// What.
        directive: Directive,
    },
    /// Ping an agent, now; answered by [`Event::Clock`].
    Ping {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// An attempt is given up: what it reported so far is all there will be. Comes before its stage is over.
    GiveUp {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
        /// Stage that it was in.
        stage: Option<u32>,
        /// Why.
        reason: String,
        /// It ended before this coordinator heard it: what it did under the one before, nobody knows.
        unheard: bool,
    },
    /// A state move or another thing to tell people; goes to the log and the timeline.
    Tell(Told),
    /// Every result of the stage that will come is in.
    StageOver {
        /// Index of the stage.
        stage: u32,
    },
    /// The run is over; no action follows.
    Over,
}

/// One line of the run's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Coordinator's monotonic clock, nanoseconds.
    pub at_ns: u64,
    /// Since when, where it ends something that lasted: a pause, a disconnection, a stall.
    pub since_ns: Option<u64>,
    /// Index and attempt of the agent, where it is about one.
    pub agent: Option<(u32, u32)>,
    /// What happened, as one closed word: a state, or `Armed`, `Committed`, `StageOver`, ….
    pub what: Cow<'static, str>,
    /// Why, for people.
    pub reason: String,
    /// Whether it is more than a detail: shown at once on the terminal, an Event on a cluster.
    pub notable: bool,
}
