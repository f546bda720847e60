//! How an agent's container ended, and whether that proves that it acts no more.
//!
//! Completion is judged by container `agent` alone: a sidecar may run for ever. An end is proven by the container's own
//! state; a pod that is called failed from outside (its node was deleted while the kubelet could not be asked) proves
//! nothing, and its agent counts as alive until `orphanGrace` is over. Reasons are named as `core::run` and
//! `failurePolicy.rules` name them.

use super::agent_start::loss_of_exit;
use super::facts::agent_status;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use lockstep_api::reasons::Reason;
use lockstep_core::problem::Problem;
use lockstep_core::run::agent::LossReason;

/// Longest part of a termination message that is shown, in bytes.
const MESSAGE_SHOWN: usize = 512;

/// An agent that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why, as a loss is named.
    pub loss: LossReason,
    /// Why, in the closed list.
    pub reason: Reason,
    /// Whether it ended by itself, with success.
    pub clean: bool,
    /// Whether it is proven that it acts no more.
    pub dead: bool,
    /// What is known of it, for people: the agent's last words, the kubelet's, or the exit code.
    pub cause: String,
}

/// How the agent of `pod` ended; `None` while it may still work.
#[must_use]
pub fn of(pod: &Pod) -> Option<Ended> {
    let agent = agent_status(pod);
    let terminated = agent.and_then(|status| status.state.as_ref()?.terminated.as_ref());
    let started =
        agent.is_some_and(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let over = matches!(phase, "Failed" | "Succeeded");
    if terminated.is_none() && !over {
        return None;
    }
    let exit_code = terminated.map(|terminated| terminated.exit_code);
    if exit_code == Some(0) || (phase == "Succeeded" && terminated.is_none()) {
        let loss = LossReason::Ended("exit code 0".to_owned());
        let cause = "it ended by itself".to_owned();
        return Some(Ended { loss, reason: Reason::Completed, clean: true, dead: true, cause });
    }
    let outside = disruption(pod).or_else(|| kubelet(pod));
    let (reason, said) = match (outside, terminated) {
        (Some((reason, said)), _) => (reason, Some(said)),
        (None, Some(terminated)) if terminated.reason.as_deref() == Some("OOMKilled") => {
            (Reason::OOMKilled, None)
        }
        (None, Some(terminated)) => own_end(pod, terminated),
        (None, None) => (Reason::Ended, init_failure(pod)),
    };
    let loss = match (reason, exit_code) {
        (Reason::Orphaned, _) => LossReason::Orphaned,
        (Reason::Ended, Some(code)) => {
            loss_of_exit(code).unwrap_or_else(|| LossReason::Ended(format!("exit code {code}")))
        }
        (Reason::Ended, None) => {
            LossReason::Ended(format!("its pod failed: {}", said.as_deref().unwrap_or("nobody says why")))
        }
        (reason, _) => LossReason::Ended(reason.name().to_owned()),
    };
    let words = terminated.and_then(last_words);
    let cause = [words, said, exit_code.map(exit_text)].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let cause = if cause.is_empty() { "its pod failed, and nobody says why".to_owned() } else { cause };
    Some(Ended { loss, reason, clean: false, dead: terminated.is_some() || !started, cause })
}

/// Who took the pod away, from its condition `DisruptionTarget` (Kubernetes: pod disruption conditions).
pub(super) fn disruption(pod: &Pod) -> Option<(Reason, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let target = conditions.iter().find(|one| one.type_ == "DisruptionTarget" && one.status == "True")?;
    let why = target.reason.as_deref().unwrap_or_default();
    let reason = match why {
        "PreemptionByScheduler" => Reason::Preempted,
        "EvictionByEvictionAPI" => Reason::Evicted,
        "TerminationByKubelet" => kubelet(pod).map_or(Reason::Evicted, |(reason, _)| reason),
        "DeletionByTaintManager" | "DeletionByPodGC" => Reason::NodeLost,
        _ => Reason::Evicted,
    };
    let said = match target.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{why}: {message}"),
        _ => why.to_owned(),
    };
    Some((reason, cut(&said)))
}

/// What the kubelet, or the node's life-cycle controller, says of the pod as a whole.
fn kubelet(pod: &Pod) -> Option<(Reason, String)> {
    let status = pod.status.as_ref()?;
    let why = status.reason.as_deref()?;
    let reason = match why {
        "Evicted" => Reason::Evicted,
        "Preempting" | "Preempted" => Reason::Preempted,
        "DeadlineExceeded" => Reason::DeadlineExceeded,
        // Graceful node shutdown is `Terminated`; an unreachable node is `NodeLost`.
        "Terminated" | "NodeShutdown" | "Shutdown" | "NodeLost" | "NodeAffinity" => Reason::NodeLost,
        _ => Reason::Ended,
    };
    let said = match status.message.as_deref() {
        Some(message) if !message.is_empty() => format!("{why}: {message}"),
        _ => why.to_owned(),
    };
    Some((reason, cut(&said)))
}

/// The container ended, and nobody outside claims to have done it.
fn own_end(pod: &Pod, terminated: &ContainerStateTerminated) -> (Reason, Option<String>) {
    let signalled = terminated.signal.is_some() || matches!(terminated.exit_code, 137 | 143);
    if loss_of_exit(terminated.exit_code) == Some(LossReason::Orphaned) {
        return (Reason::Orphaned, None);
    }
    if signalled && pod.metadata.deletion_timestamp.is_some() {
        return (Reason::PodDeleted, Some("its pod was deleted".to_owned()));
    }
    (Reason::Ended, terminated.reason.clone().filter(|reason| reason != "Error" && reason != "Completed"))
}

/// The first container that ran before the agent and failed.
fn init_failure(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_deref()?;
    statuses.iter().find_map(|status| {
        let ended = status.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code != 0)?;
        Some(cut(&format!("init container {} ended with exit code {}", status.name, ended.exit_code)))
    })
}

/// What the agent wrote before it ended: a [`Problem`] as JSON, or whatever else is there.
fn last_words(terminated: &ContainerStateTerminated) -> Option<String> {
    let message = terminated.message.as_deref().map(str::trim).filter(|message| !message.is_empty())?;
    let text = serde_json::from_str::<Problem>(message)
        .map_or_else(|_| message.to_owned(), |problem| format!("{}: {}", problem.what, problem.cause));
    Some(cut(&text))
}

fn exit_text(code: i32) -> String {
    match code {
        137 => "exit code 137 (killed)".to_owned(),
        143 => "exit code 143 (asked to end)".to_owned(),
        code => format!("exit code {code}"),
    }
}

/// Cuts what others wrote to what is shown of it, without control characters.
pub(super) fn cut(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.len() > MESSAGE_SHOWN {
        true => format!("{}…", &text[..text.floor_char_boundary(MESSAGE_SHOWN)]),
        false => text,
    }
}
