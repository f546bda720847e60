//! Numbers of the operator that nobody else keeps: whether its loops turn, who leads, what its rounds and writes took.

use lockstep_coordinator::buckets::{Buckets, TIME_BOUNDS_NS};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a loop says that it turns, though nothing happens.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Silence of a loop after which it is not believed to turn any more.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Requests of one kind to the API server: HTTP method, resource, and the hundreds of the answer's status (`error` for
/// none).
pub type RequestKind = (&'static str, &'static str, &'static str);

/// Requests of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// How many.
    pub count: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Whether this process leads.
    pub leads: bool,
    /// Desks that are open.
    pub desks: u64,
    /// Rounds of all desks within [`TIME_BOUNDS_NS`].
    pub rounds: Buckets,
    /// Rounds that failed.
    pub rounds_failed: u64,
    /// From a change of a status to its write, within [`TIME_BOUNDS_NS`].
    pub status_delays: Buckets,
    /// Requests to the API server.
    pub requests: BTreeMap<RequestKind, Requests>,
    /// From a request to the head of its answer, by HTTP method, within [`TIME_BOUNDS_NS`].
    pub answers: BTreeMap<&'static str, Buckets>,
}

/// Numbers that nobody else keeps.
#[derive(Debug)]
pub struct Vitals {
    began: Instant,
    /// When the loop of the watches turned last, milliseconds since then; 0 is never.
    turned_ms: AtomicU64,
    leads: AtomicBool,
    seen: Mutex<Seen>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            turned_ms: AtomicU64::new(0),
            leads: AtomicBool::new(false),
            seen: Mutex::default(),
        }
    }
}

impl Vitals {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop of the watches turns.
    pub fn turned(&self) {
        self.turned_ms.store(self.now_ms().max(1), Ordering::Relaxed);
    }

    /// How long that loop has been silent, if that is too long. One that never began is not silent.
    #[must_use]
    pub fn silent_for(&self) -> Option<Duration> {
        let turned_ms = self.turned_ms.load(Ordering::Relaxed);
        let silent = Duration::from_millis(self.now_ms().saturating_sub(turned_ms));
        (turned_ms > 0 && silent > SILENCE_LIMIT).then_some(silent)
    }

    /// Whether this process leads from now on.
    pub fn set_leads(&self, leads: bool) {
        self.leads.store(leads, Ordering::Relaxed);
    }

    /// So many desks are open.
    pub fn set_desks(&self, desks: usize) {
        self.lock().desks = desks as u64;
    }

    /// A round of a desk is over.
    pub fn round(&self, took: Duration, failed: bool) {
        let mut seen = self.lock();
        seen.rounds.observe(nanos(took), TIME_BOUNDS_NS);
        seen.rounds_failed += u64::from(failed);
    }

    /// A status was written so long after it had changed.
    pub fn status_written(&self, after: Duration) {
        self.lock().status_delays.observe(nanos(after), TIME_BOUNDS_NS);
    }

    /// The API server answered, or did not.
    pub fn requested(&self, kind: RequestKind, bytes: u64, took: Duration) {
        let mut seen = self.lock();
        let requests = seen.requests.entry(kind).or_default();
        requests.count += 1;
        requests.bytes += bytes;
        seen.answers.entry(kind.0).or_default().observe(nanos(took), TIME_BOUNDS_NS);
    }

    /// All of it, now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { leads: self.leads.load(Ordering::Relaxed), ..self.lock().clone() }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
