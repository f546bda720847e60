//! One session with one replica of the coordinator: connecting, proving who we are, hello, and what is read then.
//! Redialling is done in [`super::lines`]; whether the agent still should work meanwhile is decided elsewhere.

use super::{Access, Identity};
use crate::clock::now_ns;
use lockstep_proto::v1::coordination_client::CoordinationClient;
use lockstep_proto::v1::{self, from_agent::Body as Up, from_coordinator::Body as Down};
use lockstep_proto::{META_ATTEMPT, META_INDEX, META_RUN, PROTOCOL};
use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// How long one attempt to connect may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// What the dialler tells the control loop.
#[derive(Debug)]
pub(crate) enum Wire {
    /// A session is open, and the replica there coordinates the run; hello was sent.
    Up(SocketAddr, mpsc::UnboundedSender<v1::FromAgent>),
    /// A message was read.
    Message(SocketAddr, Box<v1::FromCoordinator>),
    /// The session is over, or could not be opened; without an address: nobody could be dialled.
    Down(Option<SocketAddr>, String),
}

/// What every hello and every pong says of what was read: numbers count within an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Greeting {
    pub(crate) epoch: u64,
    pub(crate) seen: u64,
}

/// An endpoint at `address`, with the settings that both of an agent's connections use.
pub(crate) fn endpoint(identity: &Identity, address: SocketAddr) -> Result<Endpoint, DialError> {
    let endpoint = match &identity.access {
        Access::Secret(_) => Endpoint::from_shared(format!("http://{address}"))?,
        Access::Cluster { authorities, .. } => {
            let bundle = read(authorities)?;
            // Replicas share a certificate, which bears the name that all of them have.
            let name = identity.coordinator.rsplit_once(':').map_or("", |(host, _)| host);
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(bundle)).domain_name(name);
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        }
    };
    Ok(endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

/// Why nothing can be dialled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// What is needed for it cannot be read.
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] std::io::Error),
    /// Its address or certificates are not ones.
    #[error("the coordinator's address, or the bundle of its authorities, is not one")]
    Endpoint(#[from] tonic::transport::Error),
}

fn read(path: &Path) -> Result<String, DialError> {
    std::fs::read_to_string(path).map_err(|error| DialError::File(path.to_owned(), error))
}

/// Puts who we are, and its proof, on a call.
pub(crate) fn sign(identity: &Identity, metadata: &mut MetadataMap) -> Result<(), DialError> {
    let secret = match &identity.access {
        Access::Secret(secret) => secret.clone(),
        Access::Cluster { token, .. } => read(token)?.trim().to_owned(),
    };
    let mut put = |key: &'static str, value: String, sensitive: bool| {
        if let Ok(mut value) = MetadataValue::try_from(value) {
            value.set_sensitive(sensitive);
            metadata.insert(key, value);
        }
    };
    put("authorization", format!("Bearer {secret}"), true);
    put(META_RUN, identity.uid.clone(), false);
    put(META_INDEX, identity.index.to_string(), false);
    put(META_ATTEMPT, identity.attempt.to_string(), false);
    Ok(())
}

/// Counts a session for as long as this lives.
struct Welcomed<'a>(&'a watch::Sender<usize>);

impl<'a> Welcomed<'a> {
    fn count(sessions: &'a watch::Sender<usize>) -> Self {
        sessions.send_modify(|count| *count += 1);
        Self(sessions)
    }
}

impl Drop for Welcomed<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// One session: answers when it is over, or why there was none. Since the replica there has said that it coordinates the run,
/// it counts among those `welcomed`.
pub(crate) async fn session(
    identity: &Identity,
    address: SocketAddr,
    greeting: &Rc<Cell<Greeting>>,
    welcomed: &watch::Sender<usize>,
    events: &mpsc::UnboundedSender<Wire>,
) -> Result<(), String> {
    let channel: Channel = endpoint(identity, address)
        .map_err(|error| root_cause(&error))?
        .connect()
        .await
        .map_err(|error| root_cause(&error))?;
    let say = |body| {
        let Greeting { epoch, seen } = greeting.get();
        v1::FromAgent { seq: 0, seen, epoch, body: Some(body) }
    };
    let mut client = CoordinationClient::new(channel).max_decoding_message_size(8 << 20);
    let (outbound, receiver) = mpsc::unbounded_channel();
    let hello = v1::Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        memory_bytes: rustix::system::sysinfo().totalram as u64,
        wall_ms: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64),
    };
    let _ = outbound.send(say(Up::Hello(hello)));
    let mut request = Request::new(UnboundedReceiverStream::new(receiver));
    sign(identity, request.metadata_mut()).map_err(|error| root_cause(&error))?;
    let mut inbound =
        client.control(request).await.map_err(|status| status.message().to_owned())?.into_inner();
    let mut up = None;
    loop {
        match inbound.message().await {
            Ok(Some(message)) => {
                if let Some(Down::Ping(ping)) = &message.body {
                    // Answered here and now: every hop would only widen the bound of the clock estimate.
                    let pong = v1::Pong { sent_ns: ping.sent_ns, agent_ns: now_ns() };
                    let _ = outbound.send(say(Up::Pong(pong)));
                }
                if up.is_none() && matches!(message.body, Some(Down::Welcome(_))) {
                    up = Some(Welcomed::count(welcomed));
                    events
                        .send(Wire::Up(address, outbound.clone()))
                        .map_err(|_| "the agent ends".to_owned())?;
                }
                events
                    .send(Wire::Message(address, Box::new(message)))
                    .map_err(|_| "the agent ends".to_owned())?;
            }
            Ok(None) if up.is_some() => return Ok(()),
            Ok(None) => return Err("the coordinator closed the stream before it welcomed us".to_owned()),
            Err(status) if up.is_some() => {
                tracing::debug!(code = ?status.code(), message = status.message(), "stream ended");
                return Ok(());
            }
            Err(status) => return Err(status.message().to_owned()),
        }
    }
}

/// The innermost error of a chain: what the system said.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
