//! One of our pods, as far as decisions need it.

use super::build::RunIdentity;
use super::ended::{self, Ended};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use lockstep_api::labels;

/// From how long after its pod was placed on an agent that was not started is looked into, seconds.
const HANGS_S: i64 = 2;

/// Index and attempt of an agent.
pub type Seat = (u32, u32);

/// A pod with our labels.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Name of the run that its labels tell.
    pub run: String,
    /// Uid of the run that its labels tell.
    pub run_uid: String,
    /// Attempt of the whole run that it was made for.
    pub run_attempt: u32,
    /// Index and attempt that its labels tell.
    pub seat: Seat,
    /// Uid of its controller; `None` when it has lost it (`--cascade=orphan`), or never had one.
    pub owner_uid: Option<String>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it was asked to go.
    pub deleting: bool,
    /// Its node; `None` while no node was found.
    pub node: Option<String>,
    /// Since when it has one.
    pub placed: Option<Timestamp>,
    /// Whether its agent's container has been started.
    pub started: bool,
    /// Whether the scheduler has looked and found no node.
    pub unschedulable: bool,
    /// Whether the pod as a whole is over: none of its containers runs any more.
    pub over: bool,
    /// How the agent ended; `None` while it may live.
    pub ended: Option<Ended>,
}

impl PodFacts {
    /// The facts of a pod; `None` when its labels are not whole, so that it cannot be one that the operator made.
    #[must_use]
    pub fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let label = |key: &str| metadata.labels.as_ref()?.get(key).map(String::as_str);
        let number = |key: &str| label(key)?.parse::<u32>().ok();
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let condition = pod
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref()?.iter().find(|one| one.type_ == "PodScheduled"));
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            run: label(labels::RUN)?.to_owned(),
            run_uid: label(labels::RUN_UID)?.to_owned(),
            run_attempt: number(labels::RUN_ATTEMPT)?,
            seat: (number(labels::AGENT_INDEX)?, number(labels::AGENT_ATTEMPT)?),
            owner_uid: owners
                .iter()
                .find(|owner| owner.controller == Some(true))
                .map(|owner| owner.uid.clone()),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty()),
            placed: condition
                .filter(|one| one.status == "True")
                .and_then(|one| one.last_transition_time.as_ref())
                .map(|time| time.0),
            started: agent_status(pod).is_some_and(has_started),
            unschedulable: condition.is_some_and(|one| one.reason.as_deref() == Some("Unschedulable")),
            over: pod
                .status
                .as_ref()
                .is_some_and(|status| matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"))),
            ended: ended::of(pod),
        })
    }

    /// Whether the operator made it for this run: its labels, its name and its owner say the same. One that has lost its
    /// owner is still ours; one that another object controls is not.
    #[must_use]
    pub fn is_of(&self, run: &RunIdentity) -> bool {
        let (index, attempt) = self.seat;
        self.run_uid == run.uid
            && self.name == run.pod_name(index, attempt)
            && self.owner_uid.as_ref().is_none_or(|owner| *owner == run.uid)
    }

    /// Whether it has had a node for so long that its agent should have been started, and was not.
    #[must_use]
    pub fn hangs(&self, now: Timestamp) -> bool {
        let placed_s = self.placed.map_or(0, |placed| now.as_second() - placed.as_second());
        !self.started && self.ended.is_none() && placed_s >= HANGS_S
    }

    /// Whether its agent may still act: it is not known to have ended.
    #[must_use]
    pub fn may_live(&self) -> bool {
        !self.ended.as_ref().is_some_and(|ended| ended.dead)
    }
}

/// Status of the agent's container.
pub(super) fn agent_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    statuses.iter().find(|status| status.name == labels::AGENT_CONTAINER)
}

/// Whether a container has been started, ever.
pub(super) fn has_started(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}
