//! Connections: accepted, made quick, and where asked for, encrypted.
//!
//! Handshakes run beside each other and have a limit in number and time, since whoever makes them is not known yet: a
//! peer that opens connections and says nothing must not keep others out. Deliberately knows no certificates: the
//! configuration brings a resolver, so that they change without a session being dropped.

use rustls::ServerConfig;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};

/// Handshakes under way at a time; more connections wait in the kernel.
const HANDSHAKES_MAX: usize = 256;
/// How long one may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
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
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (ready, connections) = mpsc::channel(HANDSHAKES_MAX);
    let acceptor = TlsAcceptor::from(config);
    let permits = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    tokio::spawn(async move {
        while !ready.is_closed() {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            quicken(&stream);
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                let _permit = permit;
                match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => _ = ready.send(Ok(stream)).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                    Err(_) => tracing::debug!("a handshake took too long"),
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
