//! Listeners below HTTP: one that nobody listens on, one that hears everything and says nothing, one that talks nonsense.

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
        Self::start(None)
    }

    /// Answers the first bytes of every connection with these, and closes it.
    #[must_use]
    pub fn answering(answer: &'static [u8]) -> Self {
        Self::start(Some(answer))
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

    fn start(answer: Option<&'static [u8]>) -> Self {
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
                if let Some(answer) = answer {
                    let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
                    let _ = socket.read(&mut [0; 4096]);
                    let _ = socket.write_all(answer);
                } else {
                    open.push(socket);
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
