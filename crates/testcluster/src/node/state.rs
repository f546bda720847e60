//! What a node knows of a pod, and what it says of it: pod status in a kubelet's shapes.
//!
//! | what | from |
//! |---|---|
//! | phase | `getPhase` in pkg/kubelet/kubelet_pods.go |
//! | conditions, their reasons and messages | pkg/kubelet/status/generate.go |
//! | which conditions, in which order | `generateAPIPodStatus` in pkg/kubelet/kubelet_pods.go |
//! | waiting before the start: `ContainerCreating`, `PodInitializing` | `convertToAPIContainerStatuses`, same file |
//! | `Completed`, `Error`, `OOMKilled` | containerd's CRI, which a kubelet passes on |
//!
//! Pure: time and everything else is given. `qosClass` and what others own is not touched.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Reason of a pod that the kubelet ended for the node's sake.
pub(super) const EVICTED: &str = "Evicted";

/// What is known of a pod.
#[derive(Clone, Debug, Default)]
pub(super) struct PodState {
    pub containers: BTreeMap<String, Record>,
    /// When the node took it.
    pub started_at: Option<Timestamp>,
    /// Whether volumes are mounted and it has its address: a kubelet's sandbox.
    pub is_set_up: bool,
    /// Reason and message of a pod that was failed as a whole, such as `DeadlineExceeded`.
    pub failed: Option<(String, String)>,
    /// Whether no container will be started any more.
    pub is_over: bool,
}

/// What is known of a container.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// What it does now; `None` before anything was tried.
    pub state: Option<Doing>,
    /// How it ended the time before.
    pub last: Option<ContainerStateTerminated>,
    pub restarts: i32,
    /// Whether its startup probe, if any, has passed.
    pub is_started: bool,
    /// Whether its readiness probe, if any, passes.
    pub is_ready: bool,
    pub id: Option<String>,
}

impl Record {
    /// Whether it ended, and well.
    pub(super) fn has_succeeded(&self) -> bool {
        matches!(&self.state, Some(Doing::Ended(ended)) if ended.exit_code == 0)
    }
}

/// What a container does.
#[derive(Clone, Debug)]
pub(super) enum Doing {
    /// It waits, with reason and message.
    Waiting(String, String),
    /// It runs since then.
    Running(Timestamp),
    /// It ended so.
    Ended(ContainerStateTerminated),
}

/// Whether an init container is one that stays: a sidecar.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The status of a pod. `before` is the one that was published last, whose transition times hold where nothing changed.
pub(super) fn status(
    pod: &Pod,
    state: &PodState,
    before: &PodStatus,
    address: Ipv4Addr,
    host: Ipv4Addr,
    now: Timestamp,
) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let init_containers = spec.init_containers.as_deref().unwrap_or_default();
    let describe = |containers: &[Container], is_init: bool| -> Vec<ContainerStatus> {
        let of =
            |container: &Container| container_status(container, is_init, !init_containers.is_empty(), state);
        containers.iter().map(of).collect()
    };
    let (init, main) = (describe(init_containers, true), describe(&spec.containers, false));
    let own = phase(spec, init_containers, &init, &main, state.is_over);
    // No pod is said to be over while something of it may run (`mergePodStatus` in pkg/kubelet/status/status_manager.go).
    let phase = match (&state.failed, own) {
        _ if init.iter().chain(&main).any(is_running) => match own {
            "Succeeded" | "Failed" if has_started(&main) => "Running",
            "Succeeded" | "Failed" => "Pending",
            own => own,
        },
        (Some(_), _) => "Failed",
        (None, own) => own,
    };
    let conditions = conditions(spec, init_containers, &init, &main, phase, state)
        .into_iter()
        .chain(disruption(phase, state))
        .map(|(type_, status, reason, message)| {
            let same =
                before.conditions.iter().flatten().find(|old| old.type_ == type_ && old.status == status);
            let since = same.and_then(|old| old.last_transition_time.clone());
            PodCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.map(ToOwned::to_owned),
                message,
                last_transition_time: since.or(Some(Time(now))),
                ..PodCondition::default()
            }
        })
        .collect();
    let (reason, message) = state.failed.clone().filter(|_| phase == "Failed").unzip();
    let address = address.to_string();
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions),
        start_time: state.started_at.map(Time),
        host_ip: Some(host.to_string()),
        host_ips: Some(vec![HostIP { ip: host.to_string() }]),
        pod_ip: state.is_set_up.then(|| address.clone()),
        pod_ips: state.is_set_up.then(|| vec![PodIP { ip: address }]),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ..PodStatus::default()
    }
}

fn container_status(
    container: &Container,
    is_init: bool,
    has_init: bool,
    state: &PodState,
) -> ContainerStatus {
    let record = state.containers.get(&container.name).cloned().unwrap_or_default();
    let default = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let doing = record.state.unwrap_or_else(|| Doing::Waiting(default.to_owned(), String::new()));
    let is_running = matches!(doing, Doing::Running(_));
    // A plain init container is ready once it succeeded; others while they run and their probes agree.
    let is_ready = match &doing {
        _ if !is_init || is_sidecar(container) => is_running && record.is_ready,
        Doing::Ended(ended) => ended.exit_code == 0,
        Doing::Waiting(..) | Doing::Running(_) => false,
    };
    let mut now = ContainerState::default();
    match doing {
        Doing::Waiting(reason, message) => {
            let message = Some(message).filter(|message| !message.is_empty());
            now.waiting = Some(ContainerStateWaiting { reason: Some(reason), message });
        }
        Doing::Running(since) => now.running = Some(ContainerStateRunning { started_at: Some(Time(since)) }),
        Doing::Ended(ended) => now.terminated = Some(ended),
    }
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: if record.id.is_some() {
            container.image.clone().unwrap_or_default()
        } else {
            String::new()
        },
        container_id: record.id,
        ready: is_ready,
        started: Some(is_running && record.is_started),
        restart_count: record.restarts,
        state: Some(now),
        last_state: Some(ContainerState { terminated: record.last, ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// How it ended, now or before it waits for the next start.
fn last_end(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    terminated(status).or_else(|| status.last_state.as_ref()?.terminated.as_ref())
}

/// Whether one of the containers was ever started.
fn has_started(main: &[ContainerStatus]) -> bool {
    main.iter().any(|status| is_running(status) || last_end(status).is_some())
}

/// Whether a container that ended so is started again.
pub(super) fn restarts(policy: Option<&str>, exit_code: i32) -> bool {
    match policy {
        Some("Never") => false,
        Some("OnFailure") => exit_code != 0,
        _ => true,
    }
}

fn phase(
    spec: &PodSpec,
    init_containers: &[Container],
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    is_over: bool,
) -> &'static str {
    let policy = spec.restart_policy.as_deref();
    let has_started = has_started(main);
    let mut pending = false;
    for (container, status) in init_containers.iter().zip(init) {
        if is_sidecar(container) {
            pending |= !has_started && status.started != Some(true) && last_end(status).is_none();
            continue;
        }
        match last_end(status) {
            Some(end) if is_running(status) || end.exit_code != 0 => {
                if !is_running(status) && !restarts(policy, end.exit_code) {
                    return "Failed";
                }
                pending = true;
            }
            Some(_) => {}
            None => pending = true,
        }
    }
    let never_ran = |status: &ContainerStatus| !is_running(status) && last_end(status).is_none();
    if pending || main.iter().any(never_ran) {
        return "Pending";
    }
    if main.iter().any(is_running) {
        return "Running";
    }
    let succeeded = main.iter().all(|status| last_end(status).is_some_and(|end| end.exit_code == 0));
    let restart = main.iter().filter_map(last_end).any(|end| restarts(policy, end.exit_code));
    match (is_over || !restart, succeeded) {
        (false, _) => "Running",
        (true, true) => "Succeeded",
        (true, false) => "Failed",
    }
}

/// Says who took the pod away, as `evictPod` in pkg/kubelet/eviction/eviction_manager.go does.
fn disruption(phase: &str, state: &PodState) -> Option<Condition> {
    let (_, message) = state.failed.as_ref().filter(|(reason, _)| phase == "Failed" && reason == EVICTED)?;
    Some(("DisruptionTarget", "True", Some("TerminationByKubelet"), Some(message.clone())))
}

type Condition = (&'static str, &'static str, Option<&'static str>, Option<String>);

fn conditions(
    spec: &PodSpec,
    init_containers: &[Container],
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    phase: &str,
    state: &PodState,
) -> Vec<Condition> {
    let sidecars = init_containers.iter().zip(init).filter(|(container, _)| is_sidecar(container));
    let unready: Vec<&str> = sidecars
        .map(|(_, status)| status)
        .chain(main)
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    let ready = match phase {
        "Succeeded" => ("False", Some("PodCompleted"), None),
        "Failed" => ("False", Some("PodFailed"), None),
        _ if unready.is_empty() => ("True", None, None),
        _ => {
            let message = format!("containers with unready status: [{}]", unready.join(" "));
            ("False", Some("ContainersNotReady"), Some(message))
        }
    };
    let incomplete: Vec<&str> = init_containers
        .iter()
        .zip(init)
        .filter(
            |(container, status)| {
                if is_sidecar(container) { status.started != Some(true) } else { !status.ready }
            },
        )
        .map(|(container, _)| container.name.as_str())
        .collect();
    let has_started = has_started(main);
    let initialized = if phase == "Succeeded" {
        ("True", Some("PodCompleted"), None)
    } else if incomplete.is_empty() || has_started {
        ("True", None, None)
    } else {
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        ("False", Some("ContainersNotInitialized"), Some(message))
    };
    let sandbox = if state.is_set_up && !matches!(phase, "Succeeded" | "Failed") { "True" } else { "False" };
    debug_assert!(spec.readiness_gates.is_none(), "readiness gates are refused before");
    vec![
        ("PodReadyToStartContainers", sandbox, None, None),
        ("Initialized", initialized.0, initialized.1, initialized.2),
        ("Ready", ready.0, ready.1, ready.2.clone()),
        ("ContainersReady", ready.0, ready.1, ready.2),
        ("PodScheduled", "True", None, None),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two containers (`a` an init container where `init`) did, and the phase and conditions of their pod.
    fn check(
        policy: &str,
        init: bool,
        states: &[(&str, Option<i32>)],
        is_over: bool,
        expected: (&str, &str, &str),
    ) {
        let container = |name: &str| serde_json::json!({"name": name, "image": "i"});
        let mut spec = serde_json::json!({"restartPolicy": policy, "containers": [container("b")]});
        let list = if init { "initContainers" } else { "containers" };
        match spec[list].as_array_mut() {
            Some(list) => list.insert(0, container("a")),
            None => spec[list] = serde_json::json!([container("a")]),
        }
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap();
        let mut state = PodState { is_set_up: true, is_over, ..PodState::default() };
        for (name, code) in states {
            let doing = match code {
                None => Doing::Running(Timestamp::UNIX_EPOCH),
                Some(exit_code) => Doing::Ended(ContainerStateTerminated {
                    exit_code: *exit_code,
                    ..ContainerStateTerminated::default()
                }),
            };
            let record = Record { state: Some(doing), is_ready: true, is_started: true, ..Record::default() };
            state.containers.insert((*name).to_owned(), record);
        }
        let address = Ipv4Addr::LOCALHOST;
        let status = status(&pod, &state, &PodStatus::default(), address, address, Timestamp::UNIX_EPOCH);
        let is = |type_: &str| {
            let mut conditions = status.conditions.iter().flatten();
            conditions
                .find(|condition| condition.type_ == type_)
                .map_or("", |condition| condition.status.as_str())
        };
        let found = (status.phase.as_deref().unwrap_or_default(), is("Initialized"), is("Ready"));
        assert_eq!(found, expected, "{policy} {states:?}");
    }

    #[test]
    fn phases_are_those_of_a_kubelet() {
        for (policy, init, states, is_over, expected) in [
            ("Never", false, &[][..], false, ("Pending", "True", "False")),
            ("Never", false, &[("a", None)], false, ("Pending", "True", "False")),
            ("Never", false, &[("a", None), ("b", None)], false, ("Running", "True", "True")),
            ("Never", false, &[("a", Some(0)), ("b", None)], false, ("Running", "True", "False")),
            ("Never", false, &[("a", Some(0)), ("b", Some(0))], false, ("Succeeded", "True", "False")),
            ("Never", false, &[("a", Some(0)), ("b", Some(1))], false, ("Failed", "True", "False")),
            ("OnFailure", false, &[("a", Some(0)), ("b", Some(1))], false, ("Running", "True", "False")),
            ("Always", false, &[("a", Some(0)), ("b", Some(0))], false, ("Running", "True", "False")),
            ("Always", false, &[("a", Some(0)), ("b", Some(0))], true, ("Succeeded", "True", "False")),
            ("Always", false, &[("a", Some(0)), ("b", Some(137))], true, ("Failed", "True", "False")),
            ("Never", true, &[("a", None)], false, ("Pending", "False", "False")),
            ("Never", true, &[("a", Some(1))], false, ("Failed", "False", "False")),
            ("OnFailure", true, &[("a", Some(1))], false, ("Pending", "False", "False")),
            ("Never", true, &[("a", Some(0)), ("b", None)], false, ("Running", "True", "True")),
        ] {
            check(policy, init, states, is_over, expected);
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {}, "spec": {"containers": [{"name": "a"}]}
        }))
        .unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let address = Ipv4Addr::LOCALHOST;
        let mut state = PodState { is_set_up: true, ..PodState::default() };
        let first = status(&pod, &state, &PodStatus::default(), address, address, at(1));
        let doing = Some(Doing::Running(at(2)));
        state.containers.insert("a".to_owned(), Record { state: doing, is_ready: true, ..Record::default() });
        let second = status(&pod, &state, &first, address, address, at(2));
        let times: BTreeMap<String, i64> = second
            .conditions
            .into_iter()
            .flatten()
            .filter_map(|condition| Some((condition.type_, condition.last_transition_time?.0.as_second())))
            .collect();
        assert_eq!((times["Ready"], times["Initialized"], times["PodScheduled"]), (2, 1, 1));
    }
}
