//! Asks the API server whose token it is (TokenReview): the way where the operator may ask for the whole cluster.
//!
//! An answer is kept for as long as the token holds, since an agent presents it with every call, and a thousand agents that
//! end together hand in their results at once. Whether the pod of the token is still there is asked of the watch each time
//! ([`super::tokens`]), so that only a token that is taken back before its pod goes is honoured longer, as it is where a key
//! proves it. And only so many questions are open at a time, so that callers cannot turn the operator against the API server.

use super::token::PodReference;
use super::tokens::Unproven;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long an answer is kept at most, seconds.
const KEPT_MAX_S: u64 = 24 * 3_600;
/// Answers that are kept; more only cost a question each.
const KEPT_MAX: usize = 20_000;
/// Questions that are open at a time: more are answered no faster, and all else that is asked of the API server waits behind them.
const OPEN_MAX: usize = 8;
/// In `extra` of a bound token's user: name and uid of its pod (`pkg/serviceaccount/util.go`).
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Asks the API server.
pub struct Reviews {
    api: Api<TokenReview>,
    /// Pod by hash of token and audience. The hash is keyed, and no token is kept.
    known: Mutex<HashMap<u64, (PodReference, Instant)>>,
    keys: RandomState,
    open: Semaphore,
}

impl Reviews {
    /// Asks the API server of `client`.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        let (api, open) = (Api::all(client), Semaphore::new(OPEN_MAX));
        Self { api, known: Mutex::default(), keys: RandomState::new(), open }
    }

    /// The pod whose token it is, if it is for `audience`. `expires_s`: what it says of its own end, seconds since 1970; the API
    /// server says no to one that says too much.
    ///
    /// # Errors
    /// See [`Unproven`].
    pub async fn pod(&self, token: &str, audience: &str, expires_s: i64) -> Result<PodReference, Unproven> {
        let hash = self.keys.hash_one((token, audience));
        if let Some(pod) = self.kept(hash, Instant::now()) {
            return Ok(pod);
        }
        let _one = self.open.acquire().await.map_err(|_| Unproven::NoAnswer)?;
        let spec =
            TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.api.create(&PostParams::default(), &review).await.map_err(|error| {
            tracing::warn!(%error, "a token could not be reviewed");
            Unproven::NoAnswer
        })?;
        let status = answer.status.unwrap_or_default();
        // A server that does not know audiences says yes to a token for anybody.
        let meant = status.audiences.is_some_and(|audiences| audiences.iter().any(|one| one == audience));
        if status.authenticated != Some(true) || !meant {
            return Err(Unproven::Refused);
        }
        let mut extra = status.user.and_then(|user| user.extra).unwrap_or_default();
        let mut one = |key: &str| extra.remove(key).and_then(|mut values| values.pop());
        let (Some(name), Some(uid)) = (one(POD_NAME), one(POD_UID)) else { return Err(Unproven::Refused) };
        let pod = PodReference { name, uid };
        let left_s = u64::try_from(expires_s.saturating_sub(Timestamp::now().as_second())).unwrap_or(0);
        self.keep(hash, pod.clone(), Instant::now() + Duration::from_secs(left_s.min(KEPT_MAX_S)));
        Ok(pod)
    }

    fn kept(&self, hash: u64, now: Instant) -> Option<PodReference> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash).filter(|(_, until)| *until > now).map(|(pod, _)| pod.clone())
    }

    fn keep(&self, hash: u64, pod: PodReference, until: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT_MAX {
            known.retain(|_, (_, until)| *until > Instant::now());
        }
        if known.len() < KEPT_MAX {
            known.insert(hash, (pod, until));
        }
    }
}
