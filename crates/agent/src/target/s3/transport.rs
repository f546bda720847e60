//! The HTTP under `object_store`: one request in, one request out, everything counted.
//!
//! `object_store` builds and signs requests; this module sends them, and is where the truth about them is visible:
//! status codes, connections, bytes, when the head of the answer came, which kind of I/O error it was. It is hyper
//! without the layers that would bend a measurement: no retry (not even of requests that died with an idle
//! connection before they were sent), no redirect, no proxy, no compression, no name cache, HTTP/1.1 only, `TCP_NODELAY`.
//! What an error means for an operation is decided in `classify.rs` and `causes.rs`.

use super::causes::{self, Step};
use super::classify::Fault;
use super::counters::Counters;
use crate::clock::now_ns;
use crate::engine::hands::Hands;
use crate::scrub::Scrub;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{DATE, HeaderValue, USER_AGENT};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lockstep_core::op::ErrorClass;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

/// Idle connections kept for each endpoint; above any sensible concurrency of one core.
pub(super) const IDLE_CONNECTIONS: usize = 4_096;
/// How long an idle connection is kept. Shorter than the usual 60 s or more of servers, so that they rarely close first.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Limit of a connection's read buffer, and so of one read, bytes.
pub(super) const READ_BUFFER_BYTES: usize = 256 << 10;
/// How much of an error answer is kept.
const ERROR_BODY_BYTES: usize = 64 << 10;

/// What the answer to a list begins with,
const LIST_ROOT: &[u8] = b"<ListBucketResult";
/// within so many bytes.
const LIST_HEAD_BYTES: usize = 512;

/// Connections of one (core, endpoint); cloning shares them.
pub(super) type Pool = Client<Counting<HttpsConnector<TcpConnector>>, HttpRequestBody>;

/// A new pool without connections.
///
/// # Errors
/// No root certificates were found (looked for only when `tls`).
pub(super) fn pool(
    tls: bool,
    idle: usize,
    connect_timeout: Duration,
    counters: Arc<Counters>,
) -> io::Result<Pool> {
    let mut tcp = TcpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(15)));
    let provider = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = if tls {
        builder.with_provider_and_native_roots(provider)?
    } else {
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        builder.with_tls_config(config)
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .retry_canceled_requests(false)
        .http1_max_buf_size(READ_BUFFER_BYTES)
        .build(Counting { inner: connector, counters }))
}

/// A connector that counts how often it is asked.
#[derive(Clone)]
pub(super) struct Counting<C> {
    inner: C,
    counters: Arc<Counters>,
}

impl<C: Service<http::Uri>> Service<http::Uri> for Counting<C> {
    type Response = C::Response;
    type Error = C::Error;
    type Future = C::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        self.counters.connecting();
        self.inner.call(uri)
    }
}

/// What the transport saw of the operation under way. One worker does one operation at a time, so one of these
/// per worker is enough; the atomics are never contended, they only satisfy `Sync`.
#[derive(Debug, Default)]
pub(super) struct Trace {
    requests: AtomicU64,
    first_byte_ns: AtomicU64,
    status: AtomicU16,
    server_date: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

impl Trace {
    /// Forgets the operation before.
    pub(super) fn begin(&self) {
        self.first_byte_ns.store(0, Ordering::Relaxed);
        self.status.store(0, Ordering::Relaxed);
        drop(self.take_fault());
    }

    /// Requests since the last call.
    pub(super) fn take_requests(&self) -> u64 {
        self.requests.swap(0, Ordering::Relaxed)
    }

    /// When the head of the first answer was there, agent's clock.
    pub(super) fn first_byte_ns(&self) -> Option<u64> {
        Some(self.first_byte_ns.load(Ordering::Relaxed)).filter(|at_ns| *at_ns != 0)
    }

    /// Status of the latest answer; 0 is none.
    pub(super) fn status(&self) -> u16 {
        self.status.load(Ordering::Relaxed)
    }

    /// The server's own clock in the latest answer, Unix seconds; `None` when it did not say.
    pub(super) fn server_date(&self) -> Option<u64> {
        Some(self.server_date.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }

    /// The latest fault, which is forgotten by this.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_fault(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }

    fn head(&self, response: &http::Response<Incoming>, dates: bool) {
        self.status.store(response.status().as_u16(), Ordering::Relaxed);
        if self.first_byte_ns.load(Ordering::Relaxed) == 0 {
            self.first_byte_ns.store(now_ns(), Ordering::Relaxed);
        }
        if dates {
            let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
            let seconds = date.map_or(0, |date| date.timestamp().max(0).unsigned_abs());
            self.server_date.store(seconds, Ordering::Relaxed);
        }
    }
}

/// Whose requests these are; they are counted apart.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// A worker's operations.
    Data(Hands),
    /// Everything around them.
    Other,
}

/// The service of one worker (or of the place) for one endpoint.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) pool: Pool,
    /// `host:port` of the endpoint, for people.
    pub(super) peer: Arc<str>,
    pub(super) counters: Arc<Counters>,
    pub(super) trace: Arc<Trace>,
    pub(super) purpose: Purpose,
    pub(super) user_agent: HeaderValue,
    pub(super) timeout: Duration,
    /// Cleans what comes from the other side before anybody sees it.
    pub(super) scrub: Scrub,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl Wire {
    fn failed(&self, fault: Fault, kind: HttpErrorKind) -> HttpError {
        let fault = fault.scrubbed(&self.scrub);
        let error = HttpError::new(kind, io::Error::other(fault.what.clone()));
        self.trace.put_fault(fault);
        error
    }

    fn timed_out(&self, waiting_for: &str) -> HttpError {
        let what = format!("no {waiting_for} within {:?}", self.timeout);
        self.failed(Fault::transport(ErrorClass::Timeout, what), HttpErrorKind::Timeout)
    }
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let list = request.uri().query().is_some_and(|query| query.contains("list-type=2"));
        // Not among the signed headers, so it can be set after signing.
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        self.trace.requests.fetch_add(1, Ordering::Relaxed);
        self.counters
            .request(matches!(self.purpose, Purpose::Data(_)), request.body().content_length() as u64);
        let response = match tokio::time::timeout(self.timeout, self.pool.request(request)).await {
            Err(_) => return Err(self.timed_out("answer")),
            Ok(Err(error)) => {
                let step = if error.is_connect() { Step::Connect } else { Step::Answer };
                let (fault, kind) = causes::of_client(&error, step, &self.peer);
                return Err(self.failed(fault, kind));
            }
            Ok(Ok(response)) => response,
        };
        self.trace.head(&response, matches!(self.purpose, Purpose::Other));
        self.counters.status(response.status().as_u16());
        if let Purpose::Data(hands) = &self.purpose {
            hands.moved();
        }
        let success = response.status().is_success();
        let (parts, body) = response.into_parts();
        let mut body = Metered { inner: body, wire: self.clone(), armed: false, sleep: None };
        if success && !list {
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        if success {
            // Any well-formed document passes for an empty page further up, a web page as well.
            let page = body.collect().await?.to_bytes();
            if !page[..page.len().min(LIST_HEAD_BYTES)].windows(LIST_ROOT.len()).any(|text| text == LIST_ROOT)
            {
                let what = format!(
                    "HTTP {} with an answer that is not S3 (no ListBucketResult)",
                    parts.status.as_u16()
                );
                return Err(self.failed(Fault::transport(ErrorClass::Protocol, what), HttpErrorKind::Decode));
            }
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(page)));
        }
        let mut kept = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data()
                && kept.len() < ERROR_BODY_BYTES
            {
                kept.extend_from_slice(&data[..data.len().min(ERROR_BODY_BYTES - kept.len())]);
            }
        }
        let kept = kept.freeze();
        self.trace.put_fault(Fault::answer(parts.status.as_u16(), &kept).scrubbed(&self.scrub));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::from(kept)))
    }
}

/// A body that counts its bytes and does not wait for ever for more of them.
struct Metered {
    inner: Incoming,
    wire: Wire,
    armed: bool,
    // Made at the first wait: a body that is all there never needs one.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.wire.timeout;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        if !self.armed {
            sleep.as_mut().reset(Instant::now() + timeout);
            self.armed = true;
        }
        sleep.as_mut().poll(cx)
    }
}

impl Body for Metered {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.armed = false;
                self.wire.counters.received(frame.data_ref().map_or(0, Bytes::len) as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let (fault, kind) = causes::of_client(&error, Step::Body, &self.wire.peer);
                Poll::Ready(Some(Err(self.wire.failed(fault, kind))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.poll_silence(cx));
                Poll::Ready(Some(Err(self.wire.timed_out("more of the answer's body"))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
