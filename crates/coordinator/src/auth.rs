//! Who calls: proven before anything is read of a call.
//!
//! How it is proven is the host's: a secret of the run on one machine, a token of the pod on a cluster. Deliberately
//! knows neither.

use lockstep_proto::{META_ATTEMPT, META_INDEX, META_RUN};
use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// An attempt of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Uid of its run.
    pub run_uid: String,
    /// Its index, from 0.
    pub index: u32,
    /// Its attempt under that index, from 0.
    pub attempt: u32,
    /// Whoever holds what was proven, in words of the host's own: the pod, on a cluster. Empty where nobody can go.
    pub holder: String,
}

impl Caller {
    /// Whom the metadata of a call names; proves nothing.
    ///
    /// # Errors
    /// `InvalidArgument` when something is missing.
    #[allow(clippy::result_large_err, reason = "the error type of every call")]
    pub fn claimed(metadata: &MetadataMap) -> Result<Self, Status> {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
        let number = |key: &str| text(key).and_then(|text| text.parse::<u32>().ok());
        match (text(META_RUN), number(META_INDEX), number(META_ATTEMPT)) {
            (Some(run), Some(index), Some(attempt)) => {
                Ok(Self { run_uid: run.to_owned(), index, attempt, holder: String::new() })
            }
            _ => Err(Status::invalid_argument("run, index or attempt is missing")),
        }
    }
}

/// What follows `Bearer ` in a call's `authorization`; empty when there is nothing.
#[must_use]
pub fn bearer(metadata: &MetadataMap) -> &str {
    let header = metadata.get("authorization").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.strip_prefix("Bearer ")).unwrap_or_default()
}

/// Proves who calls.
#[tonic::async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// Who calls.
    ///
    /// # Errors
    /// `Unauthenticated` or `PermissionDenied`, without a word about what exists.
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status>;

    /// Whether a caller that was proven still is who it was. Asked every few seconds of each open stream, so it only looks
    /// at what is known already.
    fn still_valid(&self, _: &Caller) -> bool {
        true
    }
}

/// A secret for each run, known to its agents alone.
#[derive(Clone, Debug, Default)]
pub struct SharedSecrets(Arc<RwLock<HashMap<String, Arc<str>>>>);

impl SharedSecrets {
    /// Agents of the run `uid` present `secret` from now on.
    pub fn add(&self, uid: &str, secret: &str) {
        if let Ok(mut secrets) = self.0.write() {
            secrets.insert(uid.to_owned(), secret.into());
        }
    }
}

#[tonic::async_trait]
impl Authenticate for SharedSecrets {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let caller = Caller::claimed(metadata)?;
        let secret = self.0.read().ok().and_then(|secrets| secrets.get(&caller.run_uid).cloned());
        match secret {
            Some(secret) if is_same_secret(bearer(metadata).as_bytes(), secret.as_bytes()) => Ok(caller),
            _ => Err(Status::unauthenticated("unknown run, or wrong secret")),
        }
    }
}

/// Compares in a time that depends on the lengths only.
fn is_same_secret(given: &[u8], expected: &[u8]) -> bool {
    given.len() == expected.len() && given.iter().zip(expected).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}
