//! Connections: accepted, made quick, and where asked for, encrypted.
//!
//! Whoever connects is not known until a call of it was proven, so until then it has little: a number of connections per
//! address, a part of the handshakes that run beside each other, and a short time. A peer that opens connections and says
//! nothing, or only asks whether anybody is there, must not keep others out. Deliberately knows no certificates: the
//! configuration brings a resolver, so that they change without a session being dropped.

use crate::caps::Caps;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::server::Connected;

/// Connections that are ready and not yet served.
const READY_MAX: usize = 64;
/// Wait after an error of the listener itself, e.g. no file descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Plain connections.
pub(crate) fn plain(listener: TcpListener) -> impl tokio_stream::Stream<Item = io::Result<TcpStream>> {
    tokio_stream::StreamExt::map(TcpListenerStream::new(listener), |connection| connection.inspect(quicken))
}

/// Encrypted connections. Ends when the stream is dropped.
pub(crate) fn encrypted(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    caps: Caps,
) -> ReceiverStream<io::Result<Guarded>> {
    let (ready, connections) = mpsc::channel(READY_MAX);
    let acceptor = TlsAcceptor::from(config);
    let (crowd, handshakes) = (Crowd::new(caps), Arc::new(Semaphore::new(caps.handshakes)));
    tokio::spawn(async move {
        while !ready.is_closed() {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let Some((peer, its_handshakes)) = crowd.admit(address.ip()) else {
                tracing::debug!(%address, "too many connections of one address");
                continue;
            };
            quicken(&stream);
            let (acceptor, ready, handshakes) = (acceptor.clone(), ready.clone(), Arc::clone(&handshakes));
            tokio::spawn(async move {
                let greet = async {
                    // Those of one address wait for each other first, so that they do not wait in everybody's way.
                    let _its = its_handshakes.acquire().await.map_err(io::Error::other)?;
                    let _of_all = handshakes.acquire().await.map_err(io::Error::other)?;
                    let limit = tokio::time::timeout(caps.handshake_limit, acceptor.accept(stream));
                    limit.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                };
                match tokio::time::timeout(caps.unproven_limit, greet).await {
                    Ok(Ok(stream)) => {
                        let deadline = Some(Box::pin(tokio::time::sleep(caps.unproven_limit)));
                        _ = ready.send(Ok(Guarded { stream, peer, deadline })).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                    Err(_) => tracing::debug!(%address, "a handshake did not get its turn"),
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

/// A heartbeat must not wait for the next one to fill a packet.
fn quicken(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}

/// Who is connected, by address.
struct Crowd {
    caps: Caps,
    peers: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

struct Count {
    connections: usize,
    unproven: usize,
    handshakes: Arc<Semaphore>,
}

impl Crowd {
    fn new(caps: Caps) -> Self {
        Self { caps, peers: Arc::default() }
    }

    /// Takes a connection in, unless its address has too many already.
    fn admit(&self, address: IpAddr) -> Option<(Peer, Arc<Semaphore>)> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let count = peers.entry(address).or_insert_with(|| Count {
            connections: 0,
            unproven: 0,
            handshakes: Arc::new(Semaphore::new(self.caps.handshakes_per_peer)),
        });
        if count.connections >= self.caps.connections_per_peer
            || count.unproven >= self.caps.unproven_per_peer
        {
            return None;
        }
        count.connections += 1;
        count.unproven += 1;
        let handshakes = Arc::clone(&count.handshakes);
        let inner = PeerInner { address, proven: AtomicBool::new(false), peers: Arc::clone(&self.peers) };
        Some((Peer(Arc::new(inner)), handshakes))
    }
}

/// Who is at the other end of a connection. Stands in the extensions of its requests.
#[derive(Clone)]
pub(crate) struct Peer(Arc<PeerInner>);

struct PeerInner {
    address: IpAddr,
    proven: AtomicBool,
    peers: Arc<Mutex<HashMap<IpAddr, Count>>>,
}

impl Peer {
    /// A call of this connection was proven.
    pub(crate) fn prove(&self) {
        if !self.0.proven.swap(true, Ordering::Relaxed) {
            self.0.count(|count| count.unproven -= 1);
        }
    }

    fn is_proven(&self) -> bool {
        self.0.proven.load(Ordering::Relaxed)
    }
}

impl PeerInner {
    fn count(&self, change: impl FnOnce(&mut Count)) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.address) {
            change(count);
            if count.connections == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

impl Drop for PeerInner {
    fn drop(&mut self) {
        let unproven = !*self.proven.get_mut();
        self.count(|count| {
            count.connections -= 1;
            count.unproven -= usize::from(unproven);
        });
    }
}

/// An encrypted connection that ends unless a call of it is proven in time.
pub(crate) struct Guarded {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Connected for Guarded {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.peer.is_proven() {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
