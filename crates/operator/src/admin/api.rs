//! A client of the API server whose requests are counted, all in one place: by method, resource and answer, with the
//! bytes that they send.
//!
//! It repeats nothing by itself: who asked knows best whether the same is still to be done, and a write that is repeated below
//! [`crate::leader::fence`] would pass it unasked. Nor does it wait for ever for an answer to begin.

use super::vitals::Vitals;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::Config;
use kube::client::{Body, ClientBuilder, DynBody};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tower::timeout::{Timeout, TimeoutLayer};
use tower::util::BoxService;
use tower::{BoxError, Layer, Service};

/// Resources that are told apart: those that the operator's rights name.
const RESOURCES: [&str; 8] = [
    "benchmarkruns",
    "pods",
    "configmaps",
    "events",
    "leases",
    "secrets",
    "tokenreviews",
    "validatingadmissionpolicies",
];

/// How long an answer may take to begin; a watch begins at once, whatever it brings later. An API server that is starting
/// may keep a request until its own limit of a minute.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// What a client passes its requests to.
pub type Passed = Counting<Timeout<BoxService<Request<Body>, Response<Box<DynBody>>, BoxError>>>;

/// A client whose requests are counted, for whoever wants to put something before that.
///
/// # Errors
/// When the certificates of the configuration are none.
pub fn builder(mut config: Config, vitals: Arc<Vitals>) -> Result<ClientBuilder<Passed>, kube::Error> {
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&TimeoutLayer::new(ANSWER_LIMIT)).with_layer(&Counted::new(vitals)))
}

/// Counts what passes.
#[derive(Clone, Debug)]
pub struct Counted(Arc<Vitals>);

impl Counted {
    /// Counts into these.
    #[must_use]
    pub fn new(vitals: Arc<Vitals>) -> Self {
        Self(vitals)
    }
}

impl<S> Layer<S> for Counted {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counting { inner, vitals: Arc::clone(&self.0) }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counting<S> {
    inner: S,
    vitals: Arc<Vitals>,
}

impl<S, B> Service<Request<Body>> for Counting<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (vitals, began) = (Arc::clone(&self.vitals), Instant::now());
        let (method, resource) = (method(request.method()), resource(request.uri().path()));
        let bytes = http_body::Body::size_hint(request.body()).lower();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or("error", |answer| match answer.status().as_u16() / 100 {
                2 => "2xx",
                3 => "3xx",
                4 => "4xx",
                _ => "5xx",
            });
            vitals.requested((method, resource, code), bytes, began.elapsed());
            answer
        })
    }
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// The resource of a path of the API; `other` is any that the operator has no business with.
fn resource(path: &str) -> &'static str {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    // /api/VERSION or /apis/GROUP/VERSION, then perhaps /namespaces/NAME.
    let skipped = if segments.next() == Some("api") { 1 } else { 2 };
    let mut segments = segments.skip(skipped);
    let mut first = segments.next();
    if first == Some("namespaces") {
        first = segments.nth(1);
    }
    RESOURCES.into_iter().find(|known| first == Some(known)).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_it_is_of() {
        for (path, expected) in [
            ("/api/v1/namespaces/pods/configmaps/x", "configmaps"),
            ("/api/v1/pods", "pods"),
            ("/apis/lockstep.dev/v1alpha1/namespaces/a/benchmarkruns/pods/status", "benchmarkruns"),
            ("/apis/authentication.k8s.io/v1/tokenreviews", "tokenreviews"),
            ("/version", "other"),
            ("/", "other"),
        ] {
            assert_eq!(resource(path), expected, "{path}");
        }
    }
}
