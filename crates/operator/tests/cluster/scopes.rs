//! Whom an installation serves, and whom it cannot even see.

use crate::chart::{Release, measuring, run};
use crate::space::becomes;
use crate::{Served, finished, served, truth};
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_testcluster::{Caller, LIMIT, PodSecurity, until_gone};
use std::collections::BTreeSet;
use std::time::Instant;

/// What somebody may in a namespace, as `verb resource`, beyond what everybody may: ask about himself.
pub(crate) async fn rights(served: &Served, caller: &Caller, namespace: &str) -> BTreeSet<String> {
    let reviews: Api<SelfSubjectRulesReview> = Api::all(served.cluster.client_as(caller).await);
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
        ..SelfSubjectRulesReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await.expect("everybody may ask");
    let rules = answer.status.expect("an answer").resource_rules;
    let mut rights = BTreeSet::new();
    for rule in &rules {
        for resource in
            rule.resources.iter().flatten().filter(|resource| !resource.starts_with("selfsubject"))
        {
            rights.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    rights
}

#[tokio::test]
async fn an_installation_serves_the_namespaces_of_its_list_and_may_nothing_in_others() {
    let served = served().await;
    let (home, one, other) = tokio::join!(
        served.cluster.namespace("home"),
        served.cluster.namespace("perf"),
        served.cluster.namespace("perf")
    );
    let outside = served.cluster.namespace("outside").await;
    let list = format!("watchNamespaces=[\"{one}\",\"{other}\"]");
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/list", &[&list]).await;
    for namespace in [&one, &other, &outside] {
        served.cluster.apply(namespace, &run("short", &release.managed_by, 1, "")).await;
    }
    let client = served.cluster.client().await;
    for namespace in [&one, &other] {
        let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), namespace);
        let run = served.until(&runs, "short", "finished", finished).await;
        assert_eq!(run.status.and_then(|status| status.controller), Some(release.claim()));
    }
    let outside_runs: Api<BenchmarkRun> = Api::namespaced(client, &outside);
    let untouched = outside_runs.get("short").await.expect("a run").status;
    assert!(untouched.is_none_or(|status| status.controller.is_none() && status.conditions.is_empty()));

    let account = release.account();
    assert_eq!(
        rights(served, &account, &outside).await,
        BTreeSet::from(["create tokenreviews".to_owned()]),
        "only whose token it is"
    );
    assert!(rights(served, &account, &one).await.contains("create pods"));
    assert!(!rights(served, &account, &home).await.contains("create pods"));
    release.uninstall(served).await;
}

#[tokio::test]
async fn helm_refuses_a_second_installation_of_the_same_runs() {
    let served = served().await;
    let home = served.cluster.namespace("rival").await;
    let rival = Release { home, managed_by: "lockstep.dev/operator".to_owned() };
    let ended = rival.helm(served, &Caller::Admin, "install", &[]).await;
    let said = ended.stderr;
    assert!(ended.code != 0 && said.contains("lockstep:lockstep.dev:operator"), "{said}");
}

#[tokio::test]
async fn a_run_that_two_installations_serve_has_one_owner() {
    let served = served().await;
    let namespace = served.cluster.namespace("both").await;
    // By its list, beside the one that serves all: helm cannot see that they meet.
    let list = format!("watchNamespaces=[\"{namespace}\"]");
    let managed_by = "lockstep.dev/operator";
    let release = Release::install(served, &Caller::Admin, &namespace, managed_by, &[&list]).await;
    let runs: Vec<String> = (0..4).map(|index| run(&format!("run-{index}"), managed_by, 1, "")).collect();
    served.cluster.apply(&namespace, &runs.concat()).await;
    let api: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    let claims = [release.claim(), format!("{}/lockstep", served.home)];
    for index in 0..4 {
        let name = format!("run-{index}");
        let run = served.until(&api, &name, "finished", finished).await;
        let status = run.status.as_ref().expect("a status");
        let owner = status.controller.clone().expect("an owner");
        assert!(claims.contains(&owner) && status.phase == "Succeeded", "{}", served.said(&run));
        // Whoever it is: the other one wrote nothing of it but a claim that came too late.
        let other = claims.iter().find(|claim| **claim != owner).expect("two").replace('/', ":");
        let wrote = served.cluster.audit().into_iter().filter(|entry| {
            entry.user == format!("system:serviceaccount:{other}")
                && entry.namespace == namespace
                && entry.name.starts_with(&name)
                && entry.is_write()
                && entry.code < 300
        });
        assert_eq!(wrote.collect::<Vec<_>>(), [], "{owner} has it");
    }
    release.uninstall(served).await;
}

/// The admin of a namespace, who may nothing elsewhere, as soon as the roles of the chart have come to be part of his.
pub(crate) async fn admin_of(served: &Served, name: &str, namespace: &str) -> Caller {
    let binding = ["create", "rolebinding", name, "--clusterrole=admin", "-n", namespace, "--user", name];
    served.cluster.kubectl(&binding).await.expect_code(0);
    let caller = Caller::user(name);
    let end = Instant::now() + LIMIT;
    while !rights(served, &caller, namespace).await.contains("patch benchmarkruns/status") {
        assert!(Instant::now() < end, "the role `admin` never has the rules of the chart");
    }
    caller
}

#[tokio::test]
async fn admins_of_a_namespace_each_install_an_operator_that_sees_nothing_else() {
    let served = served().await;
    let (one, other) = tokio::join!(
        served.cluster.namespace_with("ann", PodSecurity::Restricted),
        served.cluster.namespace_with("bob", PodSecurity::Restricted)
    );
    let (ann, bob) = tokio::join!(admin_of(served, "ann", &one), admin_of(served, "bob", &other));
    // The same release, twice, each by the one who may nothing elsewhere; nothing of the cluster's is touched by default.
    let (managed_by, values) =
        ("lab.example/each", ["scope=namespace", "crds.install=auto", "crds.roles=auto"]);
    let (first, second) = tokio::join!(
        Release::install(served, &ann, &one, managed_by, &values),
        Release::install(served, &bob, &other, managed_by, &values)
    );
    let client = served.cluster.client().await;
    for (release, namespace) in [(&first, &one), (&second, &other)] {
        served.cluster.apply(namespace, &run("short", managed_by, 1, "agents: {replicas: 2}")).await;
        let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), namespace);
        let run = served.until(&runs, "short", "finished", finished).await;
        let status = run.status.as_ref().expect("a status");
        assert_eq!(status.phase, "Succeeded", "{}", served.said(&run));
        assert_eq!(status.controller, Some(release.claim()));
    }
    for (release, elsewhere) in [(&first, &other), (&second, &one)] {
        let account = release.account();
        assert_eq!(rights(served, &account, elsewhere).await, BTreeSet::new(), "nothing outside");
        assert!(rights(served, &account, &release.home).await.contains("create pods"));
        let user = format!("system:serviceaccount:{}:lockstep", release.home);
        let strays = served.cluster.audit().into_iter().filter(|entry| {
            // But for what this test asked in its name.
            let own = entry.resource.starts_with("selfsubject");
            entry.user == user && !entry.resource.is_empty() && !own && entry.namespace != release.home
        });
        assert_eq!(strays.collect::<Vec<_>>(), [], "it does not even ask");
    }
    let gone = ["uninstall", "lockstep", "-n", &one, "--wait"];
    served.cluster.helm_as(&ann, &gone).await.expect_code(0);
    second.uninstall(served).await;
}

/// Helm changes the operator under a run, and changes it back.
#[tokio::test]
async fn a_run_goes_on_while_its_release_is_upgraded_and_rolled_back() {
    let served = served().await;
    let home = served.cluster.namespace("moves").await;
    let namespace = served.cluster.namespace("perf").await;
    let watched = format!("watchNamespaces=[\"{namespace}\"]");
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/moves", &[&watched]).await;
    served.cluster.apply(&namespace, &run("flight", &release.managed_by, 25, "agents: {replicas: 2}")).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    served.until(&runs, "flight", "measuring", measuring).await;
    // Another log filter is another pod of the operator.
    let changed = [watched.as_str(), "operator.log=debug"];
    release.helm(served, &Caller::Admin, "upgrade", &changed).await.expect_code(0);
    served.cluster.helm(&["rollback", "lockstep", "-n", &home, "--wait"]).await.expect_code(0);
    let done = served.until(&runs, "flight", "finished", finished).await;
    let status = done.status.as_ref().expect("a status");
    assert_eq!(status.phase, "Succeeded", "{}", served.said(&done));
    assert_eq!(status.agents.as_ref().map(|agents| agents.replaced), Some(0), "{}", served.said(&done));
    release.uninstall(served).await;
}

/// An operator of its own for a namespace, installed by its admin, with one run that is over and one that measures.
async fn own_operator(served: &Served, user: &str, managed_by: &str) -> (Release, Caller, Api<BenchmarkRun>) {
    let home = served.cluster.namespace_with("own", PodSecurity::Restricted).await;
    let admin = admin_of(served, user, &home).await;
    let values = ["scope=namespace", "crds.install=auto", "crds.roles=auto"];
    let release = Release::install(served, &admin, &home, managed_by, &values).await;
    let policy = "failurePolicy: {reconnectGrace: 2s, orphanGrace: 3s}";
    let both = run("done", managed_by, 1, "") + &run("going", managed_by, 600, policy);
    served.cluster.apply(&home, &both).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &home);
    served.until(&runs, "done", "finished", finished).await;
    served.until(&runs, "going", "measuring", measuring).await;
    (release, admin, runs)
}

/// Runs outlive their release in one namespace as they do in many; its agents end by themselves.
#[tokio::test]
async fn an_admin_of_a_namespace_uninstalls_his_operator_and_removes_what_is_left() {
    let served = served().await;
    let (release, admin, runs) = own_operator(served, "carol", "lab.example/parts").await;
    let gone = ["uninstall", "lockstep", "-n", &release.home, "--wait"];
    served.cluster.helm_as(&admin, &gone).await.expect_code(0);
    let pattern = format!("{}/going-*", release.home);
    becomes("without agents", async || served.node.processes(&pattern, "agent").is_empty()).await;
    let done = runs.get("done").await.expect("it stays");
    assert_eq!(truth(&done, ConditionType::Complete), Some(Truth::True));
    // By the rights of an admin of the namespace: what docs/installing.md says.
    let client = served.cluster.client_as(&admin).await;
    let his: Api<BenchmarkRun> = Api::namespaced(client, &release.home);
    for name in ["done", "going"] {
        his.delete(name, &DeleteParams::default()).await.expect("he may");
    }
    let free = kube::api::Patch::Merge(serde_json::json!({"metadata": {"finalizers": null}}));
    his.patch("going", &kube::api::PatchParams::default(), &free).await.expect("he may");
    for name in ["done", "going"] {
        until_gone(&runs, name).await;
    }
    let pods: Api<Pod> = Api::namespaced(served.cluster.client().await, &release.home);
    for pod in pods.list(&ListParams::default()).await.expect("pods") {
        until_gone(&pods, &pod.name_any()).await;
    }
}

/// The operator goes with its namespace, and lets its runs go before.
#[tokio::test]
async fn a_namespace_goes_with_its_own_operator_and_a_run_under_way() {
    let served = served().await;
    let (release, _, runs) = own_operator(served, "dave", "lab.example/going").await;
    let began = Instant::now();
    let delete = ["delete", "namespace", &release.home, "--wait=false"];
    served.cluster.kubectl(&delete).await.expect_code(0);
    until_gone(&runs, "going").await;
    let namespaces: Api<Namespace> = Api::all(served.cluster.client().await);
    until_gone(&namespaces, &release.home).await;
    eprintln!("the namespace is gone after {:?}", began.elapsed());
    let pattern = format!("{}/*", release.home);
    assert!(served.node.processes(&pattern, "agent").is_empty());
    assert!(served.node.processes(&pattern, "operator").is_empty());
}
