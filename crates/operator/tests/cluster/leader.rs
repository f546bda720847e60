//! Who leads, against a real API server: a Lease is taken, let go, lost, deleted, written by others.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use lockstep_operator::leader::{Leadership, Mandate, Role, Terms};
use lockstep_testcluster::{ControlPlane, LIMIT};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::watch;

const NAME: &str = "lockstep";
/// As in production, but sooner.
const TERMS: Terms = Terms {
    duration: Duration::from_secs(4),
    margin: Duration::from_millis(500),
    renew_every: Duration::from_secs(1),
    retry_every: Duration::from_millis(500),
};

/// A namespace with an empty Lease, as the chart makes it.
async fn leases() -> Api<Lease> {
    let cluster = ControlPlane::shared().await;
    let namespace = cluster.namespace("lease").await;
    let leases: Api<Lease> = Api::namespaced(cluster.client().await, &namespace);
    let empty = serde_json::from_value(json!({"metadata": {"name": NAME, "labels": {"made-by": "chart"}}}));
    leases.create(&PostParams::default(), &empty.expect("a Lease")).await.expect("it is created");
    leases
}

fn contend(leases: &Api<Lease>, me: &str) -> Leadership {
    Leadership::start_with(leases.clone(), NAME, me, Mandate::default(), TERMS)
}

async fn until(role: &mut watch::Receiver<Role>, what: &str, is: impl FnMut(&Role) -> bool) -> Role {
    let waited = tokio::time::timeout(LIMIT, role.wait_for(is)).await;
    waited.unwrap_or_else(|_| panic!("never {what}")).expect("it contends").clone()
}

async fn until_leads(leadership: &Leadership) -> i64 {
    match until(&mut leadership.role(), "leads", |role| matches!(role, Role::Leader { .. })).await {
        Role::Leader { transitions } => transitions,
        Role::Standby { .. } => unreachable!("it leads"),
    }
}

async fn until_follows(leadership: &Leadership, whom: &str) {
    let whom = Role::Standby { holder: Some(whom.to_owned()) };
    until(&mut leadership.role(), &format!("{whom:?}"), |role| *role == whom).await;
}

async fn holder(leases: &Api<Lease>) -> Option<String> {
    leases.get(NAME).await.expect("the Lease").spec?.holder_identity
}

#[tokio::test]
async fn a_lease_that_is_let_go_has_another_leader_within_two_seconds() {
    let leases = leases().await;
    let (first, usual) = (contend(&leases, "first"), Terms::default());
    assert_eq!(until_leads(&first).await, 1);
    // With the terms of production: this is what they promise.
    let second = Leadership::start_with(leases.clone(), NAME, "second", Mandate::default(), usual);
    until_follows(&second, "first").await;
    assert!(first.may_write() && !second.may_write());
    let mandate = first.mandate();
    let asked = Instant::now();
    first.release().await;
    assert!(!mandate.holds());
    assert_eq!(until_leads(&second).await, 2);
    let took = asked.elapsed();
    assert!(second.may_write() && took < Duration::from_secs(2), "{took:?}");
    let lease = leases.get(NAME).await.expect("the Lease");
    assert_eq!(lease.metadata.labels.expect("labels")["made-by"], "chart");
    let spec = lease.spec.expect("a spec");
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(2), Some(10)));
    second.release().await;
    assert_eq!(holder(&leases).await.as_deref(), Some(""));
}

#[tokio::test]
async fn a_leader_that_falls_silent_is_followed_after_its_duration() {
    let leases = leases().await;
    let silent = contend(&leases, "silent");
    assert_eq!(until_leads(&silent).await, 1);
    let second = contend(&leases, "second");
    until_follows(&second, "silent").await;
    // As a process does that dies: nothing is let go.
    let mandate = silent.mandate();
    let since = Instant::now();
    drop(silent);
    assert_eq!(until_leads(&second).await, 2);
    // It had been heard of at most a renewal and a look ago.
    let took = since.elapsed();
    assert!(took > TERMS.duration - TERMS.renew_every - TERMS.retry_every, "{took:?}");
    assert!(!mandate.holds());
    second.release().await;
}

#[tokio::test]
async fn a_lease_that_is_deleted_is_made_anew_by_its_leader() {
    let leases = leases().await;
    let first = contend(&leases, "first");
    assert_eq!(until_leads(&first).await, 1);
    let second = contend(&leases, "second");
    until_follows(&second, "first").await;
    let mut role = first.role();
    role.borrow_and_update();
    leases.delete(NAME, &DeleteParams::default()).await.expect("it is deleted");
    until_follows(&second, "first").await;
    let made = async {
        while leases.get_opt(NAME).await.expect("an answer").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, made).await.expect("it is made anew");
    let lease = leases.get(NAME).await.expect("the Lease");
    assert_eq!(lease.metadata.labels.expect("labels")["made-by"], "chart");
    assert_eq!(lease.spec.and_then(|spec| spec.lease_transitions), Some(1));
    assert!(first.may_write() && !role.has_changed().expect("it contends"), "its leadership was not touched");
    first.release().await;
    second.release().await;
}

#[tokio::test]
async fn a_leader_stands_down_when_another_has_written_in_between() {
    let leases = leases().await;
    let first = contend(&leases, "first");
    assert_eq!(until_leads(&first).await, 1);
    // Of somebody who is no contender: the next renewal meets a version that it does not know, and goes on.
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    let touched = leases.patch(NAME, &PatchParams::default(), &label).await.expect("it is patched");
    let renewed = async {
        let before = touched.metadata.resource_version.clone();
        while leases.get(NAME).await.expect("the Lease").metadata.resource_version == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, renewed).await.expect("it is renewed");
    let spec = leases.get(NAME).await.expect("the Lease").spec.expect("a spec");
    assert_eq!((spec.holder_identity.as_deref(), spec.lease_transitions), (Some("first"), Some(1)));
    // Of another holder: its own renewal cannot land any more.
    let taken = Patch::Merge(json!({"spec": {"holderIdentity": "usurper", "leaseTransitions": 2}}));
    leases.patch(NAME, &PatchParams::default(), &taken).await.expect("it is patched");
    until_follows(&first, "usurper").await;
    assert!(!first.may_write());
    assert_eq!(holder(&leases).await.as_deref(), Some("usurper"));
    // Silent, too: the Lease comes back, under another number.
    assert_eq!(until_leads(&first).await, 3);
    first.release().await;
}
