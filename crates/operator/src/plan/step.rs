//! What comes out of the planner: steps with their reasons, and what the run waits for.

use super::names::Names;
use super::observed::Memory;
use crate::pods::facts::Seat;
use jiff::Timestamp;
use lockstep_api::reasons::Reason;
use lockstep_core::problem::Problem;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::Stop;
use lockstep_core::thresholds::Outcome;

/// What is due, what is waited for, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// In the order in which they are to be carried out; one that fails ends the round.
    pub steps: Vec<Step>,
    /// What the run waits for; shown in status and message.
    pub wait: Option<Wait>,
    /// Whether the API server has not said yet that it would take the pods: the run is not accepted.
    pub unjudged: bool,
    /// When to plan again though nothing changes.
    pub again_at: Option<Timestamp>,
    /// Whether the run holds pods and lacks room for its quorum; other runs are told ([`super::OtherRun::short`]).
    pub short: bool,
    /// To be handed in with the next observation.
    pub memory: Memory,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Why, for the log and for people.
    pub why: String,
}

/// What the client half carries out.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Write `status.controller`, with the resourceVersion that was seen.
    Claim,
    /// Write `status.attempt` and an empty `status.agentAttempts`.
    NextAttempt {
        /// Attempt of the whole run.
        attempt: u32,
    },
    /// Ask the API server, by a dry run, whether it would take the pod of agent 0.
    TryPod,
    /// Add the finalizer, with the resourceVersion that was seen.
    AddFinalizer,
    /// Remove the finalizer.
    RemoveFinalizer,
    /// Write `status.agentAttempts`.
    Name(Names),
    /// Create the ConfigMap with the CA bundle, or bring it up to date with its resourceVersion.
    WriteCa,
    /// Delete that ConfigMap, if it is the run's: no agent needs it any more.
    RemoveCa,
    /// Create the pod of an attempt by POST.
    CreatePod(Seat),
    /// Delete a pod, with a precondition on its uid.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid.
        uid: String,
    },
    /// Begin the run in the coordinator: its quorum has nodes.
    Begin,
    /// Tell the decider to stop.
    Stop(Stop),
    /// Tell the decider that an attempt is known to have ended; once per attempt.
    TellEnded {
        /// Which.
        seat: Seat,
        /// Why.
        loss: LossReason,
        /// Whether by itself, with success.
        clean: bool,
    },
    /// The run is over before it began: write the final status.
    Conclude(Box<Conclusion>),
    /// Delete the run, with a precondition on its uid.
    DeleteRun,
}

/// How a run ends that never began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conclusion {
    /// `Failed` or `Aborted`.
    pub outcome: Outcome,
    /// Reason of the conditions.
    pub reason: Reason,
    /// What a person reads.
    pub problem: Problem,
}

/// What a run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Reason, in the closed list.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
    /// Cause, likely causes and next steps, where there is something to do.
    pub problem: Option<Problem>,
}

impl Planned {
    /// Nothing yet.
    pub(super) fn new(memory: Memory) -> Self {
        Self { steps: Vec::new(), wait: None, unjudged: false, again_at: None, short: false, memory }
    }

    pub(super) fn step(&mut self, action: Action, why: impl Into<String>) {
        self.steps.push(Step { action, why: why.into() });
    }

    pub(super) fn look_again(&mut self, at: Timestamp) {
        self.again_at = Some(self.again_at.map_or(at, |before| before.min(at)));
    }
}

impl Wait {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), problem: None }
    }

    /// The message and the next steps are those of a problem.
    pub(super) fn of(reason: Reason, problem: Problem) -> Self {
        Self { reason, message: format!("{}: {}", problem.what, problem.cause), problem: Some(problem) }
    }

    pub(super) fn taking_over() -> Self {
        Self::new(Reason::CoordinatorChanged, "a new coordinator takes the run over")
    }

    pub(super) fn collecting() -> Self {
        Self::new(Reason::Collecting, "the run is over, and its results are being written")
    }
}
