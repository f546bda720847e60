//! Leases in hand, and the blocks of them that workers take.
//!
//! One queue holds the leases of one kind for one stage. Workers claim blocks of some hundred indexes, so the lock is
//! taken once per block and never per operation. Whether a lease is through is decided here, from what workers
//! give back: a lease with failed or untouched indexes names exactly the ranges that are done. Deliberately without
//! any notion of which leases come next: the coordinator decides that.

use crate::clock;
use lockstep_core::lease::{Lease, LeaseDone};
use lockstep_core::ranges::RangeSet;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A claimed piece of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The lease.
    pub lease: u64,
    /// Whose key space.
    pub space: Option<u32>,
    /// First index.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// What a worker did of a block.
#[derive(Clone, Debug, Default)]
pub struct BlockDone {
    /// Indexes that are done.
    pub done: RangeSet,
    /// Objects written or deleted; operations done.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Bytes written.
    pub bytes: u64,
}

/// Everything that was given back, of all leases.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Indexes that are done, by key space.
    pub done: BTreeMap<Option<u32>, RangeSet>,
    /// Objects written or deleted.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
}

impl BlockDone {
    fn add(&mut self, other: &Self) {
        self.done.extend(&other.done);
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.bytes += other.bytes;
    }
}

/// What a claim comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// Work.
    Block(Block),
    /// Nothing in hand; more may come.
    Wait,
    /// Nothing in hand, and no more will come.
    Over,
}

/// How blocks are cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Most indexes of a block.
    pub most: u64,
    /// Blocks end on multiples of this, where they are not smaller than it.
    pub align: u64,
    /// Workers that share a lease: no block is larger than half a share, unless `align` says so.
    pub workers: u64,
}

impl Cut {
    /// Where the block that begins at `start` ends, in a lease of `length` that ends at `end`.
    fn end_of(&self, start: u64, end: u64, length: u64) -> u64 {
        let share = length.div_ceil(2 * self.workers.max(1)).max(1);
        let align = if self.align <= share { self.align.max(1) } else { 1 };
        let size = self.most.min(share).max(align);
        let cut = (start + size) / align * align;
        (if cut > start { cut } else { start + size }).min(end)
    }
}

#[derive(Debug)]
struct Open {
    lease: Lease,
    next: u64,
    /// Claimed and not given back.
    out: Vec<(u64, u64)>,
    done: BlockDone,
    began_ns: u64,
}

impl Open {
    fn report(self, now_ns: u64) -> LeaseDone {
        LeaseDone {
            id: self.lease.id,
            done: self.done.done.ranges().to_vec(),
            changed: self.done.changed,
            unchanged: self.done.unchanged,
            bytes: self.done.bytes,
            took_ns: if self.began_ns == 0 { 0 } else { now_ns.saturating_sub(self.began_ns) },
        }
    }
}

#[derive(Debug, Default)]
struct State {
    leases: VecDeque<Open>,
    ledger: Ledger,
    drained: bool,
    closed: bool,
}

/// Leases of one kind for one stage.
#[derive(Debug)]
pub struct Queue {
    cut: Cut,
    state: Mutex<State>,
    news: Notify,
}

impl Queue {
    /// An empty queue.
    #[must_use]
    pub fn new(cut: Cut) -> Self {
        Self { cut, state: Mutex::default(), news: Notify::new() }
    }

    /// Takes a lease in. One that comes when the queue is closed is given back at once, with nothing done.
    pub fn add(&self, lease: Lease) -> Option<LeaseDone> {
        let mut state = self.lock();
        let open =
            Open { next: lease.start, lease, out: Vec::new(), done: BlockDone::default(), began_ns: 0 };
        if state.closed || open.lease.start >= open.lease.end {
            return Some(open.report(0));
        }
        state.leases.push_back(open);
        drop(state);
        self.news.notify_waiters();
        None
    }

    /// No more leases will come.
    pub fn drain(&self) {
        self.lock().drained = true;
        self.news.notify_waiters();
    }

    /// Claims a block.
    pub fn claim(&self) -> Claim {
        let mut state = self.lock();
        let (drained, closed) = (state.drained, state.closed);
        let open = state.leases.iter_mut().find(|open| open.next < open.lease.end);
        match open {
            Some(open) if !closed => {
                if open.began_ns == 0 {
                    open.began_ns = clock::now_ns();
                }
                let start = open.next;
                let length = open.lease.end - open.lease.start;
                open.next = self.cut.end_of(start, open.lease.end, length);
                open.out.push((start, open.next));
                Claim::Block(Block { lease: open.lease.id, space: open.lease.space, start, end: open.next })
            }
            _ if drained || closed => Claim::Over,
            _ => Claim::Wait,
        }
    }

    /// Claims a block, waiting for one where there is none; `None` when no more will come.
    pub async fn claim_or_wait(&self) -> Option<Block> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Listens before it looks, so that a lease which comes in between is not missed.
            news.as_mut().enable();
            match self.claim() {
                Claim::Block(block) => return Some(block),
                Claim::Over => return None,
                Claim::Wait => news.await,
            }
        }
    }

    /// Gives a block back. Returns what to report when the lease is through.
    pub fn give_back(&self, block: &Block, done: &BlockDone) -> Option<LeaseDone> {
        let mut state = self.lock();
        let position = state.leases.iter().position(|open| open.lease.id == block.lease)?;
        let open = &mut state.leases[position];
        open.out.retain(|out| *out != (block.start, block.end));
        open.done.add(done);
        let through = open.next >= open.lease.end && open.out.is_empty();
        let ledger = &mut state.ledger;
        ledger.done.entry(block.space).or_default().extend(&done.done);
        ledger.changed += done.changed;
        ledger.unchanged += done.unchanged;
        through.then(|| state.leases.remove(position)).flatten().map(|open| open.report(clock::now_ns()))
    }

    /// Gives out nothing any more, and returns what to report of the leases in hand. Of blocks that are still out
    /// (their workers are stuck, or were dropped) nothing is known: they count as not done, or, where that is
    /// the safe side, as done.
    pub fn close(&self, out_is_done: bool) -> Vec<LeaseDone> {
        let mut state = self.lock();
        state.closed = true;
        let mut leases = std::mem::take(&mut state.leases);
        drop(state);
        self.news.notify_waiters();
        if out_is_done {
            for open in &mut leases {
                open.out.iter().for_each(|&(start, end)| _ = open.done.done.insert(start, end));
            }
        }
        let now_ns = clock::now_ns();
        leases.into_iter().map(|open| open.report(now_ns)).collect()
    }

    /// Everything that was given back so far, of all leases.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    /// Wakes those who wait, so that they look whether to stop.
    pub fn wake(&self) {
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it, and a count that is off by a block is better than a second panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::lease::LeaseKind;

    fn lease(id: u64, start: u64, end: u64) -> Lease {
        Lease { id, stage: 1, kind: LeaseKind::Prepare, space: None, start, end }
    }

    fn all(queue: &Queue) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| match queue.claim() {
            Claim::Block(block) => Some((block.start, block.end)),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn blocks_end_with_directories_and_cover_the_lease() {
        let queue = Queue::new(Cut { most: 24, align: 10, workers: 2 });
        assert_eq!(queue.add(lease(1, 5, 105)), None);
        assert_eq!(all(&queue), [(5, 20), (20, 40), (40, 60), (60, 80), (80, 100), (100, 105)]);
        let queue = Queue::new(Cut { most: 100, align: 1000, workers: 2 });
        queue.add(lease(1, 0, 12));
        assert_eq!(all(&queue), [(0, 3), (3, 6), (6, 9), (9, 12)]);
    }

    fn block(queue: &Queue) -> Block {
        match queue.claim() {
            Claim::Block(block) => block,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_is_through_when_all_blocks_are_back() {
        let queue = Queue::new(Cut { most: 5, align: 1, workers: 1 });
        queue.add(lease(7, 0, 10));
        let (first, second) = (block(&queue), block(&queue));
        let done = |start, end| BlockDone {
            done: RangeSet::of(start, end),
            changed: end - start,
            ..Default::default()
        };
        assert_eq!(queue.give_back(&second, &done(5, 10)), None);
        let report = queue.give_back(&first, &done(0, 4)).unwrap();
        assert_eq!((report.id, report.done, report.changed), (7, vec![(0, 4), (5, 10)], 9));
    }

    #[test]
    fn closing_reports_what_is_done_and_refuses_the_rest() {
        for (out_is_done, want) in [(false, vec![]), (true, vec![(0, 5)])] {
            let queue = Queue::new(Cut { most: 5, align: 1, workers: 1 });
            queue.add(lease(7, 0, 10));
            block(&queue);
            let reports = queue.close(out_is_done);
            assert_eq!((reports.len(), &reports[0].done), (1, &want));
            assert_eq!(queue.claim(), Claim::Over);
            assert_eq!(queue.add(lease(8, 0, 1)).map(|report| report.id), Some(8));
        }
    }

    #[test]
    fn an_empty_queue_ends_only_when_drained() {
        let queue = Queue::new(Cut { most: 5, align: 1, workers: 1 });
        assert_eq!(queue.claim(), Claim::Wait);
        queue.drain();
        assert_eq!(queue.claim(), Claim::Over);
    }
}
