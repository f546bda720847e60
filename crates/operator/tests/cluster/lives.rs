//! How runs end otherwise, and what is left of them then: deleted, suspended, stopped, out of time, without their operator.

use crate::space::{Space, becomes, condition, create_keys, run, space, status};
use crate::{CHART, served};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::labels;
use lockstep_testcluster::{eventually, until_gone};
use lockstep_testkit::s3::TestS3;
use serde_json::{Value, json};

/// Longer than any test waits.
const ENDLESS_MS: u32 = 300_000;

/// Whether the agents of a run, or of a whole namespace (`*`), have processes.
fn works(space: &Space, run: &str) -> bool {
    !space.served.node.processes(&format!("{}/{run}-*", space.namespace), "agent").is_empty()
}

/// Names of the ConfigMaps that bear a run's labels.
async fn maps(space: &Space, uid: &str) -> Vec<String> {
    let maps: Api<ConfigMap> = Api::namespaced(space.client.clone(), &space.namespace);
    let of_run = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    maps.list(&of_run).await.expect("ConfigMaps").iter().map(ResourceExt::name_any).collect()
}

/// Whether the last edit of a run is acknowledged.
async fn follows(space: &Space, name: &str, spec: Value) {
    let generation = space.edit(name, spec).await.metadata.generation.expect("a generation");
    let run = space
        .until(name, "up to date", |status| {
            let conditions = status.conditions.iter();
            let stale =
                conditions.filter(|one| one.observed_generation.is_none_or(|seen| seen < generation)).count();
            status.observed_generation >= generation && stale == 0
        })
        .await;
    assert_eq!(run.metadata.generation, Some(generation));
}

#[tokio::test]
async fn runs_are_over_when_their_time_is_and_when_somebody_says_so() {
    let space = &space("over").await;
    let ttl = Box::pin(async {
        space.create(run("ttl", 200, &json!({"ttlAfterFinished": "1s"}))).await;
        let uid = space.until("ttl", "seen", |_| true).await.uid().unwrap_or_default();
        until_gone(&space.runs, "ttl").await;
        becomes("without ConfigMaps", async || maps(space, &uid).await.is_empty()).await;
    });
    let deadline = Box::pin(async {
        space.create(run("deadline", ENDLESS_MS, &json!({"activeDeadline": "3s"}))).await;
        let run = space.finished("deadline").await;
        assert_eq!(condition(&run, ConditionType::Failed).1, "DeadlineExceeded", "{}", space.said(&run));
        eprintln!("deadline: {}", status(&run).message);
        assert!(status(&run).message.contains("activeDeadline") && status(&run).message.contains("next: "));
        space.nothing_left("deadline").await;
    });
    let mem = |more: Value| {
        let mut spec = json!({
            "target": {"uri": "mem://"}, "dataset": {"sharing": "PerAgent", "existing": "FillGaps"},
            "stages": [
                {"name": "prepare", "prepare": {"concurrency": 2}},
                {"name": "load", "execute": {"duration": "300s", "rate": {"operationsPerSecond": 100}, "operations": [{"op": "Get"}]}},
                {"name": "cleanup", "cleanup": {"concurrency": 2}, "runOn": "Always"},
            ],
        });
        spec["agents"] = more;
        spec
    };
    let stopped = async |name: &str, mode: &str, cleanup: &str| {
        space.create(run(name, 0, &mem(json!({"replicas": 1})))).await;
        space.measuring(name).await;
        space.edit(name, json!({"stop": {"mode": mode, "reason": "lunch"}})).await;
        let run = space.finished(name).await;
        eprintln!("{name}: {}", status(&run).message);
        assert_eq!(status(&run).phase, "Aborted", "{}", space.said(&run));
        let stage = status(&run).stages.iter().find(|stage| stage.name == "cleanup").expect("a stage");
        assert_eq!(stage.state, cleanup, "{}", space.said(&run));
        space.nothing_left(name).await;
    };
    let hardened = Box::pin(async {
        let mut spec = json!({"agents": {"template": {"spec": {"nodeSelector": {"nowhere": "1"}}}}});
        spec["suspend"] = json!(true);
        space.create(run("early", 300, &spec)).await;
        space.until("early", "held", |status| status.phase == "Suspended").await;
        follows(space, "early", json!({"ttlAfterFinished": "1h"})).await;
        space.edit("early", json!({"suspend": false})).await;
        space.until("early", "without room", |status| status.message.contains("nodes are available")).await;
        space.edit("early", json!({"stop": {"mode": "Graceful", "reason": "lunch"}})).await;
        let run = space.finished("early").await;
        eprintln!("early: {}", status(&run).message);
        assert_eq!(condition(&run, ConditionType::Finished).1, "Aborted", "{}", space.said(&run));
        assert!(status(&run).message.contains("before it began: lunch"), "{}", status(&run).message);
        // An end is acknowledged once more when somebody edits what is over.
        follows(space, "early", json!({"stop": {"mode": "Immediate", "reason": "lunch"}})).await;
        space.nothing_left("early").await;
    });
    tokio::join!(
        ttl,
        deadline,
        stopped("graceful", "Graceful", "Done"),
        stopped("hard", "Immediate", "Skipped"),
        hardened
    );
}

#[tokio::test]
async fn a_run_that_is_suspended_keeps_what_it_has_and_begins_anew() {
    let space = &space("suspend").await;
    space.create(run("pause", ENDLESS_MS, &json!({}))).await;
    space.measuring("pause").await;
    space.edit("pause", json!({"suspend": true})).await;
    let held =
        space.until("pause", "held", |status| status.phase == "Suspended" && status.results.is_some()).await;
    eprintln!("pause: {}", status(&held).message);
    assert_eq!(condition(&held, ConditionType::Suspended).0, Some(Truth::True), "{}", space.said(&held));
    assert_eq!(condition(&held, ConditionType::Finished).0, None, "{}", space.said(&held));
    space.nothing_left("pause").await;
    let kept =
        status(&held).results.as_ref().and_then(|results| results.config_map.clone()).expect("a ConfigMap");
    let all: Api<ConfigMap> = Api::namespaced(space.client.clone(), &space.namespace);
    let before = all.get(&kept).await.expect("what was measured is kept");
    follows(space, "pause", json!({"ttlAfterFinished": "1h"})).await;
    let said = space.served.cluster.gitops(&[space.runs.get("pause").await.expect("it is there")]).await;
    assert_eq!(
        (said[0].argocd.status.as_str(), said[0].flux.as_str()),
        ("Suspended", "InProgress"),
        "{said:?}"
    );

    space.edit("pause", json!({"suspend": false})).await;
    let again = space
        .until("pause", "in its second attempt", |status| status.attempt == 2 && status.phase == "Running")
        .await;
    assert_eq!(condition(&again, ConditionType::Suspended), (Some(Truth::False), "Resumed".to_owned()));
    space.edit("pause", json!({"stop": {"mode": "Immediate"}})).await;
    let over = space.finished("pause").await;
    assert_eq!(
        (status(&over).phase.as_str(), status(&over).attempt),
        ("Aborted", 2),
        "{}",
        space.said(&over)
    );
    assert_eq!(
        condition(&over, ConditionType::ResultsPublished).0,
        Some(Truth::True),
        "{}",
        space.said(&over)
    );
    let second = status(&over).results.as_ref().and_then(|results| results.config_map.clone());
    assert!(second.is_some_and(|second| second != kept), "{}", space.said(&over));
    assert_eq!(all.get(&kept).await.expect("it is still there"), before);
}

#[tokio::test]
async fn pods_stay_by_their_policy() {
    let space = &space("policy").await;
    let play = async |name: &str, policy: &str, fails: bool, stays: bool| {
        let mut spec = json!({"agents": {"replicas": 1, "cleanupPolicy": policy}});
        if fails {
            spec["agents"]["template"] =
                json!({"spec": {"containers": [{"name": "agent", "image": "broken:test"}]}});
            spec["failurePolicy"] = json!({"mode": "FailFast", "retryAttempts": 0});
        }
        space.create(run(name, 200, &spec)).await;
        let run = space.finished(name).await;
        assert_eq!(status(&run).phase, if fails { "Failed" } else { "Succeeded" }, "{}", space.said(&run));
        let pod = format!("{name}-0-0");
        if stays {
            // Nothing is left to do for the run, so nobody will come for its pod.
            let free =
                |run: Option<&lockstep_api::BenchmarkRun>| run.is_some_and(|run| run.finalizers().is_empty());
            space.served.until(&space.runs, name, "free", free).await;
            let pod: Pod = space.pods.get(&pod).await.expect("it stays");
            assert_eq!(pod.metadata.deletion_timestamp, None);
            // The policy may be changed when the run is over.
            follows(space, name, json!({"agents": {"cleanupPolicy": "Always"}})).await;
        }
        until_gone(&space.pods, &pod).await;
    };
    tokio::join!(
        play("always", "Always", true, false),
        play("good", "OnSuccess", false, false),
        play("bad", "OnSuccess", true, true),
        play("never", "Never", false, true),
    );
}

#[tokio::test]
async fn a_run_that_is_deleted_takes_its_agents_along_however_it_is_deleted() {
    let space = &space("deleted").await;
    create_keys(space.client.clone(), &space.namespace).await;
    let delete = async |name: &str, cascade: &str| {
        let server = TestS3::start();
        let spec = json!({
            "target": {
                "uri": "s3://bench/it", "endpoints": [server.endpoint()], "credentials": {"secretName": "keys"},
            },
            "dataset": {"objects": 50, "size": {"fixed": "1Ki"}, "existing": "FillGaps"},
            "stages": [
                {"name": "prepare", "prepare": {"concurrency": 2}},
                {"name": "load", "execute": {
                    "duration": "300s", "rate": {"operationsPerSecond": 20}, "operations": [{"op": "Get"}],
                }},
                {"name": "cleanup", "cleanup": {"concurrency": 1}, "runOn": "Always"},
            ],
        });
        space.create(run(name, ENDLESS_MS, &spec)).await;
        let uid = space.measuring(name).await.uid().unwrap_or_default();
        assert!(works(space, name));
        let cascade = format!("--cascade={cascade}");
        let delete = ["delete", "brun", name, "-n", &space.namespace, &cascade, "--timeout=60s"];
        space.served.cluster.kubectl(&delete).await.expect_code(0);
        assert!(!works(space, name), "{name}: it went before its agents");
        // They have cleaned up before they went, unless it was Kubernetes that was asked to delete them first.
        assert_eq!(server.data("PUT"), 50, "{name}");
        if name != "foreground" {
            assert_eq!(server.data("DELETE"), 50, "{name}");
        }
        let of_run = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
        becomes("without pods", async || space.pods.list(&of_run).await.expect("pods").items.is_empty())
            .await;
        becomes("without the CA", async || {
            maps(space, &uid).await.iter().all(|map| map.contains("-results"))
        })
        .await;
    };
    let namespace = Box::pin(async {
        let space = &crate::space::space("going").await;
        space.create(run("going", ENDLESS_MS, &json!({}))).await;
        space.measuring("going").await;
        let delete = ["delete", "namespace", &space.namespace, "--wait=false"];
        space.served.cluster.kubectl(&delete).await.expect_code(0);
        until_gone(&space.runs, "going").await;
        let namespaces: Api<Namespace> = Api::all(space.client.clone());
        until_gone(&namespaces, &space.namespace).await;
        assert!(!works(space, "going"));
    });
    tokio::join!(
        delete("background", "background"),
        delete("foreground", "foreground"),
        delete("orphan", "orphan"),
        namespace
    );
}

/// An installation of its own, whose operator may be taken away.
struct Own {
    home: String,
    managed_by: String,
}

impl Own {
    async fn install() -> Self {
        let served = served().await;
        let home = served.cluster.namespace("own").await;
        let managed_by = format!("{home}.example.com/operator");
        let managed = format!("operator.managedBy={managed_by}");
        let install = ["install", "lockstep", CHART, "-n", &home, "--wait", "--set", "image.tag=test"];
        let more = ["--set", "crds.install=false", "--set", &managed];
        served.cluster.helm(&[&install[..], &more[..]].concat()).await.expect_code(0);
        Self { home, managed_by }
    }

    /// Takes the operator away, or brings it back.
    async fn scale(&self, replicas: u32) {
        let served = served().await;
        let replicas_arg = format!("--replicas={replicas}");
        let scale = ["scale", "deployment", "--all", "-n", &self.home, &replicas_arg];
        served.cluster.kubectl(&scale).await.expect_code(0);
        let pattern = format!("{}/*", self.home);
        eventually("scaled", || served.node.processes(&pattern, "operator").len() == replicas as usize).await;
    }
}

#[tokio::test]
async fn runs_without_their_operator_wait_for_it_and_their_pods_end_by_themselves() {
    let (own, space) = (&Own::install().await, &space("alone").await);
    let ours = |mut more: Value| {
        more["managedBy"] = json!(own.managed_by);
        more["failurePolicy"] = json!({"reconnectGrace": "2s", "orphanGrace": "2s"});
        more
    };
    for name in ["plain", "orphan"] {
        space.create(run(name, ENDLESS_MS, &ours(json!({})))).await;
    }
    space.create(run("kept", 200, &ours(json!({"agents": {"cleanupPolicy": "Never"}})))).await;
    let kept = space.finished("kept").await.uid().unwrap_or_default();
    for name in ["plain", "orphan"] {
        space.measuring(name).await;
    }
    own.scale(0).await;
    // Gone for good: the agents end by themselves, and say why.
    for name in ["plain", "orphan"] {
        eventually("ended", || !works(space, name)).await;
        let failed =
            |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
        space.pod(&format!("{name}-0-0"), "over", failed).await;
    }
    for (name, cascade) in [("plain", "background"), ("orphan", "orphan"), ("kept", "orphan")] {
        let cascade = format!("--cascade={cascade}");
        let delete = ["delete", "brun", name, "-n", &space.namespace, "--wait=false", &cascade];
        space.served.cluster.kubectl(&delete).await.expect_code(0);
    }
    // What was finished is held by nobody; what lived waits for its operator.
    until_gone(&space.runs, "kept").await;
    for name in ["plain", "orphan"] {
        let waiting = space.runs.get(name).await.expect("its finalizer holds it");
        assert!(waiting.metadata.deletion_timestamp.is_some());
        assert_eq!(waiting.finalizers(), [labels::FINALIZER], "{name}");
    }
    own.scale(1).await;
    for name in ["plain", "orphan"] {
        until_gone(&space.runs, name).await;
    }
    // Pods that lost their run and their owner are somebody's all the same.
    becomes("without pods", async || {
        space.pods.list(&ListParams::default()).await.expect("pods").items.is_empty()
    })
    .await;
    assert!(maps(space, &kept).await.iter().all(|map| map.contains("-results")));
    let uninstall = ["uninstall", "lockstep", "-n", &own.home, "--wait"];
    space.served.cluster.helm(&uninstall).await.expect_code(0);
}
