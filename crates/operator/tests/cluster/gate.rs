//! A gate before the API server's store: an admission webhook in the hands of a test. A write that it waits for is held, by
//! then received and checked and not yet done, until the test has looked, and is then let through or denied.
//!
//! So a process can be killed between two writes by the API server's own means, and the product knows nothing of it. The
//! gate stands before the ConfigMaps, runs and status of one namespace, and before nobody else's.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, PostParams};
use lockstep_operator::trust::authority::Authority;
use lockstep_operator::trust::serving::Serving;
use lockstep_testcluster::{ControlPlane, LIMIT};
use rustls::ServerConfig;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long the certificate of a gate holds, seconds.
const VALIDITY_S: i64 = 86_400;
/// How long the API server waits for a verdict, seconds; the most that it allows.
const VERDICT_S: u64 = 30;

/// A write that the API server has received.
#[derive(Debug)]
pub(crate) struct Write {
    /// Pod whose token it came with; empty where it was none's.
    pub(crate) pod: String,
    /// Resource and, behind a slash, subresource.
    pub(crate) resource: String,
    /// Name of the object.
    pub(crate) name: String,
    /// The object as it would be.
    pub(crate) object: Value,
    /// The object as it is; null for one that is not there yet.
    pub(crate) old: Value,
}

impl Write {
    fn of(request: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = text(&request["resource"]["resource"]);
        let resource = match request["subResource"].as_str() {
            Some(part) if !part.is_empty() => format!("{resource}/{part}"),
            _ => resource,
        };
        Self {
            pod: text(&request["userInfo"]["extra"]["authentication.kubernetes.io/pod-name"][0]),
            resource,
            name: text(&request["name"]),
            object: request["object"].clone(),
            old: request["oldObject"].clone(),
        }
    }

    /// resourceVersion of the object as it is.
    pub(crate) fn version(&self) -> Option<&str> {
        self.old["metadata"]["resourceVersion"].as_str()
    }
}

/// A write that is held. Dropped, it is let through.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) write: Write,
    verdict: oneshot::Sender<bool>,
}

impl Held {
    /// It is done now.
    pub(crate) fn let_through(self) {
        // A caller that waits no more has its own answer.
        let _ = self.verdict.send(true);
    }

    /// It is never done.
    pub(crate) fn deny(self) {
        let _ = self.verdict.send(false);
    }
}

type Is = Box<dyn Fn(&Write) -> bool + Send>;
type Traps = Arc<Mutex<Vec<(Is, oneshot::Sender<Held>)>>>;

/// See the module's text.
pub(crate) struct Gate {
    name: String,
    configurations: Api<ValidatingWebhookConfiguration>,
    traps: Traps,
    server: JoinHandle<()>,
}

impl Gate {
    /// Puts a gate before a namespace, and waits until the API server asks it.
    pub(crate) async fn before(cluster: &ControlPlane, namespace: &str) -> Self {
        let now_s = jiff::Timestamp::now().as_second();
        let authority = Authority::new(now_s, VALIDITY_S).expect("an authority");
        let serving = authority.serving(&["127.0.0.1".to_owned()], now_s, VALIDITY_S).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Serving::new(serving.0)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("https://{}/", listener.local_addr().expect("its address"));
        let traps = Traps::default();
        let server = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&traps)));

        let client = cluster.client().await;
        let name = format!("gate-{namespace}");
        let gate = Self { name, configurations: Api::all(client.clone()), traps, server };
        let rule = |group: &str, resources: &[&str]| {
            json!({
                "apiGroups": [group], "apiVersions": ["*"], "resources": resources,
                "operations": ["CREATE", "UPDATE"], "scope": "Namespaced",
            })
        };
        let bundle = k8s_openapi::ByteString(authority.certificate.into_bytes());
        let webhook = json!({
            "name": "gate.test.lockstep.dev", "sideEffects": "None", "failurePolicy": "Fail",
            "admissionReviewVersions": ["v1"], "timeoutSeconds": VERDICT_S,
            "clientConfig": {"url": url, "caBundle": bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "rules": [rule("", &["configmaps"]), rule("lockstep.dev", &["benchmarkruns", "benchmarkruns/status"])],
        });
        let configuration = json!({"metadata": {"name": gate.name}, "webhooks": [webhook]});
        let configuration = serde_json::from_value(configuration).expect("a configuration");
        gate.configurations.create(&PostParams::default(), &configuration).await.expect("it is taken");
        gate.stands(&Api::namespaced(client, namespace)).await;
        gate
    }

    /// Waits until a write is denied by it: the API server hears of webhooks through a watch.
    async fn stands(&self, maps: &Api<ConfigMap>) {
        let probe = serde_json::from_value(json!({"metadata": {"name": "probe"}})).expect("a ConfigMap");
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let mut trap = self.trap(|write| write.name == "probe");
        let asked = async {
            loop {
                tokio::select! {
                    biased;
                    held = &mut trap => return held.expect("the gate stands").deny(),
                    _ = maps.create(&dry, &probe) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(LIMIT, asked).await.expect("the API server asks the gate");
    }

    /// Holds the next write that is such.
    pub(crate) fn trap(&self, is: impl Fn(&Write) -> bool + Send + 'static) -> oneshot::Receiver<Held> {
        let (sprung, trap) = oneshot::channel();
        self.traps.lock().unwrap_or_else(PoisonError::into_inner).push((Box::new(is), sprung));
        trap
    }

    /// Takes the gate away.
    pub(crate) async fn remove(self) {
        self.configurations.delete(&self.name, &DeleteParams::default()).await.expect("it goes");
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, traps: Traps) {
    // They end with the server.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&traps)));
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, traps: Traps) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let traps = Arc::clone(&traps);
        async move { Ok::<_, Infallible>(answer(request, &traps).await) }
    });
    // One that breaks is the API server's to make anew.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, traps: &Traps) -> Response<Full<Bytes>> {
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let request = &review["request"];
    let allowed = judge(Write::of(request), traps).await;
    let mut verdict = json!({"uid": request["uid"], "allowed": allowed});
    if !allowed {
        verdict["status"] = json!({"code": 403, "message": "the gate is shut"});
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": verdict});
    let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

/// Whether a write may be done; known at once where no trap is for it.
async fn judge(write: Write, traps: &Traps) -> bool {
    let sprung = {
        let mut traps = traps.lock().unwrap_or_else(PoisonError::into_inner);
        let at = traps.iter().position(|(is, _)| is(&write));
        at.map(|at| traps.remove(at).1)
    };
    let Some(sprung) = sprung else { return true };
    let (verdict, judged) = oneshot::channel();
    match sprung.send(Held { write, verdict }) {
        Ok(()) => judged.await.unwrap_or(true),
        Err(_) => true,
    }
}
