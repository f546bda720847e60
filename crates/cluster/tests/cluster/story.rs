//! What pods and nodes of it can do.

use crate::program::{Cluster, LIMIT};
use std::time::{Duration, Instant};

/// Two pods under the strictest level, one on each node, behind a headless Service and one with an address.
const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: story, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Service
metadata: {name: all, namespace: story}
spec: {clusterIP: None, selector: {app: serve}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: story}
spec: {selector: {name: two}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: story}
spec: {selector: {name: one}, ports: [{port: 80, targetPort: 8080}]}
---
"#;

fn pod(name: &str, node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: story, labels: {{app: serve, name: {name}}}}}
spec:
  nodeName: {node}
  securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: pod
    image: lockstep-test/pod:1
    args: [serve, ":8080"]
    readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {{drop: [ALL]}}
---
"#
    )
}

pub fn pods_reach_each_other(cluster: &Cluster) {
    let manifests = format!("{PODS}{}{}", pod("one", "node-1"), pod("two", "node-2"));
    cluster.kubectl_with(&manifests, &["apply", "-f", "-"]);
    cluster.kubectl(&["-n", "story", "wait", "pod", "--all", "--for=condition=Ready", "--timeout=90s"]);
    // The kernel refuses what the profile forbids.
    let status = cluster.kubectl(&["-n", "story", "get", "pod", "one", "-o", "jsonpath={.status.podIP}"]);
    assert!(status.starts_with("10.244.1."), "{status}");
    let mut addresses: Vec<String> = ["one", "two"]
        .map(|name| cluster.kubectl(&["-n", "story", "get", "pod", name, "-o", "jsonpath={.status.podIP}"]))
        .into();
    addresses.sort();
    let asked = |from: &str, what: &[&str]| {
        let mut arguments = vec!["-n", "story", "exec", from, "--", "/pod"];
        arguments.extend(what);
        cluster.kubectl(&arguments)
    };
    eventually("both addresses are names'", || {
        let resolved = asked("one", &["resolve", "all.story.svc.cluster.local"]);
        resolved.lines().eq(addresses.iter().map(String::as_str))
    });
    // By a short name, which the search domains complete; across nodes, to itself, and from the other side.
    for (from, to) in [("one", "two"), ("two", "one"), ("one", "one")] {
        answers(cluster, from, to);
    }
    let logs = cluster.kubectl(&["-n", "story", "logs", "one"]);
    assert_eq!(logs, "", "it has nothing to say, and the kubelet answers");
}

pub fn volumes_are_made(cluster: &Cluster) {
    let volume = |class: &str, mode: &str| {
        format!("accessModes: [{mode}], storageClassName: {class}, resources: {{requests: {{storage: 1Mi}}}}")
    };
    let pod = |name: &str, node: &str, script: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: volumes}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  restartPolicy: Never
  securityContext: {{runAsUser: 65532}}
  containers:
  - name: shell
    image: lockstep-test/busybox:1
    command: [sh, -ec, '{script}']
    volumeMounts: [{{name: shared, mountPath: /shared}}, {{name: own, mountPath: /own}}]
  volumes:
  - name: shared
    persistentVolumeClaim: {{claimName: shared}}
  - name: own
    ephemeral: {{volumeClaimTemplate: {{spec: {{{}}}}}}}
---
"#,
            volume("standard", "ReadWriteOnce")
        )
    };
    let claim = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: volumes}}\n---\napiVersion: v1\nkind: PersistentVolumeClaim\n\
         metadata: {{name: shared, namespace: volumes}}\nspec: {{{}}}\n---\n",
        volume("shared", "ReadWriteMany")
    );
    // Each waits for the other's word: they run at the same time, on different nodes.
    let one =
        pod("one", "node-1", "echo 1 >/own/a; echo 1 >/shared/1; until [ -e /shared/2 ]; do sleep 0.1; done");
    let two =
        pod("two", "node-2", "echo 2 >/own/a; until [ -e /shared/1 ]; do sleep 0.1; done; echo 2 >/shared/2");
    cluster.kubectl_with(&format!("{claim}{one}{two}"), &["apply", "-f", "-"]);
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    cluster.kubectl(&["-n", "volumes", "wait", "pod", "--all", done, "--timeout=120s"]);
    cluster.kubectl(&["delete", "namespace", "volumes", "--timeout=120s"]);
    // Reclaimed: the directories are removed with the volumes.
    eventually("volumes are gone", || {
        cluster.kubectl(&["get", "persistentvolumes", "-o", "name"]).is_empty()
    });
}

pub fn faults_of_nodes_are_real(cluster: &Cluster) {
    let ready = |node: &str, status: &str| {
        let node = format!("node/{node}");
        let condition = format!("--for=condition=Ready={status}");
        cluster.kubectl(&["wait", &node, &condition, "--timeout=120s"]);
    };
    let container = || {
        let path =
            "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}";
        cluster.kubectl(&["-n", "story", "get", "pod", "two", "-o", path])
    };
    let before = container();
    cluster.run(&["node", "node-2", "restart", "containerd"]);
    cluster.run(&["node", "node-2", "stop", "kubelet"]);
    ready("node-2", "Unknown");
    cluster.run(&["node", "node-2", "start", "kubelet"]);
    ready("node-2", "true");
    cluster.run(&["node", "node-2", "unplug"]);
    ready("node-2", "Unknown");
    cluster.run(&["node", "node-2", "plug"]);
    ready("node-2", "true");
    assert_eq!(container(), before, "the pod went on through all of it");
    cluster.run(&["node", "node-2", "power-off"]);
    ready("node-2", "Unknown");
    cluster.run(&["node", "node-2", "power-on"]);
    ready("node-2", "true");
    eventually("the pod was started again", || container().ends_with(" 1"));
    cluster.kubectl(&["-n", "story", "wait", "pod/two", "--for=condition=Ready", "--timeout=90s"]);
    answers(cluster, "one", "two");
}

/// A pod is answered by a Service, as soon as kube-proxy knows of it on the node.
fn answers(cluster: &Cluster, from: &str, to: &str) {
    let url = format!("http://{to}");
    let ask = ["-n", "story", "exec", from, "--", "/pod", "get", &url];
    eventually(&format!("{from} is answered by {to}"), || {
        cluster.try_kubectl(&ask).is_some_and(|said| said.trim() == to)
    });
}

pub fn up_again_mends(cluster: &Cluster) {
    cluster.kill_everything_of("node-2");
    cluster.run(&["up", "--nodes", "2", "--node-grace", "20"]);
    let status = cluster.run(&["status"]);
    for daemon in ["kubelet", "containerd", "kube-proxy", "kube-apiserver", "coredns", "started     yes"] {
        assert!(status.contains(daemon), "{status}");
    }
    let said = cluster.fails(&["up", "--nodes", "1"]);
    assert!(said.contains("other settings") && said.contains("next"), "{said}");
}

/// Waits for what controllers do.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
