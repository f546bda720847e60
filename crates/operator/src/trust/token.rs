//! A ServiceAccount's token, read: what it claims, before anybody vouches for it, and whether that would do.
//!
//! Claims as kube-apiserver makes them (KEP-1205, `privateClaims` in pkg/serviceaccount/claims.go). Pure; signatures are
//! `jwks.rs`'. What is claimed here is believed by nobody until the API server, or a key of its, has confirmed it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The longest token that is looked at, bytes; one of a pod has about 1,200.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// How far the clocks of two machines may be apart, seconds.
const LEEWAY_S: i64 = 30;

/// A token taken apart.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    /// What the signature is of.
    pub signed: &'a str,
    /// The signature.
    pub signature: Vec<u8>,
    /// How it is signed, and by which key.
    pub header: Header,
    /// What it says.
    pub claims: Claims,
}

/// Header of a token.
#[derive(Clone, Debug, Deserialize)]
pub struct Header {
    /// Name of the algorithm.
    pub alg: String,
    /// Name of the key.
    #[serde(default)]
    pub kid: String,
}

/// What a token claims.
#[derive(Clone, Debug, Deserialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// For whom it is.
    #[serde(deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When it ends, seconds since 1970.
    pub exp: i64,
    /// When it begins.
    #[serde(default)]
    pub nbf: i64,
    /// What it is bound to.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Bound,
}

/// What a token is bound to.
#[derive(Clone, Debug, Deserialize)]
pub struct Bound {
    /// Namespace of the ServiceAccount, and of the pod.
    pub namespace: String,
    /// The pod; a token that is bound to none is not one of a pod.
    pub pod: PodReference,
}

/// A pod.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct PodReference {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Reads a token without believing it; `None` when it is none of a pod.
#[must_use]
pub fn read(text: &str) -> Option<Token<'_>> {
    if text.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let (signed, signature) = text.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    Some(Token {
        signed,
        signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        header: json(header)?,
        claims: json(claims)?,
    })
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

impl Claims {
    /// Whether the token is for this audience, and for nobody else.
    #[must_use]
    pub fn is_for(&self, audience: &str) -> bool {
        self.aud.len() == 1 && self.aud[0] == audience
    }

    /// Whether the token holds at this time, seconds since 1970.
    #[must_use]
    pub fn holds_at(&self, now_s: i64) -> bool {
        self.nbf <= now_s.saturating_add(LEEWAY_S) && now_s.saturating_sub(LEEWAY_S) < self.exp
    }
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn token(claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&json!({"alg": "RS256", "kid": "k"})), part(claims), "c2ln")
    }

    fn claims() -> Value {
        json!({
            "iss": "https://kubernetes.default.svc.cluster.local", "aud": ["lockstep.dev/perf/nightly/u"],
            "exp": 2_000, "nbf": 1_000, "iat": 1_000,
            "kubernetes.io": {"namespace": "perf", "pod": {"name": "nightly-0-0", "uid": "p"},
                              "serviceaccount": {"name": "default", "uid": "s"}},
        })
    }

    #[test]
    fn what_a_token_claims_is_read() {
        let text = token(&claims());
        let read = read(&text).expect("a token");
        assert_eq!((read.header.alg.as_str(), read.header.kid.as_str()), ("RS256", "k"));
        assert_eq!(read.signature, b"sig");
        assert!(text.starts_with(read.signed) && read.signed.matches('.').count() == 1);
        let pod = PodReference { name: "nightly-0-0".to_owned(), uid: "p".to_owned() };
        assert_eq!((read.claims.kubernetes.namespace.as_str(), read.claims.kubernetes.pod), ("perf", pod));
    }

    #[test]
    fn what_is_no_token_of_a_pod_is_not_read() {
        let mut without_pod = claims();
        without_pod["kubernetes.io"] = json!({"namespace": "perf", "serviceaccount": {"name": "default"}});
        for text in ["", ".", "..", "a.b.c", "e30.e30.", &token(&without_pod), &token(&json!({}))] {
            assert!(read(text).is_none(), "{text}");
        }
        let long = format!("{}.{}", token(&claims()), "x".repeat(1 << 20));
        assert!(read(&long).is_none());
    }

    #[test]
    fn a_token_is_for_one_audience_and_one_time() {
        let of = |aud: Value| {
            let mut claims = claims();
            claims["aud"] = aud;
            serde_json::from_value::<Claims>(claims).expect("claims")
        };
        let (ours, other) = ("lockstep.dev/perf/nightly/u", "https://kubernetes.default.svc");
        for (aud, expected) in [
            (json!([ours]), true),
            (json!(ours), true),
            (json!([ours, other]), false),
            (json!([other]), false),
            (json!([]), false),
            (json!(format!("{ours}x")), false),
        ] {
            assert_eq!(of(aud.clone()).is_for(ours), expected, "{aud}");
        }
        for (now_s, holds) in
            [(969, false), (970, true), (1_500, true), (2_029, true), (2_030, false), (i64::MAX, false)]
        {
            assert_eq!(of(json!([])).holds_at(now_s), holds, "{now_s}");
        }
    }
}
