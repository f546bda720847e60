//! Runs that are in each other's way: for nodes, for quota, for a group; and pods with more in them than an agent.

use crate::space::{Space, condition, run, space, status};
use jiff::Timestamp;
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_testcluster::{AuditEntry, Image, LIMIT, NodeOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Of two runs that were made together the one that measures first, and the other.
async fn first_and_second<'a>(space: &Space, names: [&'a str; 2]) -> (&'a str, &'a str) {
    let [one, other] = names;
    let has_started = async |name: &str| {
        let run = space.runs.get(name).await.expect("the run");
        run.status.is_some_and(|status| {
            conditions::truth(&status.conditions, ConditionType::Started) == Some(Truth::True)
        })
    };
    // Pods that were given back are made again after a quarter of a minute, so this may take some.
    let end = Instant::now() + 3 * LIMIT;
    loop {
        if has_started(one).await {
            return (one, other);
        }
        if has_started(other).await {
            return (other, one);
        }
        assert!(Instant::now() < end, "neither of {names:?} gets its room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn began(run: &BenchmarkRun) -> Timestamp {
    let started = status(run).conditions.iter().find(|one| one.type_ == ConditionType::Started.name());
    started.expect("it started").last_transition_time.0
}

/// One of two runs measures; the other waits with this reason and says for what; then it measures too.
async fn one_after_the_other(space: &Space, names: [&str; 2], reasons: &[&str], says: &str) {
    let (first, second) = first_and_second(space, names).await;
    let waits = space
        .until(second, "waiting with a reason", |status| {
            let ready = status.conditions.iter().find(|one| one.type_ == ConditionType::AgentsReady.name());
            ready.is_some_and(|one| one.status == "False" && reasons.contains(&one.reason.as_str()))
        })
        .await;
    eprintln!("{second}: {}", status(&waits).message);
    assert!(status(&waits).message.contains(says), "{}", space.said(&waits));
    let one = space.finished(first).await;
    first_and_second(space, [second, second]).await;
    let two = space.finished(second).await;
    for run in [&one, &two] {
        assert_eq!(status(run).phase, "Succeeded", "{}", space.said(run));
    }
    let over = status(&one).completion_time.as_ref().expect("it is over").0;
    assert!(
        began(&two) >= over.saturating_sub(jiff::SignedDuration::from_secs(5)).expect("in range"),
        "they overlap"
    );
    space.nothing_left(first).await;
    space.nothing_left(second).await;
    each_pod_was_asked_to_go_once(space);
}

/// Nobody asked more often for a pod to go than there were pods of that name.
fn each_pod_was_asked_to_go_once(space: &Space) {
    let mut asked: BTreeMap<String, i64> = BTreeMap::new();
    let operator = |entry: &AuditEntry| {
        entry.user.starts_with("system:serviceaccount:") && entry.user.ends_with(":lockstep")
    };
    let entries = space.served.cluster.audit().into_iter();
    let of_pods = entries.filter(|entry| entry.resource == "pods" && entry.namespace == space.namespace);
    for entry in of_pods.filter(operator) {
        let pods = asked.entry(entry.name.clone()).or_default();
        match entry.verb.as_str() {
            "create" if entry.code == 201 && !entry.uri.contains("dryRun") => *pods -= 1,
            "delete" => *pods += 1,
            _ => {}
        }
    }
    assert!(!asked.is_empty() && asked.values().all(|more| *more <= 0), "{asked:?}");
}

#[tokio::test]
async fn two_runs_that_need_six_of_eight_slots_run_one_after_the_other() {
    let six = |more: Value| {
        let mut spec = json!({"agents": {"replicas": 6, "placement": "Any"}});
        spec["agents"]["template"] = more;
        spec
    };
    let nodes = Box::pin(async {
        let space = &space("slots").await;
        let image = Image::host().workspace_binary("lockstep-agent");
        let eight = NodeOptions::named("eight").label("only", "eight").tainted("eight").pods(8);
        let _eight = space.served.cluster.node(eight.image("lockstep:test", image)).await;
        let spec = six(json!({"spec": {
            "nodeSelector": {"only": "eight"},
            "tolerations": [{"key": "eight", "operator": "Exists", "effect": "NoSchedule"}],
        }}));
        tokio::join!(space.create(run("one", 5_000, &spec)), space.create(run("two", 5_000, &spec)));
        let reasons = ["Unschedulable", "WaitingForRoom"];
        one_after_the_other(space, ["one", "two"], &reasons, "").await;
    });
    let quota = Box::pin(async {
        let space = &space("shares").await;
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "eight"}, "spec": {"hard": {"pods": "8"}},
        });
        space.served.cluster.apply(&space.namespace, &quota.to_string()).await;
        let counted = ["wait", "--for=jsonpath={.status.hard.pods}=8", "quota/eight", "-n", &space.namespace];
        space.served.cluster.kubectl(&counted).await.expect_code(0);
        let spec = six(json!({}));
        tokio::join!(space.create(run("one", 5_000, &spec)), space.create(run("two", 5_000, &spec)));
        one_after_the_other(space, ["one", "two"], &["WaitingForQuota", "WaitingForRoom"], "").await;
    });
    let group = Box::pin(async {
        let (space, elsewhere) = (&space("group").await, &crate::space::space("group").await);
        let spec = json!({"exclusive": "ceph-lab", "agents": {"replicas": 1}});
        space.create(run("first", 6_000, &spec)).await;
        space.measuring("first").await;
        elsewhere.create(run("second", 300, &spec)).await;
        let waits = elsewhere.until("second", "waiting", |status| status.phase == "Waiting").await;
        eprintln!("second: {}", status(&waits).message);
        let says = format!("waiting for run {}/first of group ceph-lab, which is under way", space.namespace);
        assert!(status(&waits).message.contains(&says), "{}", elsewhere.said(&waits));
        assert_eq!(condition(&waits, ConditionType::AgentsReady).1, "WaitingForExclusive");
        let (one, two) = tokio::join!(space.finished("first"), elsewhere.finished("second"));
        assert_eq!((status(&one).phase.as_str(), status(&two).phase.as_str()), ("Succeeded", "Succeeded"));
        assert!(began(&two) >= status(&one).completion_time.as_ref().expect("it is over").0, "they overlap");
    });
    tokio::join!(nodes, quota, group);
}

/// A sidecar that never ends, and one that takes its time when it is asked to, hold neither a run open nor its name.
#[tokio::test]
async fn a_sidecar_holds_no_run_open_and_no_name_for_long() {
    let space = &space("sidecar").await;
    let sidecar = |script: &str| {
        let beside = json!({
            "name": "beside", "image": "lockstep:test", "command": ["sh", "-c", script],
            "securityContext": {"allowPrivilegeEscalation": false},
        });
        let spec = json!({"containers": [beside], "terminationGracePeriodSeconds": 5});
        json!({"agents": {"template": {"spec": spec}}})
    };
    let endless = Box::pin(async {
        space.create(run("endless", 300, &sidecar("exec sleep 1000"))).await;
        let run = space.finished("endless").await;
        assert_eq!(status(&run).phase, "Succeeded", "{}", space.said(&run));
        space.nothing_left("endless").await;
    });
    // Its pods are still there, going, when its name is taken again.
    let again = Box::pin(async {
        let object = run("again", 60_000, &sidecar("trap '' TERM; while :; do sleep 0.1; done"));
        space.create(object).await;
        space.measuring("again").await;
        space.delete("again").await;
        lockstep_testcluster::until_gone(&space.runs, "again").await;
        space.create(run("again", 300, &json!({}))).await;
        let run = space.finished("again").await;
        assert_eq!(status(&run).phase, "Succeeded", "{}", space.said(&run));
        space.nothing_left("again").await;
    });
    tokio::join!(endless, again);
}
