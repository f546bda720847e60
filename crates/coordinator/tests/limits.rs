//! What a peer may take, and that others get through while one takes all that it can.

use lockstep_api::spec::BenchmarkRun;
use lockstep_api::{ResolveOptions, resolve};
use lockstep_coordinator::{
    Authenticate, Caller, Caps, Coordinator, HostRequest, Persisted, Persisting, ResultStore, RunHandle,
    SharedSecrets,
};
use lockstep_core::results::part::StagePart;
use lockstep_proto::v1::coordination_client::CoordinationClient;
use lockstep_proto::v1::{self, from_agent::Body as Up};
use lockstep_proto::{META_ATTEMPT, META_INDEX, META_RUN, PROTOCOL};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};

const UID: &str = "3f9a0b1c-0000-4000-8000-000000000001";
const NAME: &str = "coordinator.test";
/// How long whatever should happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);
/// Addresses of two peers.
const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Secrets, and whether who presented one still is who it was.
#[derive(Clone)]
struct Trust {
    secrets: SharedSecrets,
    still: Arc<AtomicBool>,
}

#[tonic::async_trait]
impl Authenticate for Trust {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        self.secrets.authenticate(metadata).await
    }

    fn still_valid(&self, caller: &Caller) -> bool {
        caller.index > 0 || self.still.load(Ordering::SeqCst)
    }
}

struct Nowhere;

impl ResultStore for Nowhere {
    fn persist(&self, _: Arc<StagePart>) -> Persisting {
        Box::pin(std::future::ready(Ok(Persisted::Written)))
    }
}

/// A coordinator with a run.
struct Served {
    address: SocketAddr,
    authority: String,
    trust: Trust,
    _coordinator: Coordinator,
    _run: (RunHandle, mpsc::UnboundedReceiver<HostRequest>),
}

async fn served(caps: Caps) -> Served {
    let key = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let authority = key.cert.pem();
    let chain = vec![key.cert.der().clone()];
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let mut tls =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a server");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let trust = Trust { secrets: SharedSecrets::default(), still: Arc::new(AtomicBool::new(true)) };
    trust.secrets.add(UID, "secret");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let listening = std::future::ready(listener);
    let coordinator =
        Coordinator::serve_capped(listening, Arc::new(trust.clone()), Some(Arc::new(tls)), caps);
    let run: BenchmarkRun = serde_json::from_value(serde_json::json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun", "metadata": {"name": "nightly", "uid": UID},
        "spec": {
            "agents": {"replicas": 32}, "target": {"uri": "null://"},
            "dataset": {"objects": 1_000, "size": {"fixed": "4Ki"}},
        },
    }))
    .expect("a run");
    let options = ResolveOptions { replicas: None, uid: UID.to_owned(), local: false };
    let plan = resolve(&run, &options).expect("a plan").plan;
    let run = coordinator.begin(Arc::new(plan), false, 1, Arc::new(Nowhere)).expect("it begins");
    Served { address, authority, trust, _coordinator: coordinator, _run: run }
}

impl Served {
    async fn channel(&self, from: IpAddr) -> Result<Channel, tonic::transport::Error> {
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority)).domain_name(NAME);
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address))?.tls_config(tls)?;
        endpoint.local_address(Some(from)).connect().await
    }

    async fn client(&self, from: IpAddr) -> CoordinationClient<Channel> {
        let connected = tokio::time::timeout(LIMIT, self.channel(from)).await.expect("in time");
        CoordinationClient::new(connected.expect("a connection"))
    }

    /// A connection on which nothing was said yet.
    async fn socket(&self, from: IpAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("an address");
        socket.connect(self.address).await.expect("the listener accepts")
    }

    /// The same after its handshake; an error when that is not answered.
    async fn encrypted(&self, from: IpAddr) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        let authority = rustls::pki_types::pem::PemObject::from_pem_slice(self.authority.as_bytes());
        roots.add(authority.expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = rustls::pki_types::ServerName::try_from(NAME).expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, self.socket(from).await).await?;
        Ok(stream)
    }
}

fn request<T>(index: u32, secret: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    let mut put = |key: &'static str, value: String| {
        metadata.insert(key, MetadataValue::try_from(value).expect("text"))
    };
    put("authorization", format!("Bearer {secret}"));
    put(META_RUN, UID.to_owned());
    put(META_INDEX, index.to_string());
    put(META_ATTEMPT, "0".to_owned());
    request
}

/// A control stream that was welcomed; the sender keeps it open.
async fn session(
    client: &mut CoordinationClient<Channel>,
    index: u32,
) -> Result<(mpsc::UnboundedSender<v1::FromAgent>, Streaming<v1::FromCoordinator>), Status> {
    let (outbound, receiver) = mpsc::unbounded_channel();
    let hello = v1::Hello { protocol: PROTOCOL, ..v1::Hello::default() };
    let _ = outbound.send(v1::FromAgent { seq: 0, seen: 0, epoch: 0, body: Some(Up::Hello(hello)) });
    let request = request(index, "secret", UnboundedReceiverStream::new(receiver));
    let mut inbound = client.control(request).await?.into_inner();
    inbound.message().await?;
    Ok((outbound, inbound))
}

/// Reads a stream to its end.
async fn ended(mut stream: Streaming<v1::FromCoordinator>) {
    while let Ok(Some(_)) = stream.message().await {}
}

/// Whether a socket is closed by the other side within the limit.
async fn is_closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> bool {
    let mut read = [0; 256];
    let closed = async { while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {} };
    tokio::time::timeout(LIMIT, closed).await.is_ok()
}

async fn ping(client: &mut CoordinationClient<Channel>) -> Result<v1::PingResponse, Status> {
    client.ping(v1::PingRequest {}).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn silent_connections_of_one_peer_do_not_keep_others_out() {
    let patient = Duration::from_secs(600);
    let caps = Caps {
        handshakes: 3,
        handshakes_per_peer: 2,
        handshake_limit: patient,
        unproven_limit: patient,
        ..Caps::default()
    };
    let served = served(caps).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(served.socket(OTHER).await);
    }
    // Its own next one waits behind them,
    let waits = tokio::time::timeout(Duration::from_millis(500), served.encrypted(OTHER)).await;
    assert!(waits.is_err(), "more handshakes than one peer may have");
    // and another's does not.
    assert_eq!(ping(&mut served.client(ONE).await).await.expect("an answer").state, "Serving");
    drop(silent);
    tokio::time::timeout(LIMIT, served.encrypted(OTHER))
        .await
        .expect("its turn has come")
        .expect("a handshake");
}

#[tokio::test]
async fn a_handshake_and_a_first_proven_call_have_a_limit_in_time() {
    let short = Duration::from_millis(300);
    let caps = Caps { handshake_limit: short, unproven_limit: short, ..Caps::default() };
    let served = served(caps).await;
    assert!(is_closed(served.socket(ONE).await).await, "no handshake");
    assert!(is_closed(served.encrypted(ONE).await.expect("a handshake")).await, "no call");
    // Who only asks whether anybody is there has not said who he is.
    let mut asking = served.client(ONE).await;
    let until_refused = async { while ping(&mut asking).await.is_ok() {} };
    tokio::time::timeout(LIMIT, until_refused).await.expect("it is closed");
    let mut proven = served.client(ONE).await;
    let (_outbound, mut inbound) = session(&mut proven, 0).await.expect("a session");
    let over =
        tokio::time::timeout(4 * short, async { while let Ok(Some(_)) = inbound.message().await {} }).await;
    assert!(over.is_err(), "a session has no such limit");
    ping(&mut proven).await.expect("the connection is there");
}

#[tokio::test]
async fn connections_of_one_peer_are_counted_until_they_are_proven_and_beyond() {
    let caps = Caps { unproven_per_peer: 3, connections_per_peer: 5, ..Caps::default() };
    let served = served(caps).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(served.encrypted(OTHER).await.expect("a handshake"));
    }
    assert!(served.encrypted(OTHER).await.is_err(), "a fourth one that nobody has proven");
    let mut one = served.client(ONE).await;
    let _one = session(&mut one, 0).await.expect("others get through");
    held.clear();
    // Proven ones do not count as such.
    let mut proven = Vec::new();
    let began = Instant::now();
    while proven.len() < 5 {
        assert!(began.elapsed() < LIMIT, "{} connections were proven", proven.len());
        // The end of those above is seen a moment later.
        let Ok(channel) = served.channel(OTHER).await else { continue };
        let mut client = CoordinationClient::new(channel);
        let report = client.report(request(1, "secret", tokio_stream::empty())).await;
        report.expect("it is proven");
        proven.push(client);
    }
    assert!(served.encrypted(OTHER).await.is_err(), "a sixth connection");
    ping(&mut one).await.expect("others are there");
}

#[tokio::test]
async fn streams_of_one_connection_have_a_limit() {
    let served = served(Caps::default()).await;
    let client = served.client(ONE).await;
    let mut open = Vec::new();
    for index in 0..16 {
        open.push(session(&mut client.clone(), index).await.expect("a session"));
    }
    let mut more = client.clone();
    let next = session(&mut more, 16);
    tokio::pin!(next);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut next).await.is_err(), "a seventeenth");
    session(&mut served.client(ONE).await, 17).await.expect("another connection has room");
    open.pop();
    tokio::time::timeout(LIMIT, next).await.expect("there is room again").expect("a session");
}

#[tokio::test]
async fn an_attempt_has_two_sessions_and_a_third_ends_the_oldest() {
    let served = served(Caps::default()).await;
    let mut client = served.client(ONE).await;
    let (_first_out, first) = session(&mut client, 0).await.expect("a session");
    let (_other_out, other) = session(&mut client, 1).await.expect("a session of another agent");
    let (_second_out, _second) = session(&mut client, 0).await.expect("a second session");
    let (_third_out, mut third) = session(&mut client, 0).await.expect("a third session");
    tokio::time::timeout(LIMIT, ended(first)).await.expect("the first one ends");
    let either = async {
        tokio::select! {
            () = ended(other) => {}
            () = async { while let Ok(Some(_)) = third.message().await {} } => {}
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(1), either).await.is_err(), "the others go on");
}

#[tokio::test]
async fn a_session_ends_when_who_opened_it_is_not_there_any_more() {
    let served = served(Caps::default()).await;
    let mut client = served.client(ONE).await;
    let (_out, gone) = session(&mut client, 0).await.expect("a session");
    let (keep, receiver) = mpsc::unbounded_channel::<v1::IntervalRecord>();
    let reports = client.report(request(0, "secret", UnboundedReceiverStream::new(receiver))).await;
    let mut reports = reports.expect("a stream of reports").into_inner();
    let (_there_out, there) = session(&mut client, 1).await.expect("a session of another agent");
    served.trust.still.store(false, Ordering::SeqCst);
    let began = Instant::now();
    tokio::time::timeout(LIMIT, ended(gone)).await.expect("the session ends");
    while let Ok(Some(_)) = tokio::time::timeout(LIMIT, reports.message()).await.expect("reports end") {}
    println!("sessions ended {:?} after their pod", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(keep);
    assert!(tokio::time::timeout(Duration::from_secs(3), ended(there)).await.is_err(), "the other goes on");
}

#[tokio::test]
async fn sizes_have_limits_and_the_next_call_gets_through() {
    let served = served(Caps::default()).await;
    // A megabyte where a token should be: the connection or the call is refused, and nothing is said.
    let mut long = served.client(ONE).await;
    let refused = long.report(request(0, &"x".repeat(1 << 20), tokio_stream::empty())).await;
    let status = refused.expect_err("it is refused");
    assert!(!format!("{status:?}").contains(UID), "{status:?}");
    // Anybody may ask whether somebody is there, in a few bytes.
    let mut asking = tonic::client::Grpc::new(served.channel(ONE).await.expect("a connection"));
    asking.ready().await.expect("a connection");
    let codec = tonic_prost::ProstCodec::<v1::SubmitChunk, v1::PingResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/lockstep.v1.Coordination/Ping");
    let large = Request::new(v1::SubmitChunk { data: vec![0; 64 << 10] });
    let answer = asking.unary(large, path, codec).await;
    assert!(answer.is_err(), "64 KiB of nobody are read");
    // Who is known may say more, and not without end.
    let mut client = served.client(ONE).await;
    let (outbound, stream) = session(&mut client, 0).await.expect("a session");
    let text = "x".repeat(9 << 20);
    let beat = v1::Beat { what: text, ..v1::Beat::default() };
    let _ = outbound.send(v1::FromAgent { seq: 0, seen: 0, epoch: 0, body: Some(Up::Beat(beat)) });
    tokio::time::timeout(LIMIT, ended(stream)).await.expect("the session ends");
    session(&mut client, 0).await.expect("the next one gets through");
}

#[tokio::test]
async fn whoever_proves_nothing_learns_nothing() {
    let served = served(Caps::default()).await;
    let mut client = served.client(ONE).await;
    let answer = ping(&mut client).await.expect("an answer");
    assert!(!format!("{answer:?}").contains("nightly") && !format!("{answer:?}").contains(UID), "{answer:?}");
    let mut words = Vec::new();
    for (run, secret) in [(UID, "wrong"), (UID, ""), ("no such run", "secret"), ("no such run", "")] {
        let mut request = request(0, secret, tokio_stream::empty());
        request.metadata_mut().insert(META_RUN, MetadataValue::try_from(run).expect("text"));
        let status = client.report(request).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::Unauthenticated);
        words.push(status.message().to_owned());
    }
    words.dedup();
    assert_eq!(words.len(), 1, "what is there shows in the words: {words:?}");
}
