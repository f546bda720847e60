//! SeaweedFS in the cluster: what agents reach by the DNS name of its Service, and what the suite looks into by a port-forward, with
//! boto3, to count for itself.

use crate::suite::{Found, Suite};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use lockstep_core::op::Op;
use lockstep_core::results::Report;
use lockstep_testcluster::{Person, Tool};
use lockstep_testkit::objects::{self, Objects};
use lockstep_testkit::process::Running;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What is applied.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seaweedfs.yaml");
/// Where it is.
pub const NAMESPACE: &str = "seaweedfs";
/// Port of S3.
pub const PORT: u16 = 8333;
const SERVICE: &str = "seaweedfs-s3";
/// The Secret with its key, as it stands in the manifest.
const KEYS: &str = "seaweedfs-keys";
/// The bucket that it has from the start.
const BUCKET: &str = "bench";
const ACCESS: &str = "AWS_ACCESS_KEY_ID";
const HIDDEN: &str = "AWS_SECRET_ACCESS_KEY";
/// The Secret with the key, in each namespace that asks for it.
pub const SECRET: &str = "s3-creds";

/// The storage of the cluster.
#[derive(Clone)]
pub struct Store {
    person: Person,
    client: Client,
}

/// Applies the manifest, and waits until it serves.
pub async fn deploy(suite: &Suite) -> Found {
    let began = Instant::now();
    suite.kubectl(&["apply", "-f", MANIFEST]).await;
    suite.kubectl(&["rollout", "status", "deployment", "-n", NAMESPACE, "--timeout=180s"]).await;
    Found::Shown(format!("SeaweedFS serves after {:.0} s", began.elapsed().as_secs_f64()))
}

impl Store {
    /// The one that [`deploy`] made.
    pub fn new(person: Person, client: Client) -> Self {
        Self { person, client }
    }

    /// One half of the key.
    async fn key(&self, half: &str) -> String {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let secret = secrets.get(KEYS).await.expect("the Secret of the manifest");
        let text = secret.data.and_then(|mut data| data.remove(half)).expect("both halves of a key");
        String::from_utf8(text.0).expect("text")
    }

    /// Where agents reach it: a name, which the cluster's DNS knows.
    pub fn endpoint() -> String {
        format!("http://{SERVICE}.{NAMESPACE}.svc.cluster.local:{PORT}")
    }

    /// The Secret with its key in a namespace.
    pub async fn give_key(&self, namespace: &str) {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET},
            "stringData": {ACCESS: self.key(ACCESS).await, HIDDEN: self.key(HIDDEN).await},
        });
        self.person.apply(namespace, &secret.to_string()).await;
    }

    /// A spec whose target is a place of this namespace in it.
    pub fn target(namespace: &str) -> Value {
        json!({
            "uri": format!("s3://{BUCKET}/{namespace}"), "endpoints": [Self::endpoint()],
            "options": {"region": "us-east-1", "addressing": "path"}, "credentials": {"secretName": SECRET},
        })
    }

    /// The objects of a namespace's place, as boto3 sees them through a port-forward.
    pub async fn objects(&self, namespace: &str) -> Objects {
        let (service, port) = (format!("service/{SERVICE}"), format!(":{PORT}"));
        let mut forward =
            self.person.command(Tool::Kubectl, &["port-forward", "-n", NAMESPACE, &service, &port]);
        let prefix = format!("{namespace}/");
        let (access, secret) = (self.key(ACCESS).await, self.key(HIDDEN).await);
        let list = tokio::task::spawn_blocking(move || {
            let mut forward = Running::start(&mut forward);
            forward.wait_for("Forwarding from 127.0.0.1:", Duration::from_secs(30));
            let said = forward.stdout();
            let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split_whitespace().next());
            let endpoint = format!("http://127.0.0.1:{}", port.expect("kubectl says the port"));
            objects::of_bucket(&endpoint, objects::Key { access: &access, secret: &secret }, BUCKET, &prefix)
        });
        list.await.expect("it is joined")
    }

    /// Holds a report against what is there: each planned object was made once, and beyond these lies what puts have added.
    /// For runs without a cleanup, whose operations do not delete. What was found, for the table.
    pub async fn holds(&self, namespace: &str, report: &Report) -> String {
        let there = self.objects(namespace).await.len() as u64;
        let ledger = report.dataset.as_ref().expect("a data set");
        assert_eq!(ledger.done, ledger.planned, "{ledger:?}");
        let puts: u64 = report
            .stages
            .iter()
            .filter(|stage| stage.kind == "execute")
            .flat_map(|stage| &stage.operations)
            .filter(|row| row.op == Some(Op::Put))
            .map(|row| row.count)
            .sum();
        assert_eq!(
            there,
            ledger.done + puts,
            "objects in the storage, and what the report counts: {ledger:?}, {puts} puts"
        );
        format!("{there} objects there = {} of the data set + {puts} puts", ledger.done)
    }
}
