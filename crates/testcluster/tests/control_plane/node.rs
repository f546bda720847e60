//! Of the node that stands where the kubelet would.

use crate::{LIMIT, until};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStateTerminated, ContainerStatus, Event, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::wait::Condition;
use lockstep_testcluster::{ControlPlane, Fault, Image, Node, NodeOptions, Options};
use lockstep_testkit::process::{processes_of_group, wait_until};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// The node of the shared control plane. Its back-off is short: nobody wants to see 10 s pass.
async fn shared() -> (&'static ControlPlane, &'static Node<'static>) {
    static NODE: OnceCell<Node<'static>> = OnceCell::const_new();
    let cluster = ControlPlane::shared().await;
    let options = NodeOptions::named("shared").image("host:1", Image::host());
    let options = options.back_off(Duration::from_secs(1)).refresh_every(Duration::from_millis(200));
    (cluster, NODE.get_or_init(|| cluster.node(options)).await)
}

/// A pod with one container `main` that runs a script, and more of the pod's spec as YAML lines.
fn script(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("a text is JSON");
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, {more} \
         containers: [{{name: main, image: 'host:1', command: [sh, -c], args: [{script}]}}]}}}}"
    )
}

fn phase(phase: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| pod.and_then(|pod| pod.status.as_ref()?.phase.as_deref()) == Some(phase)
}

/// Whether the first container waits for this reason.
fn waits(reason: &'static str) -> impl Condition<Pod> {
    move |pod: Option<&Pod>| {
        let waiting = pod.map(main).and_then(|main| main.state?.waiting?.reason);
        waiting.as_deref() == Some(reason)
    }
}

/// Status of the first container.
fn main(pod: &Pod) -> ContainerStatus {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|statuses| statuses.first()).cloned().unwrap_or_default()
}

fn waiting_message(pod: &Pod) -> String {
    main(pod).state.and_then(|state| state.waiting?.message).unwrap_or_default()
}

fn terminated(pod: &Pod) -> ContainerStateTerminated {
    main(pod).state.and_then(|state| state.terminated).expect("it has ended")
}

/// `status` and `reason` of a condition.
fn condition(pod: &Pod, type_: &str) -> (String, String) {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let found = conditions.into_iter().flatten().find(|condition| condition.type_ == type_);
    found.map(|found| (found.status.clone(), found.reason.clone().unwrap_or_default())).unwrap_or_default()
}

/// Waits for an Event of this reason whose message contains a text.
async fn event(client: &kube::Client, namespace: &str, reason: &str, text: &str) {
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let end = Instant::now() + LIMIT;
    loop {
        let seen = events.list(&ListParams::default()).await.expect("Events can be listed").items;
        let says = |event: &Event| event.message.as_deref().is_some_and(|message| message.contains(text));
        if seen.iter().any(|event| event.reason.as_deref() == Some(reason) && says(event)) {
            return;
        }
        let seen: Vec<_> = seen.into_iter().map(|event| (event.reason, event.message)).collect();
        assert!(Instant::now() < end, "no Event {reason} with `{text}`: {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_pod_sees_its_environment_volumes_token_user_and_name() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("sees").await;
    let client = cluster.client().await;
    cluster
        .apply(
            &namespace,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}, data: {greeting: hello, other: x}}\n---\n\
             {apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {KEY: s3cret}}\n---\n\
             {apiVersion: v1, kind: Pod, metadata: {name: seer, labels: {app: seer}}, spec: {restartPolicy: Never, \
               securityContext: {runAsUser: 65532, runAsGroup: 65532}, \
               containers: [{name: main, image: 'host:1', workingDir: /work, \
                 command: [sh, -c], args: ['set -e; id -u; pwd; echo $(GREETING) $(POD)@$(NODE) $KEY $CPU $0 $1', $$(X), b$(GREETING)], \
                 securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}, \
                 resources: {limits: {cpu: 250m}}, envFrom: [{secretRef: {name: keys}}], \
                 env: [{name: GREETING, valueFrom: {configMapKeyRef: {name: map, key: greeting}}}, \
                   {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
                   {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, \
                   {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}], \
                 volumeMounts: [{name: work, mountPath: /work}]}, \
                {name: files, image: 'host:1', command: [sh, -c], \
                 args: ['cat /config/greeting /var/run/own/token; echo; cat /info/labels; echo; ! touch /x; ls -l /var/run/own/..data/token; hostname'], \
                 securityContext: {readOnlyRootFilesystem: true}, \
                 volumeMounts: [{name: config, mountPath: /config}, {name: own, mountPath: /var/run/own, readOnly: true}, \
                   {name: info, mountPath: /info}]}], \
               volumes: [{name: work, emptyDir: {}}, {name: config, configMap: {name: map}}, \
                 {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}, \
                 {name: own, projected: {sources: [{serviceAccountToken: {path: token, audience: lockstep, expirationSeconds: 600}}]}}]}}",
        )
        .await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = until(&pods, "seer", "done", phase("Succeeded")).await;

    let said = node.logs(&namespace, "seer", "main");
    assert_eq!(said, "65532\n/work\nhello seer@shared s3cret 250 $(X) bhello\n");
    let said = node.logs(&namespace, "seer", "files");
    let lines: Vec<&str> = said.lines().collect();
    let token = lines[0].strip_prefix("hello").expect("the ConfigMap's file comes first");
    assert_eq!(token.split('.').count(), 3, "{token} is no token");
    assert_eq!(lines[1], "app=\"seer\"");
    assert!(said.contains("Read-only file system") && said.contains("-rw------- 1 65532"), "{said}");
    assert_eq!(lines.last(), Some(&"seer"));

    let status = pod.status.as_ref().unwrap();
    assert!(status.pod_ip.as_deref().is_some_and(|address| address.starts_with("127.")));
    assert_eq!(condition(&pod, "Ready"), ("False".to_owned(), "PodCompleted".to_owned()));
    assert_eq!(terminated(&pod).reason.as_deref(), Some("Completed"));
    assert!(
        !Path::new("/config").exists() && !Path::new("/var/run/own").exists(),
        "it mounts on this machine"
    );
    event(&client, &namespace, "Started", "Container started").await;
}

#[tokio::test]
async fn mounted_objects_and_tokens_are_followed() {
    let cluster = ControlPlane::start().await;
    let options = NodeOptions::named("follower").image("host:1", Image::host());
    let node = cluster
        .node(options.refresh_every(Duration::from_millis(100)).token_refresh(Duration::from_millis(500)))
        .await;
    let namespace = cluster.namespace("follow").await;
    cluster
        .apply(
            &namespace,
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}, data: {a: old}}\n---\n\
             {apiVersion: v1, kind: Pod, metadata: {name: reader}, spec: {containers: [{name: main, image: 'host:1', \
               command: [sh, -c], args: ['t=$(cat /t/token); echo up; until grep -q new /c/a; do sleep 0.05; done; echo changed; \
                 while [ \"$t\" = \"$(cat /t/token)\" ]; do sleep 0.05; done; echo renewed; exec sleep 1000'], \
               volumeMounts: [{name: c, mountPath: /c}, {name: t, mountPath: /t}]}], \
               volumes: [{name: c, configMap: {name: map}}, \
                 {name: t, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 600}}]}}]}}",
        )
        .await;
    let says = |text: &'static str| node.logs(&namespace, "reader", "main").contains(text);
    eventually("up", || says("up")).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client().await, &namespace);
    let change = Patch::Merge(json!({"data": {"a": "new"}}));
    maps.patch("map", &PatchParams::default(), &change).await.unwrap();
    eventually("changed and renewed", || says("changed") && says("renewed")).await;
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "never {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two replicas of one Deployment listen on the same port, each on its own address; their Service's name leads to both.
#[tokio::test]
async fn a_deployment_becomes_available_and_its_service_has_a_name() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("web").await;
    let client = cluster.client().await;
    cluster
        .apply(
            &namespace,
            "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: web}, ports: [{port: 8080}]}}\n---\n\
             {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 2, selector: {matchLabels: {app: web}}, \
               template: {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 1, containers: [{name: web, image: 'host:1', \
                 command: [python3, -m, http.server, --bind, $(IP), '8080'], ports: [{name: http, containerPort: 8080}], \
                 env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}], \
                 startupProbe: {tcpSocket: {port: http}, periodSeconds: 1, failureThreshold: 60}, \
                 livenessProbe: {exec: {command: [test, -e, /dev/null]}, periodSeconds: 1}, \
                 readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}}]}}}}",
        )
        .await;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let available = |deployment: Option<&Deployment>| {
        deployment.and_then(|deployment| deployment.status.as_ref()?.available_replicas) == Some(2)
    };
    let deployment = until(&deployments, "web", "available", available).await;
    assert_eq!(cluster.kstatus(&[&deployment]).await[0].status, "Current");

    let look = "until [ $(getent ahostsv4 web.$NS.svc | grep -c STREAM) = 2 ]; do sleep 0.1; done; \
                getent ahostsv4 web >/dev/null && getent hosts nowhere.$NS.svc || echo unknown";
    let look = look.replace("$NS", &namespace);
    cluster.apply(&namespace, &script("looker", &look, "")).await;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    until(&pods, "looker", "done", phase("Succeeded")).await;
    assert_eq!(node.logs(&namespace, "looker", "main"), "unknown\n");
}

#[tokio::test]
async fn what_is_missing_is_said_and_waited_for() {
    let (cluster, _node) = shared().await;
    let namespace = cluster.namespace("missing").await;
    let client = cluster.client().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = |name: &str, image: &str, more: &str, spec: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, {spec} \
                 containers: [{{name: main, image: '{image}', command: ['true'], {more}}}]}}}}\n---\n"
        )
    };
    let manifests = [
        pod("image", "nowhere.example/lockstep:1", "", ""),
        pod("name", "Not An Image", "", ""),
        pod("variable", "host:1", "env: [{name: A, valueFrom: {secretKeyRef: {name: absent, key: a}}}]", ""),
        pod("volume", "host:1", "", "volumes: [{name: v, secret: {secretName: absent}}],"),
        pod(
            "claim",
            "host:1",
            "",
            "nodeName: shared, volumes: [{name: v, persistentVolumeClaim: {claimName: none}}],",
        ),
    ];
    cluster.apply(&namespace, &manifests.concat()).await;

    let image = until(&pods, "image", "backing off", waits("ImagePullBackOff")).await;
    assert!(
        waiting_message(&image)
            .starts_with("Back-off pulling image \"nowhere.example/lockstep:1\": ErrImagePull")
    );
    assert_eq!(condition(&image, "ContainersReady"), ("False".to_owned(), "ContainersNotReady".to_owned()));
    until(&pods, "name", "refused", waits("InvalidImageName")).await;
    let variable = until(&pods, "variable", "refused", waits("CreateContainerConfigError")).await;
    assert_eq!(waiting_message(&variable), "secret \"absent\" not found");
    until(&pods, "volume", "waiting", waits("ContainerCreating")).await;
    let what = "MountVolume.SetUp failed for volume \"v\" : secret \"absent\" not found";
    event(&client, &namespace, "FailedMount", what).await;
    event(&client, &namespace, "FailedMount", "persistentvolumeclaim \"none\" not found").await;
    event(&client, &namespace, "Failed", "Error: ErrImagePull").await;

    // What is there in the end is found.
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: absent}, stringData: {a: b}}";
    cluster.apply(&namespace, secret).await;
    for name in ["variable", "volume"] {
        until(&pods, name, "done", phase("Succeeded")).await;
    }
}

#[tokio::test]
async fn pods_fail_on_order() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("order").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    let pattern = format!("{namespace}/pull-*");
    node.order(&pattern, Fault::ImagePull("unauthorized".to_owned()));
    node.order(&format!("{namespace}/create"), Fault::CreateContainer("no space left".to_owned()));
    node.order(&format!("{namespace}/slow"), Fault::SlowStart(Duration::from_secs(3)));
    for name in ["pull-1", "create", "slow", "victim"] {
        cluster.apply(&namespace, &script(name, "[ $(hostname) != victim ] || exec sleep 1000", "")).await;
    }
    let pull = until(&pods, "pull-1", "refused", waits("ErrImagePull")).await;
    assert!(waiting_message(&pull).ends_with("unauthorized"), "{}", waiting_message(&pull));
    let create = until(&pods, "create", "refused", waits("CreateContainerError")).await;
    assert_eq!(waiting_message(&create), "no space left");

    until(&pods, "victim", "running", phase("Running")).await;
    let victim = node.processes(&format!("{namespace}/victim"), "main")[0];
    assert_eq!(node.kill_out_of_memory(&format!("{namespace}/victim"), "main"), 1);
    let pod = until(&pods, "victim", "killed", phase("Failed")).await;
    assert_eq!((terminated(&pod).exit_code, terminated(&pod).reason.as_deref()), (137, Some("OOMKilled")));
    assert!(!Path::new(&format!("/proc/{victim}")).exists());
    assert!(node.processes(&format!("{namespace}/*"), "main").is_empty());

    node.heal(&pattern);
    until(&pods, "pull-1", "done", phase("Succeeded")).await;
    let slow = until(&pods, "slow", "done", phase("Succeeded")).await;
    let status = slow.status.as_ref().unwrap();
    let waited = terminated(&slow).started_at.unwrap().0 - status.start_time.clone().unwrap().0;
    assert!(waited.get_seconds() >= 2, "{waited:?}");
}

#[tokio::test]
async fn containers_restart_by_policy_and_say_why_they_ended() {
    let (cluster, _node) = shared().await;
    let namespace = cluster.namespace("restart").await;
    let client = cluster.client().await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pod = |name: &str, policy: &str, script: &str, more: &str| {
        let script = serde_json::to_string(script).unwrap();
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: {policy}, \
                 containers: [{{name: main, image: 'host:1', command: [sh, -c], args: [{script}], {more}}}]}}}}\n---\n"
        )
    };
    let manifests = [
        pod("never", "Never", "echo why > /dev/termination-log; exit 3", ""),
        pod("logs", "Never", "echo last words; exit 4", "terminationMessagePolicy: FallbackToLogsOnError"),
        pod("elsewhere", "Never", "echo there > /m/why; exit 0", "terminationMessagePath: /m/why"),
        pod(
            "failure",
            "OnFailure",
            "[ -e /v/been ] || { touch /v/been; exit 1; }",
            "volumeMounts: [{name: v, mountPath: /v}]",
        )
        .replace("containers:", "volumes: [{name: v, emptyDir: {}}], containers:"),
        pod("always", "Always", "exit 5", ""),
        pod(
            "unhealthy",
            "Always",
            "echo up; exec sleep 1000",
            "livenessProbe: {exec: {command: ['false']}, periodSeconds: 1, failureThreshold: 1}",
        ),
    ];
    cluster.apply(&namespace, &manifests.concat()).await;

    let never = terminated(&until(&pods, "never", "failed", phase("Failed")).await);
    assert_eq!(
        (never.exit_code, never.reason.as_deref(), never.message.as_deref()),
        (3, Some("Error"), Some("why\n"))
    );
    let logs = terminated(&until(&pods, "logs", "failed", phase("Failed")).await);
    assert_eq!((logs.exit_code, logs.message.as_deref()), (4, Some("last words\n")));
    let elsewhere = terminated(&until(&pods, "elsewhere", "done", phase("Succeeded")).await);
    assert_eq!(elsewhere.message.as_deref(), Some("there\n"));
    let failure = main(&until(&pods, "failure", "done", phase("Succeeded")).await);
    assert_eq!((failure.restart_count, failure.last_state.unwrap().terminated.unwrap().exit_code), (1, 1));
    let always = until(&pods, "always", "backing off", waits("CrashLoopBackOff")).await;
    assert!(
        main(&always).restart_count >= 1
            && waiting_message(&always).starts_with("back-off 1s restarting failed container=main")
    );
    assert_eq!(always.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    let restarted = |pod: Option<&Pod>| pod.is_some_and(|pod| main(pod).restart_count >= 1);
    let unhealthy = main(&until(&pods, "unhealthy", "restarted", restarted).await);
    assert_eq!(unhealthy.last_state.unwrap().terminated.unwrap().exit_code, 128 + 15);
    event(&client, &namespace, "Unhealthy", "Liveness probe failed").await;
}

#[tokio::test]
async fn init_containers_run_in_order_and_a_failed_one_fails_the_pod() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("init").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    let init = |name: &str, script: &str| {
        format!(
            "{{name: {name}, image: 'host:1', command: [sh, -c], args: ['{script}'], volumeMounts: [{{name: v, mountPath: /v}}]}}"
        )
    };
    let volume = "volumes: [{name: v, emptyDir: {}}],";
    let good = format!(
        "{volume} initContainers: [{}, {}],",
        init("one", "echo 1 > /v/f"),
        init("two", "cat /v/f; exit 0")
    );
    let bad = format!("initContainers: [{}], {volume}", init("one", "exit 7"));
    let sidecar = init("beside", "exec sleep 1000").replacen('{', "{restartPolicy: Always, ", 1);
    let sidecar = format!("{volume} terminationGracePeriodSeconds: 1, initContainers: [{sidecar}],");
    for (name, more) in [("good", &good), ("bad", &bad), ("sidecar", &sidecar)] {
        cluster.apply(&namespace, &script(name, "echo main", more)).await;
    }
    until(&pods, "good", "done", phase("Succeeded")).await;
    assert_eq!(node.logs(&namespace, "good", "two"), "1\n");
    let bad = until(&pods, "bad", "failed", phase("Failed")).await;
    assert_eq!(main(&bad).state.unwrap().waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
    assert_eq!(condition(&bad, "Initialized"), ("False".to_owned(), "ContainersNotInitialized".to_owned()));
    until(&pods, "sidecar", "done", phase("Succeeded")).await;
}

/// SIGTERM, grace, SIGKILL; and a deadline that ends what does not end by itself.
#[tokio::test]
async fn pods_end_in_their_grace_or_are_killed() {
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("grace").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    cluster.apply(&namespace, &script("polite", polite, "")).await;
    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done";
    cluster.apply(&namespace, &script("stubborn", stubborn, "terminationGracePeriodSeconds: 2,")).await;
    cluster.apply(&namespace, &script("late", "exec sleep 1000", "activeDeadlineSeconds: 1,")).await;
    for name in ["polite", "stubborn"] {
        eventually("up", || node.logs(&namespace, name, "main").contains("up")).await;
    }
    let processes = node.processes(&format!("{namespace}/stubborn"), "main");
    let began = Instant::now();
    for name in ["polite", "stubborn"] {
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    }
    for name in ["polite", "stubborn"] {
        let gone =
            kube::runtime::wait::await_condition(pods.clone(), name, |pod: Option<&Pod>| pod.is_none());
        tokio::time::timeout(LIMIT, gone).await.expect("it goes").unwrap();
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "the stubborn one had its grace");
    assert!(node.logs(&namespace, "polite", "main").contains("bye"));
    assert!(wait_until(LIMIT, || !Path::new(&format!("/proc/{}", processes[0])).exists()));

    let late = until(&pods, "late", "failed", phase("Failed")).await;
    assert_eq!(late.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}

/// The real node life-cycle controller takes the pods of a node that says nothing, and they go when it speaks again.
#[tokio::test]
async fn a_silent_node_loses_its_pods() {
    let cluster = ControlPlane::start_with(Options {
        node_monitor_grace: Duration::from_secs(4),
        unreachable_toleration: Duration::from_secs(1),
    })
    .await;
    let options = NodeOptions::named("quiet").image("host:1", Image::host());
    let node = cluster.node(options.lease_every(Duration::from_secs(1))).await;
    // Where all nodes are silent, the controller suspects itself and takes nobody's pods.
    let _other = cluster.node(NodeOptions::named("other").lease_every(Duration::from_secs(1))).await;
    let namespace = cluster.namespace("silent").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    cluster
        .apply(
            &namespace,
            &script(
                "orphan",
                "exec sleep 1000",
                "terminationGracePeriodSeconds: 1, nodeSelector: {kubernetes.io/hostname: quiet},",
            ),
        )
        .await;
    until(&pods, "orphan", "running", phase("Running")).await;
    let process = node.processes("orphan", "main")[0];

    node.fall_silent();
    let deleted = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    let pod = until(&pods, "orphan", "deleted", deleted).await;
    assert_eq!(condition(&pod, "DisruptionTarget"), ("True".to_owned(), "DeletionByTaintManager".to_owned()));
    assert!(Path::new(&format!("/proc/{process}")).exists(), "nobody told the node");

    node.speak_again();
    let gone = kube::runtime::wait::await_condition(pods, "orphan", |pod: Option<&Pod>| pod.is_none());
    tokio::time::timeout(LIMIT, gone).await.expect("it goes").unwrap();
    assert!(!Path::new(&format!("/proc/{process}")).exists());
}

#[tokio::test]
async fn a_node_that_is_dropped_leaves_neither_processes_nor_itself() {
    let cluster = ControlPlane::start().await;
    let node = cluster.node(NodeOptions::named("short").image("host:1", Image::host())).await;
    let namespace = cluster.namespace("dropped").await;
    let client = cluster.client().await;
    cluster.apply(&namespace, &script("runs", "sleep 1000 & exec sleep 1000", "")).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    until(&pods, "runs", "running", phase("Running")).await;
    let process = node.processes("runs", "main")[0];
    drop(node);
    let group = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    assert!(wait_until(LIMIT, || processes_of_group(group).is_empty()), "they outlive their node");
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    assert!(
        nodes.get_opt("short").await.unwrap().is_none_or(|node| node.metadata.deletion_timestamp.is_some())
    );
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    assert!(secrets.list(&ListParams::default()).await.unwrap().items.is_empty(), "tokens are never Secrets");
}
