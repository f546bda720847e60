//! Open streams of each attempt: how many there may be, and when one ends though both sides would go on.
//!
//! A stream outlives the token that opened it, since the kubelet renews that only for the next dial. It does not outlive
//! what the token proved: the host is asked again and again whether the attempt still is who it was.

use crate::auth::{Authenticate, Caller};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Streams of one kind that an attempt may have open: the one in use, and one that it has not missed yet.
const PER_ATTEMPT_MAX: usize = 2;
/// How often the host is asked again. A session ends at most this long after the host knows.
const RECHECK: Duration = Duration::from_secs(2);

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Commands and heartbeats.
    Control,
    /// Finished seconds.
    Report,
    /// A result.
    Submit,
}

type Key = (String, u32, u32, Kind);
type Open = Mutex<HashMap<Key, VecDeque<(u64, Arc<Notify>)>>>;

/// The open streams of all attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sessions(Arc<Open>);

/// An open stream; dropped with it.
#[derive(Debug)]
pub(crate) struct Session {
    key: Key,
    number: u64,
    replaced: Arc<Notify>,
    open: Arc<Open>,
}

impl Sessions {
    /// Opens a stream. One that is too many ends the oldest of its attempt. `number` is nobody else's.
    pub(crate) fn open(&self, caller: &Caller, kind: Kind, number: u64) -> Session {
        let Caller { run_uid, index, attempt, holder: _ } = caller;
        let key = (run_uid.clone(), *index, *attempt, kind);
        let replaced = Arc::new(Notify::new());
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_attempt = open.entry(key.clone()).or_default();
        while of_attempt.len() >= PER_ATTEMPT_MAX
            && let Some((_, oldest)) = of_attempt.pop_front()
        {
            oldest.notify_one();
        }
        of_attempt.push_back((number, Arc::clone(&replaced)));
        Session { key, number, replaced, open: Arc::clone(&self.0) }
    }
}

impl Session {
    /// Resolves when the stream has to end, and says why.
    pub(crate) async fn ended(self, auth: Arc<dyn Authenticate>, caller: Caller) -> &'static str {
        let revoked = async {
            loop {
                tokio::time::sleep(RECHECK).await;
                if !auth.still_valid(&caller) {
                    return;
                }
            }
        };
        let why = tokio::select! {
            () = self.replaced.notified() => "a newer one has taken its place",
            () = revoked => "who opened it is not there any more",
        };
        let Caller { run_uid: uid, index: agent, attempt, .. } = caller;
        tracing::info!(uid, agent, attempt, kind = ?self.key.3, why, "a session is ended");
        why
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_attempt) = open.get_mut(&self.key) {
            of_attempt.retain(|(number, _)| *number != self.number);
            if of_attempt.is_empty() {
                open.remove(&self.key);
            }
        }
    }
}
