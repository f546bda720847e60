//! The coordinator's view of one agent: its state, and the one table of legal moves.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Where an agent is while it takes part.
///
/// ```text
/// Expected ─hello→ Joined ─plan accepted→ Validated ─preflight passed→ Ready
///                                                                       │ stage s
///                      ┌────────────────────────────────────────────────┘
///                      ▼
///        (s, Waiting) ─armed→ (s, Armed) ─start→ (s, Working) ─end→ (s, Draining) ─submitted→ (s, AtBarrier) ─→ (s+1, Waiting)
///             └───────────── stage without an armed start ───────────↗
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Position {
    /// Asked for; no hello yet.
    Expected,
    /// Said hello.
    Joined,
    /// Accepted its plan.
    Validated,
    /// Passed preflight.
    Ready,
    /// In a stage.
    Stage {
        /// Index of the stage in the plan.
        stage: u32,
        /// How far it is in it.
        step: Step,
    },
    /// Told to stop; has not answered yet.
    Aborting,
}

/// How far an agent is in a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Knows of the stage.
    Waiting,
    /// Acknowledged a start.
    Armed,
    /// Issues I/O.
    Working,
    /// Finishes what is in flight and hands in its result.
    Draining,
    /// Its result is persisted; waits for the others.
    AtBarrier,
}

/// The state of one attempt of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentState {
    /// Takes part, and is heard.
    Active(Position),
    /// Takes part, and is not heard. Recoverable, into whatever the agent tells.
    Disconnected {
        /// Coordinator's clock, nanoseconds.
        since_ns: u64,
        /// Where it was.
        was: Position,
    },
    /// Heard, but its progress stands still.
    Stalled {
        /// Since when, coordinator's clock, nanoseconds.
        since_ns: u64,
        /// What it was doing.
        what: String,
        /// Where it is.
        was: Position,
    },
    /// Ended as it should.
    Completed,
    /// Given up by the coordinator.
    Lost(LossReason),
    /// Gave up by itself.
    Failed,
    /// A barrier went on without it.
    LeftBehind,
    /// Stopped on request.
    Aborted,
}

impl AgentState {
    /// Whether nothing more is expected of this attempt.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Completed | Self::Lost(_) | Self::Failed | Self::LeftBehind | Self::Aborted)
    }

    /// Where the agent is, as far as is known; `None` when it ended.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Active(position)
            | Self::Disconnected { was: position, .. }
            | Self::Stalled { was: position, .. } => Some(*position),
            _ => None,
        }
    }

    /// Whether the agent can be told something now.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        matches!(self, Self::Active(_) | Self::Stalled { .. })
    }

    /// Short name, for tables and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Active(Position::Expected) => "Expected",
            Self::Active(Position::Joined) => "Joined",
            Self::Active(Position::Validated) => "Validated",
            Self::Active(Position::Ready) => "Ready",
            Self::Active(Position::Stage { step: Step::Waiting, .. }) => "Waiting",
            Self::Active(Position::Stage { step: Step::Armed, .. }) => "Armed",
            Self::Active(Position::Stage { step: Step::Working, .. }) => "Working",
            Self::Active(Position::Stage { step: Step::Draining, .. }) => "Draining",
            Self::Active(Position::Stage { step: Step::AtBarrier, .. }) => "AtBarrier",
            Self::Active(Position::Aborting) => "Aborting",
            Self::Disconnected { .. } => "Disconnected",
            Self::Stalled { .. } => "Stalled",
            Self::Completed => "Completed",
            Self::Lost(_) => "Lost",
            Self::Failed => "Failed",
            Self::LeftBehind => "LeftBehind",
            Self::Aborted => "Aborted",
        }
    }
}

/// Why the coordinator gave an attempt up. A closed set: rules, events, conditions and metrics use these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossReason {
    /// No hello within `readyTimeout`.
    NoHello,
    /// Not heard for longer than `reconnectGrace`.
    Unreachable,
    /// Its process or container is known to have ended; what is known of it (`signal 9`, `OOMKilled`, `exit code 1`).
    Ended(String),
    /// Its progress stood still for longer than `stallTimeout`.
    Stalled,
    /// It beats, but does not acknowledge a start.
    NoAcknowledgement,
    /// It ended as an orphan: it had not heard the coordinator for `orphanGrace`.
    Orphaned,
    /// It never ran, and what it is started with never will, so another attempt would not either; what keeps it
    /// (`InvalidImageName: …`).
    CannotStart(String),
}

impl LossReason {
    /// The name that rules and metrics use.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::NoHello => "NoHello",
            Self::Unreachable => "Unreachable",
            Self::Ended(how) if !how.contains(' ') => how,
            Self::Ended(_) => "Ended",
            Self::Stalled => "Stalled",
            Self::NoAcknowledgement => "NoAcknowledgement",
            Self::Orphaned => "Orphaned",
            Self::CannotStart(_) => "CannotStart",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHello => write!(f, "no hello within readyTimeout"),
            Self::Unreachable => write!(f, "not heard for longer than reconnectGrace"),
            Self::Ended(how) => write!(f, "its process ended: {how}"),
            Self::Stalled => write!(f, "no progress for longer than stallTimeout"),
            Self::NoAcknowledgement => write!(f, "it does not acknowledge a start"),
            Self::Orphaned => write!(f, "it had not heard the coordinator for orphanGrace"),
            Self::CannotStart(why) => write!(f, "it can never start: {why}"),
        }
    }
}

/// Whether an agent may move from `from` to `to`. The same state again is no move and is not asked for.
///
/// Architecture invariant: an illegal message is refused, counted and told to its sender; it never corrupts a run.
#[must_use]
pub fn is_legal(from: &AgentState, to: &AgentState) -> bool {
    use AgentState::{Aborted, Active, Completed, Disconnected, LeftBehind, Lost, Stalled};
    if from.is_terminal() {
        return false;
    }
    match (from, to) {
        // Being heard or not, and moving or not, says nothing of where an agent is.
        (Active(here) | Stalled { was: here, .. }, Disconnected { was, .. }) => here == was,
        (Active(here), Stalled { was, .. }) => here == was,
        (_, Disconnected { .. } | Stalled { .. }) => false,
        // A rejoined agent is wherever it says, but never back before it had a plan, unless it had none.
        (Disconnected { was, .. }, Active(to)) => was == to || is_forward(*was, *to),
        (Active(was) | Stalled { was, .. }, Active(to)) => was == to || is_forward(*was, *to),
        (_, Lost(_) | AgentState::Failed) => true,
        (_, LeftBehind) => matches!(from.position(), Some(Position::Stage { .. })),
        (_, Aborted) => matches!(from.position(), Some(Position::Aborting)),
        (_, Completed) => {
            matches!(from.position(), Some(Position::Ready | Position::Stage { .. }))
        }
        (Completed | Lost(_) | AgentState::Failed | LeftBehind | Aborted, _) => false,
    }
}

fn is_forward(from: Position, to: Position) -> bool {
    use Position::{Aborting, Expected, Joined, Ready, Stage, Validated};
    match (from, to) {
        (Expected, Joined) | (Joined, Validated) | (Validated, Ready) => true,
        // Preflight is stage 0, and each agent goes through it by itself.
        (Validated, Stage { stage: 0, .. }) | (Stage { stage: 0, .. }, Ready) => true,
        (Ready, Stage { stage, step }) => stage > 0 && step <= Step::Working,
        (Stage { stage: a, step: s }, Stage { stage: b, step: t }) if a == b => {
            s < t || (s == Step::Armed && t == Step::Waiting)
        }
        // From the barrier, or out of a discard stage that flows into the next one.
        (Stage { stage: a, .. }, Stage { stage: b, .. }) => a < b,
        (Aborting, Stage { step: Step::Waiting, .. }) => true,
        (Aborting, _) => false,
        (_, Aborting) => true,
        _ => false,
    }
}
