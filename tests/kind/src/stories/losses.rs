//! Agents that are taken away, on real nodes: told by their own reason, with the outcome that `failurePolicy` promises, and what is
//! counted held against what the storage holds.

use super::{lost_and_replaced, on_target, problems};
use crate::store::Store;
use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_testcluster::Runs;
use lockstep_testcluster::runs::{condition, report, run, status};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How late after it was seen a trouble may be told of: the goal of the stand-in's tests, and what a node adds.
const TELLS_WITHIN: Duration = Duration::from_secs(20);

/// A run on S3 with three agents, which measures for a while.
pub(super) async fn under_way(suite: &Suite, what: &str, policy: &Value, seconds: u32) -> Runs {
    let runs = suite.runs(what).await;
    suite.store.give_key(&runs.namespace).await;
    let target = Store::target(&runs.namespace);
    // Reads alone after prepare: what an agent puts and never tells of would be there, and in no count.
    let spec = json!({"failurePolicy": policy, "stages": [
        {"name": "prepare", "prepare": {"concurrency": 2}},
        {"name": "mixed", "execute": {
            "duration": format!("{seconds}s"), "concurrency": 2, "rate": {"operationsPerSecond": 60}, "operations": [{"op": "Get"}],
        }},
    ]});
    runs.create(on_target("run", &target, 300, seconds, &spec)).await;
    runs.in_stage("run", "mixed").await;
    runs
}

/// The end of it: every object is there once, and of the agent that was taken away is told why.
pub(super) async fn ends(
    suite: &Suite,
    runs: &Runs,
    index: u32,
    phase: &str,
    reason: &str,
    counts: (i64, i64),
) -> (BenchmarkRun, String) {
    let done = runs.finished("run").await;
    let told = problems(&done);
    assert_eq!((status(&done).phase.as_str(), lost_and_replaced(&done)), (phase, counts), "{told}");
    let measured = report(&suite.client, &done).await;
    let lost: Vec<_> = measured.timeline.iter().filter(|event| event.what == "Lost").collect();
    let is_told = lost.iter().any(|event| event.agent == Some(index));
    assert!(is_told, "the timeline tells of agent {index}: {:?}", measured.timeline);
    let said = format!("{told} {lost:?} {:?}", measured.problems);
    assert!(said.contains(reason), "{reason}: {said}");
    let row = measured
        .operations
        .iter()
        .find(|row| (row.agent, row.attempt) == (index, 0))
        .expect("a row of its own");
    assert!(!row.unaccounted.is_empty(), "what it did last is known to nobody, and that is said: {row:?}");
    let held = suite.store.holds(&runs.namespace, &measured).await;
    runs.nothing_left("run").await;
    (done, held)
}

/// Deleted: another takes its index.
pub async fn deleted(suite: &Suite) -> Found {
    let policy = json!({"mode": "BestEffort", "retryAttempts": 1, "retryDelay": "1s"});
    let runs = under_way(suite, "deleted", &policy, 20).await;
    runs.pods.delete("run-1-0", &DeleteParams::default()).await.expect("it is deleted");
    let began = Instant::now();
    runs.until("run", "replaced", |status| status.agents.as_ref().is_some_and(|agents| agents.replaced == 1))
        .await;
    let replaced = began.elapsed();
    let (done, held) = ends(suite, &runs, 1, "Partial", "PodDeleted", (0, 1)).await;
    assert_eq!(condition(&done, ConditionType::Degraded).0, Some(Truth::True));
    assert_eq!(condition(&done, ConditionType::Passed).0, Some(Truth::Unknown));
    Found::Shown(format!("Partial, replaced after {:.1} s; {held}", replaced.as_secs_f64()))
}

/// Evicted: the others go on without it.
pub async fn evicted(suite: &Suite) -> Found {
    let policy = json!({"mode": "ContinueIfMajority", "retryAttempts": 0});
    let runs = under_way(suite, "evicted", &policy, 20).await;
    runs.pods.evict("run-1-0", &EvictParams::default()).await.expect("the API evicts it");
    let (done, held) = ends(suite, &runs, 1, "Partial", "Evicted", (1, 0)).await;
    let [problem] = &status(&done).agent_problems[..] else { panic!("{}", problems(&done)) };
    assert_eq!((problem.index, problem.reason.as_str()), (1, "Evicted"), "{}", problems(&done));
    assert!(
        problem.message.contains("EvictionByEvictionAPI") && problem.message.contains("next: "),
        "{problem:?}"
    );
    Found::Shown(format!("Partial, Evicted; {held}"))
}

/// The kernel kills agents that take more memory than they may; a policy that bears no loss ends the run.
pub async fn out_of_memory(suite: &Suite) -> Found {
    let runs = suite.runs("memory").await;
    let limits = json!({"limits": {"memory": "160Mi"}});
    let spec = json!({
        // Files in memory are the container's: what is at mem:// takes none, since contents are computed.
        "target": {"uri": "file:///data", "volume": {"emptyDir": {"medium": "Memory"}}},
        "dataset": {"objects": 512, "size": {"fixed": "1Mi"}, "existing": "FillGaps", "sharing": "PerAgent"},
        "failurePolicy": {"mode": "FailFast", "retryAttempts": 0},
        "agents": {"replicas": 1, "template": {"spec": {"containers": [{"name": "agent", "resources": limits}]}}},
        "stages": [{"name": "prepare", "prepare": {"concurrency": 1}}],
    });
    runs.create(run("memory", 1_000, &spec)).await;
    let done = runs.finished("memory").await;
    let told = problems(&done);
    assert_eq!(status(&done).phase, "Failed", "{told}");
    assert!(told.contains("OOMKilled") && told.contains("next: raise resources.limits.memory"), "{told}");
    assert_eq!(condition(&done, ConditionType::Stalled).0, Some(Truth::True));
    runs.nothing_left("memory").await;
    Found::Shown("Failed, OOMKilled with the next step, under FailFast".to_owned())
}

/// Whether the agent's container waits for its image.
fn waits_for_image(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let reason = |status: &k8s_openapi::api::core::v1::ContainerStatus| status.state.clone()?.waiting?.reason;
    statuses
        .into_iter()
        .flatten()
        .filter_map(reason)
        .any(|why| ["ErrImagePull", "ImagePullBackOff"].contains(&why.as_str()))
}

/// An image that no registry has: told at once, while the run waits for somebody to push it, and in the end.
pub async fn image_missing(suite: &Suite) -> Found {
    let runs = suite.runs("image").await;
    let container = json!({"name": "agent", "image": "registry.invalid/nobody/has:1"});
    let spec = json!({
        "start": {"readyTimeout": "25s"}, "failurePolicy": {"retryAttempts": 0},
        "agents": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
    });
    let sign = async {
        runs.pod("image-0-0", "waiting for its image", waits_for_image).await;
        Instant::now()
    };
    let told = async {
        runs.create(run("image", 500, &spec)).await;
        let tells = |status: &lockstep_api::status::BenchmarkRunStatus| {
            status
                .agent_problems
                .iter()
                .any(|one| one.reason == "ImagePullFailed" && one.message.contains("next: "))
        };
        runs.until("image", "told of its image", tells).await;
        Instant::now()
    };
    let (sign, told) = tokio::join!(sign, told);
    let late = told.saturating_duration_since(sign);
    assert!(late <= TELLS_WITHIN, "told {late:?} after it was seen");
    let done = runs.finished("image").await;
    assert_eq!(condition(&done, ConditionType::Finished).1, "ReadyTimeout", "{}", problems(&done));
    let said = &status(&done).message;
    assert!(
        said.contains("registry.invalid/nobody/has:1") && said.contains("next: check the image's name"),
        "{said}"
    );
    runs.nothing_left("image").await;
    Found::Shown(format!(
        "told {:.1} s after the node said so, Failed after readyTimeout",
        late.as_secs_f64()
    ))
}
