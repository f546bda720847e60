//! What kept an HTTP client from an answer, in words: `connection refused by 10.0.0.7:9000 (ECONNREFUSED)`.
//!
//! Errors of hyper are chains whose links say `client error (Connect)` and `tcp connect error`; what a person needs is
//! in the last ones, and in no public type of theirs. Names of system errors stand in brackets, to be searched for.
//! Deliberately nothing about answers with a status: those are `classify.rs`'.

use super::classify::Fault;
use lockstep_core::op::ErrorClass;
use object_store::client::HttpErrorKind;
use rustix::io::Errno;
use rustls::CertificateError;
use std::error::Error;
use std::io;

/// What was being done when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A connection was made, TLS included.
    Connect,
    /// The request was sent, or its answer waited for.
    Answer,
    /// The answer's body was read.
    Body,
}

/// What `error` means; `peer` is `host:port`.
pub(super) fn of_client(error: &(dyn Error + 'static), step: Step, peer: &str) -> (Fault, HttpErrorKind) {
    let (class, what) = told(error, step, peer);
    let kind = match class {
        ErrorClass::Connect => HttpErrorKind::Connect,
        ErrorClass::Protocol => HttpErrorKind::Decode,
        ErrorClass::Timeout => HttpErrorKind::Timeout,
        _ => HttpErrorKind::Interrupted,
    };
    (Fault::transport(class, what), kind)
}

/// Text of the error that all others wrap.
pub(super) fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The errors of a chain, outermost first. An `io::Error` hides the one that it wraps from `source`.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let (mut found, mut next) = (Vec::new(), Some(error));
    while let Some(error) = next {
        found.push(error);
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

/// The class of what happened, and what it was.
fn told(error: &(dyn Error + 'static), step: Step, peer: &str) -> (ErrorClass, String) {
    let broken = if step == Step::Connect { ErrorClass::Connect } else { ErrorClass::Reset };
    let chain = chain(error);
    if let Some(tls) = chain.iter().find_map(|error| error.downcast_ref::<rustls::Error>()) {
        return (ErrorClass::Protocol, format!("TLS with {peer} failed: {}", of_tls(tls)));
    }
    // The resolver's own type is not public; this is how the standard library begins its text.
    let lookup = "failed to lookup address information: ";
    let why = chain.iter().find_map(|error| error.to_string().strip_prefix(lookup).map(str::to_owned));
    if let Some(why) = why {
        let host = peer.rsplit_once(':').map_or(peer, |(host, _)| host);
        return (broken, format!("the name {host} cannot be looked up ({why})"));
    }
    let inner = chain.iter().rev().find_map(|error| error.downcast_ref::<io::Error>());
    if let Some(errno) = inner.and_then(io::Error::raw_os_error) {
        return of_system(Errno::from_raw_os_error(errno), broken, peer);
    }
    if let Some(hyper) = chain.iter().find_map(|error| error.downcast_ref::<hyper::Error>()) {
        if hyper.is_parse() || hyper.is_parse_status() {
            return (ErrorClass::Protocol, format!("{peer} does not speak HTTP/1.1 ({hyper})"));
        }
        if hyper.is_incomplete_message() {
            return (broken, format!("{peer} closed the connection before it answered"));
        }
        if hyper.is_canceled() || hyper.is_closed() {
            return (broken, format!("the connection to {peer} was closed before the request was sent"));
        }
    }
    match (inner.map(io::Error::kind), step) {
        (Some(io::ErrorKind::TimedOut), Step::Connect) => {
            (broken, format!("{peer} did not accept a connection in time (option connectTimeout)"))
        }
        (Some(io::ErrorKind::TimedOut), _) => {
            (ErrorClass::Timeout, format!("{peer} was silent for too long"))
        }
        (Some(io::ErrorKind::UnexpectedEof), Step::Connect) => {
            (broken, format!("{peer} closed the connection in the middle of the TLS handshake"))
        }
        (Some(io::ErrorKind::UnexpectedEof), _) => {
            (broken, format!("{peer} closed the connection before the end of its answer"))
        }
        _ => (broken, format!("the connection to {peer} failed: {}", innermost(error))),
    }
}

/// The same of an error of the system.
fn of_system(errno: Errno, broken: ErrorClass, peer: &str) -> (ErrorClass, String) {
    let (class, what, name) = match errno {
        Errno::CONNREFUSED => (broken, format!("connection refused by {peer}"), "ECONNREFUSED"),
        Errno::CONNRESET => (broken, format!("connection reset by {peer}"), "ECONNRESET"),
        Errno::CONNABORTED => (broken, format!("connection to {peer} aborted"), "ECONNABORTED"),
        Errno::PIPE => (broken, format!("{peer} closed the connection while the request was sent"), "EPIPE"),
        Errno::TIMEDOUT if broken == ErrorClass::Connect => {
            (broken, format!("nobody answers at {peer}"), "ETIMEDOUT")
        }
        Errno::TIMEDOUT => {
            (ErrorClass::Timeout, format!("{peer} does not acknowledge what is sent"), "ETIMEDOUT")
        }
        Errno::HOSTUNREACH => (broken, format!("there is no way to {peer}"), "EHOSTUNREACH"),
        Errno::NETUNREACH => (broken, format!("there is no way to the network of {peer}"), "ENETUNREACH"),
        Errno::ADDRNOTAVAIL => {
            (broken, format!("no local port is left for a connection to {peer}"), "EADDRNOTAVAIL")
        }
        Errno::MFILE => (broken, "the agent has too many open files".into(), "EMFILE"),
        Errno::ACCESS | Errno::PERM => {
            (broken, format!("this machine forbids connections to {peer}"), "EACCES or EPERM")
        }
        other => return (broken, format!("the connection to {peer} failed: {}", io::Error::from(other))),
    };
    (class, format!("{what} ({name})"))
}

/// Why TLS failed.
fn of_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".into(),
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "nobody whom this machine trusts has signed its certificate (UnknownIssuer)".into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired".into(),
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".into(),
        rustls::Error::InvalidCertificate(CertificateError::Other(why)) => {
            format!("its certificate is not accepted ({why})")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::Counters;
    use super::super::transport::pool;
    use super::*;
    use http_body_util::BodyExt;
    use lockstep_testkit::raw::{Full, Raw, closed_port};
    use object_store::client::HttpRequestBody;
    use std::sync::Arc;
    use std::time::Duration;

    /// What a request over a real socket comes to, up to the end of the answer.
    fn asked(url: &str, peer: &str, connect_timeout: Duration) -> (ErrorClass, String) {
        // Without root certificates, which is enough to fail.
        let pool = pool(false, 0, connect_timeout, Arc::new(Counters::default())).unwrap();
        let request = http::Request::get(url).body(HttpRequestBody::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (error, step) = runtime.block_on(async {
            match pool.request(request).await {
                Err(error) => {
                    let step = if error.is_connect() { Step::Connect } else { Step::Answer };
                    (Box::new(error) as Box<dyn Error>, step)
                }
                Ok(response) => (Box::new(response.collect().await.unwrap_err()) as _, Step::Body),
            }
        });
        let (fault, _) = of_client(&*error, step, peer);
        (fault.class, fault.what)
    }

    #[test]
    fn what_happens_to_a_socket_is_told_in_words() {
        let nonsense = Raw::answering(b"SSH-2.0-OpenSSH_9.6\r\n");
        let closing = Raw::answering(b"");
        let resetting = Raw::resetting();
        let short = Raw::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        let full = Full::start();
        let untrusted = Raw::tls();
        // A label of more than 63 characters fits into no question, so none is asked.
        let nobody = format!("{}.invalid", "x".repeat(64));
        let cases = [
            (
                "http",
                closed_port().to_string(),
                ErrorClass::Connect,
                "connection refused by PEER (ECONNREFUSED)",
            ),
            (
                "http",
                full.address().to_string(),
                ErrorClass::Connect,
                "PEER did not accept a connection in time (option connectTimeout)",
            ),
            ("http", format!("{nobody}:80"), ErrorClass::Connect, "the name HOST cannot be looked up (*)"),
            (
                "http",
                nonsense.address().to_string(),
                ErrorClass::Protocol,
                "PEER does not speak HTTP/1.1 (invalid HTTP version parsed)",
            ),
            (
                "http",
                closing.address().to_string(),
                ErrorClass::Reset,
                "PEER closed the connection before it answered",
            ),
            (
                "http",
                resetting.address().to_string(),
                ErrorClass::Reset,
                "connection reset by PEER (ECONNRESET)",
            ),
            (
                "http",
                short.address().to_string(),
                ErrorClass::Reset,
                "PEER closed the connection before the end of its answer",
            ),
            (
                "https",
                nonsense.address().to_string(),
                ErrorClass::Protocol,
                "TLS with PEER failed: it does not speak TLS",
            ),
            (
                "https",
                closing.address().to_string(),
                ErrorClass::Connect,
                "PEER closed the connection in the middle of the TLS handshake",
            ),
            (
                "https",
                untrusted.address().to_string(),
                ErrorClass::Protocol,
                "TLS with PEER failed: nobody whom this machine trusts has signed its certificate (UnknownIssuer)",
            ),
        ];
        for (scheme, peer, class, says) in cases {
            let connect_timeout =
                Duration::from_millis(if peer == full.address().to_string() { 200 } else { 10_000 });
            let (found, what) = asked(&format!("{scheme}://{peer}/"), &peer, connect_timeout);
            let says = says.replace("PEER", &peer).replace("HOST", &nobody);
            let fits = match says.split_once('*') {
                Some((head, tail)) => what.starts_with(head) && what.ends_with(tail),
                None => what == says,
            };
            assert!(found == class && fits, "{scheme} {says}: {found:?} {what}");
        }
    }
}
