//! One worker: waits for the start, works, and says that it has ended.
//!
//! The same loop for every target: `work` is generic and each target gets a copy of its own. What is common to all
//! kinds of work is here: names, recording, the count of failures. Everything that a worker measured lies in its
//! [`Seat`] at any time, so that a worker which is stuck in the kernel, or whose future is dropped, loses nothing
//! but the operation under way.

use super::director::Message;
use super::job::{Job, Seat, Space, Work};
use super::trouble::Trip;
use super::{execute, leased};
use crate::clock;
use crate::target::backend::Account;
use crate::target::{Done, Object, Outcome, Target};
use lockstep_core::op::Op;
use lockstep_core::problem::Problem;
use lockstep_core::results::cell::Sample;
use lockstep_core::results::recorder::{LoopKind, Recorder, StageWindow};
use std::sync::atomic::Ordering;

/// How often a worker that may issue no I/O looks again, nanoseconds.
const FENCE_NS: u64 = 10_000_000;

/// One operation, as a worker is about to do it.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Which.
    pub op: Op,
    /// On which object.
    pub index: u64,
    /// Size that the object has or shall have, bytes.
    pub size: u64,
    /// When it was meant to start; `None` for now.
    pub intended_ns: Option<u64>,
    /// Whether a missing object is as good as one that was removed.
    pub missing_is_fine: bool,
}

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Well(Done),
    /// The object was missing, and that is fine.
    Missing,
    /// Badly; counted.
    Badly,
    /// In the middle, by a stop; not counted.
    Stopped,
}

/// What a worker works with.
pub struct Bench<'a, T, M> {
    /// The stage.
    pub job: &'a Job,
    /// This worker's own.
    pub seat: &'a Seat,
    /// The runtime that it lives on.
    pub lane: usize,
    /// Its storage.
    pub target: T,
    make: M,
    /// The key space that the target was made for.
    pub space: Space,
    name: String,
    account: Account,
    /// When the last operation ended, agent's clock.
    pub last_end_ns: u64,
}

/// Works through a stage. `make` makes a target for a key space.
pub async fn work<T: Target, M>(job: &Job, seat: &Seat, lane: usize, make: M)
where
    M: Fn(&Space) -> Result<T, Problem>,
{
    let target = match make(&job.space) {
        Ok(target) => target,
        Err(problem) => return job.failed(problem),
    };
    let space = job.space.clone();
    let (name, account) = (String::with_capacity(256), Account::default());
    let mut bench = Bench { job, seat, lane, target, make, space, name, account, last_end_ns: 0 };
    let _ = job.director.send(Message::Ready { serial: job.serial });
    if let Some(origin_ns) = job.gate.pass(&seat.hands, &mut bench.target).await {
        let released_ns = clock::now_ns();
        let window = match job.segments().first() {
            Some(segment) => segment.window(origin_ns),
            None => {
                let stage = job.stage;
                StageWindow { stage, origin_ns, end_ns: None, kind: LoopKind::Closed }
            }
        };
        *seat.recorder() = Some(Recorder::new(window));
        bench.last_end_ns = released_ns;
        seat.hands.slot.released_ns.store(released_ns, Ordering::Release);
        match &job.work {
            Work::Prepare => leased::prepare(&mut bench).await,
            Work::Cleanup(tolerance) => leased::cleanup(&mut bench, *tolerance).await,
            Work::Execute(segments) => execute::execute(&mut bench, segments, origin_ns).await,
        }
    }
    bench.account.merge(&bench.target.account());
    job.accounts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).merge(&bench.account);
}

impl<T: Target, M: Fn(&Space) -> Result<T, Problem>> Bench<'_, T, M> {
    /// Moves to another agent's key space, whose work this agent took over. False when no target can be made.
    pub fn enter_space(&mut self, agent: Option<u32>) -> bool {
        if self.space.agent == agent {
            return true;
        }
        let space = Space::of(&self.job.plan, agent);
        match (self.make)(&space) {
            Ok(target) => {
                let mut old = std::mem::replace(&mut self.target, target);
                self.account.merge(&old.account());
                self.space = space;
                true
            }
            Err(problem) => {
                self.job.failed(problem);
                false
            }
        }
    }

    /// Whether to stop.
    #[inline]
    pub fn stopped(&self) -> bool {
        self.seat.hands.stopped()
    }

    /// Does one operation, times and records it.
    #[inline]
    pub async fn perform(&mut self, operation: Operation) -> Ended {
        let Operation { op, index, size, intended_ns, missing_is_fine } = operation;
        self.space.name(index, &mut self.name);
        let mut start_ns = clock::now_ns();
        if !self.job.fence.is_open(start_ns) {
            match self.wait_at_fence().await {
                Some(now_ns) => start_ns = now_ns,
                None => return Ended::Stopped,
            }
        }
        let slot = &*self.seat.hands.slot;
        slot.index.store(index, Ordering::Relaxed);
        slot.op.store(op.index() as u8 + 1, Ordering::Relaxed);
        let object = Object { index, name: &self.name, size };
        if slot.first_ns.load(Ordering::Relaxed) == 0 {
            slot.first_ns.store(start_ns, Ordering::Relaxed);
        }
        let target = &mut self.target;
        let outcome: Outcome = match op {
            Op::Get => target.get(object, self.job.verify).await,
            Op::Put => target.put(object).await,
            Op::Head => target.head(object).await,
            Op::List => target.list(object).await,
            Op::Delete => target.delete(object).await,
        };
        let end_ns = clock::now_ns();
        self.last_end_ns = end_ns;
        slot.op.store(0, Ordering::Relaxed);
        let moves_content = matches!(op, Op::Get | Op::Put);
        let mut sample = Sample {
            op,
            size_bytes: if moves_content { size } else { 0 },
            intended_ns: intended_ns.unwrap_or(start_ns),
            start_ns,
            first_byte_ns: None,
            end_ns,
        };
        let failure = match outcome {
            Ok(done) => {
                if moves_content {
                    sample.size_bytes = done.bytes;
                }
                sample.first_byte_ns = done.first_byte_ns;
                self.succeeded(&sample);
                return Ended::Well(done);
            }
            Err(failure) => failure,
        };
        if self.stopped() {
            return Ended::Stopped;
        }
        if missing_is_fine && failure.class == lockstep_core::op::ErrorClass::NotFound {
            self.succeeded(&sample);
            return Ended::Missing;
        }
        if let Some(recorder) = self.seat.recorder().as_mut() {
            recorder.record_error(&sample, failure.class);
        }
        bump(&slot.operations);
        bump(&slot.errors);
        if let Some(limit) = self.job.trouble.failed(failure.class) {
            self.job.tripped(Trip { op, name: self.name.clone(), failure: failure.clone(), limit });
        }
        self.job.note_failure(op, &self.name, failure);
        Ended::Badly
    }

    /// Waits until I/O may be issued again, and returns the time; `None` when told to stop.
    #[cold]
    async fn wait_at_fence(&mut self) -> Option<u64> {
        loop {
            let now_ns = clock::now_ns();
            if self.stopped() {
                return None;
            }
            if self.job.fence.is_open(now_ns) {
                return Some(now_ns);
            }
            self.target.wait_until(now_ns + FENCE_NS).await;
        }
    }

    #[inline]
    fn succeeded(&self, sample: &Sample) {
        if let Some(recorder) = self.seat.recorder().as_mut() {
            recorder.record_ok(sample);
        }
        bump(&self.seat.hands.slot.operations);
        self.job.trouble.succeeded();
    }
}

/// Adds one to a counter that only this thread writes.
#[inline]
fn bump(counter: &std::sync::atomic::AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
