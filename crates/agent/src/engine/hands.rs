//! What connects one worker with its director: whether to stop, what it is at, and that it moves.
//!
//! A target gets a [`Hands`] when it is made. It looks at [`Hands::stopped`] between chunks of at most 1 MiB and calls
//! [`Hands::moved`] for each of them, so that a stop takes effect within a chunk and a large object never looks
//! like a stall. All of it is relaxed atomics on cache lines that no other worker writes.

use lockstep_core::op::Op;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Told to all workers of a stage at once; never taken back (each stage has its own).
#[derive(Debug, Default)]
pub struct Stop {
    flag: AtomicBool,
    notify: tokio::sync::Notify,
    /// The same for plain threads.
    parked: Mutex<()>,
    changed: Condvar,
}

impl Stop {
    /// Tells everybody to stop.
    pub fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        self.notify.notify_waiters();
        // Whoever looked at the flag before holds this until it is parked, and so hears of the change.
        drop(self.parked.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Whether everybody shall stop.
    #[inline]
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// Parks the thread until everybody shall stop, for `at_most`.
    pub fn park(&self, at_most: Duration) {
        let parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        // Poisoned or early: the caller looks again anyway.
        drop(self.changed.wait_timeout_while(parked, at_most, |()| !self.stopped()));
    }

    /// Waits until everybody shall stop.
    pub async fn wait(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if self.flag.load(Ordering::Acquire) {
            return;
        }
        notified.await;
    }
}

/// Until when workers may issue I/O, agent's clock. The control thread moves it on as long as it runs and the
/// coordinator answers; workers compare it with a reading of the clock that they take anyway.
///
/// Architecture invariant: a process that was stopped, or whose coordinator was silent for too long, issues no I/O
/// before its control thread has read what its sockets hold. Another attempt may have its index by then.
#[derive(Debug)]
pub struct Fence(AtomicU64);

impl Default for Fence {
    /// Open for ever: for engines that nobody controls.
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Fence {
    /// Moves the end of the permission.
    pub fn set(&self, until_ns: u64) {
        self.0.store(until_ns, Ordering::Release);
    }

    /// Whether I/O may begin at `now_ns`.
    #[inline]
    #[must_use]
    pub fn is_open(&self, now_ns: u64) -> bool {
        now_ns <= self.0.load(Ordering::Relaxed)
    }
}

/// What one worker is at. Written by the worker only; 128 bytes apart so that two workers share no cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Slot {
    /// Operations that ended, well or not.
    pub operations: AtomicU64,
    /// Of these, how many failed.
    pub errors: AtomicU64,
    /// Objects of leased work that are through.
    pub objects: AtomicU64,
    /// Moves at each operation and each chunk.
    pub pulse: AtomicU64,
    /// Index of the object under way.
    pub index: AtomicU64,
    /// Operation under way: its number plus one, 0 for none.
    pub op: AtomicU8,
    /// When the worker was let go, agent's clock; 0 is not yet.
    pub released_ns: AtomicU64,
    /// When its first operation began; 0 is not yet.
    pub first_ns: AtomicU64,
    /// Whether the worker has ended.
    pub ended: AtomicBool,
}

impl Slot {
    /// The operation and index under way, if one is.
    #[must_use]
    pub fn under_way(&self) -> Option<(Op, u64)> {
        let op = self.op.load(Ordering::Relaxed).checked_sub(1)?;
        Some((*Op::ALL.get(usize::from(op))?, self.index.load(Ordering::Relaxed)))
    }
}

/// One worker's connection to its director.
#[derive(Clone, Debug, Default)]
pub struct Hands {
    /// Number of the worker on this agent, from 0.
    pub worker: u32,
    /// Shared by all workers of the stage.
    pub stop: Arc<Stop>,
    /// This worker's own.
    pub slot: Arc<Slot>,
}

impl Hands {
    /// Whether to stop now.
    #[inline]
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stop.stopped()
    }

    /// Says that an object of leased work is through.
    #[inline]
    pub fn object_done(&self) {
        let objects = &self.slot.objects;
        objects.store(objects.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Says that something moved: a chunk was read or written, an answer came.
    #[inline]
    pub fn moved(&self) {
        let pulse = &self.slot.pulse;
        pulse.store(pulse.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}
