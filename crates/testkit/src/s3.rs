//! An S3 server in this process, on loopback: `s3s` over a temporary directory, under a layer that counts every
//! request and fails as told.
//!
//! Its listener sets `TCP_NODELAY`: without it each get of this server waits 40 ms for a delayed acknowledgement, and a
//! test measures that. It runs on a thread of its own, so plain test code can use it. It deliberately checks
//! signatures, because half of what goes wrong with S3 is that.

use crate::s3_faults::{Action, Faults};
pub use crate::s3_faults::{Fault, FaultHandle};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Access key that the server knows.
pub const ACCESS_KEY: &str = "test-access-key";
/// Secret key that belongs to it.
pub const SECRET_KEY: &str = "test-secret-key";
/// The bucket that is there from the start.
pub const BUCKET: &str = "bench";

/// Size of the pieces in which bodies are sent.
const PIECE_BYTES: usize = 256 << 10;

/// One request, as the server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// `GET`, `PUT`, `HEAD`, `DELETE`, `POST`, or `LIST` for a GET of the bucket.
    pub verb: String,
    /// Key of the object; the prefix for a list.
    pub key: String,
    /// Query, undecoded.
    pub query: String,
    /// `User-Agent`, empty if there was none.
    pub user_agent: String,
    /// Whether it is about the data: no key beside the data (`.lockstep…`), and no list of less than a full page.
    pub is_data: bool,
    /// Number of the connection that it came over, from 0.
    pub connection: usize,
}

pub(crate) type ReplyBody = BoxBody<Bytes, io::Error>;

struct Shared {
    service: S3Service,
    faults: Arc<Faults>,
    seen: Mutex<Vec<Seen>>,
    under_way: AtomicUsize,
    connections: AtomicUsize,
    /// Told of every request that begins or ends.
    changed: watch::Sender<()>,
}

/// The server. Ends when dropped.
pub struct TestS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
    directory: TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestS3 {
    /// Starts a server with one empty bucket, [`BUCKET`].
    #[must_use]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory for the S3 server");
        std::fs::create_dir(directory.path().join(BUCKET)).expect("a directory for the bucket");
        let files = s3s_fs::FileSystem::new(directory.path()).expect("the S3 server opens its directory");
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let shared = Arc::new(Shared {
            service: builder.build(),
            faults: Arc::default(),
            seen: Mutex::default(),
            under_way: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            changed: watch::Sender::new(()),
        });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("the listener's address");
        let (stop, stopped) = oneshot::channel();
        let server = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("test-s3".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener joins the runtime");
                tokio::select! {
                    () = accept(listener, server) => {}
                    _ = stopped => {}
                }
            });
        });
        let thread = thread.expect("a thread for the S3 server");
        Self { address, shared, directory, stop: Some(stop), thread: Some(thread) }
    }

    /// URL of the server.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The directory whose subdirectories are the buckets.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file that holds the content of an object of [`BUCKET`].
    #[must_use]
    pub fn file(&self, key: &str) -> PathBuf {
        self.directory.path().join(BUCKET).join(key)
    }

    /// Every request so far, in the order of arrival.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests so far satisfy a condition.
    #[must_use]
    pub fn count(&self, condition: impl Fn(&Seen) -> bool) -> usize {
        self.seen().iter().filter(|seen| condition(seen)).count()
    }

    /// How many requests about data had this verb so far.
    #[must_use]
    pub fn data(&self, verb: &str) -> usize {
        self.count(|seen| seen.is_data && seen.verb == verb)
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// How many requests are under way; one whose client went away is not.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::SeqCst)
    }

    /// Waits until a condition holds, looking anew whenever a request has begun or ended; for at most `limit`.
    ///
    /// # Panics
    /// It does not hold within `limit`.
    pub async fn until(&self, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let met = async { changed.wait_for(|()| condition(self)).await.is_ok() };
        assert_eq!(
            tokio::time::timeout(limit, met).await,
            Ok(true),
            "the server never got there: {:?}",
            self.seen()
        );
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// From now on, fails as told. Faults are looked at in the order of their making; the first that applies, acts.
    pub fn fault(&self, fault: Fault) -> FaultHandle {
        self.shared.faults.add(fault)
    }
}

impl Drop for TestS3 {
    fn drop(&mut self) {
        self.shared.faults.clear();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            let number = shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(socket, number, Arc::clone(&shared)));
        }
    }
}

async fn serve(socket: TcpStream, connection: usize, shared: Arc<Shared>) {
    if socket.set_nodelay(true).is_err() {
        return;
    }
    let service = hyper::service::service_fn(move |request| answer(request, connection, Arc::clone(&shared)));
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new());
    // An error here is a client that went away, or a fault that closes the connection.
    let _ = server.serve_connection(TokioIo::new(socket), service).await;
}

/// Counts a request as under way until it is dropped, which hyper does when the client goes away.
struct UnderWay(Arc<Shared>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.send_replace(());
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    shared: Arc<Shared>,
) -> io::Result<Response<ReplyBody>> {
    let seen = see(&request, connection);
    let action = shared.faults.choose(&seen);
    let is_list = seen.verb == "LIST";
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    shared.under_way.fetch_add(1, Ordering::SeqCst);
    let _under_way = UnderWay(Arc::clone(&shared));
    shared.changed.send_replace(());
    let body = match action {
        None => None,
        Some(Action::Before(wait)) => {
            wait.over().await;
            None
        }
        Some(Action::Instead(instead)) => {
            // The request is read first: an answer before its end would be another fault than the one asked for.
            let (head, body) = request.into_parts();
            body.collect().await.map_err(io::Error::other)?;
            return instead.reply(&head);
        }
        Some(Action::Body(change)) => Some(change),
    };
    let response = serve_request(&shared.service, request, is_list).await;
    let response = response.map_err(|error| io::Error::other(format!("{error:?}")))?;
    Ok(response.map(|inner| {
        let inner = inner.map_err(|error| io::Error::other(error.to_string()));
        match body {
            None => BodyExt::boxed(Whole::new(inner)),
            Some(change) => change.apply(BodyExt::boxed(Whole::new(inner))),
        }
    }))
}

/// Has the inner server answer. Its list walks a directory and fails with status 500 on a file that goes away meanwhile,
/// which is no fault that any S3 has: such a list is made again.
async fn serve_request(
    service: &S3Service,
    request: Request<Incoming>,
    is_list: bool,
) -> Result<Response<s3s::Body>, s3s::HttpError> {
    let (head, body) = request.into_parts();
    if !is_list {
        return service.call(Request::from_parts(head, s3s::Body::from(body))).await;
    }
    let mut tries = 0;
    loop {
        let response = service.call(Request::from_parts(head.clone(), s3s::Body::empty())).await?;
        tries += 1;
        if response.status() != StatusCode::INTERNAL_SERVER_ERROR || tries == 20 {
            return Ok(response);
        }
    }
}

fn see(request: &Request<Incoming>, connection: usize) -> Seen {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let path = request.uri().path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_, key)| key);
    let parameter = |name: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    let list = request.method() == Method::GET && key.is_empty();
    let (verb, key, is_data) = if list {
        let full_page = parameter("max-keys").is_none_or(|keys| keys == "1000");
        ("LIST".to_owned(), parameter("prefix").unwrap_or_default().replace("%2F", "/"), full_page)
    } else {
        let name = key.rsplit('/').next().unwrap_or_default();
        (request.method().to_string(), key.to_owned(), !name.starts_with(".lockstep"))
    };
    let user_agent = request.headers().get(http::header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Seen { verb, key, query, user_agent: user_agent.unwrap_or_default().to_owned(), is_data, connection }
}

/// An error answer as S3 writes it.
pub(crate) fn error_reply(status: u16, code: &str) -> Response<ReplyBody> {
    let text = if code.is_empty() {
        String::new()
    } else {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as the test said</Message></Error>"
        )
    };
    let body = http_body_util::Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status that exists");
    response
}

/// Makes a body `Sync`, which hyper's boxed bodies ask for and `s3s`'s are not, and its pieces large: a file comes in
/// pieces of 4 KiB, which would make every client pay for 256 wake-ups per MiB that no real server causes.
struct Whole<B> {
    inner: Mutex<Pin<Box<B>>>,
    kept: BytesMut,
}

impl<B: Body<Data = Bytes, Error = io::Error>> Whole<B> {
    fn new(inner: B) -> Self {
        Self { inner: Mutex::new(Box::pin(inner)), kept: BytesMut::new() }
    }
}

impl<B: Body<Data = Bytes, Error = io::Error>> Body for Whole<B> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let inner = this.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        while this.kept.len() < PIECE_BYTES {
            match ready!(inner.as_mut().poll_frame(context)) {
                Some(Ok(frame)) => this.kept.extend_from_slice(&frame.into_data().unwrap_or_default()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if this.kept.is_empty() => return Poll::Ready(None),
                None => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(this.kept.split().freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.lock().unwrap_or_else(PoisonError::into_inner).size_hint();
        let kept = self.kept.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + kept);
        }
        hint.set_lower(hint.lower() + kept);
        hint
    }
}
