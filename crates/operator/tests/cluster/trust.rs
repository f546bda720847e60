//! Who gets in, who does not, and for how long.
//!
//! Tokens are made by the real API server, or signed with its own key. The tests stand at the gate alone: a
//! coordinator in this process with the operator's own way of telling who calls, so that every refusal is for the reason
//! that the test means.

use crate::{Served, served};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use lockstep_coordinator::auth::Authenticate;
use lockstep_coordinator::{Coordinator, Persisted, Persisting, ResultStore};
use lockstep_core::results::StagePart;
use lockstep_operator::client::watch;
use lockstep_operator::pods::build::RunIdentity;
use lockstep_operator::pods::config::Installation;
use lockstep_operator::trust::jwks::Jwks;
use lockstep_operator::trust::keeper::Trust;
use lockstep_operator::trust::review::Reviews;
use lockstep_operator::trust::rotation::Terms;
use lockstep_operator::trust::tokens::{PodTokens, Voucher};
use lockstep_operator::validate::{Validated, validate};
use lockstep_proto::v1::coordination_client::CoordinationClient;
use lockstep_proto::v1::{self, from_agent::Body as Up};
use lockstep_proto::{META_ATTEMPT, META_INDEX, META_RUN, PROTOCOL};
use lockstep_testcluster::{Caller, LIMIT, eventually, until_gone};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

/// Name that the gate's certificate is for.
const NAME: &str = "gate.test";
/// Results that nobody asks for.
struct Nowhere;

impl ResultStore for Nowhere {
    fn persist(&self, _: Arc<StagePart>) -> Persisting {
        Box::pin(std::future::ready(Ok(Persisted::Written)))
    }
}

/// Length of a token that no connection carries.
const TOO_LONG: usize = 1 << 20;
const TERMS: Terms = Terms { authority_s: 3_600, serving_s: 600 };

/// A run that no operator looks after, so that its pods are what the test makes them.
async fn unmanaged(client: &Client, served: &Served, namespace: &str, name: &str) -> Validated {
    let manifest = format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  managedBy: test.lockstep.dev/nobody
  agents: {{replicas: 4, template: {{spec: {{nodeSelector: {{never: here}}}}}}}}
  target: {{uri: 'null://'}}
  dataset: {{objects: 1000, size: {{fixed: 4Ki}}}}
"
    );
    served.cluster.apply(namespace, &manifest).await;
    let run = Api::<BenchmarkRun>::namespaced(client.clone(), namespace).get(name).await.expect("the run");
    validate(&run, &installation(client, &served.home).await).expect("accepted").expect("stored")
}

/// The installation of an operator, as its chart has written it.
pub(crate) async fn installation(client: &Client, home: &str) -> Installation {
    let (_, text) = installation_text(client, home).await;
    serde_yaml::from_str(&text).expect("an installation")
}

pub(crate) async fn installation_text(client: &Client, home: &str) -> (String, String) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), home);
    let maps = maps.list(&ListParams::default()).await.expect("ConfigMaps").items;
    let found = maps.into_iter().find_map(|map| {
        let text = map.data.as_ref()?.get("installation.yaml").cloned()?;
        Some((map.name_any(), text))
    });
    found.expect("the ConfigMap with the installation")
}

/// What follows the API server in this process.
struct Seen {
    runs: Store<BenchmarkRun>,
    pods: Store<Pod>,
}

impl Seen {
    fn watch(client: &Client) -> Self {
        let (runs, mut run_changes) = watch::runs(client, &[]);
        let (pods, mut pod_changes) = watch::pods(client, &[]);
        tokio::spawn(async move { while run_changes.next().await.is_some() {} });
        tokio::spawn(async move { while pod_changes.next().await.is_some() {} });
        Self { runs, pods }
    }

    async fn until_pod(&self, pod: &Pod) {
        let uid = pod.uid();
        eventually("shown by the watch", || self.pods.find(|seen| seen.uid() == uid).is_some()).await;
    }
}

/// A coordinator with one way of telling who calls.
struct Gate {
    way: &'static str,
    tokens: Arc<PodTokens>,
    channel: Channel,
    url: String,
    bundle: String,
    _coordinator: Coordinator,
}

impl Gate {
    async fn open(
        way: &'static str,
        voucher: Voucher,
        trust: &Arc<Trust>,
        seen: &Seen,
        run: &Validated,
    ) -> Self {
        let tokens = PodTokens::new(voucher, Arc::clone(trust), seen.runs.clone(), seen.pods.clone());
        let tokens = Arc::new(tokens);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let auth: Arc<dyn Authenticate> = Arc::<PodTokens>::clone(&tokens);
        let coordinator = Coordinator::serve(listener, auth, Some(trust.server().expect("a server")));
        let (handle, requests) =
            coordinator.begin(Arc::clone(&run.plan), false, 1, Arc::new(Nowhere)).expect("it begins");
        // It goes on as long as somebody holds it.
        tokio::spawn(async move {
            let _requests = requests;
            let _ = handle.end().await;
        });
        let (url, bundle) = (format!("https://{address}"), trust.trusted().bundle.clone());
        let channel = connect(&url, &bundle, NAME).await.expect("a connection");
        Self { way, tokens, channel, url, bundle, _coordinator: coordinator }
    }

    /// A call that leaves no trace.
    async fn call(&self, run: &str, index: u32, token: Option<&str>) -> Result<(), Status> {
        let mut request = Request::new(tokio_stream::empty());
        claim(request.metadata_mut(), run, index, token);
        // What is too long may end its connection, which is nobody else's.
        let channel = match token.is_some_and(|token| token.len() >= TOO_LONG) {
            true => connect(&self.url, &self.bundle, NAME).await.expect("a connection"),
            false => self.channel.clone(),
        };
        CoordinationClient::new(channel).report(request).await.map(|_| ())
    }

    /// A session of control, which ends with its stream.
    async fn session(&self, run: &str, token: &str) -> tonic::Streaming<v1::FromCoordinator> {
        let (outbound, receiver) = mpsc::unbounded_channel();
        let hello = v1::Hello { protocol: PROTOCOL, ..v1::Hello::default() };
        let _ = outbound.send(v1::FromAgent { seq: 0, seen: 0, epoch: 0, body: Some(Up::Hello(hello)) });
        let mut request = Request::new(UnboundedReceiverStream::new(receiver));
        claim(request.metadata_mut(), run, 0, Some(token));
        let answer = CoordinationClient::new(self.channel.clone()).control(request).await;
        let mut inbound = answer.expect("a session").into_inner();
        assert!(inbound.message().await.expect("a welcome").is_some());
        // The outbound side stays open: it is not the agent that ends this.
        tokio::spawn(async move { outbound.closed().await });
        inbound
    }
}

fn claim(metadata: &mut MetadataMap, run: &str, index: u32, token: Option<&str>) {
    let mut put = |key: &'static str, value: String| {
        metadata.insert(key, MetadataValue::try_from(value).expect("visible text"));
    };
    if let Some(token) = token {
        put("authorization", format!("Bearer {token}"));
    }
    put(META_RUN, run.to_owned());
    put(META_INDEX, index.to_string());
    put(META_ATTEMPT, "0".to_owned());
}

pub(crate) async fn connect(url: &str, bundle: &str, name: &str) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(name);
    Endpoint::from_shared(url.to_owned())?.tls_config(tls)?.connect().await
}

/// The operator's trust, seen from beside it: the same Secret, and so the same seal.
async fn trust(client: &Client, home: &str) -> Arc<Trust> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), home);
    let list = secrets.list(&ListParams::default()).await.expect("Secrets").items;
    let name = list.iter().map(ResourceExt::name_any).find(|name| name.ends_with("-ca"));
    let name = name.expect("the Secret of the authority");
    Arc::new(Trust::open(secrets, &name, vec![NAME.to_owned()], TERMS).await.expect("an authority"))
}

/// Makes the pod of an attempt as the operator does.
async fn made(client: &Client, trust: &Trust, run: &Validated, seat: (u32, u32)) -> Pod {
    let pod = run.recipe.pod(seat.0, seat.1).expect("a pod");
    let identity = run.recipe.identity();
    let pod = trust.sealed(identity, seat, &pod, &trust.trusted());
    create(client, &identity.namespace, pod.json).await
}

async fn create(client: &Client, namespace: &str, json: Value) -> Pod {
    let pod: Pod = serde_json::from_value(json).expect("a pod");
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.create(&PostParams::default(), &pod).await.expect("it is created")
}

/// The token with other claims, signed by the cluster's own key.
fn signed_anew(served: &Served, token: &str, change: impl FnOnce(&mut Value)) -> String {
    let key = served.cluster.directory().join("certificates/apiserver.key");
    let key = PrivatePkcs1KeyDer::from_pem_file(key).expect("the key of the API server");
    let key = RsaKeyPair::from_der(key.secret_pkcs1_der()).expect("an RSA key");
    let (head, _) = token.rsplit_once('.').expect("a token");
    let (header, claims) = head.split_once('.').expect("a token");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("claims");
    let mut claims: Value = serde_json::from_slice(&claims).expect("claims");
    change(&mut claims);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    let random = ring::rand::SystemRandom::new();
    key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).expect("a signature");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn who_is_no_agent_of_the_run_is_refused_without_a_word() {
    let served = served().await;
    let client = served.cluster.client().await;
    let (perf, far) = (served.cluster.namespace("perf").await, served.cluster.namespace("far").await);
    let mine = unmanaged(&client, served, &perf, "mine").await;
    let other = unmanaged(&client, served, &perf, "other").await;
    let trust = trust(&client, &served.home).await;
    let seen = Seen::watch(&client);
    let run: RunIdentity = mine.recipe.identity().clone();
    let audience = run.audience();

    let ours = made(&client, &trust, &mine, (0, 0)).await;
    let second = made(&client, &trust, &mine, (1, 0)).await;
    let gone = made(&client, &trust, &mine, (2, 0)).await;
    let others = made(&client, &trust, &other, (0, 0)).await;
    // Pods that look like ours, in every way that whoever may create pods can make them look.
    let forged = |seat: (u32, u32), owner: bool, seal: Option<&str>| {
        let mut pod = mine.recipe.pod(seat.0, seat.1).expect("a pod").json;
        if !owner {
            pod["metadata"].as_object_mut().expect("metadata").remove("ownerReferences");
        }
        if let Some(seal) = seal {
            pod["metadata"]["annotations"][labels::SEAL] = json!(seal);
        }
        pod
    };
    let seal = ours.annotations()[labels::SEAL].clone();
    let labelled = create(&client, &perf, forged((3, 0), false, None)).await;
    let owned = create(&client, &perf, forged((3, 1), true, None)).await;
    let copied = create(&client, &perf, forged((3, 2), true, Some(&seal))).await;
    let mut away = forged((0, 0), false, Some(&seal));
    away["metadata"]["namespace"] = json!(far);
    let away = create(&client, &far, away).await;
    for pod in [&ours, &second, &gone, &others, &labelled, &owned, &copied, &away] {
        seen.until_pod(pod).await;
    }
    let token = async |pod: &Pod, audiences: &[&str]| {
        served.cluster.pod_token(&pod.namespace().unwrap_or_default(), &pod.name_any(), audiences).await
    };
    let good = token(&ours, &[&audience]).await;
    let of_gone = token(&gone, &[&audience]).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &perf);
    pods.delete(&gone.name_any(), &DeleteParams::default().grace_period(0)).await.expect("it is deleted");
    until_gone(&pods, &gone.name_any()).await;
    let uid = gone.uid();
    eventually("gone for the watch", || seen.pods.find(|pod| pod.uid() == uid).is_none()).await;
    let now_s = jiff::Timestamp::now().as_second();
    let with_times = |begins_s: i64, ends_s: i64| {
        signed_anew(served, &good, |claims| {
            claims["iat"] = json!(begins_s);
            claims["nbf"] = json!(begins_s);
            claims["exp"] = json!(ends_s);
        })
    };
    let (head, signature) = good.rsplit_once('.').expect("a token");
    let (_, claims) = head.split_once('.').expect("a token");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);

    let refused = [
        ("none at all", None),
        ("an empty one", Some(String::new())),
        ("garbage", Some("garbage".to_owned())),
        ("garbage of three parts", Some("a.b.c".to_owned())),
        ("1 MiB", Some("x".repeat(TOO_LONG))),
        ("another signature", Some(format!("{head}.{}", signature.chars().rev().collect::<String>()))),
        ("no signature", Some(format!("{none}.{claims}."))),
        ("of another run", Some(token(&others, &[&other.recipe.identity().audience()]).await)),
        ("of another run, for this one", Some(token(&others, &[&audience]).await)),
        ("of another namespace, with all that we give", Some(token(&away, &[&audience]).await)),
        ("of a pod that is gone", Some(of_gone)),
        ("expired", Some(with_times(now_s - 7_200, now_s - 3_600))),
        ("not yet valid", Some(with_times(now_s + 1_800, now_s + 3_600))),
        ("for another audience", Some(token(&ours, &["lockstep.dev/elsewhere"]).await)),
        ("for the API server", Some(token(&ours, &[]).await)),
        ("for us and another", Some(token(&ours, &[&audience, "lockstep.dev/elsewhere"]).await)),
        ("of no pod", Some(served.cluster.token(&perf, "default", &[&audience]).await)),
        ("of a pod with our labels", Some(token(&labelled, &[&audience]).await)),
        ("of a pod with our labels and owner", Some(token(&owned, &[&audience]).await)),
        ("of a pod with another one's seal", Some(token(&copied, &[&audience]).await)),
        (
            "of another issuer",
            Some(signed_anew(served, &good, |claims| claims["iss"] = json!("https://elsewhere"))),
        ),
    ];
    let operator = Caller::service_account(&served.home, &operator_account(&client, &served.home).await);
    let reader = served.cluster.client_as(&operator).await;
    let jwks = Jwks::read(reader).await.expect("every ServiceAccount may read the keys");
    for (way, voucher) in
        [("Review", Voucher::Review(Reviews::new(client.clone()))), ("Jwks", Voucher::Jwks(jwks))]
    {
        let gate = Gate::open(way, voucher, &trust, &seen, &mine).await;
        // Signing anew is not what is refused.
        for good in [&good, &with_times(now_s - 60, now_s + 3_000)] {
            gate.call(&run.uid, 0, Some(good)).await.unwrap_or_else(|status| panic!("{way}: {status:?}"));
        }
        let mut words = Vec::new();
        for (what, token) in &refused {
            for claimed in [&run.uid, "no-such-run"] {
                let status = gate.call(claimed, 0, token.as_deref()).await;
                let status = status.expect_err(&format!("{} lets in: {what}", gate.way));
                let shown = format!("{status:?}");
                assert!(!shown.contains("mine") && !shown.contains(&run.uid), "{way}, {what}: {shown}");
                if token.as_ref().is_none_or(|token| token.len() < TOO_LONG) {
                    assert_eq!(status.code(), Code::Unauthenticated, "{way}, {what}: {shown}");
                    words.push(status.message().to_owned());
                }
            }
        }
        words.dedup();
        assert_eq!(words.len(), 1, "the words say what is there: {words:?}");
        gate.call(&run.uid, 0, Some(&good)).await.expect("who is one gets in after all that");

        // Which agent it is, the pod says, and not the caller.
        let mut metadata = MetadataMap::new();
        claim(&mut metadata, &run.uid, 3, Some(&token(&second, &[&audience]).await));
        let caller = gate.tokens.authenticate(&metadata).await.expect("it is one");
        assert_eq!((caller.index, caller.attempt, caller.run_uid.as_str()), (1, 0, run.uid.as_str()));
    }
}

#[tokio::test]
async fn a_session_ends_soon_after_its_pod() {
    let served = served().await;
    let client = served.cluster.client().await;
    let perf = served.cluster.namespace("perf").await;
    let run = unmanaged(&client, served, &perf, "brief").await;
    let trust = trust(&client, &served.home).await;
    let seen = Seen::watch(&client);
    let (uid, audience) = (run.recipe.identity().uid.clone(), run.recipe.identity().audience());
    let gate = Gate::open("Review", Voucher::Review(Reviews::new(client.clone())), &trust, &seen, &run).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &perf);
    let mut sessions = Vec::new();
    for index in 0..3 {
        let pod = made(&client, &trust, &run, (index, 0)).await;
        seen.until_pod(&pod).await;
        let token = served.cluster.pod_token(&perf, &pod.name_any(), &[&audience]).await;
        sessions.push((pod.name_any(), gate.session(&uid, &token).await));
    }
    // One that is deleted and stays for a while: something holds it.
    let hold = json!({"metadata": {"finalizers": ["test.lockstep.dev/hold"]}});
    pods.patch(&sessions[1].0, &PatchParams::default(), &Patch::Merge(hold)).await.expect("it is held");
    let mut stays = sessions.pop().expect("a third").1;
    for (name, mut session) in sessions {
        pods.delete(&name, &DeleteParams::default().grace_period(0)).await.expect("it is deleted");
        let began = Instant::now();
        let ended = async { while let Ok(Some(_)) = session.message().await {} };
        tokio::time::timeout(LIMIT, ended).await.expect("it ends");
        println!("a session ended {:?} after its pod was deleted", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    let goes_on = tokio::time::timeout(Duration::from_secs(1), async {
        while let Ok(Some(_)) = stays.message().await {}
    });
    assert!(goes_on.await.is_err(), "the session of a pod that is there ended");
    let free = json!({"metadata": {"finalizers": null}});
    pods.patch("brief-1-0", &PatchParams::default(), &Patch::Merge(free)).await.expect("it is let go");
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_told_with_the_binding_that_is_missing() {
    let served = served().await;
    let nobody = served.cluster.client_as(&Caller::user("nobody")).await;
    let problem = Jwks::read(nobody).await.err().expect("nobody may not read them");
    let said = problem.to_string();
    assert!(problem.cause.contains("/openid/v1/jwks") && problem.cause.contains("forbidden"), "{said}");
    assert!(said.contains("clusterrole=system:service-account-issuer-discovery"), "{said}");
    assert!(!problem.likely.is_empty() && problem.next.len() == 2, "{said}");
}

/// Name of the operator's ServiceAccount.
async fn operator_account(client: &Client, home: &str) -> String {
    installation(client, home).await.service_account
}
