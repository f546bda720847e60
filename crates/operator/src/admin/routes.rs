//! What is answered to whom.
//!
//! `/log` is for whoever is in the pod already (`kubectl exec`, `kubectl port-forward`): both ends of the connection are
//! the same loopback address. An address of the pod would not do, since a proxy beside us may forward from it; nor would
//! any loopback address, since a service mesh hands strangers on from one of its own (127.0.0.6).

use super::Admin;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{Method, Response, StatusCode};
use std::net::IpAddr;

/// As Prometheus asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Answers a request that was read. `ends`: addresses of whoever asks and of ours.
#[must_use]
pub fn answer(
    method: &Method,
    path: &str,
    body: &[u8],
    ends: (IpAddr, IpAddr),
    admin: &Admin,
) -> Response<Full<Bytes>> {
    match (path, method) {
        ("/livez", &Method::GET) => health(admin.is_alive()),
        ("/readyz", &Method::GET) => health(admin.is_ready()),
        ("/metrics", &Method::GET) => match admin.metrics() {
            Ok(text) => respond(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        ("/log", &Method::GET | &Method::PUT) if !is_own_loopback(ends) => respond(
            StatusCode::FORBIDDEN,
            TEXT,
            "the log is set from within the pod: kubectl port-forward, or kubectl debug\n".to_owned(),
        ),
        ("/log", &Method::GET) => respond(StatusCode::OK, TEXT, format!("{}\n", admin.log.get())),
        ("/log", &Method::PUT) => set_log(admin, body),
        ("/livez" | "/readyz" | "/metrics", _) => not_allowed("GET"),
        ("/log", _) => not_allowed("GET, PUT"),
        _ => respond(StatusCode::NOT_FOUND, TEXT, "/livez /readyz /metrics /log\n".to_owned()),
    }
}

/// A body above its limit.
#[must_use]
pub fn too_large() -> Response<Full<Bytes>> {
    respond(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too large\n".to_owned())
}

/// Whether both ends are one loopback address.
#[must_use]
pub fn is_own_loopback((peer, local): (IpAddr, IpAddr)) -> bool {
    let (peer, local) = (peer.to_canonical(), local.to_canonical());
    peer == local && peer.is_loopback()
}

fn set_log(admin: &Admin, body: &[u8]) -> Response<Full<Bytes>> {
    let Ok(filter) = std::str::from_utf8(body) else {
        return respond(StatusCode::BAD_REQUEST, TEXT, "the filter is no text\n".to_owned());
    };
    match admin.log.set(filter.trim()) {
        Ok(()) => {
            tracing::info!(filter = admin.log.get(), "the log is filtered anew");
            respond(StatusCode::OK, TEXT, format!("{}\n", admin.log.get()))
        }
        Err(error) => respond(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    }
}

fn health(is: Result<(), String>) -> Response<Full<Bytes>> {
    match is {
        Ok(()) => respond(StatusCode::OK, TEXT, "ok\n".to_owned()),
        Err(why) => respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
    }
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("{allowed}\n"));
    response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    response
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_and_the_same_loopback_address_at_both_ends_may_set_the_log() {
        let check = |peer: &str, local: &str, is| {
            let ends = (peer.parse().unwrap(), local.parse().unwrap());
            assert_eq!(is_own_loopback(ends), is, "{peer} {local}");
        };
        check("127.0.0.1", "127.0.0.1", true);
        check("::1", "::1", true);
        check("::ffff:127.0.0.1", "::ffff:127.0.0.1", true);
        check("127.0.0.6", "127.0.0.1", false);
        check("127.0.0.1", "127.64.0.9", false);
        check("10.0.0.7", "10.0.0.7", false);
        check("10.0.0.8", "10.0.0.7", false);
    }
}
