//! The lock of a place: one object, created conditionally, renewed while its holder lives.
//!
//! ```text
//!            put If-None-Match: *          put If-Match: etag, every quarter of the time to live
//!   free ───────────────────────▶ held ─────────────────────────────────────────▶ held
//!                                   │ holder gone: not renewed for its time to live
//!                                   ▼
//!                                 stale ── put If-Match: etag, by another run ──▶ held by that
//! ```
//!
//! Age is judged by the server's clock alone (its `Date` against the object's `Last-Modified`), because clocks of
//! agents may be hours apart. The keeper is a thread with a runtime and connections of its own, so that a busy core
//! cannot lose the lock. It deliberately does not stop the load when the lock is lost; it tells ([`Keeper::lost`]).

use super::classify::Fault;
use super::client::Site;
use super::store::{Store, path};
use super::transport::{Purpose, Trace};
use chrono::{DateTime, SecondsFormat, Utc};
use lockstep_core::problem::Problem;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// Name of the lock object beside the data.
pub const LOCK_NAME: &str = ".lockstep.lock";

/// What stands in the lock object. The times are for people: age is judged by the server's clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LockRecord {
    /// Unique id of the run.
    pub(super) run_uid: String,
    /// Index of the agent that holds it for the run.
    pub(super) agent: u32,
    /// When it was taken.
    pub(super) since: String,
    /// When it is stale, unless renewed.
    pub(super) expires: String,
    /// How long after its last renewal it is stale, milliseconds.
    pub(super) ttl_ms: u64,
}

impl LockRecord {
    pub(super) fn new(run_uid: &str, agent: u32, ttl: Duration) -> Self {
        let now = SystemTime::now();
        Self {
            run_uid: run_uid.to_owned(),
            agent,
            since: time(now),
            expires: time(now + ttl),
            ttl_ms: ttl.as_millis() as u64,
        }
    }

    fn renewed(&self) -> Self {
        let expires = time(SystemTime::now() + Duration::from_millis(self.ttl_ms));
        Self { expires, ..self.clone() }
    }
}

fn time(at: SystemTime) -> String {
    DateTime::<Utc>::from(at).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A lock object as it was found.
#[derive(Clone, Debug)]
pub(super) struct FoundLock {
    /// `None`: it is there, but not readable as a lock.
    pub(super) record: Option<LockRecord>,
    pub(super) version: UpdateVersion,
    /// Time since its last renewal, by the server's clock; to the second.
    pub(super) age: Duration,
}

impl FoundLock {
    /// Whether its holder is gone, with `ttl` for one that does not say.
    pub(super) fn is_stale(&self, ttl: Duration) -> bool {
        let ttl = self.record.as_ref().map_or(ttl, |record| Duration::from_millis(record.ttl_ms));
        // The server's clock counts whole seconds, so the age may be a second less than it looks.
        self.age > ttl + Duration::from_secs(1)
    }

    /// Whose it is and since when.
    pub(super) fn whose(&self) -> String {
        let age = self.age.as_secs();
        match &self.record {
            Some(record) => format!(
                "run {} (agent {}) since {}, renewed {age} s ago",
                record.run_uid, record.agent, record.since
            ),
            None => format!("somebody whose lock cannot be read, renewed {age} s ago"),
        }
    }
}

/// The lock object of one place.
#[derive(Clone, Debug)]
pub(super) struct LockObject {
    pub(super) store: Store,
    pub(super) key: String,
}

impl LockObject {
    /// What is there.
    pub(super) async fn find(&self) -> Result<Option<FoundLock>, Fault> {
        self.store.trace.begin();
        let result = match self.store.s3.get_opts(&path(&self.key)?, GetOptions::default()).await {
            Err(object_store::Error::NotFound { .. }) => {
                let fault = self.store.trace.take_fault();
                // No bucket is a 404, too.
                return match fault.filter(|fault| fault.code == "NoSuchBucket") {
                    Some(fault) => Err(fault),
                    None => Ok(None),
                };
            }
            result => result.map_err(|error| self.store.fault(&error))?,
        };
        let modified = result.meta.last_modified.timestamp().max(0).unsigned_abs();
        let version =
            UpdateVersion { e_tag: result.meta.e_tag.clone(), version: result.meta.version.clone() };
        let bytes = result.bytes().await.map_err(|error| self.store.fault(&error))?;
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = self.store.trace.server_date().unwrap_or(wall);
        Ok(Some(FoundLock {
            record: serde_json::from_slice(&bytes).ok(),
            version,
            age: Duration::from_secs(now.saturating_sub(modified)),
        }))
    }

    /// Writes it under a condition. `Ok(None)`: the condition did not hold.
    pub(super) async fn put(
        &self,
        record: &LockRecord,
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, Fault> {
        self.store.trace.begin();
        let text = serde_json::to_vec_pretty(record).unwrap_or_default();
        match self.store.s3.put_opts(&path(&self.key)?, PutPayload::from(text), mode.into()).await {
            Ok(result) => Ok(Some(result.into())),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(None)
            }
            Err(error) => Err(self.store.fault(&error)),
        }
    }

    /// Removes it.
    pub(super) async fn remove(&self) -> Result<(), Fault> {
        self.store.trace.begin();
        self.store.s3.delete(&path(&self.key)?).await.map_err(|error| self.store.fault(&error))
    }
}

/// Renews a lock until told to stop or dropped.
#[derive(Debug)]
pub(super) struct Keeper {
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
    lost: Arc<Mutex<Option<Problem>>>,
}

impl Keeper {
    /// Starts renewing the lock at `key` through `endpoint`, which has `version` now.
    pub(super) fn start(
        site: Arc<Site>,
        endpoint: String,
        key: String,
        record: LockRecord,
        version: UpdateVersion,
        timeout: Duration,
    ) -> Result<Self, Problem> {
        let (stop, stopped) = channel();
        let lost = Arc::new(Mutex::new(None));
        let told = Arc::clone(&lost);
        let what = format!("the lock of {} cannot be kept", site.uri);
        let thread = std::thread::Builder::new()
            .name("s3-lock".into())
            .spawn(move || {
                if let Err(cause) = keep(&site, &endpoint, key, record, version, timeout, &stopped) {
                    let problem = Problem::new(format!("the lock of {} was lost", site.uri), cause)
                        .likely("another run took it over because renewals did not get through")
                        .next("see who else works in this place before trusting these results");
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
                }
            })
            .map_err(|error| Problem::new(what, error.to_string()))?;
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
    site: &Arc<Site>,
    endpoint: &str,
    key: String,
    mut record: LockRecord,
    mut version: UpdateVersion,
    timeout: Duration,
    stopped: &Receiver<()>,
) -> Result<(), String> {
    let ttl = Duration::from_millis(record.ttl_ms);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let links = site.links(0).map_err(|problem| problem.cause)?;
    let link = links.iter().find(|link| link.endpoint == endpoint).ok_or("no such endpoint")?;
    let trace = Arc::new(Trace::default());
    let store = Store::new(
        site,
        &link.endpoint,
        &link.pool,
        &link.counters,
        &trace,
        Purpose::Other,
        timeout.min(ttl / 4),
    )
    .map_err(|problem| problem.cause)?;
    let lock = LockObject { store, key };
    let mut renewed = Instant::now();
    loop {
        match stopped.recv_timeout(ttl / 4) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        record = record.renewed();
        let began = Instant::now();
        match runtime.block_on(lock.put(&record, PutMode::Update(version.clone()))) {
            Ok(Some(next)) => (version, renewed) = (next, began),
            Ok(None) => {
                // It may be our own renewal whose answer was lost.
                match runtime.block_on(lock.find()) {
                    Ok(Some(found))
                        if found.record.as_ref().is_some_and(|now| now.run_uid == record.run_uid) =>
                    {
                        (version, renewed) = (found.version, began);
                    }
                    Ok(Some(found)) => return Err(format!("it is held by {}", found.whose())),
                    Ok(None) => return Err("it was removed".into()),
                    Err(_) => {}
                }
            }
            Err(fault) if renewed.elapsed() > ttl => {
                return Err(format!("no renewal for {:?}: {}", renewed.elapsed(), fault.what));
            }
            Err(_) => {}
        }
    }
}
