//! The one closed list of reasons. The same word is the reason of an Event, the reason of a Condition and the value of
//! a metric's label, so that what is seen in one place can be searched for in the others. What it means and what to do
//! about it stand beside it, and are what docs/status.md says.

use std::fmt;

/// Declares the list, with each word once: what it means, the word, its flags, what to do about it.
macro_rules! reasons {
    ($($(#[doc = $meaning:literal])+ $variant:ident $(($($flag:ident),+))? => $next:literal),+ $(,)?) => {
        /// Why something is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $meaning])+ $variant),+ }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word, in CamelCase, as status, events and metrics carry it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),+).trim_ascii()),+ }
            }

            /// What a person does about it.
            #[must_use]
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next),+ }
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
    Accepted => "nothing: it is what should be",
    /// The spec cannot be resolved.
    SpecRejected(Warning) => "`lockstep validate -f FILE` says every fault with its line; correct the manifest and create a new run",
    /// The merged pod was refused by the API server or by admission.
    PodRejected(Warning) => "read the quoted text: quota, Pod Security, a webhook or `agents.template` refused the pod; change the template or the namespace's policy, and create a new run",
    /// A Secret, claim or ConfigMap that the run names is not there.
    ReferenceNotFound(Warning) => "create the Secret, claim or ConfigMap that is named, in the run's namespace; the run goes on by itself",
    /// The run is held.
    Suspended => "set `spec.suspend: false` to begin a new attempt",
    /// The run goes on in a new attempt.
    Resumed => "nothing: a new attempt begins",
    /// The run waits for another one of its group.
    WaitingForExclusive => "wait for the run that is named, or stop it; both have the same `spec.exclusive`",
    /// The run waits for room in quota or caps.
    WaitingForQuota(Warning) => "raise the namespace's ResourceQuota or the chart's `limits`, or let other runs end; it goes on by itself",
    /// The run waits for nodes: its pods found no place, and were given back or are not made yet.
    WaitingForRoom(Warning) => "add nodes, ask for less in `agents.template`, lower `agents.minAvailable`, or let the older run that is named end",
    /// Nothing has happened yet.
    Waiting => "if it stays, look whether an operator runs that has the run's `spec.managedBy`",
    /// Pods were created.
    AgentsCreated => "nothing",
    /// Pods wait for a node.
    Scheduling => "if it stays, `agentProblems` in status says what the scheduler says of each pod",
    /// The quorum joined and is prepared.
    AgentsReady => "nothing",
    /// The agents and their targets are being checked.
    Preflight => "if it stays, the message names the agents that have not passed",
    /// The data set is being written.
    Preparing => "watch `progress`; nothing is measured yet",
    /// A stage has started.
    Started => "nothing",
    /// A stage is under way.
    Running => "`kubectl lockstep watch NAME` shows what is done",
    /// A stage has ended.
    StageFinished => "nothing",
    /// What the run wrote is being removed.
    CleaningUp => "let it end: what it has not removed yet lies under the target",
    /// Results are being collected.
    Collecting => "nothing: results are merged and stored",
    /// Results are where they belong.
    ResultsPublished => "`kubectl lockstep report NAME` prints them",
    /// The run ended by itself.
    Completed => "nothing",
    /// The run ended, and part of an agent's window is missing.
    Partial(Warning) => "look at `agentProblems` and the report: which agent, from when to when; repeat the run where the numbers matter",
    /// Every threshold holds.
    Passed => "nothing",
    /// There are no thresholds.
    NoThresholds => "add `spec.thresholds` where a run is to judge something",
    // Why agents do not get ready.
    /// No node fits.
    Unschedulable(Warning) => "`kubectl describe pod` quotes the scheduler: free or add nodes, or change resources, nodeSelector, tolerations in `agents.template`",
    /// Something holds a pod back from the scheduler.
    SchedulingGated(Warning) => "whoever set the gate (Kueue, a webhook) must lift it",
    /// The image cannot be pulled.
    ImagePullFailed(Warning) => "correct the image or its tag, or give `imagePullSecrets`; the pull is repeated until `start.readyTimeout`",
    /// The name of an image is none.
    InvalidImageName(Warning) => "correct the image in the chart's values or in `agents.template`, and create a new run",
    /// The node cannot create the container.
    CreateContainerError(Warning) => "`kubectl describe pod` quotes the container runtime",
    /// A volume cannot be attached or mounted.
    FailedMount(Warning) => "see whether the claim is bound, and its node can attach it; `kubectl describe pod` quotes the kubelet",
    /// The container cannot be configured: a Secret or key is missing.
    ConfigError(Warning) => "create the Secret, ConfigMap or key that the message names; the kubelet looks again by itself",
    /// The container ends again and again.
    CrashLoop(Warning) => "read the log of the sidecar or init container that is named; agents themselves are never restarted",
    /// A clock cannot be estimated.
    ClockError(Warning) => "synchronise the node's clock (chrony, NTP), or look at the network between it and the operator",
    /// An agent could not prove who it is.
    AuthFailed(Warning) => "look whether the pod's projected token and the operator's clock are right, and whether somebody else connects",
    /// An agent speaks another version.
    VersionMismatch(Warning) => "use the same version of operator and agent: correct the image in `agents.template` or in the chart",
    /// The quorum was not ready in time.
    ReadyTimeout(Warning) => "look at `agentProblems`; lower `agents.minAvailable` or raise `start.readyTimeout` where the cluster is slow",
    /// A check before the load failed.
    PreflightFailed(Warning) => "do what the message says; `lockstep validate --connect -f FILE` repeats the checks from where you are",
    /// The target cannot be reached.
    TargetUnreachable(Warning) => "check URI, endpoints, DNS and NetworkPolicies from a pod of that namespace",
    /// The target refused.
    TargetDenied(Warning) => "check the key in the Secret that `target.credentials` names, and the policy of the bucket or the mode of the directory",
    /// The target is not empty and bears another marker, or another run holds it.
    TargetOccupied(Warning) => "give an empty place, or wait for the run that holds it; data of another data set is never overwritten",
    // Why an agent is lost.
    /// An agent is lost; the reason of its own says why.
    AgentLost(Warning) => "look at the reason in `agentProblems`, and at `failurePolicy` for what follows from it",
    /// An agent was replaced.
    AgentReplaced => "nothing; the result says from when on the new attempt counts",
    /// An agent came back.
    AgentReconnected => "nothing; if it happens often, look at the network",
    /// An agent cannot be reached, and may come back.
    Disconnected(Warning) => "nothing at first: it may come back within `failurePolicy.reconnectGrace`; then look at node and network",
    /// An agent never said hello.
    NoHello(Warning, Loss) => "see why the agent does not reach the operator: its pod's log, NetworkPolicy, DNS of the operator's Service",
    /// An agent never ran, and another attempt of it would not either.
    CannotStart(Warning, Loss) => "correct what the message names, in `agents.template` or in the chart's values, and create a new run; it is not tried again",
    /// An agent could not be reached for longer than `reconnectGrace`.
    Unreachable(Warning, Loss) => "look at node and network; raise `failurePolicy.reconnectGrace` where such gaps are usual",
    /// An agent's progress stands still.
    Stalled(Warning, Loss) => "look at the storage: operations hang; `failurePolicy.stallTimeout` says for how long they may",
    /// An agent does not acknowledge a start.
    NoAcknowledgement(Warning, Loss) => "look at the node: its agent runs, and does not get to answer",
    /// An agent did not get to the barrier in time.
    LeftBehind(Warning) => "see why it was slow; `barrier.mode` and `barrier.timeout` say how long others wait",
    /// An agent had no commit at the start.
    MissedStart(Warning) => "look at the network to the agent; raise `start.leadTime` where it is slow",
    /// The coordinator was silent for too long.
    Orphaned(Warning, Loss) => "see why the operator was away for longer than `failurePolicy.orphanGrace`",
    /// The kernel killed the container for its memory.
    OOMKilled(Warning, Loss) => "raise the memory limit in `agents.template`, or lower the concurrency of the stage",
    /// The kubelet evicted the pod.
    Evicted(Warning, Loss) => "give the agents requests, a priority class or nodes of their own; the message says what the node ran out of",
    /// The scheduler took the node for another pod.
    Preempted(Warning, Loss) => "give the agents a priority class, or run while nothing of a higher one does",
    /// The node is gone or drained.
    NodeLost(Warning, Loss) => "look at the node; drain nodes between runs",
    /// Somebody deleted the pod.
    PodDeleted(Warning, Loss) => "find who deletes pods of runs (audit log); stop runs with `kubectl lockstep stop` instead",
    /// The process ended, and nobody says why.
    Ended(Warning, Loss) => "look at the exit code and the pod's log; with `agents.cleanupPolicy: Never` the pod stays",
    /// The agent reported a failure of its own.
    AgentFailed(Warning) => "do what the agent's own problem says; it is in the message and in the report",
    /// A newer attempt holds the index.
    Superseded => "nothing: an older attempt was told to end",
    // Why a run fails or its result is doubtful.
    /// Something is missing or doubtful.
    Degraded(Warning) => "read the message before using the numbers: it says what is missing or doubtful",
    /// The agents did not start together.
    SkewTooLarge(Warning) => "synchronise clocks, raise `start.leadTime`, or allow more with `start.maxSkew`",
    /// The clients, not the storage, set the pace.
    ClientBound(Warning) => "add agents or CPU: what was measured is the client, not the storage",
    /// The start did not come about.
    StartFailed(Warning) => "look at the agents that were not ready in time; raise `start.leadTime` or `failurePolicy.retryAttempts`",
    /// A stage failed.
    StageFailed(Warning) => "read the problem in the message and the report; what other stages measured is kept",
    /// Too many operations failed.
    ErrorBudgetExceeded(Warning) => "look at the classes of errors in the report; `failurePolicy.errorBudget` is the limit",
    /// No space, inodes or quota left at the target.
    TargetFull(Warning) => "free space, inodes or quota at the target, or make the data set smaller",
    /// Content differs from what was written.
    CorruptData(Warning) => "keep the data and look at the storage: what was read is not what was written",
    /// No attempts are left.
    AttemptsExhausted(Warning) => "see why the agent was lost each time; `failurePolicy.retryAttempts` is the limit",
    /// Fewer agents live than the policy demands.
    TooFewAgents(Warning) => "see why agents were lost; `failurePolicy.mode` and `minAgents` are the limit",
    /// The run took longer than it may.
    DeadlineExceeded(Warning, Loss) => "raise `spec.activeDeadline` or a barrier's timeout, or make the run shorter; the message says which passed",
    /// A threshold was breached.
    ThresholdBreached(Warning) => "compare `thresholds` in status: observed and limit; this is what the run was made to find",
    /// The measurement cannot be judged.
    Inconclusive(Warning) => "remove what the message names (skew, clients at their limit), and repeat the run",
    /// Results could not be stored.
    ResultsFailed(Warning) => "what was measured stands in status; the message says what kept the report from being stored",
    /// A person stopped the run.
    Aborted(Warning) => "nothing: a person asked for it, and what was measured is kept",
    /// An object of the run's name belongs to somebody else.
    NameConflict(Warning) => "remove or rename the object that is named, or give the run another name",
    /// The coordinator was replaced.
    CoordinatorChanged => "nothing: another replica goes on with the run; if it happens often, look at the operator's pods",
    /// Details were left out of the status for its size.
    StatusTruncated(Warning) => "read the report, which has everything; `detailsDropped` counts what status leaves out",
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
