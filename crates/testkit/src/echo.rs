//! A server that tells what it was told: keys, signature, the text that was signed, the session token, in bodies, headers
//! and redirects, raw and encoded. What a client does with such an answer shows whether it leaks.
//!
//! It also tells the secret key, which no server is sent: one that knows it, as that of the same owner does, can.

use crate::s3::ReplyBody;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// In what the secrets come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// In the words of an error with this status: as its message, and in elements beside it as S3 has them.
    Words(u16),
    /// The same in base64, hex, and for URLs.
    Encoded(u16),
    /// As the error's code.
    Code(u16),
    /// In headers of an answer without a body.
    Headers(u16),
    /// In the query of the address that a redirect with this status names.
    Redirect(u16, String),
}

/// Tells secrets, and keeps which.
#[derive(Clone, Debug, Default)]
pub struct Echo {
    /// What it knows beside what it is sent.
    known: Vec<String>,
    told: Arc<Mutex<BTreeMap<&'static str, Vec<String>>>>,
}

impl Echo {
    /// Knows these beside what it is sent.
    #[must_use]
    pub fn knowing(secrets: &[&str]) -> Self {
        Self { known: secrets.iter().map(ToString::to_string).collect(), told: Arc::default() }
    }

    /// Every secret that was told so far, with what it is.
    #[must_use]
    pub fn told(&self) -> Vec<(&'static str, String)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.iter().flat_map(|(what, texts)| texts.iter().map(|text| (*what, text.clone()))).collect()
    }

    pub(crate) fn reply(&self, request: &Parts, manner: &Manner) -> Response<ReplyBody> {
        let secrets = self.secrets(request);
        let words =
            secrets.iter().map(|(what, text)| format!("{what} {text}")).collect::<Vec<_>>().join("; ");
        let mut headers = HeaderMap::new();
        let (status, code, message) = match manner {
            Manner::Words(status) => (*status, "SignatureDoesNotMatch".to_owned(), words),
            Manner::Encoded(status) => {
                let all = secrets.iter().flat_map(|(_, text)| encodings(text)).collect::<Vec<_>>().join(" ");
                (*status, "AccessDenied".to_owned(), all)
            }
            Manner::Code(status) => {
                let code = secrets.iter().map(|(_, text)| text.replace('\n', "")).collect::<String>();
                (*status, code, String::new())
            }
            Manner::Headers(status) => {
                for (number, (_, text)) in secrets.iter().enumerate() {
                    let name = HeaderName::try_from(format!("x-amz-echo-{number}")).expect("a name");
                    let text = text.replace('\n', " ");
                    headers.insert(name, HeaderValue::try_from(&text).expect("visible text"));
                    headers.append("x-amz-request-id", HeaderValue::try_from(text).expect("visible text"));
                }
                (*status, String::new(), String::new())
            }
            Manner::Redirect(status, to) => {
                let query =
                    secrets.iter().map(|(_, text)| url(text)).collect::<Vec<_>>().join("&X-Amz-Signature=");
                let to = format!("{to}{}?X-Amz-Signature={query}", request.uri.path());
                headers.insert(LOCATION, HeaderValue::try_from(to).expect("an address"));
                (*status, "PermanentRedirect".to_owned(), words)
            }
        };
        let text = match code.is_empty() {
            true => String::new(),
            false => {
                let elements: String =
                    secrets.iter().map(|(what, text)| format!("<{what}>{text}</{what}>")).collect();
                format!(
                    "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message>{elements}</Error>"
                )
            }
        };
        let mut response =
            Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed());
        *response.status_mut() = StatusCode::from_u16(status).expect("a status that exists");
        *response.headers_mut() = headers;
        response
    }

    /// What is secret about a request, noted as told.
    fn secrets(&self, request: &Parts) -> Vec<(&'static str, String)> {
        let header = |name: &str| {
            request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let mut secrets: Vec<(&'static str, String)> =
            self.known.iter().map(|text| ("Known", text.clone())).collect();
        let authorization = header("authorization");
        let part = |name: &str| {
            let (_, rest) = authorization.split_once(name)?;
            Some(rest.split([',', ' ']).next().unwrap_or_default().to_owned())
        };
        if let (Some(credential), Some(signed), Some(signature)) =
            (part("Credential="), part("SignedHeaders="), part("Signature="))
        {
            let (key, scope) = credential.split_once('/').unwrap_or((&credential, ""));
            secrets.push(("AWSAccessKeyId", key.to_owned()));
            secrets.push(("StringToSign", string_to_sign(request, scope, &signed)));
            secrets.push(("SignatureProvided", signature));
        }
        let token = header("x-amz-security-token");
        if !token.is_empty() {
            secrets.push(("Token", token));
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (what, text) in &secrets {
            let of_kind = told.entry(what).or_default();
            if !of_kind.contains(text) {
                of_kind.push(text.clone());
            }
        }
        secrets
    }
}

/// The text that was signed (AWS Signature Version 4, task 2), made anew from the request.
fn string_to_sign(request: &Parts, scope: &str, signed: &str) -> String {
    let mut canonical =
        format!("{}\n{}\n{}\n", request.method, request.uri.path(), request.uri.query().unwrap_or_default());
    let header =
        |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for name in signed.split(';') {
        // Writing to a String cannot fail.
        let _ = writeln!(canonical, "{name}:{}", header(name).trim());
    }
    let _ = write!(canonical, "\n{signed}\n{}", header("x-amz-content-sha256"));
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", header("x-amz-date"))
}

/// A text as it is, in base64 (both alphabets, wherever in a longer text it stands), in hex, and for URLs: what a search
/// for it must find.
#[must_use]
pub fn encodings(text: &str) -> Vec<String> {
    let mut all = vec![text.to_owned(), url(text), hex(text.as_bytes()), hex(text.as_bytes()).to_uppercase()];
    for before in 0..3 {
        let padded = [&vec![0; before][..], text.as_bytes()].concat();
        let encoded = base64(&padded);
        // What depends on the neighbours is left out.
        let (from, to) = ([0, 2, 3][before], padded.len() / 3 * 4);
        if to > from {
            all.push(encoded[from..to].to_owned());
            all.push(encoded[from..to].replace('+', "-").replace('/', "_"));
        }
    }
    all.sort();
    all.dedup();
    all
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn url(text: &str) -> String {
    let write = |byte: u8| match byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(write).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0)));
        (0..=group.len())
            .map(|at| char::from(DIGITS[((bits >> (18 - 6 * at)) & 63) as usize]))
            .collect::<String>()
    };
    bytes.chunks(3).map(digits).collect()
}
