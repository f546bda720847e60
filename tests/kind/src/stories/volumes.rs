//! Files on volumes of a StorageClass.

use super::on_target;
use crate::nodes::Nodes;
use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_testcluster::runs::{report, status};
use lockstep_testcluster::until_gone_within;
use serde_json::json;

const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
/// Names a class whose volumes many nodes may write to.
const SHARED: &str = "LOCKSTEP_E2E_SHARED_CLASS";

/// The class that claims get which name none.
pub(super) async fn default_class(suite: &Suite) -> Option<StorageClass> {
    let classes: Api<StorageClass> = Api::all(suite.client.clone());
    let classes = classes.list(&ListParams::default()).await.expect("StorageClasses").items;
    classes.into_iter().find(|class| class.annotations().get(IS_DEFAULT).is_some_and(|value| value == "true"))
}

pub(super) fn no_class() -> Found {
    Found::NotShown("the cluster has no default StorageClass".to_owned())
}

/// Three agents fill one volume together; three others, in other pods, find every object there.
pub async fn shared(suite: &Suite) -> Found {
    // Pods of one node may share what is ReadWriteOnce.
    let own = matches!(suite.common.nodes, Nodes::Own(_)).then(|| "shared".to_owned());
    let (class, mode) = match std::env::var(SHARED).ok().or(own) {
        Some(class) => (class, "ReadWriteMany"),
        None => match default_class(suite).await {
            Some(class) => (class.name_any(), "ReadWriteOnce"),
            None => return no_class(),
        },
    };
    let runs = suite.runs("shared").await;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": {"storageClassName": class, "accessModes": [mode], "resources": {"requests": {"storage": "100Mi"}}},
    });
    suite.person.apply(&runs.namespace, &claim.to_string()).await;
    let target = json!({"uri": "file:///data", "volume": {"persistentVolumeClaim": {"claimName": "data"}}});
    let any = json!({"agents": {"placement": if mode == "ReadWriteMany" { "Spread" } else { "Any" }}});
    runs.create(on_target("fill", &target, 200, 3, &any)).await;
    let filled = runs.finished("fill").await;
    assert_eq!(status(&filled).phase, "Succeeded", "{:?}", filled.status);
    let ledger = report(&suite.client, &filled).await.dataset.expect("a data set");
    assert_eq!((ledger.done, ledger.created), (200, 200), "{ledger:?}");
    runs.nothing_left("fill").await;
    runs.create(on_target("again", &target, 200, 1, &any)).await;
    let again = runs.finished("again").await;
    assert_eq!(status(&again).phase, "Succeeded", "{:?}", again.status);
    let ledger = report(&suite.client, &again).await.dataset.expect("a data set");
    assert_eq!(
        (ledger.done, ledger.created, ledger.existed),
        (200, 0, 200),
        "others find what was made: {ledger:?}"
    );
    Found::Shown(format!("200 files of class {class}, {mode}, all of them found again by other pods"))
}

/// Each agent has a claim of its own, which goes with its pod.
pub async fn ephemeral(suite: &Suite) -> Found {
    let Some(class) = default_class(suite).await else { return no_class() };
    let runs = suite.runs("ephemeral").await;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(suite.client.clone(), &runs.namespace);
    let claim = json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}},
    }});
    let target = json!({"uri": "file:///data", "volume": {"ephemeral": {"volumeClaimTemplate": claim}}});
    let own = json!({"dataset": {"sharing": "PerAgent"}});
    runs.create(on_target("own", &target, 100, 5, &own)).await;
    runs.in_stage("own", "mixed").await;
    let bound = claims.list(&ListParams::default()).await.expect("claims").items;
    assert_eq!(bound.len(), 3, "one for each agent");
    for claim in &bound {
        let owner = claim.owner_references().first().expect("an owner");
        assert!(owner.kind == "Pod" && owner.name.starts_with("own-"), "{owner:?}");
        assert_eq!(claim.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Bound"));
    }
    let done = runs.finished("own").await;
    assert_eq!(status(&done).phase, "Succeeded", "{:?}", done.status);
    let ledger = report(&suite.client, &done).await.dataset.expect("a data set");
    assert_eq!((ledger.planned, ledger.done, ledger.created), (300, 300, 300), "{ledger:?}");
    runs.nothing_left("own").await;
    for claim in bound {
        until_gone_within(&claims, &claim.name_any(), runs.limit).await;
    }
    Found::Shown(format!(
        "3 claims of class {}, a hundred files each, gone with their pods",
        class.name_any()
    ))
}
