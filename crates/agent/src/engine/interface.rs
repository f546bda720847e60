//! What the session and the engine say to each other. The session never waits for the engine: commands go into a
//! channel, events come out of one, and progress is read from atomics.

use lockstep_core::lease::{Lease, LeaseDone};
use lockstep_core::problem::Problem;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::recorder::Interval;
use lockstep_core::run::message::Mark;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the session tells the engine.
#[derive(Clone, Debug)]
pub enum Command {
    /// Get everything ready so that the stage can begin at an instant: workers exist and wait; a keeper has written
    /// the marker. Answered by [`EngineEvent::Staged`] or a fault.
    Stage {
        /// Index of the stage in the plan.
        stage: u32,
    },
    /// Begin: workers are released at `at_ns` on the agent's monotonic clock (now, when it has passed). Where the
    /// stage is a discard stage, the engine flows into the next one by itself at the end of the window. For a stage
    /// joined late, `at_ns` is the start that the others had.
    Begin {
        /// Index of the stage.
        stage: u32,
        /// Common start, agent's monotonic clock, nanoseconds.
        at_ns: u64,
        /// Whether to spin for the last 200 µs.
        spin: bool,
    },
    /// Forget a staged start; workers stay ready.
    Unstage,
    /// More work.
    Lease(Lease),
    /// No more leases will come: end the stage when those in hand are done.
    Drain {
        /// Index of the stage.
        stage: u32,
    },
    /// This agent keeps the lock and the marker of a place from now on. Answered by [`EngineEvent::Place`] or a fault.
    Keep {
        /// The shared place, or that of another agent, which is gone for good.
        space: Option<u32>,
    },
    /// Write this into a marker; answered by [`EngineEvent::Marked`] or a fault.
    Mark(Mark),
    /// The rate of the whole cluster is split over this many agents now, and this is our number among them.
    Resplit {
        /// Agents that live.
        agents: u32,
        /// Our number, from 0.
        position: u32,
    },
    /// Stop I/O within a second, keep what was measured, end the stage with a partial part.
    Abort {
        /// Why; goes into the part.
        reason: String,
    },
    /// The run is over: give back the lock and end.
    Finish,
}

/// What the engine tells the session.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one interval per second does not need a box")]
pub enum EngineEvent {
    /// Ready to begin at an instant.
    Staged {
        /// Index of the stage.
        stage: u32,
    },
    /// Workers were released; the latest of them, and the first operation, on the agent's monotonic clock.
    Released {
        /// Index of the stage.
        stage: u32,
        /// When the last worker was let go.
        released_ns: u64,
    },
    /// A lease is through.
    LeaseDone(LeaseDone),
    /// A finished second of a stage, merged over all workers.
    Interval {
        /// Index of the stage.
        stage: u32,
        /// What was measured in it.
        interval: Interval,
    },
    /// The stage is over on this agent; chained stages give one each.
    StageEnded {
        /// Index of the stage.
        stage: u32,
        /// What was measured.
        part: Box<StagePart>,
    },
    /// What was found at a place that this agent keeps; of its own, or the shared one, before the end of preflight.
    Place {
        /// Whose place.
        space: Option<u32>,
        /// It held nothing.
        fresh: bool,
        /// Below which index puts of earlier runs may lie; 0 where there are none.
        puts_below: u64,
    },
    /// The marker says this now.
    Marked(Mark),
    /// Every part of the stage, or of the chain that it began, was handed in; nothing is under way any more.
    Idle,
    /// Something that a person must know. A fatal one ends the stage on this agent (a part follows).
    Fault {
        /// Index of the stage.
        stage: u32,
        /// The four parts.
        problem: Problem,
        /// Whether the stage failed.
        fatal: bool,
    },
    /// After [`Command::Finish`]: everything is given back.
    Finished,
}

/// What the agent is doing right now. Written by the engine with relaxed stores, read by heartbeats.
#[derive(Debug, Default)]
pub struct Progress {
    /// What, in the present participle: `creating`, `reading`, `listing`, `waiting`, `deleting`, `checking`.
    what: Mutex<&'static str>,
    /// How many are done.
    pub done: AtomicU64,
    /// Out of how many; 0 is unknown.
    pub total: AtomicU64,
    /// Moves whenever anything does: an operation, a chunk of one. Standing still means that all workers hang; the
    /// value itself means nothing.
    pub pulse: AtomicU64,
    /// Since when, agent's monotonic clock.
    pub since_ns: AtomicU64,
}

impl Progress {
    /// Begins something new.
    pub fn begin(&self, what: &'static str, total: u64, now_ns: u64) {
        if let Ok(mut slot) = self.what.lock() {
            *slot = what;
        }
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// More work came.
    pub fn add_total(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    /// What the agent is doing.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what.lock().map_or("", |slot| *slot)
    }
}
