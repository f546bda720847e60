//! Connections of the admin port, each for one request, and bounds on all that a stranger may take.
//!
//! When as many connections are open as may be, the oldest one goes: whoever holds them all open cannot keep a probe
//! out, which is answered within milliseconds, and so cannot have the operator restarted.

use super::Admin;
use super::routes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// Connections at once.
pub const CONNECTIONS_MAX: usize = 64;
/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 4 * 1024;
/// Bytes of its head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long its head may take.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last.
const CONNECTION_LIMIT: Duration = Duration::from_secs(20);
/// Pause after a connection could not be taken: most likely no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds the port. Where that is one address of the pod, the pod's loopback address gets one of the same number, since that
/// is where `kubectl port-forward` comes in; without it everything but `/log` is there all the same.
///
/// # Errors
/// When the address itself cannot be bound.
pub async fn bind(address: SocketAddr) -> io::Result<Vec<TcpListener>> {
    let mut listeners = vec![TcpListener::bind(address).await?];
    let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
    if !address.ip().is_unspecified() && address.ip() != loopback {
        match TcpListener::bind((loopback, address.port())).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::warn!(%error, port = address.port(), "the log cannot be set: no loopback port");
            }
        }
    }
    Ok(listeners)
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the admin port takes no connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        open.retain(|connection| !connection.is_finished());
        if open.len() >= CONNECTIONS_MAX
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let connection = connection(stream, peer, Arc::clone(&admin));
        open.push_back(tokio::spawn(tokio::time::timeout(CONNECTION_LIMIT, connection)).abort_handle());
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, admin: Arc<Admin>) {
    let Ok(local) = stream.local_addr() else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(request, peer, local, &admin).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "a connection of the admin port broke");
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    local: SocketAddr,
    admin: &Admin,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return routes::too_large(),
    };
    routes::answer(&head.method, head.uri.path(), &body, (peer.ip(), local.ip()), admin)
}
