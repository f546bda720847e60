//! What pods find on the node, and what is said while something is missing.

use crate::story::{condition, phase, script, shared, terminated, waiting_message, waits};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use lockstep_testcluster::{ControlPlane, Image, NodeOptions, Tool, eventually, until, until_event};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

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
               containers: [{name: main, image: 'host:1', workingDir: /desk/deep/er, \
                 command: [sh, -c], args: ['set -e; id -u; pwd; echo $(GREETING) $(POD)@$(NODE) $KEY $CPU $0 $1 $PATH', $$(X), b$(GREETING)], \
                 securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}, \
                 resources: {limits: {cpu: 250m}}, envFrom: [{secretRef: {name: keys}}], \
                 env: [{name: PATH, value: /usr/bin:/bin:/own}, {name: GREETING, valueFrom: {configMapKeyRef: {name: map, key: greeting}}}, \
                   {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}, \
                   {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, \
                   {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}], \
                 volumeMounts: [{name: work, mountPath: /desk}]}, \
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
    assert_eq!(said, "65532\n/desk/deep/er\nhello seer@shared s3cret 250 $(X) bhello /usr/bin:/bin:/own\n");
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
    until_event(&client, &namespace, "Started", "Container started").await;
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
    until_event(&client, &namespace, "FailedMount", what).await;
    until_event(&client, &namespace, "FailedMount", "persistentvolumeclaim \"none\" not found").await;
    until_event(&client, &namespace, "Failed", "Error: ErrImagePull").await;

    // What is there in the end is found.
    let secret = "{apiVersion: v1, kind: Secret, metadata: {name: absent}, stringData: {a: b}}";
    cluster.apply(&namespace, secret).await;
    for name in ["variable", "volume"] {
        until(&pods, name, "done", phase("Succeeded")).await;
    }
}

/// Programs as they come: a client that finds the cluster by itself, and a binary of this workspace as somebody without
/// rights.
#[tokio::test]
async fn real_programs_run_with_their_accounts_and_users() {
    let cluster = ControlPlane::start().await;
    let image =
        Image::host().workspace_binary("lockstep-agent").file("/kubectl", Tool::Kubectl.path().unwrap());
    let node = cluster.node(NodeOptions::named("programs").image("lockstep:test", image)).await;
    let namespace = cluster.namespace("programs").await;
    cluster
        .apply(
            &namespace,
            "{apiVersion: v1, kind: Pod, metadata: {name: agent}, spec: {restartPolicy: Never, \
               securityContext: {runAsUser: 65532, runAsNonRoot: true}, \
               containers: [{name: main, image: 'lockstep:test', args: [--help], \
                 securityContext: {readOnlyRootFilesystem: true}}]}}\n---\n\
             {apiVersion: v1, kind: Pod, metadata: {name: client}, spec: {restartPolicy: Never, \
               containers: [{name: main, image: 'lockstep:test', command: [/kubectl, auth, whoami, -o, 'jsonpath={.status.userInfo.username}']}]}}",
        )
        .await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    for pod in ["agent", "client"] {
        until(&pods, pod, "done", phase("Succeeded")).await;
    }
    assert!(node.logs(&namespace, "agent", "main").contains("Usage: lockstep-agent"));
    let said = node.logs(&namespace, "client", "main");
    assert_eq!(said, format!("system:serviceaccount:{namespace}:default"));
}

/// As many at once as a run has agents: they start, are ready, and go.
#[tokio::test]
async fn many_pods_at_once() {
    const PODS: usize = 60;
    let (cluster, node) = shared().await;
    let namespace = cluster.namespace("many").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client().await, &namespace);
    let manifests: Vec<String> = (0..PODS)
        .map(|number| script(&format!("p{number}"), "echo up; exec sleep 1000", "") + "\n---\n")
        .collect();
    cluster.apply(&namespace, &manifests.concat()).await;
    for number in 0..PODS {
        until(&pods, &format!("p{number}"), "running", phase("Running")).await;
    }
    assert_eq!(node.processes(&format!("{namespace}/*"), "main").len(), PODS);
    pods.delete_collection(&DeleteParams::default().grace_period(1), &ListParams::default()).await.unwrap();
    eventually("gone", || node.processes(&format!("{namespace}/*"), "main").is_empty()).await;
}
