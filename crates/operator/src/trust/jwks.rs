//! Verifies tokens by the public keys of the cluster: the way where the operator may not ask the API server whose they are.
//!
//! Issuer and keys come from the API server itself, with the operator's own credentials and over the connection that it
//! trusts anyway: never from an address that a document names. Keys are fetched anew when a token names one that is not
//! known, and now and then, so that one that was withdrawn does not live for ever. Algorithms are those that kube-apiserver
//! signs with, each tied to its kind of key; what a token's header says cannot choose another.

use super::token::Token;
use super::tokens::Unproven;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use kube::Client;
use lockstep_core::problem::{Problem, exit};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the issuer stands.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where the keys stand.
const KEYS: &str = "/openid/v1/jwks";
/// The least time between two fetches: tokens that name unknown keys cost no more than this.
const FETCHES_APART: Duration = Duration::from_secs(10);
/// How long a fetch may take, while which the keys that are known hold.
const FETCH_LIMIT: Duration = Duration::from_secs(5);
/// How long keys hold before they are looked at again; kube-apiserver's own `max-age` is an hour.
const KEYS_HOLD: Duration = Duration::from_secs(600);

/// A public key, as RFC 7517 writes it.
#[derive(Clone, Debug, Deserialize)]
struct Jwk {
    #[serde(default)]
    kid: String,
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Debug, Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

#[derive(Debug, Deserialize)]
struct Discovery {
    issuer: String,
}

/// A key that is ready to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl Key {
    /// `None` for a kind that kube-apiserver does not sign with, or that is broken.
    fn of(jwk: &Jwk) -> Option<Self> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| !bytes.is_empty());
        // An uncompressed point (SEC 1, 2.3.3).
        let point = || Some([&[4][..], &bytes(&jwk.x)?, &bytes(&jwk.y)?].concat());
        match (jwk.kty.as_str(), jwk.crv.as_str()) {
            ("RSA", _) => Some(Self::Rsa { n: bytes(&jwk.n)?, e: bytes(&jwk.e)? }),
            ("EC", "P-256") => Some(Self::P256(point()?)),
            ("EC", "P-384") => Some(Self::P384(point()?)),
            _ => None,
        }
    }

    fn verifies(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match (self, algorithm) {
            (Self::Rsa { n, e }, "RS256") => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            (Self::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(signed, signature)
            }
            (Self::P384(point), "ES384") => {
                UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(signed, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}

/// Keys by name, and when they were asked for last.
#[derive(Debug)]
struct Keys {
    by_name: Vec<(String, Key)>,
    asked: Instant,
}

impl Keys {
    fn of(set: &KeySet, asked: Instant) -> Self {
        let key = |jwk: &Jwk| Some((jwk.kid.clone(), Key::of(jwk)?));
        Self { by_name: set.keys.iter().filter_map(key).collect(), asked }
    }

    fn find(&self, name: &str) -> Option<Key> {
        self.by_name.iter().find(|(kid, _)| kid == name).map(|(_, key)| key.clone())
    }

    /// Whether they are to be asked for again: for a name that is not among them, or since they are old.
    fn are_due(&self, name: &str, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.asked);
        age >= KEYS_HOLD || (age >= FETCHES_APART && self.find(name).is_none())
    }
}

/// The keys of a cluster.
pub struct Jwks {
    client: Client,
    issuer: String,
    keys: Mutex<Keys>,
}

impl Jwks {
    /// Reads issuer and keys of the API server of `client`.
    ///
    /// # Errors
    /// They cannot be read, or are none; the problem names the right that is missing.
    pub async fn read(client: Client) -> Result<Self, Problem> {
        let discovery: Discovery = get(&client, DISCOVERY).await.map_err(|error| unreadable(&error))?;
        let set: KeySet = get(&client, KEYS).await.map_err(|error| unreadable(&error))?;
        let keys = Keys::of(&set, Instant::now());
        if keys.by_name.is_empty() {
            return Err(Problem::new(
                "agents cannot be told by their tokens: the cluster has no key that is known here",
                format!(
                    "{KEYS} of the API server lists {} keys, none of RSA, P-256 or P-384",
                    set.keys.len()
                ),
            )
            .likely("tokens of this cluster are signed with P-521")
            .next("install with scope: cluster, where the API server is asked for each token")
            .exit(exit::REFUSED));
        }
        tracing::info!(issuer = discovery.issuer, keys = keys.by_name.len(), "tokens are verified by keys");
        Ok(Self { client, issuer: discovery.issuer, keys: Mutex::new(keys) })
    }

    /// Whether a key of the cluster has signed the token, its issuer is the cluster's, and it holds at this time.
    ///
    /// # Errors
    /// [`Unproven::Refused`], always: without an answer of the API server the keys that are known go on to hold.
    pub async fn verify(&self, token: &Token<'_>, now_s: i64) -> Result<(), Unproven> {
        if token.claims.iss != self.issuer || !token.claims.holds_at(now_s) {
            return Err(Unproven::Refused);
        }
        let Token { signed, signature, header, .. } = token;
        let key = self.key(&header.kid).await.ok_or(Unproven::Refused)?;
        match key.verifies(&header.alg, signed.as_bytes(), signature) {
            true => Ok(()),
            false => Err(Unproven::Refused),
        }
    }

    async fn key(&self, name: &str) -> Option<Key> {
        let due = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let due = keys.are_due(name, now);
            if due {
                // Whoever comes meanwhile does not ask too.
                keys.asked = now;
            }
            due
        };
        if due {
            match tokio::time::timeout(FETCH_LIMIT, get::<KeySet>(&self.client, KEYS)).await {
                Ok(Ok(set)) => {
                    let fresh = Keys::of(&set, Instant::now());
                    *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the cluster's keys cannot be read; the old ones hold");
                }
                Err(_) => tracing::warn!("the cluster's keys cannot be read in time; the old ones hold"),
            }
        }
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).find(name)
    }
}

async fn get<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, kube::Error> {
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

fn unreadable(error: &kube::Error) -> Problem {
    Problem::new(
        "agents cannot be told by their tokens: issuer and keys of the cluster cannot be read",
        format!("{DISCOVERY} and {KEYS} of the API server: {error}"),
    )
    .likely("the operator's ServiceAccount has no binding to the ClusterRole system:service-account-issuer-discovery")
    .likely("the API server serves no discovery of its ServiceAccount issuer")
    .next(
        "a cluster's admin: kubectl create clusterrolebinding lockstep-issuer-discovery \
         --clusterrole=system:service-account-issuer-discovery --serviceaccount=<namespace>:<serviceAccount>",
    )
    .next("or install with scope: cluster, where TokenReview is used instead")
    .kept("no run was touched")
    .exit(exit::REFUSED)
}

#[cfg(test)]
mod tests {
    use super::super::token;
    use super::*;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    fn set(keys: &serde_json::Value) -> KeySet {
        serde_json::from_value(serde_json::json!({"keys": keys})).expect("a key set")
    }

    /// A key pair of P-256, and the same as a document has it.
    fn pair(kid: &str) -> (EcdsaKeyPair, serde_json::Value) {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key");
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        (pair, serde_json::json!({"kid": kid, "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig"}))
    }

    fn signed(pair: &EcdsaKeyPair, alg: &str) -> String {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(serde_json::json!({"alg": alg, "kid": "one"}));
        let claims = part(serde_json::json!({
            "iss": "i", "aud": "a", "exp": 9, "kubernetes.io": {"namespace": "n", "pod": {"name": "p", "uid": "u"}},
        }));
        let text = format!("{header}.{claims}");
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).expect("a signature");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_signature_is_of_one_key_one_text_and_one_algorithm() {
        let ((pair, jwk), (_, other)) = (pair("one"), pair("two"));
        let keys = Keys::of(&set(&serde_json::json!([jwk, other])), Instant::now());
        let verifies = |text: &str, kid: &str| {
            let token = token::read(text).expect("a token");
            let key = keys.find(kid).expect("a key");
            key.verifies(&token.header.alg, token.signed.as_bytes(), &token.signature)
        };
        let text = signed(&pair, "ES256");
        assert!(verifies(&text, "one"));
        assert!(!verifies(&text, "two"), "another key");
        for alg in ["none", "HS256", "RS256", "ES384", "es256", ""] {
            assert!(!verifies(&signed(&pair, alg), "one"), "{alg}");
        }
        let (head, signature) = text.rsplit_once('.').expect("a signature");
        assert!(!verifies(&format!("{head}."), "one"), "no signature");
        let (header, _) = head.split_once('.').expect("claims");
        let claims = URL_SAFE_NO_PAD.encode(
            r#"{"iss":"i","aud":"a","exp":99,"kubernetes.io":{"namespace":"n","pod":{"name":"p","uid":"u"}}}"#,
        );
        assert!(!verifies(&format!("{header}.{claims}.{signature}"), "one"), "other claims");
    }

    #[test]
    fn keys_that_cannot_sign_tokens_are_left_out() {
        let set = set(&serde_json::json!([
            {"kid": "a", "kty": "oct", "k": "c2VjcmV0"},
            {"kid": "b", "kty": "RSA", "n": "", "e": "AQAB"},
            {"kid": "c", "kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
            {"kid": "d", "kty": "RSA", "n": "!", "e": "AQAB"},
            {"kid": "e", "kty": "RSA", "n": "AQAB", "e": "AQAB"},
        ]));
        let names: Vec<String> =
            Keys::of(&set, Instant::now()).by_name.into_iter().map(|(kid, _)| kid).collect();
        assert_eq!(names, ["e"]);
    }

    #[test]
    fn unknown_names_are_asked_for_at_a_limited_rate() {
        let (_, jwk) = pair("one");
        let asked = Instant::now();
        let keys = Keys::of(&set(&serde_json::json!([jwk])), asked);
        let after = |name: &str, seconds: u64| keys.are_due(name, asked + Duration::from_secs(seconds));
        assert!(!after("two", 9) && after("two", 10), "unknown");
        assert!(!after("one", 599) && after("one", 600), "known");
    }
}
