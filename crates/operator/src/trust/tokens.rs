//! Who calls, on a cluster: the pod whose token it is, if that is a pod that we made.
//!
//! | question | answered by |
//! |---|---|
//! | is the token for this run, and for nobody else? | its audience |
//! | whose is it? | the API server ([`super::review`]), or a key of its ([`super::jwks`]) |
//! | is that a pod in the run's namespace, there and not going? | the watch of pods |
//! | did we make it? | its seal ([`super::seal`]), its name and its owner |
//! | which agent of the run is it? | the labels that we gave it |
//!
//! What the caller says of itself only says where to look. What costs nothing is asked first, so that only a token that
//! names a living pod of ours costs a question to the API server, or a signature. Whoever is refused is told the same in
//! every case.

use super::jwks::Jwks;
use super::keeper::Trust;
use super::review::Reviews;
use super::token::{self, PodReference, Token};
use crate::pods::build::RunIdentity;
use crate::pods::facts::{PodFacts, Seat};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{ObjectRef, Store};
use lockstep_api::BenchmarkRun;
use lockstep_coordinator::auth::{Authenticate, Caller, bearer};
use std::sync::Arc;
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Who vouches for a token.
#[expect(clippy::large_enum_variant, reason = "there is one in a process")]
pub enum Voucher {
    /// The API server, asked once for each.
    Review(Reviews),
    /// A key of the API server.
    Jwks(Jwks),
}

/// Why nobody vouches for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// It is not good.
    Refused,
    /// Nobody answered; it may be good.
    NoAnswer,
}

impl Voucher {
    /// The pod whose token it is, if it is for `audience`, and holds now.
    async fn pod(&self, text: &str, token: &Token<'_>, audience: &str) -> Result<PodReference, Unproven> {
        match self {
            Self::Review(reviews) => reviews.pod(text, audience, token.claims.exp).await,
            Self::Jwks(jwks) => {
                jwks.verify(token, Timestamp::now().as_second()).await?;
                Ok(token.claims.kubernetes.pod.clone())
            }
        }
    }
}

/// Proves agents by the tokens of their pods.
pub struct PodTokens {
    voucher: Voucher,
    trust: Arc<Trust>,
    runs: Store<BenchmarkRun>,
    pods: Store<Pod>,
}

impl PodTokens {
    /// Pods are looked up in `pods`, and their runs in `runs`.
    #[must_use]
    pub fn new(voucher: Voucher, trust: Arc<Trust>, runs: Store<BenchmarkRun>, pods: Store<Pod>) -> Self {
        Self { voucher, trust, runs, pods }
    }

    /// The seat of a pod that we made for this run, while it is there and not going.
    fn seat(&self, run: &RunIdentity, reference: &PodReference) -> Option<Seat> {
        let pod = self.pods.get(&ObjectRef::new(&reference.name).within(&run.namespace))?;
        let facts = PodFacts::of(&pod)?;
        let there = facts.uid == reference.uid && !facts.deleting;
        (there && facts.is_of(run) && self.trust.made(run, &facts, &pod)).then_some(facts.seat)
    }
}

#[tonic::async_trait]
impl Authenticate for PodTokens {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let claimed = Caller::claimed(metadata)?;
        let refused = || Status::unauthenticated("the token is not one of a pod of this run");
        let text = bearer(metadata);
        let token = token::read(text).ok_or_else(refused)?;
        let run = self.runs.find(|run| run.metadata.uid.as_ref() == Some(&claimed.run_uid));
        let run = run.and_then(|run| RunIdentity::of(&run)).ok_or_else(refused)?;
        let audience = run.audience();
        let bound = &token.claims.kubernetes;
        if !token.claims.is_for(&audience) || bound.namespace != run.namespace {
            return Err(refused());
        }
        // A pod that was made, and that our watch has not shown yet, dials again.
        let (index, attempt) = self.seat(&run, &bound.pod).ok_or_else(refused)?;
        match self.voucher.pod(text, &token, &audience).await {
            Ok(pod) if pod == bound.pod => {}
            Ok(_) | Err(Unproven::Refused) => return Err(refused()),
            Err(Unproven::NoAnswer) => return Err(Status::unavailable("the API server does not answer")),
        }
        let PodReference { name, uid } = &bound.pod;
        let holder = format!("{}/{name}/{uid}", run.namespace);
        Ok(Caller { run_uid: run.uid, index, attempt, holder })
    }

    fn still_valid(&self, caller: &Caller) -> bool {
        let mut parts = caller.holder.split('/');
        let (Some(namespace), Some(name), Some(uid)) = (parts.next(), parts.next(), parts.next()) else {
            return false;
        };
        let pod = self.pods.get(&ObjectRef::new(name).within(namespace));
        pod.is_some_and(|pod| {
            pod.metadata.uid.as_deref() == Some(uid) && pod.metadata.deletion_timestamp.is_none()
        })
    }
}
