//! The operator's authority changes under a run: an operator whose certificates hold for seconds.

use crate::trust::{connect, installation, installation_text};
use crate::{CHART, finished, report_text, served, truth};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::{BenchmarkRun, labels};
use lockstep_testcluster::{Image, LIMIT, Node, NodeOptions, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// An operator whose tokens are verified by keys, whose certificates hold for a minute, and that logs everything.
pub(crate) struct Brief {
    pub(crate) node: Node<'static>,
    pub(crate) home: String,
    pub(crate) secret: String,
}

/// Its pool of nodes, which bears a taint of this name.
pub(crate) const BRIEF: &str = "brief-terms";
/// What runs say to be its own.
pub(crate) const MANAGED_BY: &str = "lockstep.dev/brief-terms";
/// How long an authority holds there, seconds.
const BRIEF_AUTHORITY_S: u32 = 30;

/// The one of this test binary.
pub(crate) async fn brief() -> &'static Brief {
    static BRIEFLY: OnceCell<Brief> = OnceCell::const_new();
    BRIEFLY
        .get_or_init(|| async {
            let served = served().await;
            let client = served.cluster.client().await;
            let image = Image::host().workspace_binary("lockstep-agent");
            let options = NodeOptions::named("node-brief")
                .tainted(BRIEF)
                .label("pool", BRIEF)
                .image("lockstep:test", image);
            let options = options.refresh_every(Duration::from_millis(500));
            let node = served.cluster.node(options.token_refresh(Duration::from_secs(2))).await;
            let home = served.cluster.namespace("brief").await;
            let managed_by = format!("operator.managedBy={MANAGED_BY}");
            let authority = format!("certificates.authoritySeconds={BRIEF_AUTHORITY_S}");
            let serving = format!("certificates.servingSeconds={}", BRIEF_AUTHORITY_S / 2);
            let terms = [authority.as_str(), &serving];
            let sets =
                ["image.tag=test", "crds.install=false", "replicas=2", &managed_by, "operator.log=trace"];
            let sets = sets.iter().chain(&terms).flat_map(|set| ["--set", *set]);
            let install = ["install", "lockstep", CHART, "-n", &home, "--wait"].into_iter().chain(sets);
            let install: Vec<&str> = install.collect();
            served.cluster.helm(&install).await.expect_code(0);
            // What the chart has for one namespace only: tokens are verified by keys.
            let (name, text) = installation_text(&client, &home).await;
            let mut installation: Value = serde_yaml::from_str(&text).expect("an installation");
            installation["tokens"] = json!("Jwks");
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &home);
            let text = json!({"data": {"installation.yaml": installation.to_string()}});
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(text)).await.expect("it is patched");
            for what in ["restart", "status"] {
                let args = ["rollout", what, "deployment/lockstep", "-n", &home];
                served.cluster.kubectl(&args).await.expect_code(0);
            }
            let secret = "lockstep-ca".to_owned();
            Brief { node, home, secret }
        })
        .await
}

#[tokio::test]
async fn the_authority_changes_while_a_run_goes_on_and_no_session_notices() {
    let (served, brief) = (served().await, brief().await);
    let client = served.cluster.client().await;
    let perf = served.cluster.namespace("perf").await;
    let manifest = format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: long}}
spec:
  managedBy: {MANAGED_BY}
  agents:
    replicas: 3
    template:
      spec: {{nodeSelector: {{pool: {BRIEF}}}, tolerations: [{{key: {BRIEF}, operator: Exists}}]}}
  failurePolicy: {{mode: BestEffort, retryAttempts: 1, retryDelay: 1s}}
  target: {{uri: 'null://'}}
  dataset: {{objects: 1000, size: {{fixed: 4Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 1}}}}
    - name: mixed
      execute: {{duration: 600s, concurrency: 1, rate: {{operationsPerSecond: 100}}, operations: [{{op: Get}}]}}
    - {{name: cleanup, cleanup: {{concurrency: 1}}, runOn: Always}}
"
    );
    served.cluster.apply(&perf, &manifest).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &perf);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &perf);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &brief.home);
    served
        .until(&runs, "long", "measuring", |run: Option<&BenchmarkRun>| {
            let progress = run.and_then(|run| run.status.as_ref()?.progress.as_ref());
            progress.is_some_and(|progress| progress.stage == "mixed")
        })
        .await;
    let trusts = |pod: &Pod| pod.annotations()[labels::TRUSTS].clone();
    let first = trusts(&pods.get("long-0-0").await.expect("an agent"));
    let signer = |secret: Option<&Secret>| {
        let data = secret?.data.as_ref()?;
        Some(String::from_utf8_lossy(&data.get("ca.crt")?.0).into_owned())
    };
    let before = secrets.get(&brief.secret).await.expect("the Secret");
    let old = signer(Some(&before)).expect("an authority");

    // A next one is made, and whoever is made then is told of it.
    let has_next = |secret: Option<&Secret>| {
        secret.and_then(|secret| secret.data.as_ref()).is_some_and(|data| data.contains_key("next.crt"))
    };
    until(&secrets, &brief.secret, "with a next authority", has_next).await;
    assert_eq!(brief.node.kill_out_of_memory(&format!("{perf}/long-1-0"), "agent"), 1);
    let replacement = until(&pods, "long-1-1", "made", |pod: Option<&Pod>| pod.is_some()).await;
    let told = trusts(&replacement);
    assert_eq!(told.split('.').count(), 2, "{first} {told}");

    // It takes over; from then on agents see its certificate.
    until(&secrets, &brief.secret, "signed by another", |secret: Option<&Secret>| {
        signer(secret).is_some_and(|now| now != old)
    })
    .await;
    let operators: Api<Pod> = Api::namespaced(client.clone(), &brief.home);
    let mut operators = operators.list(&ListParams::default()).await.expect("pods").items;
    operators.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    assert_eq!(operators.len(), 2, "one leads, and the other follows");
    let host = installation(&client, &brief.home).await.coordinator;
    let host = host.rsplit_once(':').expect("a port").0;
    for operator in operators {
        let ip = operator.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("an address");
        let url = format!("https://{ip}:7443");
        let began = Instant::now();
        loop {
            // It may have changed again meanwhile.
            let secret = secrets.get(&brief.secret).await.expect("the Secret");
            let now = signer(Some(&secret)).expect("an authority");
            if connect(&url, &now, host).await.is_ok() {
                break;
            }
            assert!(began.elapsed() < LIMIT, "the new authority's certificate is never seen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(connect(&url, &old, host).await.is_err(), "the old one's is seen");
    }

    let stop = json!({"spec": {"stop": {"mode": "Graceful", "reason": "seen enough"}}});
    runs.patch("long", &PatchParams::default(), &Patch::Merge(stop)).await.expect("stop is accepted");
    let run = served.until(&runs, "long", "finished", finished).await;
    assert_eq!(truth(&run, ConditionType::ResultsPublished), Some(Truth::True), "{:?}", run.status);
    let status = run.status.as_ref().expect("a status");
    assert_eq!(
        status.agents.as_ref().map(|agents| (agents.replaced, agents.lost)),
        Some((1, 0)),
        "{status:?}"
    );
    let report: Value = serde_json::from_str(&report_text(&client, &run).await).expect("a report");
    let agents = report["stages"].as_array().expect("stages").iter().flat_map(|stage| {
        stage["agents"].as_array().into_iter().flatten().map(|agent| agent["network"]["reconnects"].as_u64())
    });
    let reconnects: Vec<u64> = agents.flatten().collect();
    assert!(reconnects.len() >= 3 && reconnects.iter().all(|count| *count == 0), "{reconnects:?}");
    // All that while, tokens were replaced under the agents' hands.
    let asked = served.cluster.audit();
    let asked = asked.iter().filter(|entry| {
        entry.namespace == perf && entry.right() == "create /serviceaccounts/token" && entry.code == 201
    });
    let asked = asked.count();
    println!("{asked} tokens, reconnects {reconnects:?}, trusts {first} then {told}");
    assert!(asked > 3 * 3, "tokens are replaced each 2 s: {asked}");
}
