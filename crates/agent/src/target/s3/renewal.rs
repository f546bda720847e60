//! Renews the lock of a place while it is held, and finds out when it is not ours any more.
//!
//! A thread with a runtime and connections of its own, so that a busy core cannot lose the lock. A renewal that fails is
//! tried again soon; when none came through for the lock's time to live, the lock counts as lost, because from then on
//! another run may take it. It deliberately does not stop the load: it tells ([`Renewal::lost`]), and the keeper asks.

use super::classify::Fault;
use super::client::Site;
use super::lock::{HeldLock, LockObject};
use super::store::Store;
use super::transport::{Purpose, Trace};
use lockstep_core::op::ErrorClass;
use lockstep_core::problem::{Problem, exit};
use object_store::PutMode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A lock is renewed so many times within its time to live,
const RENEWALS_PER_TTL: u32 = 4;
/// and tried again so many times sooner after one that failed.
const TRIES_PER_RENEWAL: u32 = 4;

/// Why a lock is not ours any more.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loss {
    /// Somebody else has it; the text says who.
    Taken(String),
    /// The object is gone.
    Removed,
    /// It could not be renewed for its whole time to live; the latest failure.
    Expired(String),
}

impl Loss {
    fn problem(self, uri: &str, ttl: Duration) -> Problem {
        let problem = |cause: String| {
            Problem::new(format!("the lock of {uri} was lost"), cause)
                .kept("nothing more is written there; what was measured so far is in the results")
                .exit(exit::REFUSED)
        };
        let ttl_s = ttl.as_secs_f64();
        match self {
            Self::Taken(whose) => problem(format!("it is held by {whose}"))
                .likely(format!("this run was paused, or cut off from its storage, for more than {ttl_s} s"))
                .likely("somebody wrote over the lock object")
                .next("wait for the other run, or give this one a place of its own"),
            Self::Removed => problem("the lock object was removed".into())
                .likely("somebody cleaned the place up by hand, or by a lifecycle rule")
                .next("see who else works in this place, then run again"),
            Self::Expired(latest) => problem(format!(
                "no renewal came through for {ttl_s} s, so that others may take it: {latest}"
            ))
            .likely("the storage, or the network to it, was away for so long")
            .likely("the keys were taken back while the run lasted")
            .next("the state and logs of the storage at that time, then run again"),
        }
    }
}

/// Renews a lock until told to stop or dropped.
#[derive(Debug)]
pub(super) struct Renewal {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<Mutex<Option<Problem>>>,
}

impl Renewal {
    /// Starts renewing the lock at `key` through `endpoint`; each request waits at most `timeout`.
    pub(super) fn start(
        site: &Site,
        endpoint: &str,
        key: String,
        held: HeldLock,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        let refused = |cause: String| Problem::new(format!("the lock of {} cannot be kept", site.uri), cause);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| refused(error.to_string()))?;
        let links = site.links(0)?;
        let link = links.iter().find(|link| link.endpoint == endpoint);
        let link = link.ok_or_else(|| refused(format!("{endpoint} is none of its endpoints")))?;
        let ttl = held.record.ttl();
        let timeout = timeout.min(ttl / RENEWALS_PER_TTL);
        let trace = Arc::new(Trace::default());
        let (pool, counters) = (&link.pool, &link.counters);
        let store = Store::new(site, endpoint, pool, counters, &trace, Purpose::Other, timeout)?;
        let lock = LockObject { store, key };
        let (stop, stopped) = channel();
        let lost = Arc::new(Mutex::new(None));
        let (told, uri) = (Arc::clone(&lost), site.uri.clone());
        let thread = std::thread::Builder::new().name("s3-lock".into()).spawn(move || {
            if let Err(loss) = keep(&runtime, &lock, held, &stopped) {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(loss.problem(&uri, ttl));
            }
        });
        let thread = thread.map_err(|error| refused(error.to_string()))?;
        Ok(Self { stop, thread: Some(thread), lost })
    }

    /// Why the lock was lost, if it was.
    pub(super) fn lost(&self) -> Option<Problem> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops renewing; returns when no renewal is under way any more.
    pub(super) async fn stop(mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            // At most one request's timeout.
            while !thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }
}

/// Renews until stopped. `Err`: why the lock is not ours any more.
fn keep(
    runtime: &tokio::runtime::Runtime,
    lock: &LockObject,
    mut held: HeldLock,
    stopped: &Receiver<()>,
) -> Result<(), Loss> {
    let ttl = held.record.ttl();
    let every = ttl / RENEWALS_PER_TTL;
    let (mut pause, mut latest) = (every, None);
    loop {
        let left = ttl.saturating_sub(held.put_at.elapsed());
        match stopped.recv_timeout(pause.min(left)) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        let left = ttl.saturating_sub(held.put_at.elapsed());
        if left.is_zero() {
            return Err(Loss::Expired(latest.unwrap_or_else(|| "there was no time for one".into())));
        }
        let renewed = runtime.block_on(async { tokio::time::timeout(left, renew(lock, &held)).await });
        match renewed {
            Ok(Ok(renewed)) => (held, pause) = (renewed?, every),
            Ok(Err(fault)) => (latest, pause) = (Some(fault.what), every / TRIES_PER_RENEWAL),
            // Cut short by the lock's end: what went wrong before says more.
            Err(_) => latest = latest.or_else(|| Some("no answer in time".into())),
        }
    }
}

/// One renewal. `Err` is one that failed and may be tried again.
async fn renew(lock: &LockObject, held: &HeldLock) -> Result<Result<HeldLock, Loss>, Fault> {
    let record = held.record.renewed();
    let mut version = held.version.clone();
    // The second round is for a renewal of our own whose answer was lost.
    for _ in 0..2 {
        let put_at = Instant::now();
        if let Some(version) = lock.put(&record, PutMode::Update(version)).await? {
            return Ok(Ok(HeldLock { record, version, put_at }));
        }
        version = match lock.find().await? {
            Some(found) if found.is_of(&record.run_uid) => found.version,
            Some(found) => return Ok(Err(Loss::Taken(found.whose()))),
            None => return Ok(Err(Loss::Removed)),
        };
    }
    Err(Fault::transport(ErrorClass::Other, "the lock object changes under every renewal".into()))
}
