//! Object storage behind a Service.

use super::on_target;
use crate::store::Store;
use crate::suite::{Found, Suite};
use lockstep_testcluster::runs::{report, status};
use serde_json::json;

/// What a report says of an S3 target is what lies there, and cleanup leaves nothing.
pub async fn s3(suite: &Suite) -> Found {
    let runs = suite.runs("s3").await;
    suite.store.give_key(&runs.namespace).await;
    let target = Store::target(&runs.namespace);
    runs.create(on_target("fill", &target, 300, 5, &json!({}))).await;
    let done = runs.finished("fill").await;
    assert_eq!(status(&done).phase, "Succeeded", "{:?}", done.status);
    let measured = report(&suite.client, &done).await;
    let held = suite.store.holds(&runs.namespace, &measured).await;
    let errors: u64 = measured.stages.iter().map(|stage| stage.total.error_count).sum();
    assert_eq!(errors, 0, "{:?}", measured.problems);
    let created = measured.dataset.as_ref().map(|ledger| (ledger.created, ledger.existed, ledger.repeated));
    assert_eq!(created, Some((300, 0, 0)));
    runs.nothing_left("fill").await;

    let stages = json!({"stages": [{"name": "cleanup", "cleanup": {"concurrency": 4}}]});
    runs.create(on_target("clean", &target, 300, 5, &stages)).await;
    let cleaned = runs.finished("clean").await;
    assert_eq!(status(&cleaned).phase, "Succeeded", "{:?}", cleaned.status);
    let left = suite.store.objects(&runs.namespace).await;
    assert!(left.is_empty(), "cleanup leaves {left:?}");
    Found::Shown(format!("by {}: {held}; none after cleanup", Store::endpoint()))
}
