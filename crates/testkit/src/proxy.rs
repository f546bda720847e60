//! A TCP proxy between two ends, whose network can be made worse while it runs.
//!
//! It moves bytes and knows no protocol. Holding is not losing: held bytes arrive when the network is well again, as
//! after a partition with TCP's own retransmission. Breaking resets what is open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What the network does. "Up" is from the one who connects (an agent) to the other (the coordinator).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everything passes.
    Pass,
    /// Open connections are reset, and new ones as soon as they are made.
    Refuse,
    /// Nothing passes in either direction; connections stay open.
    Hold,
    /// Nothing passes down, from the coordinator to the agent; up passes.
    HoldDown,
    /// Nothing passes up, from the agent to the coordinator; down passes.
    HoldUp,
    /// Everything passes, this much later for each direction.
    Delay(Duration),
}

impl Network {
    fn holds(self, up: bool) -> bool {
        match self {
            Self::Hold => true,
            Self::HoldDown => !up,
            Self::HoldUp => up,
            Self::Pass | Self::Refuse | Self::Delay(_) => false,
        }
    }
}

/// The proxy. Ends, and closes everything, when dropped.
pub struct Proxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    connections: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy to `upstream`, passing everything.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the listener's address");
        let (network, state) = watch::channel(Network::Pass);
        let (stop, stopped) = oneshot::channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let thread = std::thread::Builder::new().name("test-proxy".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener joins the runtime");
                tokio::select! {
                    () = accept(listener, upstream, state, count) => {}
                    _ = stopped => {}
                }
            });
        });
        let thread = Some(thread.expect("a thread for the proxy"));
        Self { address, network, connections, stop: Some(stop), thread }
    }

    /// Where to connect instead of the upstream.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the network from now on.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Makes the network bad for a time, and well again.
    pub fn set_for(&self, network: Network, time: Duration) {
        self.set(network);
        std::thread::sleep(time);
        self.set(Network::Pass);
    }

    /// How many connections were made to it so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    upstream: SocketAddr,
    network: watch::Receiver<Network>,
    connections: Arc<AtomicUsize>,
) {
    loop {
        if let Ok((client, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(carry(client, upstream, network.clone()));
        }
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, mut network: watch::Receiver<Network>) {
    // Closing with a linger of zero is a reset, which is what a network does that breaks.
    let _ = client.set_zero_linger();
    if *network.borrow_and_update() == Network::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true), server.set_zero_linger());
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = pump(client_read, server_write, network.clone(), true);
    let down = pump(server_read, client_write, network.clone(), false);
    tokio::select! {
        _ = async { tokio::join!(up, down) } => {}
        _ = network.wait_for(|network| *network == Network::Refuse) => {}
    }
}

/// Moves bytes in one direction until its end, then passes the end on.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
    up: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        let delay = match *network.borrow() {
            Network::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if network.wait_for(|network| !network.holds(up)).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream as Socket;

    /// A server that echoes, and a connection to it through a proxy.
    fn echo() -> (Proxy, Socket) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for socket in listener.incoming().take(2) {
                std::thread::spawn(move || {
                    let mut socket = socket.unwrap();
                    let mut byte = [0];
                    while socket.read(&mut byte).is_ok_and(|read| read == 1)
                        && socket.write_all(&byte).is_ok()
                    {}
                });
            }
        });
        let socket = Socket::connect(proxy.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (proxy, socket)
    }

    fn round_trip(socket: &mut Socket) -> std::io::Result<u8> {
        let mut byte = [7];
        socket.write_all(&byte)?;
        socket.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn what_is_held_arrives_later() {
        for network in [Network::Hold, Network::HoldDown, Network::HoldUp] {
            let (proxy, mut socket) = echo();
            assert_eq!(round_trip(&mut socket).unwrap(), 7);
            proxy.set(network);
            socket.write_all(&[9]).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            let mut byte = [0];
            assert!(socket.read_exact(&mut byte).is_err(), "{network:?} let something pass");
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            proxy.set(Network::Pass);
            socket.read_exact(&mut byte).unwrap();
            assert_eq!(byte, [9], "{network:?}");
        }
    }

    #[test]
    fn refusing_resets_what_is_open_and_what_comes_until_it_ends() {
        let (proxy, mut socket) = echo();
        assert_eq!(round_trip(&mut socket).unwrap(), 7);
        proxy.set(Network::Refuse);
        let mut byte = [0];
        assert_ne!(socket.read(&mut byte).ok(), Some(1));
        let mut refused = Socket::connect(proxy.address()).unwrap();
        assert!(round_trip(&mut refused).is_err());
        proxy.set(Network::Pass);
        let mut again = Socket::connect(proxy.address()).unwrap();
        assert_eq!(round_trip(&mut again).unwrap(), 7);
        assert_eq!(proxy.connections(), 3);
    }
}
