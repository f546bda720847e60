//! Who calls, on a cluster: the pod whose token it is, if that is a pod that we made.
//!
//! The API server says whose token it is (TokenReview, for the audience of the run that the caller names); which agent of
//! which run that pod is, its labels and its owner say, which the operator set. What the caller says of itself only says
//! where to look. Positive answers are kept for a few seconds, and hold only as long as the pod is there and not going.

use crate::pods::build::RunIdentity;
use crate::pods::facts::PodFacts;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::runtime::reflector::Store;
use lockstep_api::BenchmarkRun;
use lockstep_coordinator::auth::{Authenticate, Caller, bearer};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// How long an answer of the API server holds.
const KEPT: Duration = Duration::from_secs(10);
/// Answers that are kept; more only cost a question each.
const KEPT_MAX: usize = 20_000;
/// The longest token that is looked at, bytes.
const TOKEN_MAX: usize = 16 * 1024;
/// In `extra` of a bound token's user: the uid of its pod.
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Proves agents by the tokens of their pods.
pub struct PodTokens {
    reviews: Api<TokenReview>,
    runs: Store<BenchmarkRun>,
    pods: Store<Pod>,
    /// Pod uid by hash of token and audience. The hash is keyed, and no token is kept.
    known: Mutex<HashMap<u64, (String, Instant)>>,
    keys: RandomState,
}

impl PodTokens {
    /// Asks the API server of `client`.
    #[must_use]
    pub fn new(client: kube::Client, runs: Store<BenchmarkRun>, pods: Store<Pod>) -> Self {
        Self { reviews: Api::all(client), runs, pods, known: Mutex::default(), keys: RandomState::new() }
    }

    /// The uid of the pod whose token it is.
    async fn pod_uid(&self, token: &str, audience: &str) -> Result<String, Status> {
        let hash = self.keys.hash_one((token, audience));
        let now = Instant::now();
        if let Ok(mut known) = self.known.lock() {
            known.retain(|_, (_, until)| *until > now);
            if let Some((uid, _)) = known.get(&hash) {
                return Ok(uid.clone());
            }
        }
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.reviews.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "a token could not be reviewed");
            Status::unavailable("the API server does not answer")
        })?;
        let status = answer.status.unwrap_or_default();
        // A server that does not know audiences says yes to a token for anybody.
        let meant = status.audiences.is_some_and(|audiences| audiences.iter().any(|one| one == audience));
        let uid = status.user.and_then(|user| user.extra?.remove(POD_UID)?.pop());
        match uid {
            Some(uid) if status.authenticated == Some(true) && meant => {
                if let Ok(mut known) = self.known.lock()
                    && known.len() < KEPT_MAX
                {
                    known.insert(hash, (uid.clone(), now + KEPT));
                }
                Ok(uid)
            }
            _ => Err(denied()),
        }
    }
}

fn denied() -> Status {
    Status::unauthenticated("the token is not one of a pod of this run")
}

#[tonic::async_trait]
impl Authenticate for PodTokens {
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let claimed = Caller::claimed(metadata)?;
        let token = bearer(metadata);
        if token.is_empty() || token.len() > TOKEN_MAX {
            return Err(denied());
        }
        let run = self.runs.find(|run| run.metadata.uid.as_ref() == Some(&claimed.run_uid));
        let run = run.and_then(|run| RunIdentity::of(&run)).ok_or_else(denied)?;
        let uid = self.pod_uid(token, &run.audience()).await?;
        let pod = self.pods.find(|pod| pod.metadata.uid.as_ref() == Some(&uid));
        let facts =
            pod.and_then(|pod| PodFacts::of(&pod)).filter(|facts| facts.is_of(&run) && !facts.deleting);
        // Made, and not yet seen by our watch: the agent dials again.
        let (index, attempt) = facts.ok_or_else(denied)?.seat;
        Ok(Caller { run_uid: run.uid, index, attempt })
    }
}
