//! The operator's rights: what the chart grants, what is used, what each is for, and what an idle operator does.

use crate::chart::{Release, measuring, run};
use crate::{Served, finished, served};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, Subject};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{AuditEntry, Caller, LIMIT, until, until_event, until_gone};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long an idle operator is looked at; `cargo xtask soak` takes a minute.
const IDLE: Duration = Duration::from_secs(6);
/// In seconds, another such time.
const IDLE_S: &str = "LOCKSTEP_TEST_IDLE_S";

/// A right: where (`*`: everywhere), and what, as [`AuditEntry::right`] says it.
type Right = (String, String);

/// Every rule that RBAC has for the operator of a release, with where it holds.
async fn rules(served: &Served, release: &Release) -> Vec<(String, PolicyRule)> {
    let client = served.cluster.client().await;
    let all = ListParams::default();
    let is_its = |subjects: &Option<Vec<Subject>>| {
        subjects.iter().flatten().any(|subject| {
            subject.kind == "ServiceAccount"
                && subject.name == "lockstep"
                && subject.namespace.as_ref() == Some(&release.home)
        })
    };
    let mut rules = Vec::new();
    let bindings = Api::<RoleBinding>::all(client.clone()).list(&all).await.expect("bindings");
    for binding in bindings.items.iter().filter(|binding| is_its(&binding.subjects)) {
        let namespace = binding.namespace().unwrap_or_default();
        let roles: Api<Role> = Api::namespaced(client.clone(), &namespace);
        let role = roles.get(&binding.role_ref.name).await.expect("the role that is bound");
        rules.extend(role.rules.into_iter().flatten().map(|rule| (namespace.clone(), rule)));
    }
    let bindings = Api::<ClusterRoleBinding>::all(client.clone()).list(&all).await.expect("bindings");
    for binding in bindings.items.iter().filter(|binding| is_its(&binding.subjects)) {
        let roles: Api<ClusterRole> = Api::all(client.clone());
        let role = roles.get(&binding.role_ref.name).await.expect("the role that is bound");
        rules.extend(role.rules.into_iter().flatten().map(|rule| ("*".to_owned(), rule)));
    }
    rules
}

/// Every right of these rules.
fn granted(rules: &[(String, PolicyRule)]) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (place, rule) in rules {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let right = |verb: &String| (place.clone(), format!("{verb} {group}/{resource}"));
                rights.extend(rule.verbs.iter().map(right));
            }
        }
    }
    rights
}

/// What the operator of a release has asked for so far, but for the API itself (`/version`, discovery).
fn asked(served: &Served, release: &Release) -> Vec<AuditEntry> {
    let user = format!("system:serviceaccount:{}:lockstep", release.home);
    let entries = served.cluster.audit().into_iter();
    entries.filter(|entry| entry.user == user && !entry.resource.is_empty()).collect()
}

/// Whether it waits with a pod that has no image.
fn lacks_image(run: Option<&BenchmarkRun>) -> bool {
    let problems = run.and_then(|run| run.status.as_ref()).map(|status| &status.agent_problems);
    problems.is_some_and(|problems| problems.iter().any(|problem| problem.reason.contains("Image")))
}

/// Everything that an operator does, in a namespace, with runs of which nothing is left.
async fn everything(served: &Served, release: &Release, namespace: &str) {
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let managed_by = release.managed_by.as_str();

    // One that loses two agents, so that an Event has a series, and goes by its time to live.
    let lossy = "agents: {replicas: 4}\n  ttlAfterFinished: 1s\n  failurePolicy: {mode: BestEffort, retryAttempts: 0}";
    // One whose pod is another's, and one that has no image.
    let taken = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "taken-0-0", "labels": {"mine": "yes"}},
        "spec": {"containers": [{"name": "c", "image": "lockstep:test", "command": ["sleep", "600"]}]},
    });
    served.cluster.apply(namespace, &taken.to_string()).await;
    let image = "agents: {template: {spec: {containers: [{name: agent, image: 'nobody/has:1'}]}}}";
    let all = run("lossy", managed_by, 6, lossy)
        + &run("taken", managed_by, 1, "")
        + &run("pull", managed_by, 1, image);
    served.cluster.apply(namespace, &all).await;
    served.until(&runs, "lossy", "measuring", measuring).await;
    for index in [1, 2] {
        served.node.kill_out_of_memory(&format!("{namespace}/lossy-{index}-0"), "agent");
    }
    served.until(&runs, "taken", "finished", finished).await;
    served.until(&runs, "pull", "told that there is no image", lacks_image).await;
    until_event(&client, namespace, "AgentLost", "").await;
    until_gone(&runs, "lossy").await;
    assert!(pods.get("taken-0-0").await.expect("it stays").labels().contains_key("mine"));

    // A bundle that is not what the operator would write is written anew by the next one.
    let uid = runs.get("pull").await.expect("a run").uid().expect("a uid");
    let bundle = format!("pull-{}-ca", &uid[..8]);
    let stale = Patch::Merge(json!({"data": {"ca.crt": "stale"}}));
    maps.patch(&bundle, &PatchParams::default(), &stale).await.expect("it is changed");
    let operators: Api<Pod> = Api::namespaced(client.clone(), &release.home);
    let labels = ListParams::default().labels("app.kubernetes.io/component=operator");
    let running = operators.list(&labels).await.expect("pods");
    for pod in running.items {
        operators.delete(&pod.name_any(), &DeleteParams::default()).await.expect("it is deleted");
    }
    let is_current = |map: Option<&ConfigMap>| {
        let bundle = map.and_then(|map| map.data.as_ref()?.get("ca.crt"));
        bundle.is_some_and(|bundle| bundle.contains("BEGIN CERTIFICATE"))
    };
    until(&maps, &bundle, "current", is_current).await;
    // The Lease is made anew when somebody deletes it.
    let leases: Api<Lease> = Api::namespaced(client.clone(), &release.home);
    leases.delete("lockstep", &DeleteParams::default()).await.expect("it is deleted");
    let is_held =
        |lease: Option<&Lease>| lease.is_some_and(|lease| lease.metadata.deletion_timestamp.is_none());
    until(&leases, "lockstep", "made anew", is_held).await;
    for name in ["taken", "pull"] {
        runs.delete(name, &DeleteParams::default()).await.expect("it is deleted");
        until_gone(&runs, name).await;
    }
}

#[tokio::test]
async fn what_the_operator_may_is_what_it_uses() {
    let served = served().await;
    let home = served.cluster.namespace("rights").await;
    let namespace = served.cluster.namespace("perf").await;
    let list = format!("watchNamespaces=[\"{namespace}\"]");
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/rights", &[&list]).await;
    // For some seconds after the definition came, admission does not know it, and refuses objects that a run owns.
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    served.cluster.apply(&namespace, &run("first", &release.managed_by, 1, "")).await;
    served.until(&runs, "first", "finished", finished).await;
    let learnt = asked(served, &release).len();
    everything(served, &release, &namespace).await;

    let rules = rules(served, &release).await;
    let granted = granted(&rules);
    let asked_for = asked(served, &release);
    let refused: Vec<_> = asked_for.iter().skip(learnt).filter(|entry| entry.code == 403).collect();
    assert!(refused.is_empty(), "it asks for nothing that it may not: {refused:#?}");
    let mut used = BTreeSet::new();
    for entry in &asked_for {
        // The core group has no name.
        let right = entry
            .right()
            .replacen(' ', if entry.group.is_empty() { " /" } else { " " }, 1)
            .replace("//", "/");
        let place = if entry.namespace.is_empty() { "*" } else { &entry.namespace };
        used.insert((place.to_owned(), right));
    }
    let made = asked_for.iter().any(|entry| entry.right() == "create /pods" && entry.code == 201);
    assert!(made, "pods were made");
    let unused: Vec<_> = granted.difference(&used).collect();
    let beyond: Vec<_> = used.difference(&granted).collect();
    assert!(unused.is_empty() && beyond.is_empty(), "granted, and not used: {unused:#?}; used: {beyond:#?}");

    for (place, rule) in &rules {
        let resources: Vec<&str> = rule.resources.iter().flatten().map(String::as_str).collect();
        let words =
            rule.verbs.iter().chain(rule.api_groups.iter().flatten()).chain(rule.resources.iter().flatten());
        assert!(words.clone().all(|word| !word.contains('*')), "no wildcard: {rule:?}");
        assert!(!resources.contains(&"pods/log") && !resources.contains(&"pods/exec"), "{rule:?}");
        if resources.contains(&"secrets") {
            assert_eq!((place, &rule.resource_names), (&home, &Some(vec!["lockstep-ca".to_owned()])));
        }
    }

    // Nothing is left to do: nothing is written.
    let idle =
        std::env::var(IDLE_S).ok().and_then(|text| text.parse().ok()).map_or(IDLE, Duration::from_secs);
    assert!(idle < LIMIT * 10);
    let before = asked(served, &release).len();
    tokio::time::sleep(idle).await;
    let since = asked(served, &release).split_off(before);
    let wrote: Vec<_> = since.iter().filter(|entry| entry.is_write() && entry.resource != "leases").collect();
    assert!(wrote.is_empty(), "an idle operator writes nothing but its Lease: {wrote:#?}");
    release.uninstall(served).await;
}

#[tokio::test]
async fn the_admission_policy_confines_the_operator_to_what_runs_own() {
    let served = served().await;
    let home = served.cluster.namespace("confined").await;
    let namespace = served.cluster.namespace("perf").await;
    let list = format!("watchNamespaces=[\"{namespace}\"]");
    let values = [list.as_str(), "admissionPolicy.enabled=true"];
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/confined", &values).await;
    let admin = served.cluster.client().await;
    let operator = served.cluster.client_as(&release.account()).await;
    let pod = |name: &str| -> Pod {
        let spec =
            json!({"containers": [{"name": "c", "image": "lockstep:test", "command": ["sleep", "600"]}]});
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).expect("a pod")
    };
    let foreign: Api<Pod> = Api::namespaced(admin.clone(), &namespace);
    foreign.create(&PostParams::default(), &pod("foreign")).await.expect("a pod");
    let pods: Api<Pod> = Api::namespaced(operator.clone(), &namespace);
    // A policy holds a moment after it was written.
    let end = Instant::now() + LIMIT;
    let refused = loop {
        match pods.create(&PostParams::default(), &pod("stray")).await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(Instant::now() < end, "the policy never holds"),
        }
        foreign.delete("stray", &DeleteParams::default().grace_period(0)).await.expect("it is deleted");
        until_gone(&foreign, "stray").await;
    };
    assert!(refused.contains("only what BenchmarkRuns own: pods stray is not"), "{refused}");
    let refused = pods.delete("foreign", &DeleteParams::default()).await.expect_err("another's");
    assert!(refused.to_string().contains("pods foreign is not"), "{refused}");
    let maps: Api<ConfigMap> = Api::namespaced(operator, &namespace);
    let map = maps.get("kube-root-ca.crt").await.expect("RBAC lets it read");
    let refused =
        maps.replace("kube-root-ca.crt", &PostParams::default(), &map).await.expect_err("another's");
    assert!(refused.to_string().contains("configmaps kube-root-ca.crt is not"), "{refused}");

    // And it does not keep it from its work.
    let runs: Api<BenchmarkRun> = Api::namespaced(admin, &namespace);
    served.cluster.apply(&namespace, &run("short", &release.managed_by, 1, "results: {retain: true}")).await;
    let done = served.until(&runs, "short", "finished", finished).await;
    let results = done.status.as_ref().and_then(|status| status.results.as_ref()?.config_map.clone());
    assert!(results.is_some(), "{}", served.said(&done));
    release.uninstall(served).await;
}
