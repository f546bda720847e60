//! Limits on what a peer may take, each with its number and its reason.

use http_body_util::Limited;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::server::NamedService;

/// The largest message that is read of an agent whom we know, bytes: a second of all its histograms is a tenth of it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// The largest message that is read of anybody, bytes: of `Ping`, which says nothing.
const ANYBODY_BYTES_MAX: usize = 1 << 10;
/// Streams of one connection: an agent has a control stream on one, and a report stream and a result on another.
pub(crate) const STREAMS_MAX: u32 = 16;
/// The longest list of headers of a request, bytes: room for the longest token, and for what stands beside it.
pub(crate) const HEADERS_BYTES_MAX: u32 = 24 << 10;
/// How long a proven caller may take to say hello.
pub(crate) const HELLO_LIMIT: Duration = Duration::from_secs(10);

/// Limits on connections. Agents of one machine, or behind one gateway, share an address; so what is capped per address
/// leaves room for a whole run, and what may keep others out is capped low.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Handshakes under way at a time: they cost the processor.
    pub handshakes: usize,
    /// The same of one address.
    pub handshakes_per_peer: usize,
    /// How long one handshake may take.
    pub handshake_limit: Duration,
    /// How long a connection may wait for its handshake, and then for its first proven call.
    pub unproven_limit: Duration,
    /// Connections of one address of which no call was proven.
    pub unproven_per_peer: usize,
    /// All connections of one address.
    pub connections_per_peer: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            handshakes: 256,
            handshakes_per_peer: 64,
            handshake_limit: Duration::from_secs(5),
            unproven_limit: Duration::from_secs(10),
            unproven_per_peer: 1_024,
            connections_per_peer: 16_384,
        }
    }
}

/// A service whose `Ping`, which anybody may call, reads next to nothing. Everything else proves its caller before it
/// reads a message.
#[derive(Clone, Debug)]
pub(crate) struct Capped<S>(pub(crate) S);

impl<S: NamedService> NamedService for Capped<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Capped<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        let is_ping = request.uri().path().ends_with("/Ping");
        let limit = |body| Body::new(Limited::new(body, ANYBODY_BYTES_MAX));
        self.0.call(if is_ping { request.map(limit) } else { request })
    }
}
