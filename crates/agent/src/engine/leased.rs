//! Prepare and cleanup: working through leased indexes, block by block, until no more will come.
//!
//! Both are idempotent: the same index has the same name and content whoever writes it. What failed even when it
//! was tried again is left out of what the lease reports as done, so that the coordinator knows exactly
//! what is missing. Deliberately without any order between workers.

use super::interface::EngineEvent;
use super::job::Space;
use super::queue::{Block, BlockDone};
use super::worker::{Bench, Ended, Operation};
use crate::clock;
use crate::target::Target;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, Tolerance};
use lockstep_core::problem::Problem;
use lockstep_core::ranges::RangeSet;

/// How often one object is tried.
const TRIES: u32 = 3;
/// Wait before the second try, doubling, nanoseconds.
const RETRY_NS: u64 = 20_000_000;

/// What became of one object.
#[derive(Clone, Copy)]
enum Fate {
    Changed(u64),
    Unchanged,
    Failed,
    Stopped,
}

/// Writes the data set.
pub async fn prepare<T: Target, M: Fn(&Space) -> Result<T, Problem>>(bench: &mut Bench<'_, T, M>) {
    while let Some(block) = bench.job.indexes.claim_or_wait().await {
        if bench.stopped() || !bench.enter_space(block.space) {
            return;
        }
        let mut progress = Progress::new(block.start);
        for index in block.start..block.end {
            let fate = if bench.stopped() { Fate::Stopped } else { create(bench, index).await };
            if !progress.note(index, fate) {
                break;
            }
            bench.seat.hands.object_done();
        }
        finish(bench, block, progress).await;
    }
}

/// Removes what was written.
pub async fn cleanup<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    tolerance: Tolerance,
) {
    while let Some(block) = bench.job.indexes.claim_or_wait().await {
        if bench.stopped() || !bench.enter_space(block.space) {
            return;
        }
        let mut progress = Progress::new(block.start);
        for index in block.start..block.end {
            let fate = if bench.stopped() { Fate::Stopped } else { remove(bench, index, tolerance).await };
            if !progress.note(index, fate) {
                break;
            }
            bench.seat.hands.object_done();
        }
        finish(bench, block, progress).await;
    }
}

async fn finish<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    block: Block,
    progress: Progress,
) {
    bench.target.settle().await;
    if let Some(report) = bench.job.indexes.give_back(&block, &progress.finish()) {
        let _ = bench.job.events.send(EngineEvent::LeaseDone(report));
    }
    bench.target.breathe().await;
}

async fn create<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    index: u64,
) -> Fate {
    let size = bench.space.data.size_of(index);
    let operation = |op| Operation { op, index, size, intended_ns: None, missing_is_fine: op == Op::Head };
    let mut look = match bench.job.plan.existing {
        Existing::Reuse => return Fate::Unchanged,
        Existing::FillGaps => true,
        Existing::Overwrite => false,
    };
    for attempt in 0..TRIES {
        if attempt > 0 {
            again(bench, attempt).await;
        }
        if look {
            match bench.perform(operation(Op::Head)).await {
                Ended::Well(done) if done.bytes == size => return Fate::Unchanged,
                // A missing one needs no second look.
                Ended::Well(_) | Ended::Missing => look = false,
                Ended::Badly => continue,
                Ended::Stopped => return Fate::Stopped,
            }
        }
        match bench.perform(operation(Op::Put)).await {
            Ended::Well(done) => return Fate::Changed(done.bytes),
            Ended::Missing | Ended::Badly => {}
            Ended::Stopped => return Fate::Stopped,
        }
    }
    Fate::Failed
}

async fn remove<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    index: u64,
    tolerance: Tolerance,
) -> Fate {
    let missing_is_fine = tolerance != Tolerance::Strict;
    let operation = Operation { op: Op::Delete, index, size: 0, intended_ns: None, missing_is_fine };
    for attempt in 0..TRIES {
        if attempt > 0 {
            again(bench, attempt).await;
        }
        match bench.perform(operation).await {
            Ended::Well(_) => return Fate::Changed(0),
            Ended::Missing => return Fate::Unchanged,
            Ended::Badly => {}
            Ended::Stopped => return Fate::Stopped,
        }
    }
    // Under best effort an error is counted and the index is through: nobody shall try it again for ever.
    if tolerance == Tolerance::BestEffort { Fate::Unchanged } else { Fate::Failed }
}

/// Before another try.
async fn again<T: Target, M: Fn(&Space) -> Result<T, Problem>>(bench: &mut Bench<'_, T, M>, attempt: u32) {
    if let Some(recorder) = bench.seat.recorder().as_mut() {
        recorder.count_retry(bench.last_end_ns);
    }
    bench.target.wait_until(clock::now_ns() + (RETRY_NS << (attempt - 1))).await;
}

/// What is done of a block, gathered as runs of indexes so that counting costs nothing.
struct Progress {
    done: BlockDone,
    run_start: u64,
    next: u64,
}

impl Progress {
    fn new(start: u64) -> Self {
        Self { done: BlockDone::default(), run_start: start, next: start }
    }

    /// Notes what became of `index`, the next one. False when the block ends here.
    #[inline]
    fn note(&mut self, index: u64, fate: Fate) -> bool {
        match fate {
            Fate::Changed(bytes) => {
                self.done.changed += 1;
                self.done.bytes += bytes;
            }
            Fate::Unchanged => self.done.unchanged += 1,
            Fate::Failed => {
                self.done.done.insert(self.run_start, index);
                self.run_start = index + 1;
            }
            Fate::Stopped => return false,
        }
        self.next = index + 1;
        true
    }

    fn finish(mut self) -> BlockDone {
        let mut last = RangeSet::of(self.run_start, self.next);
        std::mem::swap(&mut last, &mut self.done.done);
        self.done.done.extend(&last);
        self.done
    }
}
