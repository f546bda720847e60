//! From what came over the wire to an error class and a sentence.
//!
//! It is done here because only the transport sees status and S3 error code together: `object_store` folds most of them
//! into one. What goes wrong before there is an answer is in `causes.rs`. Policy (budgets, actions) is deliberately not
//! known here.

use super::tries::TRIES;
use crate::scrub::Scrub;
use lockstep_core::op::ErrorClass;

/// The longest code that is told, characters; S3's own have half of it.
const CODE_MAX: usize = 64;
/// What stands for a code that is none.
const NO_CODE: &str = "(no code of S3)";

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
        let class = class_of(status, code, !body.is_empty());
        let what = match class {
            ErrorClass::Protocol => format!("HTTP {status} with an answer that is not S3"),
            _ if code.is_empty() => format!("HTTP {status}"),
            _ => format!("HTTP {status} {code}"),
        };
        Self { class, status: Some(status), what, message: message.into(), code: code.into() }
    }

    /// The same in words that may be told: a server may say anything, also what it was sent.
    pub(super) fn scrubbed(self, scrub: &Scrub) -> Self {
        let Self { class, status, what, message, code } = self;
        let is_code = code.len() <= CODE_MAX
            && code.chars().all(|one| one.is_ascii_alphabetic() || one == '.')
            && scrub.known(&code) == code;
        let message = scrub.clean(&message);
        match is_code {
            true => Self { class, status, what, message, code },
            false => Self { class, status, what: what.replace(&code, NO_CODE), message, code: String::new() },
        }
    }

    /// Whether the same request may well succeed in a moment. An answer that tells the truth about rights, names or
    /// space does not change by asking again.
    pub(super) fn may_pass(&self) -> bool {
        match self.class {
            ErrorClass::Connect | ErrorClass::Reset | ErrorClass::Timeout | ErrorClass::Throttled => true,
            ErrorClass::Other => matches!(self.status, Some(500 | 502)),
            ErrorClass::NotFound
            | ErrorClass::Permission
            | ErrorClass::Full
            | ErrorClass::Corrupt
            | ErrorClass::Protocol => false,
        }
    }

    /// The same, with how often it was tried.
    pub(super) fn after(self, tries: u32) -> Self {
        Self { what: format!("{tries} of {TRIES} tries: {}", self.what), ..self }
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
    fn what_a_server_says_is_told_without_what_it_was_sent() {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let scrub = Scrub::of(&[secret, "SomeKeyOfLetters"]);
        let told = |code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>No {secret}.</Message></Error>");
            Fault::answer(403, body.as_bytes()).scrubbed(&scrub)
        };
        let fault = told("XMinioAdminBucketQuotaExceeded");
        assert_eq!(fault.what, "HTTP 403 XMinioAdminBucketQuotaExceeded");
        assert_eq!((fault.message.as_str(), fault.class), ("No [hidden].", ErrorClass::Full));
        for code in [secret, "SomeKeyOfLetters", "no code at all", &"a".repeat(65), &"0".repeat(64)] {
            let fault = told(code);
            assert!(!format!("{fault:?}").contains(code), "{fault:?}");
            assert_eq!(fault.class, ErrorClass::Permission);
        }
        assert_eq!(Fault::answer(500, b"").scrubbed(&scrub), Fault::answer(500, b""));
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for (status, body, may_pass) in [
            (500, "", true),
            (502, "<html>", true),
            (503, "", true),
            (504, "", true),
            (429, "", true),
            (408, "", true),
            (501, "<Error><Code>NotImplemented</Code></Error>", false),
            (507, "", false),
            (400, "<Error><Code>InvalidRequest</Code></Error>", false),
            (403, XML, false),
            (404, "<Error><Code>NoSuchBucket</Code></Error>", false),
            (404, "<html>nothing here</html>", false),
            (301, "", false),
        ] {
            assert_eq!(Fault::answer(status, body.as_bytes()).may_pass(), may_pass, "{status} {body}");
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
