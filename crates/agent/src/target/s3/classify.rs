//! From what came over the wire to an error class and a sentence.
//!
//! It is done here because only the transport sees status, S3 error code and the kind of I/O error together:
//! `object_store` folds most of them into one. Policy (budgets, actions) is deliberately not known here.

use lockstep_core::op::ErrorClass;
use object_store::client::HttpErrorKind;
use std::error::Error;
use std::io;

/// Why a request came to nothing, as the transport saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The class that policy looks at.
    pub(super) class: ErrorClass,
    /// Status of the answer, if there was one.
    pub(super) status: Option<u16>,
    /// `HTTP 403 AccessDenied`, or what happened to the connection.
    pub(super) what: String,
    /// The server's own words, if it had any.
    pub(super) message: String,
    /// The S3 error code, empty if there was none.
    pub(super) code: String,
}

impl Fault {
    /// A failure before, or other than, an answer.
    pub(super) fn transport(class: ErrorClass, what: String) -> Self {
        Self { class, status: None, what, message: String::new(), code: String::new() }
    }

    /// An answer with a status that is no success, and (the beginning of) its body.
    pub(super) fn answer(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let code = element(&text, "Code").unwrap_or_default();
        let message = element(&text, "Message").unwrap_or_default();
        let what = if code.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status} {code}") };
        Self {
            class: class_of(status, code, !body.is_empty()),
            status: Some(status),
            what,
            message: message.into(),
            code: code.into(),
        }
    }

    /// The whole sentence: `HTTP 403 AccessDenied on PUT of d00/f12 at http://…: Access denied.`
    pub(super) fn sentence(&self, verb: &str, name: &str, endpoint: &str) -> String {
        let mut text = format!("{} on {verb} of {name} at {endpoint}", self.what);
        if !self.message.is_empty() {
            text.push_str(": ");
            text.push_str(&self.message);
        }
        text
    }
}

/// The class of an answer. Codes win over statuses where servers disagree on the status.
fn class_of(status: u16, code: &str, has_body: bool) -> ErrorClass {
    match code {
        "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" => {
            return ErrorClass::Throttled;
        }
        "RequestTimeout" => return ErrorClass::Timeout,
        "QuotaExceeded"
        | "InsufficientStorage"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded"
        | "InsufficientCapacity"
        | "NotEnoughSpace" => return ErrorClass::Full,
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" | "AccessDenied" => {
            return ErrorClass::Permission;
        }
        _ => {}
    }
    match status {
        401 | 403 => ErrorClass::Permission,
        408 | 504 => ErrorClass::Timeout,
        429 | 503 => ErrorClass::Throttled,
        507 => ErrorClass::Full,
        // A 4xx with a body in which S3 would have put a code: whoever answers is no S3 server.
        400..=499 if code.is_empty() && has_body => ErrorClass::Protocol,
        404 => ErrorClass::NotFound,
        _ => ErrorClass::Other,
    }
}

/// Text of the first element with this name, for the flat error documents of S3.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (value, _) = rest.split_once(&format!("</{name}>"))?;
    Some(value.trim())
}

/// What an error of the HTTP client means. `connecting`: it happened while a connection was made.
pub(super) fn of_client(error: &(dyn Error + 'static), connecting: bool) -> (Fault, HttpErrorKind) {
    let (mut class, mut kind) = if connecting {
        (ErrorClass::Connect, HttpErrorKind::Connect)
    } else {
        (ErrorClass::Reset, HttpErrorKind::Interrupted)
    };
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause.to_string());
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_parse() || hyper.is_parse_status())
        {
            (class, kind) = (ErrorClass::Protocol, HttpErrorKind::Decode);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::TimedOut
            && !connecting
        {
            (class, kind) = (ErrorClass::Timeout, HttpErrorKind::Timeout);
        }
        next = cause.source();
    }
    (Fault::transport(class, text), kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const XML: &str = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>No.</Message></Error>";

    #[test]
    fn answers_get_their_class() {
        for (status, body, class) in [
            (403, XML, ErrorClass::Permission),
            (403, "", ErrorClass::Permission),
            (404, "", ErrorClass::NotFound),
            (404, "<Error><Code>NoSuchKey</Code></Error>", ErrorClass::NotFound),
            (404, "<html>nothing here</html>", ErrorClass::Protocol),
            (429, "", ErrorClass::Throttled),
            (503, "<Error><Code>SlowDown</Code></Error>", ErrorClass::Throttled),
            (503, "upstream is gone", ErrorClass::Throttled),
            (400, "<Error><Code>RequestTimeout</Code></Error>", ErrorClass::Timeout),
            (403, "<Error><Code>QuotaExceeded</Code></Error>", ErrorClass::Full),
            (507, "", ErrorClass::Full),
            (500, "<Error><Code>InternalError</Code></Error>", ErrorClass::Other),
            (301, "", ErrorClass::Other),
        ] {
            assert_eq!(Fault::answer(status, body.as_bytes()).class, class, "{status} {body}");
        }
    }

    #[test]
    fn a_sentence_says_what_where_and_the_servers_words() {
        assert_eq!(
            Fault::answer(403, XML.as_bytes()).sentence("PUT", "d00/f12", "http://s3:9000"),
            "HTTP 403 AccessDenied on PUT of d00/f12 at http://s3:9000: No."
        );
    }
}
