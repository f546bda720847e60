//! Operators that are restarted, deleted and renewed, with runs in flight.

use super::{lost_and_replaced, on_target, problems};
use crate::store::Store;
use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use lockstep_api::BenchmarkRun;
use lockstep_core::results::Report;
use lockstep_core::results::part::PartState;
use lockstep_testcluster::runs::{report, run, status};
use lockstep_testcluster::{Runs, until_within};
use serde_json::json;
use std::time::{Duration, Instant};

const OPERATORS: &str = "app.kubernetes.io/name=lockstep,app.kubernetes.io/component=operator";

/// A run that nothing happened to but the loss of its operator.
async fn unharmed(suite: &Suite, runs: &Runs, name: &str) -> (BenchmarkRun, Report) {
    let done = runs.finished(name).await;
    assert_eq!(status(&done).phase, "Succeeded", "{}", problems(&done));
    assert_eq!(lost_and_replaced(&done), (0, 0), "{}", problems(&done));
    let measured = report(&suite.client, &done).await;
    for stage in measured.stages.iter().filter(|stage| stage.kind != "preflight") {
        // An operator that goes in the countdown lets some begin late, which costs only what has a window.
        let late =
            |state: &PartState| matches!(state, PartState::Partial { reason } if reason == "joined late");
        let whole = stage
            .agents
            .iter()
            .filter(|row| row.state == PartState::Complete || (stage.kind != "execute" && late(&row.state)));
        assert_eq!(whole.count(), stage.agents_planned as usize, "{}: {:?}", stage.name, stage.agents);
        assert_eq!(stage.repeated_operations, 0, "{}", stage.name);
    }
    (done, measured)
}

/// One replica, whose pod is deleted as soon as each phase is seen; another takes its place, and the run goes on.
pub async fn deleted_in_each_phase(suite: &Suite) -> Found {
    const PHASES: [&str; 5] = ["Scheduling", "Preparing", "Running", "CleaningUp", "Collecting"];
    let runs = suite.runs("phases").await;
    suite.store.give_key(&runs.namespace).await;
    let release = suite.release(&[&runs.namespace], &["replicas=1"]).await;
    let operators: Api<Pod> = Api::namespaced(suite.client.clone(), &release.home);
    let spec = json!({
        "managedBy": release.managed_by,
        // Long enough for an operator to come back in each of them.
        "stages": [
            {"name": "prepare", "prepare": {"concurrency": 1}},
            {"name": "mixed", "execute": {
                "duration": "15s", "rate": {"operationsPerSecond": 60},
                "operations": [{"op": "Get", "weight": 3}, {"op": "Put", "size": {"fixed": "4Ki"}}],
            }},
            {"name": "cleanup", "cleanup": {"concurrency": 1}, "runOn": "Always"},
        ],
    });
    runs.create(on_target("run", &Store::target(&runs.namespace), 3_000, 15, &spec)).await;
    let mut met = Vec::new();
    for phase in PHASES {
        let at = runs
            .until("run", &format!("in phase {phase}, or past it"), |status| {
                let order = |name: &str| PHASES.iter().position(|one| *one == name);
                status.completion_time.is_some() || order(&status.phase) >= order(phase)
            })
            .await;
        if status(&at).phase != phase {
            continue;
        }
        met.push(phase);
        if phase == "Running" {
            runs.in_stage("run", "mixed").await;
        }
        for pod in operators.list(&ListParams::default().labels(OPERATORS)).await.expect("operators") {
            let _ = operators.delete(&pod.name_any(), &DeleteParams::default()).await;
        }
    }
    assert!(met.len() >= 4, "the run was met in {met:?} only");
    let (done, measured) = unharmed(suite, &runs, "run").await;
    let changes = measured.timeline.iter().filter(|event| event.what == "CoordinatorChanged").count();
    assert!(changes >= 2, "{:?}", measured.timeline);
    let left = suite.store.objects(&runs.namespace).await;
    assert!(left.is_empty(), "cleanup leaves {left:?}");
    runs.nothing_left("run").await;
    Found::Shown(format!(
        "in {}: Succeeded, epoch {}, nothing done twice",
        met.join(", "),
        status(&done).epoch
    ))
}

/// `kubectl rollout restart` of both replicas, with a run in flight.
pub async fn restarted(suite: &Suite) -> Found {
    let runs = suite.runs("rollout").await;
    suite.store.give_key(&runs.namespace).await;
    let release = suite.release(&[&runs.namespace], &["replicas=2"]).await;
    let spec = json!({"managedBy": release.managed_by});
    runs.create(on_target("run", &Store::target(&runs.namespace), 200, 25, &spec)).await;
    let before = runs.in_stage("run", "mixed").await;
    let began = Instant::now();
    suite.kubectl(&["rollout", "restart", "deployment/lockstep", "-n", &release.home]).await;
    let done = ["rollout", "status", "deployment/lockstep", "-n", &release.home, "--timeout=120s"];
    suite.kubectl(&done).await;
    let took = began.elapsed();
    let still = runs.runs.get("run").await.expect("the run");
    assert_eq!(status(&still).phase, "Running", "it happened under the run");
    let (done, measured) = unharmed(suite, &runs, "run").await;
    assert!(status(&done).epoch > status(&before).epoch, "somebody else leads now");
    let held = suite.store.holds(&runs.namespace, &measured).await;
    runs.nothing_left("run").await;
    Found::Shown(format!("Succeeded; both replicas replaced in {:.0} s; {held}", took.as_secs_f64()))
}

/// The certificate authority of an operator whose certificates hold for half a minute, while a run lasts longer.
pub async fn authority_changed(suite: &Suite) -> Found {
    let runs = suite.runs("authority").await;
    let values = ["certificates.authoritySeconds=40", "certificates.servingSeconds=20", "replicas=2"];
    let release = suite.release(&[&runs.namespace], &values).await;
    let secrets: Api<Secret> = Api::namespaced(suite.client.clone(), &release.home);
    let of = |secret: &Secret, name: &str| {
        secret.data.as_ref()?.get(name).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
    };
    let spec = json!({"managedBy": release.managed_by, "agents": {"replicas": 3}});
    runs.create(run("long", 75_000, &spec)).await;
    runs.measuring("long").await;
    let before = secrets.get("lockstep-ca").await.expect("the Secret");
    let old = of(&before, "ca.crt").expect("an authority");
    let changed =
        |secret: Option<&Secret>| secret.and_then(|one| of(one, "ca.crt")).is_some_and(|now| now != old);
    let began = Instant::now();
    until_within(&secrets, "lockstep-ca", "changed", runs.limit, changed).await;
    let took = began.elapsed();
    let still = runs.runs.get("long").await.expect("the run");
    assert_eq!(status(&still).phase, "Running", "it changed under the run");
    let (_, measured) = unharmed(suite, &runs, "long").await;
    let reconnects: Vec<u64> =
        measured.stages.iter().flat_map(|stage| &stage.agents).map(|row| row.network.reconnects).collect();
    assert!(reconnects.iter().all(|count| *count == 0), "sessions were dropped: {reconnects:?}");
    // Who comes now trusts the new one.
    let spec = json!({"managedBy": release.managed_by});
    runs.create(run("after", 500, &spec)).await;
    unharmed(suite, &runs, "after").await;
    Found::Shown(format!(
        "changed {:.0} s into the run, no session noticed, and the next run trusts it",
        took.as_secs_f64()
    ))
}

/// Tokens hold for ten minutes, the least that there is; the kubelet renews them, and a run of twelve minutes never notices.
pub async fn tokens_renewed(suite: &Suite) -> Found {
    const RUN: Duration = Duration::from_secs(720);
    let runs = suite.runs("tokens").await;
    let release = suite.release(&[&runs.namespace], &["agent.tokenSeconds=600"]).await;
    let spec = json!({"managedBy": release.managed_by, "activeDeadline": "30m"});
    runs.create(run("long", u32::try_from(RUN.as_millis()).expect("milliseconds"), &spec)).await;
    runs.measuring("long").await;
    let runs = runs.within(RUN + Duration::from_secs(120));
    let (_, measured) = unharmed(suite, &runs, "long").await;
    assert!(measured.timeline.iter().all(|event| event.what != "Disconnected"), "{:?}", measured.timeline);
    Found::Shown("tokens of 10 min, a run of 12: Succeeded, never disconnected".to_owned())
}
