//! The one closed list of reasons. The same word is the reason of an Event, the reason of a Condition and the value of
//! a metric's label, so that what is seen in one place can be searched for in the others.

use std::fmt;

/// Declares the list, with each word once.
macro_rules! reasons {
    ($($(#[$meta:meta])* $variant:ident $(($($flag:ident),+))?),+ $(,)?) => {
        /// Why something is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$meta])* $variant),+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word, in CamelCase, as status, events and metrics carry it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            const fn flags(self) -> &'static [Flag] {
                match self { $(Self::$variant => &[$($(Flag::$flag),+)?]),+ }
            }
        }
    };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flag {
    /// Worth a warning.
    Warning,
    /// An agent may be lost for it: `failurePolicy.rules` may name it.
    Loss,
}

reasons! {
    // The way of a run.
    /// The spec is resolved.
    Accepted,
    /// The spec cannot be resolved.
    SpecRejected(Warning),
    /// The merged pod was refused by the API server or by admission.
    PodRejected(Warning),
    /// A Secret, claim or ConfigMap that the run names is not there.
    ReferenceNotFound(Warning),
    /// The run is held.
    Suspended,
    /// The run goes on in a new attempt.
    Resumed,
    /// The run waits for another one of its group.
    WaitingForExclusive,
    /// The run waits for room in quota or caps.
    WaitingForQuota(Warning),
    /// The run waits for nodes: its pods found no place, and were given back or are not made yet.
    WaitingForRoom(Warning),
    /// Nothing has happened yet.
    Waiting,
    /// Pods were created.
    AgentsCreated,
    /// Pods wait for a node.
    Scheduling,
    /// The quorum joined and is prepared.
    AgentsReady,
    /// The agents and their targets are being checked.
    Preflight,
    /// The data set is being written.
    Preparing,
    /// A stage has started.
    Started,
    /// A stage is under way.
    Running,
    /// A stage has ended.
    StageFinished,
    /// What the run wrote is being removed.
    CleaningUp,
    /// Results are being collected.
    Collecting,
    /// Results are where they belong.
    ResultsPublished,
    /// The run ended by itself.
    Completed,
    /// The run ended, and part of an agent's window is missing.
    Partial(Warning),
    /// Every threshold holds.
    Passed,
    /// There are no thresholds.
    NoThresholds,
    // Why agents do not get ready.
    /// No node fits.
    Unschedulable(Warning),
    /// Something holds a pod back from the scheduler.
    SchedulingGated(Warning),
    /// The image cannot be pulled.
    ImagePullFailed(Warning),
    /// The name of an image is none.
    InvalidImageName(Warning),
    /// The node cannot create the container.
    CreateContainerError(Warning),
    /// A volume cannot be attached or mounted.
    FailedMount(Warning),
    /// The container cannot be configured: a Secret or key is missing.
    ConfigError(Warning),
    /// The container ends again and again.
    CrashLoop(Warning),
    /// A clock cannot be estimated.
    ClockError(Warning),
    /// An agent could not prove who it is.
    AuthFailed(Warning),
    /// An agent speaks another version.
    VersionMismatch(Warning),
    /// The quorum was not ready in time.
    ReadyTimeout(Warning),
    /// A check before the load failed.
    PreflightFailed(Warning),
    /// The target cannot be reached.
    TargetUnreachable(Warning),
    /// The target refused.
    TargetDenied(Warning),
    /// The target is not empty and bears another marker, or another run holds it.
    TargetOccupied(Warning),
    // Why an agent is lost.
    /// An agent is lost; the reason of its own says why.
    AgentLost(Warning),
    /// An agent was replaced.
    AgentReplaced,
    /// An agent came back.
    AgentReconnected,
    /// An agent cannot be reached, and may come back.
    Disconnected(Warning),
    /// An agent never said hello.
    NoHello(Warning, Loss),
    /// An agent never ran, and another attempt of it would not either.
    CannotStart(Warning, Loss),
    /// An agent could not be reached for longer than `reconnectGrace`.
    Unreachable(Warning, Loss),
    /// An agent's progress stands still.
    Stalled(Warning, Loss),
    /// An agent does not acknowledge a start.
    NoAcknowledgement(Warning, Loss),
    /// An agent did not get to the barrier in time.
    LeftBehind(Warning),
    /// An agent had no commit at the start.
    MissedStart(Warning),
    /// The coordinator was silent for too long.
    Orphaned(Warning, Loss),
    /// The kernel killed the container for its memory.
    OOMKilled(Warning, Loss),
    /// The kubelet evicted the pod.
    Evicted(Warning, Loss),
    /// The scheduler took the node for another pod.
    Preempted(Warning, Loss),
    /// The node is gone or drained.
    NodeLost(Warning, Loss),
    /// Somebody deleted the pod.
    PodDeleted(Warning, Loss),
    /// The process ended, and nobody says why.
    Ended(Warning, Loss),
    /// The agent reported a failure of its own.
    AgentFailed(Warning),
    /// A newer attempt holds the index.
    Superseded,
    // Why a run fails or its result is doubtful.
    /// Something is missing or doubtful.
    Degraded(Warning),
    /// The agents did not start together.
    SkewTooLarge(Warning),
    /// The clients, not the storage, set the pace.
    ClientBound(Warning),
    /// The start did not come about.
    StartFailed(Warning),
    /// A stage failed.
    StageFailed(Warning),
    /// Too many operations failed.
    ErrorBudgetExceeded(Warning),
    /// No space, inodes or quota left at the target.
    TargetFull(Warning),
    /// Content differs from what was written.
    CorruptData(Warning),
    /// No attempts are left.
    AttemptsExhausted(Warning),
    /// Fewer agents live than the policy demands.
    TooFewAgents(Warning),
    /// The run took longer than it may.
    DeadlineExceeded(Warning, Loss),
    /// A threshold was breached.
    ThresholdBreached(Warning),
    /// The measurement cannot be judged.
    Inconclusive(Warning),
    /// Results could not be stored.
    ResultsFailed(Warning),
    /// A person stopped the run.
    Aborted(Warning),
    /// An object of the run's name belongs to somebody else.
    NameConflict(Warning),
    /// The coordinator was replaced.
    CoordinatorChanged,
    /// Details were left out of the status for its size.
    StatusTruncated(Warning),
}

impl Reason {
    /// The reason with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.name() == name)
    }

    /// Whether an event with it is a warning.
    #[must_use]
    pub fn is_warning(self) -> bool {
        self.flags().contains(&Flag::Warning)
    }

    /// Whether an agent can be lost for it, so that `failurePolicy.rules` may name it.
    #[must_use]
    pub fn is_loss(self) -> bool {
        self.flags().contains(&Flag::Loss)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_state_machine_calls_a_loss_is_a_reason_of_loss() {
        use lockstep_core::run::agent::LossReason;
        let ended = |how: &str| LossReason::Ended(how.to_owned());
        for loss in [
            LossReason::NoHello,
            LossReason::Unreachable,
            ended("signal 9"),
            ended("OOMKilled"),
            LossReason::Stalled,
            LossReason::NoAcknowledgement,
            LossReason::Orphaned,
            LossReason::CannotStart("InvalidImageName: x".to_owned()),
        ] {
            assert!(Reason::from_name(loss.name()).is_some_and(Reason::is_loss), "{}", loss.name());
        }
    }

    #[test]
    fn reasons_are_what_kubernetes_takes_and_found_by_name() {
        for reason in Reason::ALL {
            let name = reason.name();
            assert!(name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
            assert_eq!(Reason::from_name(name), Some(*reason));
        }
        assert!(
            Reason::OOMKilled.is_loss() && Reason::OOMKilled.is_warning() && !Reason::Started.is_warning()
        );
        assert_eq!(Reason::from_name("oomkilled"), None);
    }
}
