//! Listeners below HTTP: one that nobody listens on, one that hears everything and says nothing, one that talks nonsense,
//! one that hangs up, one with a certificate that nobody trusts, one that accepts nobody.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A loopback address that refuses connections: it was free a moment ago.
#[must_use]
pub fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("the listener's address")
}

/// What is done with a connection.
enum Manner {
    Silent,
    Answer(&'static [u8]),
    Reset,
    Tls(Arc<ServerConfig>),
}

/// A listener that answers every connection in one way.
pub struct Raw {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Raw {
    /// Reads, and never answers.
    #[must_use]
    pub fn silent() -> Self {
        Self::start(Manner::Silent)
    }

    /// Answers the first bytes of every connection with these, and closes it.
    #[must_use]
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::start(Manner::Answer(answer))
    }

    /// Resets every connection once its first bytes are there.
    #[must_use]
    pub fn resetting() -> Self {
        Self::start(Manner::Reset)
    }

    /// Speaks TLS as far as its certificate goes, which nobody trusts.
    #[must_use]
    pub fn tls() -> Self {
        let pem = include_bytes!("untrusted.pem");
        let certificate = CertificateDer::from_pem_slice(pem).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(pem).expect("its key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate that fits its key");
        Self::start(Manner::Tls(Arc::new(config)))
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("the listener's address");
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&accepted));
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
                match &manner {
                    Manner::Silent => open.push(socket),
                    Manner::Answer(answer) => {
                        let _ = socket.read(&mut [0; 4096]);
                        let _ = socket.write_all(answer);
                    }
                    // The kernel resets a connection that is closed with bytes that nobody read.
                    Manner::Reset => _ = socket.peek(&mut [0]),
                    Manner::Tls(config) => {
                        let mut tls = ServerConnection::new(Arc::clone(config)).expect("a server's side");
                        let _ = tls.complete_io(&mut socket);
                    }
                }
            }
        });
        Self { address, stop, accepted, thread: Some(thread) }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread; an error means that it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listener whose queue is full, so that nobody gets a connection.
pub struct Full {
    listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Full {
    /// Listens, and fills its own queue.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
        let listener = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a loopback port");
            socket.listen(1).and_then(tokio::net::TcpListener::into_std).expect("a listener")
        });
        let address = listener.local_addr().expect("the listener's address");
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = std::iter::from_fn(connect).take(64).collect::<Vec<_>>();
        assert!(waiting.len() < 64, "the queue of a listener does not get full");
        Self { listener, _waiting: waiting }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("the listener's address")
    }
}
