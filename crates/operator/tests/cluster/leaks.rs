//! Nothing secret leaks while something tries: a storage server tells all that it was sent, in words, codes, headers and
//! redirects, raw and encoded; agents and operator log everything that they can; one agent is aborted. Then whatever
//! anybody may read is searched.

use crate::admin::metrics_text;
use crate::rotation::{BRIEF, MANAGED_BY, brief};
use crate::{finished, served};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::eventually;
use lockstep_testkit::echo::{Echo, Manner, encodings};
use lockstep_testkit::s3::{ACCESS_KEY, BUCKET, Fault, SECRET_KEY, TestS3};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::process::Command;

/// Session token of the credentials.
const TOKEN: &str = "FwoGZXIvYXdzEBYaDK/a+session+token/that+nobody+may+see==";
/// How every token begins that this cluster signs: `{"alg":"RS256",` in base64.
const JWT: &str = "eyJhbGciOiJSUzI1NiIs";

fn manifest(name: &str, server: &TestS3) -> String {
    let endpoint = server.endpoint();
    format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  managedBy: {MANAGED_BY}
  agents:
    replicas: 2
    cleanupPolicy: Never
    template:
      spec:
        nodeSelector: {{pool: {BRIEF}}}
        tolerations: [{{key: {BRIEF}, operator: Exists}}]
        containers: [{{name: agent, env: [{{name: LOCKSTEP_LOG, value: trace}}]}}]
  failurePolicy: {{mode: BestEffort, retryAttempts: 0, errorBudget: {{percent: 100, consecutive: 100000}}}}
  target:
    uri: s3://{BUCKET}/{name}
    endpoints: ['{endpoint}']
    credentials: {{secretName: s3}}
  dataset: {{objects: 100, size: {{fixed: 4Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 2}}}}
    - name: mixed
      execute:
        duration: 600s
        concurrency: 1
        rate: {{operationsPerSecond: 100}}
        operations: [{{op: Get}}, {{op: Put, size: {{fixed: 4Ki}}}}]
    - {{name: cleanup, cleanup: {{concurrency: 1}}, runOn: Always}}
"
    )
}

/// Everything that a namespace shows, as text, with where it is from.
async fn shown<K>(client: &Client, namespace: &str, what: &str) -> Vec<(String, String)>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let all: Api<K> = Api::namespaced(client.clone(), namespace);
    let items = all.list(&ListParams::default()).await.expect("a list").items;
    let text = |item: &K| serde_json::to_string(item).expect("an object");
    items.iter().map(|item| (format!("{what} {namespace}/{}", item.name_any()), text(item))).collect()
}

#[tokio::test]
async fn nothing_secret_leaks_while_something_tries() {
    let (served, brief) = (served().await, brief().await);
    let client = served.cluster.client().await;
    let perf = served.cluster.namespace("leaks").await;
    let secret = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: s3}}
stringData:
  AWS_ACCESS_KEY_ID: {ACCESS_KEY}
  AWS_SECRET_ACCESS_KEY: {SECRET_KEY}
  AWS_SESSION_TOKEN: {TOKEN}
"
    );
    served.cluster.apply(&perf, &secret).await;
    let (early, late, elsewhere) = (TestS3::start(), TestS3::start(), TestS3::start());
    let echo = Echo::knowing(&[SECRET_KEY]);

    // One run is answered so from the first request on, the other one while it measures.
    early.fault(Fault::echo(&echo, Manner::Words(403)));
    served.cluster.apply(&perf, &manifest("early", &early)).await;
    served.cluster.apply(&perf, &manifest("late", &late)).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &perf);
    served
        .until(&runs, "late", "measuring", |run: Option<&BenchmarkRun>| {
            let progress = run.and_then(|run| run.status.as_ref()?.progress.as_ref());
            progress.is_some_and(|progress| progress.stage == "mixed")
        })
        .await;
    let to = elsewhere.endpoint();
    for manner in [
        Manner::Redirect(301, to.clone()),
        Manner::Redirect(307, to.clone()),
        Manner::Headers(500),
        Manner::Code(403),
        Manner::Encoded(403),
    ] {
        let fault = late.fault(Fault::echo(&echo, manner).times(8));
        eventually("answered so", || fault.hits() == 8).await;
        fault.release();
    }
    let aborted = brief.node.processes(&format!("{perf}/late-1-0"), "agent");
    let abort = Command::new("kill").arg("-ABRT").args(aborted.iter().map(ToString::to_string)).status();
    assert!(!aborted.is_empty() && abort.is_ok_and(|status| status.success()));
    late.fault(Fault::echo(&echo, Manner::Words(403)));
    let stop = json!({"spec": {"stop": {"mode": "Graceful", "reason": "seen enough"}}});
    runs.patch("late", &PatchParams::default(), &Patch::Merge(stop)).await.expect("stop is accepted");
    let mut messages = Vec::new();
    for name in ["early", "late"] {
        let run = served.until(&runs, name, "finished", finished).await;
        messages.push(format!("{:?}", run.status));
    }
    for message in &messages {
        assert!(message.contains("SignatureDoesNotMatch"), "the server's answer is told: {message}");
    }

    let operators: Api<Pod> = Api::namespaced(client.clone(), &brief.home);
    let mut all = Vec::new();
    let mut running = operators.list(&ListParams::default()).await.expect("pods").items;
    running.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    for operator in running {
        let name = operator.name_any();
        all.push((format!("log of the operator {name}"), served.node.logs(&brief.home, &name, "operator")));
        let metrics = metrics_text(&operator).await;
        all.push((format!("metrics of {name}"), metrics));
    }
    for pod in ["early-0-0", "early-1-0", "late-0-0", "late-1-0"] {
        all.push((format!("log of {pod}"), brief.node.logs(&perf, pod, "agent")));
    }
    let counted = |(name, text): &(String, String)| {
        name.starts_with("metrics of") && text.contains("lockstep_operation_errors_total")
    };
    assert!(all.iter().any(counted), "the metrics of whoever leads count what failed");
    let traced = |what: &str| all.iter().any(|(name, text)| name.contains(what) && text.contains("TRACE"));
    // The run that is refused at once ends with its first agent that is, and the other one may not have begun by then.
    for what in ["the operator", "early-", "late-0-0", "late-1-0"] {
        assert!(traced(what), "no log of {what} has a trace, so it proves little");
    }
    for namespace in [&perf, &brief.home] {
        all.extend(shown::<BenchmarkRun>(&client, namespace, "run").await);
        all.extend(shown::<Event>(&client, namespace, "Event").await);
        all.extend(shown::<ConfigMap>(&client, namespace, "ConfigMap").await);
        // With the termination messages.
        all.extend(shown::<Pod>(&client, namespace, "pod").await);
    }
    let mut secrets = echo.told();
    secrets.extend([ACCESS_KEY, SECRET_KEY, TOKEN].map(|text| ("Credential", text.to_owned())));
    let own: Api<Secret> = Api::namespaced(client.clone(), &brief.home);
    let own = own.get(&brief.secret).await.expect("the operator's Secret").data.expect("data");
    for name in ["ca.key", "seal.key"] {
        let text = String::from_utf8_lossy(&own[name].0).into_owned();
        secrets.extend(text.lines().filter(|line| line.len() >= 32).map(|line| ("Own key", line.to_owned())));
    }
    for what in ["AWSAccessKeyId", "StringToSign", "SignatureProvided", "Token", "Own key"] {
        assert!(secrets.iter().any(|(kind, _)| *kind == what), "nothing of {what} was ever told");
    }
    let needles: Vec<(&str, String)> = secrets
        .iter()
        .flat_map(|(what, text)| encodings(text).into_iter().map(move |text| (*what, text)))
        .chain([("a token", JWT.to_owned())])
        .collect();
    let mut leaks = Vec::new();
    for (place, text) in &all {
        for (what, needle) in &needles {
            if let Some(at) = text.find(needle.as_str()) {
                let from = text[..at].char_indices().rev().nth(120).map_or(0, |(from, _)| from);
                leaks.push(format!("{place}: {what}: {}", &text[from..at + needle.len()]));
                break;
            }
        }
    }
    println!("{} texts were searched for {} writings of secrets", all.len(), needles.len());
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(elsewhere.seen().is_empty(), "a redirect was followed: {:?}", elsewhere.seen());
}
