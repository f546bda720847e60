//! The life of a release: installed, tested, upgraded, rolled back, uninstalled, with runs present.

use super::{lost_and_replaced, on_target, problems};
use crate::store::Store;
use crate::suite::{Found, Suite};
use kube::ResourceExt;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_core::results::ledger::OperationsLedgerRow;
use lockstep_testcluster::runs::{condition, report, report_text, run, status};
use serde_json::json;
use std::time::Instant;

/// Each command of helm, on a release of its own, under a run.
pub async fn upgraded(suite: &Suite) -> Found {
    let runs = suite.runs("upgraded").await;
    suite.store.give_key(&runs.namespace).await;
    let began = Instant::now();
    let release = suite.release(&[&runs.namespace], &[]).await;
    let installed = began.elapsed();
    let spec = json!({"managedBy": release.managed_by});
    runs.create(on_target("flight", &Store::target(&runs.namespace), 200, 40, &spec)).await;
    runs.in_stage("flight", "mixed").await;
    // Another log filter is another pod of the operator.
    let watched = format!("watchNamespaces={{{}}}", runs.namespace);
    let began = Instant::now();
    release.helm("upgrade", &[&watched, "operator.log=debug"]).await.expect_code(0);
    let changed = began.elapsed();
    suite.person.helm(&["rollback", "lockstep", "-n", &release.home, "--wait"]).await.expect_code(0);
    let still = runs.runs.get("flight").await.expect("the run");
    assert_eq!(status(&still).phase, "Running", "both happened under the run");
    let done = runs.finished("flight").await;
    assert_eq!(
        (status(&done).phase.as_str(), lost_and_replaced(&done)),
        ("Succeeded", (0, 0)),
        "{}",
        problems(&done)
    );
    let held = suite.store.holds(&runs.namespace, &report(&suite.client, &done).await).await;
    let tested = suite.person.helm(&["test", "lockstep", "-n", &release.home, "--timeout", "3m"]).await;
    tested.expect_code(0);
    assert!(tested.stdout.contains("Succeeded"), "{}", tested.stdout);
    suite.person.helm(&["uninstall", "lockstep", "-n", &release.home, "--wait"]).await.expect_code(0);
    let kept = runs.runs.get("flight").await.expect("runs outlive their release");
    assert_eq!(condition(&kept, ConditionType::Complete).0, Some(Truth::True));
    Found::Shown(format!(
        "install {:.0} s, upgrade {:.0} s, test {:.0} s; the run Succeeded, none lost; {held}",
        installed.as_secs_f64(),
        changed.as_secs_f64(),
        tested.took.as_secs_f64()
    ))
}

/// A release goes, with one run over and one under way, and comes again, with an authority that the agents do not know: what was
/// measured stays, and the run under way comes to the end that its policy promises.
pub async fn reinstalled(suite: &Suite) -> Found {
    let runs = suite.runs("reinstalled").await;
    let release = suite.release(&[&runs.namespace], &[]).await;
    runs.create(run("over", 1_000, &json!({"managedBy": release.managed_by}))).await;
    let over = runs.finished("over").await;
    let measured = report_text(&suite.client, &over).await;
    let spec = json!({"managedBy": release.managed_by, "failurePolicy": {
        "mode": "BestEffort", "reconnectGrace": "5s", "orphanGrace": "10s", "retryAttempts": 1, "retryDelay": "1s",
    }});
    runs.create(run("flight", 40_000, &spec)).await;
    runs.measuring("flight").await;
    suite.person.helm(&["uninstall", "lockstep", "-n", &release.home, "--wait"]).await.expect_code(0);
    let orphan = runs.runs.get("flight").await.expect("the run under way");
    assert!(
        !orphan.finalizers().is_empty() && orphan.metadata.deletion_timestamp.is_none(),
        "its agents may live"
    );
    let watched = format!("watchNamespaces={{{}}}", runs.namespace);
    release.helm("install", &[&watched]).await.expect_code(0);
    let done = runs.finished("flight").await;
    let told = problems(&done);
    assert_eq!(lost_and_replaced(&done), (0, 2), "each agent ended, and was replaced: {told}");
    let report = report(&suite.client, &done).await;
    let load = report.stages.iter().find(|stage| stage.name == "load").expect("a stage");
    // Nobody was left who had begun, so the stage began anew: its window has no gap.
    assert_eq!((status(&done).phase.as_str(), load.agents_complete), ("Succeeded", 2), "{told}: {load:?}");
    let rows: Vec<_> = report.operations.iter().filter(|row| row.attempt == 0).collect();
    let is_told = |row: &&OperationsLedgerRow| row.unaccounted.iter().any(|span| span.to_ns > span.from_ns);
    assert!(
        rows.len() == 2 && rows.iter().all(is_told),
        "what nobody knows of the first two is said: {rows:?}"
    );
    let stands = runs.runs.get("over").await.expect("the one that was over");
    assert_eq!(report_text(&suite.client, &stands).await, measured, "what was measured before");
    assert_eq!(condition(&stands, ConditionType::Complete).0, Some(Truth::True));
    runs.nothing_left("flight").await;
    let again = "the finished run is as it was; the one under way: both agents replaced, the stage begun anew, Succeeded";
    Found::Shown(again.to_owned())
}
