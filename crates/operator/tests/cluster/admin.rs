//! The admin port of an installed operator: probes, metrics as a real parser reads them, the log at run time.

use crate::{Served, finished, report, served};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::LIMIT;
use lockstep_testkit::python;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

/// The pinned version of Prometheus' own client for Python, whose parser of OpenMetrics is the strictest that there is.
const PROMETHEUS_CLIENT: &str = "0.26.0";
/// Reads OpenMetrics from standard input; writes `{family: {"type", "help", "samples": [[name, labels, value]]}}`.
const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = {}
for family in parse(sys.stdin.read()):
    samples = [[sample.name, sample.labels, float(sample.value)] for sample in family.samples]
    families[family.name] = {'type': family.type, 'help': family.documentation, 'samples': samples}
json.dump(families, sys.stdout)
";

/// Where Prometheus' client is.
fn prometheus_client() -> PathBuf {
    python::package("prometheus_client", PROMETHEUS_CLIENT)
}

fn parse(packages: &Path, text: &str) -> Value {
    let mut python = Command::new("python3");
    python.args(["-c", PARSE]).env("PYTHONPATH", packages);
    let mut child = python
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut stdin = child.stdin.take().expect("its input");
    let text = text.to_owned();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, text.as_bytes()));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("a thread").expect("all of it is read");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The sum of the samples of this name whose labels include these.
fn sum(families: &Value, name: &str, labels: &[(&str, &str)]) -> f64 {
    let samples = families
        .as_object()
        .expect("families")
        .values()
        .flat_map(|family| family["samples"].as_array().expect("samples").iter());
    samples
        .filter(|sample| sample[0] == name && labels.iter().all(|(key, value)| sample[1][*key] == *value))
        .map(|sample| sample[2].as_f64().expect("a value"))
        .sum()
}

/// The admin port of a pod.
struct Port(SocketAddr);

impl Port {
    async fn of(served: &Served) -> Self {
        let pods: Api<Pod> = Api::namespaced(served.cluster.client().await, &served.home);
        Self::of_pod(&pods.get(&served.pod).await.expect("the operator's pod"))
    }

    fn of_pod(pod: &Pod) -> Self {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref()).expect("its address");
        Self(SocketAddr::new(address.parse().expect("an address"), 8080))
    }

    /// Those of all replicas.
    async fn of_all(served: &Served) -> Vec<Self> {
        let pods: Api<Pod> = Api::namespaced(served.cluster.client().await, &served.home);
        let pods = pods.list(&ListParams::default()).await.expect("the operator's pods");
        pods.iter().map(Self::of_pod).collect()
    }

    /// That of the replica which leads.
    async fn of_leader(served: &Served, packages: &Path) -> Self {
        let end = Instant::now() + LIMIT;
        loop {
            for port in Self::of_all(served).await {
                if sum(&port.metrics(packages).await, "lockstep_leader", &[]) == 1.0 {
                    return port;
                }
            }
            assert!(Instant::now() < end, "nobody leads");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    /// Status and body of an answer; `from`: the address that asks, if it is not for the system to choose.
    async fn ask(&self, method: &str, path: &str, body: &str, from: Option<IpAddr>) -> (u16, String) {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0)).expect("an address of this machine");
        }
        let mut stream = socket.connect(self.0).await.expect("the admin port");
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: operator\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer that ends");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    async fn metrics(&self, packages: &Path) -> Value {
        let (status, text) = self.ask("GET", "/metrics", "", None).await;
        assert_eq!(status, 200, "{text}");
        parse(packages, &text)
    }
}

/// Everything that the metrics of a pod of the operator say, as text.
pub(crate) async fn metrics_text(operator: &Pod) -> String {
    let (status, text) = Port::of_pod(operator).ask("GET", "/metrics", "", None).await;
    assert_eq!(status, 200, "{text}");
    text
}

#[tokio::test]
async fn probes_answer_and_what_is_too_large_or_unknown_is_refused() {
    // Whoever stands by is as ready as whoever leads.
    for port in Port::of_all(served().await).await {
        for path in ["/livez", "/readyz"] {
            assert_eq!(port.ask("GET", path, "", None).await, (200, "ok\n".to_owned()), "{path}");
        }
    }
    let port = Port::of(served().await).await;
    for (method, path, body, expected) in [
        ("GET", "/", "", 404),
        ("POST", "/livez", "", 405),
        ("DELETE", "/log", "", 405),
        ("PUT", "/log", &"x".repeat(5_000), 413),
        ("GET", "/livez", &"x".repeat(5_000), 413),
    ] {
        assert_eq!(port.ask(method, path, body, None).await.0, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn whoever_holds_all_connections_open_keeps_no_probe_out() {
    let port = Port::of(served().await).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(tokio::net::TcpStream::connect(port.0).await.expect("a connection"));
    }
    assert_eq!(port.ask("GET", "/livez", "", None).await.0, 200);
    // The oldest had to go.
    let mut byte = [0];
    assert!(!matches!(held[0].read(&mut byte).await, Ok(1..)), "nothing was asked, and nothing is answered");
}

#[tokio::test]
async fn the_metrics_of_a_run_are_what_its_report_says() {
    let served = served().await;
    let packages = prometheus_client();
    let port = Port::of_leader(served, &packages).await;
    let (namespace, client) = (served.cluster.namespace("metrics").await, served.cluster.client().await);
    // Nobody else lists: other tests of this binary run at the same time.
    let text = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: counted-once}
spec:
  agents: {replicas: 2}
  target: {uri: 'mem://'}
  dataset: {objects: 300, size: {fixed: 4Ki}, sharing: PerAgent}
  start: {maxSkew: 10s}
  stages:
    - {name: prepare, prepare: {concurrency: 2}}
    - {name: listing, execute: {duration: 2s, concurrency: 1, rate: {operationsPerSecond: 200}, operations: [{op: List}]}}
";
    let lists = [("op", "List"), ("stage", "execute")];
    let before = port.metrics(&packages).await;
    served.cluster.apply(&namespace, text).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let run = served.until(&runs, "counted-once", "finished", finished).await;
    let done = [("outcome", "Succeeded")];
    // Its own write reaches the operator a moment after it has reached us.
    let end = Instant::now() + LIMIT;
    let after = loop {
        let now = port.metrics(&packages).await;
        if sum(&now, "lockstep_runs_finished", &done) > sum(&before, "lockstep_runs_finished", &done) {
            break now;
        }
        assert!(Instant::now() < end, "never finished: {now:#}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let more = |name: &str, labels: &[(&str, &str)]| sum(&after, name, labels) - sum(&before, name, labels);

    let report = report(&client, &run).await;
    let listing = report.stages.iter().find(|stage| stage.name == "listing").expect("the stage");
    assert!(listing.total.count > 100, "{:?}", listing.total);
    let (count, bytes) = (listing.total.count as f64, listing.total.bytes as f64);
    assert_eq!(more("lockstep_operations_total", &lists), count);
    assert_eq!(more("lockstep_operation_bytes_total", &lists), bytes);
    assert_eq!(more("lockstep_operation_response_seconds_count", &lists), count);
    assert_eq!(
        more(
            "lockstep_operation_response_seconds_bucket",
            &[("op", "List"), ("stage", "execute"), ("le", "+Inf")]
        ),
        count
    );
    assert!(more("lockstep_start_skew_seconds_count", &[]) >= 2.0, "prepare and listing start together");
    assert!(more("lockstep_reported_intervals_total", &[]) >= 4.0);
    assert!(more("lockstep_api_requests_total", &[("method", "POST"), ("resource", "pods")]) >= 2.0);
    assert!(
        more("lockstep_api_requests_total", &[("method", "PATCH"), ("resource", "benchmarkruns")]) >= 3.0
    );
    assert!(
        more("lockstep_api_sent_bytes_total", &[("method", "PATCH"), ("resource", "benchmarkruns")]) > 1e3
    );
    assert!(more("lockstep_round_duration_seconds_count", &[]) >= 5.0);
    assert!(more("process_cpu_seconds_total", &[]) > 0.0);
    assert_eq!(sum(&after, "lockstep_leader", &[]), 1.0);
    // Nothing is told apart by what people make up.
    let text = after.to_string();
    assert!(!text.contains("counted-once") && !text.contains(&namespace), "{text}");
}

#[tokio::test]
async fn agents_of_a_run_under_way_are_seen_in_their_states() {
    let served = served().await;
    let packages = prometheus_client();
    let port = Port::of_leader(served, &packages).await;
    let namespace = served.cluster.namespace("metrics").await;
    let text = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: seen}
spec:
  agents: {replicas: 3}
  target: {uri: 'null://'}
  dataset: {objects: 300, size: {fixed: 4Ki}, existing: Reuse}
  start: {maxSkew: 10s}
  stages:
    - {name: load, execute: {duration: 5m, concurrency: 1, rate: {operationsPerSecond: 30}, operations: [{op: Get}]}}
";
    served.cluster.apply(&namespace, text).await;
    let end = Instant::now() + LIMIT;
    loop {
        let now = port.metrics(&packages).await;
        let working = sum(&now, "lockstep_agents", &[("state", "Working")]);
        if working >= 3.0 && sum(&now, "lockstep_sessions", &[]) >= 3.0 {
            break;
        }
        assert!(Instant::now() < end, "never 3 agents at work: {now:#}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    served.cluster.kubectl(&["delete", "brun", "seen", "-n", &namespace]).await.expect_code(0);
}

#[tokio::test]
async fn the_log_is_set_from_within_the_pod_and_by_nobody_else() {
    let served = served().await;
    let port = Port::of(served).await;
    // Here all pods share the loopback network, so whoever is in the pod has the pod's own address.
    let inside = Some(port.0.ip());
    let (status, before) = port.ask("GET", "/log", "", inside).await;
    assert_eq!(status, 200, "{before}");
    for from in [None, Some(IpAddr::from([127, 0, 0, 6]))] {
        for method in ["GET", "PUT"] {
            let (status, said) = port.ask(method, "/log", "off", from).await;
            assert_eq!(status, 403, "{method} from {from:?}: {said}");
        }
    }
    let (status, said) = port.ask("PUT", "/log", "info,lockstep=nonsense", inside).await;
    assert_eq!(status, 400, "{said}");
    let log = || served.node.logs(&served.home, &served.pod, "operator");
    assert!(!log().contains(" DEBUG "), "it begins with info");
    let (status, said) = port.ask("PUT", "/log", "info,kube_client=debug,tower=debug", inside).await;
    assert_eq!(status, 200, "{said}");
    lockstep_testcluster::eventually("logged at debug", || log().contains(" DEBUG ")).await;
    let (status, _) = port.ask("PUT", "/log", before.trim(), inside).await;
    assert_eq!((status, port.ask("GET", "/log", "", inside).await.1), (200, before));
}
