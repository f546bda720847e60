//! What goes wrong before anything is shown: in four parts, and with the right that is missing.

use crate::runs::manifest;
use crate::{finished, served};
use kube::api::Api;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{Caller, Person};

/// Whoever may look at runs, stop them, and read their reports: nothing else.
fn role(user: &str) -> String {
    format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: looks-at-runs}}
rules:
  - {{apiGroups: [lockstep.dev], resources: [benchmarkruns], verbs: [get, watch, patch]}}
  - {{apiGroups: [''], resources: [configmaps], verbs: [get]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: looks-at-runs}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: looks-at-runs}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]
"
    )
}

#[tokio::test]
async fn get_watch_and_patch_of_runs_and_get_of_the_report_are_enough() {
    let served = served().await;
    let namespace = served.cluster.namespace("perf").await;
    served.cluster.apply(&namespace, &role("reader")).await;
    served.cluster.apply(&namespace, &manifest("short", 1, "")).await;
    let reader = served.cluster.person(served.cluster.kubeconfig_as(&Caller::user("reader")).await);
    let nobody = served.cluster.person(served.cluster.kubeconfig_as(&Caller::user("nobody")).await);
    let of = |person: &Person| {
        let (person, namespace) = (person.clone(), namespace.clone());
        async move |args: &[&str]| person.lockstep(&[args, &["-n", &namespace]].concat()).await
    };
    let (reads, may_not) = (of(&reader), of(&nobody));
    reads(&["watch", "short", "--quiet"]).await.expect_code(0);
    reads(&["get", "short"]).await.expect_code(0);
    reads(&["report", "short"]).await.expect_code(0);
    let list = reads(&["get"]).await;
    for part in [
        "you may not list benchmarkruns in namespace",
        "lacks the verb list",
        "kubectl auth can-i list benchmarkruns.lockstep.dev",
    ] {
        assert!(list.code == 5 && list.stderr.contains(part), "{part}: {}", list.stderr);
    }
    served.cluster.apply(&namespace, &manifest("longer", 300, "")).await;
    reads(&["stop", "longer", "--immediate", "--wait"]).await.expect_code(0);
    for args in [&["get", "short"][..], &["watch", "short"], &["report", "short"], &["stop", "short"]] {
        let refused = may_not(args).await;
        assert!(
            refused.code == 5 && refused.stderr.contains("you may not get benchmarkruns short"),
            "{}",
            refused.stderr
        );
    }
}

#[tokio::test]
async fn a_name_that_is_nearly_right_is_asked_about() {
    let served = served().await;
    let person = served.cluster.admin();
    let namespace = served.cluster.namespace("perf").await;
    let elsewhere = served.cluster.namespace("other").await;
    served.cluster.apply(&namespace, &manifest("nightly", 1, "suspend: true")).await;
    served.cluster.apply(&elsewhere, &manifest("weekly-tree", 1, "suspend: true")).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &namespace);
    let held = |run: Option<&BenchmarkRun>| {
        run.is_some_and(|run| {
            !finished(Some(run)) && run.status.as_ref().is_some_and(|status| status.phase == "Suspended")
        })
    };
    served.until(&runs, "nightly", "held", held).await;
    for (name, says) in [
        ("nighly", "nightly was meant".to_owned()),
        ("weekly-tree", format!("it is in namespace {elsewhere}")),
        ("nonsense", "it was deleted".to_owned()),
    ] {
        let missing = person.lockstep(&["watch", name, "-n", &namespace]).await;
        assert!(missing.code == 5 && missing.stderr.contains(&says), "{says}: {}", missing.stderr);
        assert!(
            missing.stderr.contains(&format!("there is no run {name} in namespace {namespace}")),
            "{}",
            missing.stderr
        );
    }
    let empty = served.cluster.namespace("empty").await;
    let none = person.lockstep(&["get", "-n", &empty]).await;
    assert!(none.expect_code(0).stderr.contains("there are no runs"), "{}", none.stderr);
    let help = person.lockstep(&["watch", "--help"]).await;
    assert!(help.expect_code(0).stdout.contains("Usage: kubectl lockstep watch"), "{}", help.stdout);
}

#[tokio::test]
async fn without_a_cluster_it_says_what_is_missing() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("config");
    std::fs::write(&empty, "apiVersion: v1\nkind: Config\n").expect("a file");
    let nowhere = served.cluster.person(empty);
    let none = nowhere.lockstep(&["get"]).await;
    assert!(none.code == 5 && none.stderr.contains("no cluster is configured"), "{}", none.stderr);
    let context = served.cluster.admin().lockstep(&["get", "--context", "mars"]).await;
    assert!(context.code == 5 && context.stderr.contains("there is no context mars"), "{}", context.stderr);
    // Port 1 of this machine: nobody listens there.
    let text = std::fs::read_to_string(served.cluster.kubeconfig()).expect("a kubeconfig");
    let dead = directory.path().join("dead");
    std::fs::write(&dead, text.replace(&served.cluster.url(), "https://127.0.0.1:1")).expect("a file");
    let away = served.cluster.person(dead).lockstep(&["watch", "x"]).await;
    for part in
        ["the API server https://127.0.0.1:1 does not answer", "cause ", "refused", "likely ", "next "]
    {
        assert!(away.code == 4 && away.stderr.contains(part), "{part}: {}", away.stderr);
    }
}
