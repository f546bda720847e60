//! What the tests of pods are told with.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod};
use kube::runtime::wait::Condition;
use lockstep_testcluster::{ControlPlane, Image, Node, NodeOptions};
use std::time::Duration;
use tokio::sync::OnceCell;

/// The node of the shared control plane. Its back-off is short: nobody wants to see 10 s pass.
pub(crate) async fn shared() -> (&'static ControlPlane, &'static Node<'static>) {
    static NODE: OnceCell<Node<'static>> = OnceCell::const_new();
    let cluster = ControlPlane::shared().await;
    let options = NodeOptions::named("shared").image("host:1", Image::host());
    let options = options.back_off(Duration::from_secs(1)).refresh_every(Duration::from_millis(200));
    (cluster, NODE.get_or_init(|| cluster.node(options)).await)
}

/// A pod with one container `main` that runs a script, and more of the pod's spec as YAML lines.
pub(crate) fn script(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("a text is JSON");
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, {more} \
         containers: [{{name: main, image: 'host:1', command: [sh, -c], args: [{script}]}}]}}}}"
    )
}

pub(crate) fn phase(phase: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(phase)
}

/// Whether the first container waits for this reason.
pub(crate) fn waits(reason: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| {
        let waiting = pod.map(main).and_then(|main| main.state?.waiting?.reason);
        waiting.as_deref() == Some(reason)
    }
}

/// Status of the first container.
pub(crate) fn main(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|statuses| statuses.first()).cloned().unwrap_or_default()
}

pub(crate) fn waiting_message(pod: &Pod) -> String {
    main(pod).state.and_then(|state| state.waiting?.message).unwrap_or_default()
}

pub(crate) fn terminated(pod: &Pod) -> ContainerStateTerminated {
    main(pod).state.and_then(|state| state.terminated).expect("it has ended")
}

/// `status` and `reason` of a condition.
pub(crate) fn condition(pod: &Pod, type_: &str) -> (String, String) {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|condition| condition.type_ == type_);
    found.map(|found| (found.status.clone(), found.reason.clone().unwrap_or_default())).unwrap_or_default()
}
