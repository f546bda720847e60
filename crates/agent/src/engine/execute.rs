//! The measuring loop: draw an operation, choose its object, do it, record it, until the window or the work ends.
//!
//! In a closed loop the next operation starts when the last one ended. In an open loop it starts when the schedule
//! says: workers of one runtime share one schedule, so that a slow answer holds up one worker and not the
//! arrivals behind it. An arrival that no worker could start before the window's end is a dropped start; none is
//! dropped earlier. Fresh names for puts come from leases in small blocks; deletes take what this worker put,
//! the oldest first. Deliberately no clock is read beyond the two readings that time the operation.

use super::interface::EngineEvent;
use super::job::{Pace, Segment, Space};
use super::queue::{Block, BlockDone, Claim, Queue};
use super::worker::{Bench, Ended, Operation};
use crate::clock;
use crate::target::Target;
use lockstep_core::dataset::size::SizeSpec;
use lockstep_core::keys::{KeyChooser, OpMix, share};
use lockstep_core::op::Op;
use lockstep_core::pacing::split_rate;
use lockstep_core::problem::Problem;
use lockstep_core::ranges::RangeSet;
use lockstep_core::rng::{Stream, word};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Operations between two moments in which others on the same runtime may run.
const BREATH_OPERATIONS: u32 = 64;
/// How long to wait before looking for a lease again, nanoseconds. Leases are in hand early, so this is rare.
const LEASE_WAIT_NS: u64 = 1_000_000;
/// Draws in a row that find nothing to do, before the worker rests.
const IDLE_DRAWS: u32 = 64;
/// Dropped starts that are counted one by one; more are computed from the rate.
const DROPS_COUNTED: u64 = 1_000_000;

/// One operation of the mix, ready to draw from.
struct Choice {
    op: Op,
    keys: KeyChooser,
    size: Option<SizeSpec>,
    exhausted: bool,
}

/// Names for puts in hand, and what was put and not yet deleted.
#[derive(Default)]
struct Puts {
    block: Option<(Block, u64)>,
    written: VecDeque<(u64, u64)>,
}

/// Why there is nothing to do right now.
enum Nothing {
    /// A draw that found nothing; another one may.
    Drawn,
    /// No lease in hand.
    Lease,
}

/// What one worker measured of how the schedule was kept.
#[derive(Default)]
struct Lag {
    max_ns: u64,
    sum_ns: u128,
    starts: u64,
}

/// Works through a chain of execute stages that started at `origin_ns`.
pub async fn execute<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    segments: &[Segment],
    origin_ns: u64,
) {
    let mut puts = Puts::default();
    for (position, segment) in segments.iter().enumerate() {
        let window = segment.window(origin_ns);
        let end_ns = window.end_ns.unwrap_or(u64::MAX);
        if position > 0
            && let Some(recorder) = bench.seat.recorder().as_mut()
        {
            recorder.enter(window);
        }
        // Joined late: this stage is over already.
        if bench.last_end_ns >= end_ns {
            continue;
        }
        if bench.seat.hands.worker < segment.plan.concurrency {
            run(bench, segment, position, window.origin_ns, end_ns, &mut puts).await;
        }
        if bench.stopped() {
            break;
        }
        if position + 1 < segments.len() {
            bench.target.wait_until(end_ns).await;
            bench.last_end_ns = bench.last_end_ns.max(clock::now_ns());
        }
    }
    puts.give_back(&bench.job.puts, &mut |report| {
        let _ = bench.job.events.send(EngineEvent::LeaseDone(report));
    });
}

async fn run<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    segment: &Segment,
    position: usize,
    from_ns: u64,
    end_ns: u64,
    puts: &mut Puts,
) {
    let job = bench.job;
    let mut random = stream(bench, segment.stage);
    let mut choices = choices(bench, segment);
    let Some(mix) = OpMix::new(segment.plan.operations_mix.iter().map(|op| op.weight)) else { return };
    let has_puts = choices.iter().any(|choice| choice.op == Op::Put);
    let pace = job.paces.get().and_then(|paces| paces.get(position)?.get(bench.lane));
    let counted = segment.plan.operations.is_some().then(|| &job.operations[position]);
    let mut tickets = Tickets { queue: counted, block: None };
    let (mut lag, mut idle, mut breath) = (Lag::default(), 0, 0);
    let mut intended_ns = None;
    while !bench.stopped() && bench.last_end_ns < end_ns {
        if let Some(pace) = pace
            && intended_ns.is_none()
        {
            intended_ns = match next_arrival(pace, from_ns, end_ns) {
                Arrival::At(at_ns) => Some(at_ns),
                Arrival::Never => {
                    bench.target.wait_until(end_ns.min(clock::now_ns() + 50 * LEASE_WAIT_NS)).await;
                    bench.last_end_ns = clock::now_ns();
                    continue;
                }
                Arrival::Over => {
                    bench.target.wait_until(end_ns).await;
                    break;
                }
            };
            if let Some(at_ns) = intended_ns.filter(|at_ns| *at_ns > bench.last_end_ns) {
                bench.target.wait_until(at_ns).await;
            }
            if bench.stopped() {
                break;
            }
        }
        let nothing = match tickets.ready() {
            Claim::Over => break,
            Claim::Wait => Some(Nothing::Lease),
            Claim::Block(_) => None,
        };
        let drawn = if nothing.is_some() {
            Err(nothing)
        } else {
            let which = mix.pick(&mut random);
            draw(bench, &mut choices[which], puts, &mut random, has_puts).map_err(Some)
        };
        let (op, index, size) = match drawn {
            Ok(drawn) => drawn,
            Err(nothing) => {
                if choices.iter().all(|choice| choice.exhausted) {
                    break;
                }
                idle += 1;
                if matches!(nothing, Some(Nothing::Lease)) || idle >= IDLE_DRAWS {
                    idle = 0;
                    bench.target.wait_until(end_ns.min(clock::now_ns() + LEASE_WAIT_NS)).await;
                    bench.last_end_ns = clock::now_ns();
                }
                // In an open loop a draw that finds nothing to delete has used up its arrival.
                if !matches!(nothing, Some(Nothing::Lease)) {
                    intended_ns = None;
                }
                continue;
            }
        };
        idle = 0;
        if let Some(at_ns) = intended_ns {
            let late_ns = clock::now_ns().saturating_sub(at_ns);
            lag.max_ns = lag.max_ns.max(late_ns);
            lag.sum_ns += u128::from(late_ns);
            lag.starts += 1;
        }
        let operation =
            Operation { op, index, size, intended_ns: intended_ns.take(), missing_is_fine: false };
        let ended = bench.perform(operation).await;
        if op == Op::Put && matches!(ended, Ended::Well(_)) {
            puts.written(index);
        }
        if ended == Ended::Stopped {
            break;
        }
        tickets.used(&mut |report| {
            let _ = job.events.send(EngineEvent::LeaseDone(report));
        });
        breath += 1;
        if breath == BREATH_OPERATIONS {
            breath = 0;
            bench.target.breathe().await;
        }
    }
    tickets.give_back(&mut |report| {
        let _ = job.events.send(EngineEvent::LeaseDone(report));
    });
    if let (Some(pace), Some(rate)) = (pace, segment.plan.rate) {
        let (agents, agent) = job.split();
        let rate = split_rate(rate.milli_operations_per_second, agents, agent);
        let part = split_rate(rate, job.lanes as u32, bench.lane as u32);
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.lag_max_ns = pace.lag_max_ns.max(lag.max_ns);
        pace.lag_sum_ns += lag.sum_ns;
        pace.starts += lag.starts;
        // A stage that ended with its work, or was stopped, has dropped nothing.
        let ended_by_window = !bench.stopped() && clock::now_ns() >= end_ns;
        let mut dropped = 0;
        if ended_by_window {
            dropped = drop_rest(&mut pace, from_ns, end_ns, part);
            dropped += u64::from(intended_ns.is_some_and(|at_ns| at_ns < end_ns));
        }
        drop(pace);
        if dropped > 0
            && let Some(recorder) = bench.seat.recorder().as_mut()
        {
            recorder.count_dropped_starts(end_ns.saturating_sub(1).max(from_ns), dropped);
        }
    }
}

/// Draws the object of an operation; `Err` when there is nothing to do.
#[inline]
fn draw<T: Target, M: Fn(&Space) -> Result<T, Problem>>(
    bench: &mut Bench<'_, T, M>,
    choice: &mut Choice,
    puts: &mut Puts,
    random: &mut Stream,
    has_puts: bool,
) -> Result<(Op, u64, u64), Nothing> {
    let data = &bench.space.data;
    let (op, index) = match choice.op {
        Op::Put => {
            let job = bench.job;
            let index = puts.next(&job.puts, &mut |report| {
                let _ = job.events.send(EngineEvent::LeaseDone(report));
            });
            match index {
                Ok(index) => (Op::Put, index),
                Err(over) => {
                    choice.exhausted = over;
                    return Err(if over { Nothing::Drawn } else { Nothing::Lease });
                }
            }
        }
        Op::Delete => match puts.oldest() {
            Some(index) => (Op::Delete, index),
            None => {
                // Without puts in the mix nothing will ever be there to delete.
                choice.exhausted = !has_puts;
                if let Some(recorder) = bench.seat.recorder().as_mut() {
                    recorder.count_starved_delete(bench.last_end_ns);
                }
                return Err(Nothing::Drawn);
            }
        },
        op @ (Op::Get | Op::Head | Op::List) => match choice.keys.next_index(random) {
            Some(index) => (op, index),
            None => {
                choice.exhausted = true;
                return Err(Nothing::Drawn);
            }
        },
    };
    let size = match &choice.size {
        Some(size) if op == Op::Put => size.size_of(data.seed, index),
        _ if op == Op::Delete => 0,
        _ => data.size_of(index),
    };
    Ok((op, index, size))
}

fn stream<T, M>(bench: &Bench<'_, T, M>, stage: u32) -> Stream {
    let lane = (u64::from(bench.job.agent) << 32) | u64::from(bench.seat.hands.worker);
    Stream::new(word(bench.job.plan.dataset.seed, u64::from(stage)), lane)
}

fn choices<T, M>(bench: &Bench<'_, T, M>, segment: &Segment) -> Vec<Choice> {
    let job = bench.job;
    let data = &job.space.data;
    let len = data.len();
    let own = match job.space.agent {
        Some(_) => 0..len,
        None => share(len, job.plan.replicas, job.agent),
    };
    let (workers, worker) = (segment.plan.concurrency, bench.seat.hands.worker);
    let choices = segment.plan.operations_mix.iter().map(|op| Choice {
        op: op.op,
        keys: KeyChooser::new(op.keys, data.seed, len, &own, workers, worker),
        size: op.size.clone(),
        exhausted: false,
    });
    choices.collect()
}

enum Arrival {
    /// Start then.
    At(u64),
    /// The rate is zero for now.
    Never,
    /// The next one lies beyond the window.
    Over,
}

#[inline]
fn next_arrival(pace: &Mutex<Pace>, from_ns: u64, end_ns: u64) -> Arrival {
    let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
    match pace.arrivals.next().map(|since_ns| from_ns.saturating_add(since_ns)) {
        None => Arrival::Never,
        Some(at_ns) if at_ns >= end_ns => Arrival::Over,
        Some(at_ns) => Arrival::At(at_ns),
    }
}

/// Takes all arrivals before `until_ns` and counts them. `part`: the rate, in thousandths per second.
fn drop_rest(pace: &mut Pace, from_ns: u64, until_ns: u64, part: u64) -> u64 {
    let mut dropped = 0;
    while let Some(since_ns) = pace.arrivals.next() {
        let at_ns = from_ns.saturating_add(since_ns);
        if at_ns >= until_ns {
            break;
        }
        dropped += 1;
        if dropped == DROPS_COUNTED {
            let left = u128::from(until_ns - at_ns) * u128::from(part) / 1_000_000_000_000;
            // The schedule is over for everybody: those behind it must not count the same arrivals.
            pace.arrivals.rebase(since_ns, 0);
            return dropped + left as u64;
        }
    }
    dropped
}

/// Operations that a stage with a count has allowed this worker.
struct Tickets<'a> {
    queue: Option<&'a Queue>,
    block: Option<(Block, u64)>,
}

impl Tickets<'_> {
    /// Whether one more operation may be done.
    #[inline]
    fn ready(&mut self) -> Claim {
        const FREE: Block = Block { lease: 0, space: None, start: 0, end: 0 };
        let Some(queue) = self.queue else { return Claim::Block(FREE) };
        if self.block.is_some() {
            return Claim::Block(FREE);
        }
        let claim = queue.claim();
        if let Claim::Block(block) = claim {
            self.block = Some((block, block.start));
        }
        claim
    }

    /// One was done.
    #[inline]
    fn used(&mut self, report: &mut dyn FnMut(lockstep_core::lease::LeaseDone)) {
        if let Some((block, next)) = &mut self.block {
            *next += 1;
            if *next == block.end {
                self.give_back(report);
            }
        }
    }

    fn give_back(&mut self, report: &mut dyn FnMut(lockstep_core::lease::LeaseDone)) {
        if let (Some((block, next)), Some(queue)) = (self.block.take(), self.queue) {
            give_back(queue, block, next, report);
        }
    }
}

impl Puts {
    /// The next fresh name; `Err(true)` when none will come any more, `Err(false)` when none is in hand.
    #[inline]
    fn next(
        &mut self,
        queue: &Queue,
        report: &mut dyn FnMut(lockstep_core::lease::LeaseDone),
    ) -> Result<u64, bool> {
        loop {
            if let Some((block, next)) = &mut self.block {
                if *next < block.end {
                    *next += 1;
                    return Ok(*next - 1);
                }
                self.give_back(queue, report);
            }
            match queue.claim() {
                Claim::Block(block) => self.block = Some((block, block.start)),
                Claim::Wait => return Err(false),
                Claim::Over => return Err(true),
            }
        }
    }

    fn give_back(&mut self, queue: &Queue, report: &mut dyn FnMut(lockstep_core::lease::LeaseDone)) {
        if let Some((block, next)) = self.block.take() {
            give_back(queue, block, next, report);
        }
    }

    #[inline]
    fn written(&mut self, index: u64) {
        match self.written.back_mut() {
            Some(last) if last.1 == index => last.1 += 1,
            _ => self.written.push_back((index, index + 1)),
        }
    }

    #[inline]
    fn oldest(&mut self) -> Option<u64> {
        let first = self.written.front_mut()?;
        let index = first.0;
        first.0 += 1;
        if first.0 == first.1 {
            self.written.pop_front();
        }
        Some(index)
    }
}

fn give_back(
    queue: &Queue,
    block: Block,
    next: u64,
    report: &mut dyn FnMut(lockstep_core::lease::LeaseDone),
) {
    let done = RangeSet::of(block.start, next);
    let done = BlockDone { changed: next - block.start, done, ..BlockDone::default() };
    if let Some(through) = queue.give_back(&block, &done) {
        report(through);
    }
}
