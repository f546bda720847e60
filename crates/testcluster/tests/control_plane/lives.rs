//! How containers and pods begin, restart and end.

use crate::story::{condition, main, phase, script, shared, terminated, waiting_message, waits};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use lockstep_testcluster::{LIMIT, eventually, until, until_event, until_gone};
use lockstep_testkit::process::wait_until;
use std::path::Path;
use std::time::{Duration, Instant};

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
    until_event(&client, &namespace, "Unhealthy", "Liveness probe failed").await;
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
        until_gone(&pods, name).await;
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "the stubborn one had its grace");
    assert!(node.logs(&namespace, "polite", "main").contains("bye"));
    assert!(wait_until(LIMIT, || !Path::new(&format!("/proc/{}", processes[0])).exists()));

    let late = until(&pods, "late", "failed", phase("Failed")).await;
    assert_eq!(terminated(&late).exit_code, 128 + 15, "no pod is over while something of it runs");
    assert_eq!(late.status.unwrap().reason.as_deref(), Some("DeadlineExceeded"));
}
