//! What is wrong with a pod: reason, cause, likely causes and next steps, and whether waiting can help.
//!
//! Read from conditions, container states, deletion and Events, in the order in which a pod comes to life, so that the
//! first thing that holds it up is what is said. Every container counts for not getting started; only `agent` counts for
//! having ended ([`super::ended`]). It deliberately draws no consequence: what an ended agent costs is the decider's,
//! what a waiting one costs is [`crate::plan`]'s.

use super::ended::{self, cut};
use super::facts::{agent_status, has_started};
use jiff::Timestamp;
use k8s_openapi::api::core;
use k8s_openapi::api::core::v1::{ContainerStateWaiting, ContainerStatus, Pod};
use lockstep_api::labels;
use lockstep_api::reasons::Reason;
use lockstep_core::problem::{Problem, exit};

/// From this long after the container's start on, a missing hello is shown, seconds.
const HELLO_SHOWN_S: i64 = 5;

/// Reasons of Events that tell of a mount that fails.
pub const MOUNT_FAILURES: [&str; 2] = ["FailedMount", "FailedAttachVolume"];

/// What is wrong with one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why, in the closed list of conditions, events and metrics.
    pub reason: Reason,
    /// What failed, its cause, likely causes, next steps.
    pub problem: Problem,
    /// Whether waiting can help.
    pub weight: Weight,
}

/// Whether waiting can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It can: somebody may make room, create the Secret, or the registry may answer.
    Waits,
    /// It cannot: the run would only time out.
    Fatal,
    /// The agent has ended; the failure policy speaks.
    Ended,
}

/// An Event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEvent {
    /// Its reason, e.g. `FailedMount`.
    pub reason: String,
    /// What it says.
    pub note: String,
}

impl From<&core::v1::Event> for PodEvent {
    fn from(event: &core::v1::Event) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self { reason: text(&event.reason), note: text(&event.message) }
    }
}

/// What is wrong with `pod`. `events`: its Events, oldest first. `said_hello`: whether the agent has a session or had one.
#[must_use]
pub fn of(pod: &Pod, events: &[PodEvent], said_hello: bool, now: Timestamp) -> Option<Trouble> {
    if let Some(ended) = ended::of(pod) {
        return (!ended.clean).then(|| trouble(pod, ended.reason, &ended.cause, Weight::Ended));
    }
    if let Some((reason, cause)) = ended::disruption(pod) {
        return Some(trouble(pod, reason, &cause, Weight::Waits));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(trouble(pod, Reason::PodDeleted, "the pod was asked to go", Weight::Waits));
    }
    scheduling(pod).or_else(|| starting(pod, events)).or_else(|| silent(pod, said_hello, now))
}

fn scheduling(pod: &Pod) -> Option<Trouble> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let condition = conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let cause = condition.message.as_deref().unwrap_or("the scheduler found no node, and does not say why");
    let reason = match condition.reason.as_deref() {
        Some("SchedulingGated") => Reason::SchedulingGated,
        // `persistentvolumeclaim "data" not found` (pkg/scheduler/framework/plugins/volumebinding).
        _ if cause.contains("persistentvolumeclaim") && cause.contains("not found") => {
            Reason::ReferenceNotFound
        }
        _ => Reason::Unschedulable,
    };
    Some(trouble(pod, reason, cause, Weight::Waits))
}

/// A container that does not come up, or a volume that holds all of them up.
fn starting(pod: &Pod, events: &[PodEvent]) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    let lists = [status.init_container_statuses.as_deref(), status.container_statuses.as_deref()];
    let waiting = lists.into_iter().flatten().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        container_trouble(pod, container, waiting)
    });
    if waiting.is_some() || agent_status(pod).is_some_and(has_started) {
        return waiting;
    }
    let is_mount = |event: &&PodEvent| MOUNT_FAILURES.contains(&event.reason.as_str());
    let event = events.iter().rev().find(is_mount)?;
    Some(trouble(pod, Reason::FailedMount, &event.note, Weight::Waits))
}

fn container_trouble(
    pod: &Pod,
    container: &ContainerStatus,
    waiting: &ContainerStateWaiting,
) -> Option<Trouble> {
    let message = waiting.message.as_deref().unwrap_or_default();
    let (reason, weight) = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "SignatureValidationFailed" => {
            (Reason::ImagePullFailed, Weight::Waits)
        }
        "ErrImageNeverPull" => (Reason::ImagePullFailed, Weight::Fatal),
        "InvalidImageName" | "ImageInspectError" => (Reason::InvalidImageName, Weight::Fatal),
        // The kubelet looks at the image's user only after the pull; no Secret that comes later changes it.
        "CreateContainerConfigError" if message.contains("runAsNonRoot") => {
            (Reason::ConfigError, Weight::Fatal)
        }
        "CreateContainerConfigError" => (Reason::ConfigError, Weight::Waits),
        "CreateContainerError"
        | "RunContainerError"
        | "PreCreateHookError"
        | "PreStartHookError"
        | "PostStartHookError" => (Reason::CreateContainerError, Weight::Waits),
        "CrashLoopBackOff" => (Reason::CrashLoop, Weight::Waits),
        _ => return None,
    };
    let word = waiting.reason.as_deref().unwrap_or_default();
    let who = match container.name.as_str() {
        labels::AGENT_CONTAINER => String::new(),
        other => format!("container {other}: "),
    };
    let image = match reason {
        Reason::ImagePullFailed | Reason::InvalidImageName => format!(" ({})", container.image),
        _ => String::new(),
    };
    Some(trouble(pod, reason, &format!("{who}{word}{image}: {message}"), weight))
}

fn silent(pod: &Pod, said_hello: bool, now: Timestamp) -> Option<Trouble> {
    let running = agent_status(pod)?.state.as_ref()?.running.as_ref()?;
    let since = running.started_at.as_ref()?.0;
    let for_s = now.as_second() - since.as_second();
    (!said_hello && for_s >= HELLO_SHOWN_S).then(|| {
        let cause = format!("the container runs since {since}, and the agent has not said hello");
        trouble(pod, Reason::NoHello, &cause, Weight::Waits)
    })
}

fn trouble(pod: &Pod, reason: Reason, cause: &str, weight: Weight) -> Trouble {
    let metadata = &pod.metadata;
    let label =
        |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map_or("?", String::as_str);
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    let what = match weight {
        Weight::Ended => "ended",
        Weight::Waits
            if matches!(
                reason,
                Reason::Preempted | Reason::Evicted | Reason::NodeLost | Reason::PodDeleted
            ) =>
        {
            "is being taken away"
        }
        Weight::Waits | Weight::Fatal => "does not get started",
    };
    let what = format!("agent {} (pod {name}{node}) {what}", label(labels::AGENT_INDEX));
    let advice = advice(reason);
    let mut problem = Problem::new(what, cut(cause)).exit(match weight {
        Weight::Ended => exit::STAGE_FAILED,
        Weight::Waits | Weight::Fatal => exit::UNREACHABLE,
    });
    problem.likely = advice.likely.iter().map(|&text| text.to_owned()).collect();
    problem.next =
        advice.next.iter().map(|text| text.replace("POD", name).replace("NAMESPACE", namespace)).collect();
    Trouble { reason, problem, weight }
}

/// Likely causes and next steps of a reason; `POD` and `NAMESPACE` are put in.
struct Advice {
    likely: &'static [&'static str],
    next: &'static [&'static str],
}

fn advice(reason: Reason) -> Advice {
    let (likely, next): (&[&str], &[&str]) = match reason {
        Reason::Unschedulable => (
            &[
                "the nodes have no room for the requests",
                "no node fits nodeSelector, affinity or taints",
                "its volume is bound to another zone",
            ],
            &[
                "compare requests, nodeSelector and tolerations of agents.template with kubectl describe nodes",
                "lower agents.replicas, or ask for more nodes",
                "agents.placement: Any, if OnePerNode asks for more nodes than there are",
            ],
        ),
        Reason::SchedulingGated => (
            &[
                "a queue (Kueue) has not admitted the run yet",
                "a gate in agents.template that nobody removes",
            ],
            &[
                "kubectl get workloads -n NAMESPACE",
                "kubectl get pod POD -n NAMESPACE -o jsonpath='{.spec.schedulingGates}'",
            ],
        ),
        Reason::ImagePullFailed => (
            &[
                "the image or its tag does not exist",
                "the registry asks for a pull secret",
                "the node cannot reach the registry",
            ],
            &[
                "check the image's name in agents.template or the chart's values",
                "agents.template.spec.imagePullSecrets, or agent.imagePullSecrets of the chart",
            ],
        ),
        Reason::InvalidImageName => (
            &["a typing error in the image's name"],
            &["correct the image in agents.template or in the chart's values"],
        ),
        Reason::ConfigError => (
            &[
                "a Secret or ConfigMap that the pod names does not exist, or lacks a key",
                "the image runs as root",
            ],
            &[
                "create what is missing (kubectl get secret,configmap -n NAMESPACE): the pod goes on by itself",
                "check target.credentials.secretName",
            ],
        ),
        Reason::ReferenceNotFound => (
            &["the claim of target.volume does not exist, or in another namespace"],
            &["create it (kubectl get pvc -n NAMESPACE): the pod goes on by itself", "check target.volume"],
        ),
        Reason::CreateContainerError => (
            &[
                "the container runtime of the node is in trouble",
                "a command or a mount of the template that the image does not have",
            ],
            &["kubectl describe pod POD -n NAMESPACE"],
        ),
        Reason::FailedMount => (
            &[
                "a claim, Secret or ConfigMap does not exist",
                "the volume is attached to another node",
                "the storage behind the claim does not answer",
            ],
            &["kubectl describe pod POD -n NAMESPACE", "kubectl get pvc -n NAMESPACE", "check target.volume"],
        ),
        Reason::CrashLoop => (
            &["a sidecar of the template ends again and again"],
            &["kubectl logs POD -n NAMESPACE --all-containers"],
        ),
        Reason::NoHello => (
            &[
                "a NetworkPolicy keeps the agent from the operator",
                "the Service's name is not resolved",
                "the agent's image is of another version",
            ],
            &["kubectl logs POD -n NAMESPACE -c agent", "kubectl get networkpolicy -n NAMESPACE"],
        ),
        Reason::OOMKilled => (
            &["concurrency times object size is more than the memory limit"],
            &["raise resources.limits.memory of container agent", "lower the stage's concurrency"],
        ),
        Reason::Evicted => (
            &["the node ran out of memory, disk or process ids", "somebody drained the node"],
            &[
                "kubectl get events -n NAMESPACE --field-selector involvedObject.name=POD",
                "set requests that say what the agent needs",
            ],
        ),
        Reason::Preempted => (
            &["a pod of a higher priority needed the node"],
            &[
                "give the agents a priority of their own: agents.template.spec.priorityClassName",
                "failurePolicy.rules: onReasons [Preempted], countAttempt false",
            ],
        ),
        Reason::NodeLost => (
            &["the node is down, unreachable or was removed"],
            &["kubectl get nodes", "failurePolicy.retryAttempts replaces the agent on another node"],
        ),
        Reason::PodDeleted => (
            &["a person or another controller deleted the pod"],
            &["kubectl get events -n NAMESPACE --field-selector involvedObject.name=POD"],
        ),
        Reason::DeadlineExceeded => (&["the pod outlived its dead-man's switch"], &["raise activeDeadline"]),
        Reason::Orphaned => (
            &[
                "the operator was away for longer than orphanGrace",
                "the network between agent and operator was down",
            ],
            &[
                "look whether the operator runs: kubectl get pods -A -l app.kubernetes.io/component=operator",
                "raise failurePolicy.orphanGrace",
            ],
        ),
        _ => (
            &["the agent failed, or was killed from within its container"],
            &[
                "kubectl logs POD -n NAMESPACE -c agent",
                "agents.cleanupPolicy: OnSuccess keeps the pods of a run that failed, with their logs",
            ],
        ),
    };
    Advice { likely, next }
}

#[cfg(test)]
#[path = "trouble_tests.rs"]
mod tests;
