//! A namespace of its own for one test, on the cluster that all share.

use crate::{Served, served};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, PostParams};
use lockstep_api::BenchmarkRun;
pub(crate) use lockstep_testcluster::runs::{condition, run, status};
use lockstep_testcluster::{LIMIT, PodSecurity, Runs};
use lockstep_testkit::s3;
use serde_json::json;
use std::time::Duration;

/// How late after the API's first sign of a trouble the status may tell of it.
pub(crate) const TELLS_WITHIN: Duration = Duration::from_secs(10);

/// A namespace with runs.
pub(crate) struct Space {
    pub(crate) served: &'static Served,
    inner: Runs,
}

impl std::ops::Deref for Space {
    type Target = Runs;

    fn deref(&self) -> &Runs {
        &self.inner
    }
}

/// A fresh namespace of the served cluster.
pub(crate) async fn space(prefix: &str) -> Space {
    space_with(prefix, PodSecurity::Privileged).await
}

/// The same, at a Pod Security level.
pub(crate) async fn space_with(prefix: &str, level: PodSecurity) -> Space {
    let served = served().await;
    let namespace = served.cluster.namespace_with(prefix, level).await;
    let more = move || served.node.logs(&served.home, &served.pod, "operator");
    Space { served, inner: Runs::new(served.cluster.client().await, namespace).saying(more) }
}

impl Space {
    /// Status, with everything that there is to know where it is missing.
    pub(crate) fn said(&self, run: &BenchmarkRun) -> String {
        self.served.said(run)
    }
}

/// Waits for something of this process that is asked for again and again.
pub(crate) async fn becomes(what: &str, holds: impl AsyncFnMut() -> bool) {
    lockstep_testcluster::becomes(what, LIMIT, holds).await;
}

/// Creates the Secret `keys`, with what a [`lockstep_testkit::s3::TestS3`] lets in.
pub(crate) async fn create_keys(client: Client, namespace: &str) {
    let keys = json!({"metadata": {"name": "keys"}, "stringData": {
        "AWS_ACCESS_KEY_ID": s3::ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": s3::SECRET_KEY,
    }});
    let keys: Secret = serde_json::from_value(keys).expect("a Secret");
    Api::namespaced(client, namespace).create(&PostParams::default(), &keys).await.expect("the Secret");
}
