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
//! agents may be hours apart. A holder gives the lock up by itself when it is as old (`renewal.rs`), a second or more
//! before anybody else may take it.

use super::classify::Fault;
use super::store::{Store, path};
use chrono::{DateTime, SecondsFormat, Utc};
use object_store::{GetOptions, ObjectStore, PutMode, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
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

    pub(super) fn renewed(&self) -> Self {
        Self { expires: time(SystemTime::now() + self.ttl()), ..self.clone() }
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }
}

/// A lock that is ours.
#[derive(Clone, Debug)]
pub(super) struct HeldLock {
    pub(super) record: LockRecord,
    pub(super) version: UpdateVersion,
    /// When its latest put began: from then on its life is counted.
    pub(super) put_at: Instant,
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
        let ttl = self.record.as_ref().map_or(ttl, LockRecord::ttl);
        // The server's clock counts whole seconds, so the age may be a second less than it looks.
        self.age > ttl + Duration::from_secs(1)
    }

    /// Whether the run `uid` holds it.
    pub(super) fn is_of(&self, uid: &str) -> bool {
        self.record.as_ref().is_some_and(|record| record.run_uid == uid)
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
        self.store.delete(&path(&self.key)?).await
    }
}
