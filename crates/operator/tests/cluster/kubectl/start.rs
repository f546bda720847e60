//! `start`: a run that is created and followed in one command, by somebody who may no more than that.

use super::{objects, of_type};
use crate::runs::manifest;
use crate::served;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{Caller, Ended, Person};
use std::path::Path;

/// Whoever may create runs and look at them, as docs/ci.md has it for `start`.
fn role(user: &str) -> String {
    format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: starts-runs}}
rules:
  - {{apiGroups: [lockstep.dev], resources: [benchmarkruns], verbs: [create, get, watch]}}
  - {{apiGroups: [''], resources: [configmaps], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: starts-runs}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: starts-runs}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]
"
    )
}

/// A file with a manifest, and `lockstep start -f` of it.
struct Files<'a> {
    person: &'a Person,
    directory: &'a Path,
}

impl Files<'_> {
    async fn start(&self, manifest: &str, more: &[&str]) -> Ended {
        let file = self.directory.join("run.yaml");
        std::fs::write(&file, manifest).expect("a file");
        let file = file.display().to_string();
        self.person.lockstep(&[&["start", "-f", &file], more].concat()).await
    }
}

#[tokio::test]
async fn a_run_is_created_by_a_generated_name_followed_and_judged() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    served.cluster.apply(&namespace, &role("pipeline")).await;
    let kubeconfig = served.cluster.kubeconfig_as(&Caller::user("pipeline")).await;
    let pipeline = served.cluster.person(kubeconfig);
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files { person: &pipeline, directory: directory.path() };
    // Of the two agents that its quorum asks for there is one.
    let text =
        manifest("ci", 1, "agents: {replicas: 2, minAvailable: 2}").replace("name: ci", "generateName: ci-");
    let here = ["-n", &namespace];
    let passed = files.start(&text, &[&here[..], &["--agents", "1", "--set", "spec.seed=7"]].concat()).await;
    assert!(passed.expect_code(0).stdout.contains("Succeeded"), "{}", passed.stdout);
    assert!(passed.stderr.contains(&format!("created run {namespace}/ci-")), "{}", passed.stderr);
    let breach = text.replace(
        "  target:",
        "  thresholds: [{stage: mixed, metric: operationsPerSecond, atLeast: 900000000}]\n  target:",
    );
    let breached = files.start(&breach, &[&here[..], &["--json"]].concat()).await;
    assert_eq!(breached.code, 7, "{}{}", breached.stdout, breached.stderr);
    assert_eq!(of_type(&objects(&breached), "end")[0]["verdict"], "Failed");

    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    let mut found = runs.list(&ListParams::default()).await.expect("runs").items;
    assert!(found.len() == 2 && found.iter().all(|run| run.name_any().starts_with("ci-")), "{found:?}");
    found.retain(|run| run.spec.seed == 7);
    let agents = found.first().map(|run| (run.spec.agents.replicas, run.spec.agents.min_available));
    assert_eq!(agents, Some((1, Some(1))));
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_creates_nothing() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    let admin = served.cluster.admin();
    let nobody = served.cluster.person(served.cluster.kubeconfig_as(&Caller::user("nobody")).await);
    let directory = tempfile::tempdir().expect("a directory");
    let may = Files { person: &admin, directory: directory.path() };
    let may_not = Files { person: &nobody, directory: directory.path() };
    let held = manifest("held", 1, "suspend: true");
    served.cluster.apply(&namespace, &held).await;
    let elsewhere = held.replace("{name: held}", "{name: held, namespace: mars}");
    let here = ["-n", namespace.as_str()];
    for (ended, says) in [
        (may.start(&held, &here).await, "is there already"),
        (may.start(&held.replace("objects:", "objets:"), &here).await, "did you mean objects?"),
        (may.start(&held, &["-n", "mars"]).await, "there is no namespace mars"),
        (may.start(&elsewhere, &[]).await, "there is no namespace mars"),
        (may.start(&elsewhere, &here).await, "it is a run of namespace mars"),
        (may_not.start(&held, &here).await, "you may not create benchmarkruns held"),
    ] {
        assert!(ended.code == 5 && ended.stderr.contains(says), "{says}: {}{}", ended.stdout, ended.stderr);
        for part in ["cause ", "next "] {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
    }
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    assert_eq!(runs.list(&ListParams::default()).await.expect("runs").items.len(), 1);
}
