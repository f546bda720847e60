//! When a status is written: at once what tools wait for, at least two seconds apart what only moves, and all of it within
//! what etcd can bear.
//!
//! etcd keeps every version of an object until it compacts, minutes later. So an operator-wide budget of writes and bytes
//! per second stretches progress of many runs; lifecycle is never held back, but counts. Pure: time is an argument.

use super::managers::{Parts, is_same_progress};
use serde_json::Value;

/// Least time between two writes of progress of one run, milliseconds.
pub const PROGRESS_EVERY_MS: u64 = 2_000;
/// Writes per second over all runs. With a hundred runs, each shows its progress every five seconds.
pub const WRITES_PER_S: u64 = 20;
/// Bytes per second over all runs: with compaction every five minutes at most 75 MiB of versions.
pub const BYTES_PER_S: u64 = 256 * 1024;
/// What a bucket holds when nothing was written for long, in seconds of its rate.
const BURST_S: u64 = 5;

/// A budget that fills with time. What is never held back may overdraw it; the others wait until it is paid back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    per_s: u64,
    /// Thousandths; negative when overdrawn.
    milli: i64,
    at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(per_s: u64, now_ms: u64) -> Self {
        Self { per_s, milli: Self::full(per_s), at_ms: now_ms }
    }

    fn full(per_s: u64) -> i64 {
        i64::try_from(per_s * BURST_S * 1_000).unwrap_or(i64::MAX)
    }

    fn fill(&mut self, now_ms: u64) {
        let gained = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_s);
        self.milli =
            self.milli.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX)).min(Self::full(self.per_s));
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// When something may be taken, milliseconds; `now_ms` when it may at once.
    #[must_use]
    pub fn ready_ms(&self, now_ms: u64) -> u64 {
        let mut filled = *self;
        filled.fill(now_ms);
        let debt = u64::try_from(-filled.milli).unwrap_or(0);
        if filled.milli > 0 { now_ms } else { now_ms + (debt + 1).div_ceil(self.per_s.max(1)) }
    }

    /// Takes `amount`, whether it is there or not.
    pub fn take(&mut self, amount: u64, now_ms: u64) {
        self.fill(now_ms);
        self.milli =
            self.milli.saturating_sub(i64::try_from(amount.saturating_mul(1_000)).unwrap_or(i64::MAX));
    }
}

/// The budget of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    writes: Bucket,
    bytes: Bucket,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { writes: Bucket::new(WRITES_PER_S, now_ms), bytes: Bucket::new(BYTES_PER_S, now_ms) }
    }

    fn ready_ms(&self, now_ms: u64) -> u64 {
        self.writes.ready_ms(now_ms).max(self.bytes.ready_ms(now_ms))
    }

    /// A part was written. `object_bytes`: of the whole object, which is what etcd stores anew.
    pub fn wrote(&mut self, object_bytes: usize, now_ms: u64) {
        self.writes.take(1, now_ms);
        self.bytes.take(object_bytes as u64, now_ms);
    }
}

/// What was written of one run last.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written {
    lifecycle: Option<Value>,
    progress: Option<Value>,
    progress_ms: Option<u64>,
}

/// What is to be written of one run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Lifecycle has changed: write it.
    pub lifecycle: bool,
    /// Progress has changed and may be written.
    pub progress: bool,
    /// Progress has changed and may not be written before this, milliseconds.
    pub again_ms: Option<u64>,
}

impl Written {
    /// What of `parts` is to be written at `now_ms`. `at_once`: progress must not be late, as that of a run that is finished.
    #[must_use]
    pub fn due(&self, parts: &Parts, at_once: bool, budget: &Budget, now_ms: u64) -> Due {
        let lifecycle = self.lifecycle.as_ref() != Some(&parts.lifecycle);
        let moved = !self.progress.as_ref().is_some_and(|before| is_same_progress(before, &parts.progress));
        let apart_ms = self.progress_ms.map_or(now_ms, |before| before + PROGRESS_EVERY_MS);
        let at_ms = if at_once { now_ms } else { apart_ms.max(budget.ready_ms(now_ms)) };
        let progress = moved && at_ms <= now_ms;
        Due { lifecycle, progress, again_ms: (moved && !progress).then_some(at_ms) }
    }

    /// Lifecycle was written, and the API server took it.
    pub fn wrote_lifecycle(&mut self, part: Value) {
        self.lifecycle = Some(part);
    }

    /// Progress was written, and the API server took it.
    pub fn wrote_progress(&mut self, part: Value, now_ms: u64) {
        self.progress = Some(part);
        self.progress_ms = Some(now_ms);
    }

    /// A write was refused, or its answer was lost: nobody knows what stands there.
    pub fn forget(&mut self) {
        (self.lifecycle, self.progress) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parts(phase: &str, done: u64, time: &str) -> Parts {
        Parts {
            lifecycle: json!({"phase": phase}),
            progress: json!({"progress": {"done": done, "lastUpdateTime": time}}),
        }
    }

    #[test]
    fn lifecycle_is_written_at_once_and_progress_two_seconds_apart() {
        let budget = Budget::new(0);
        let mut written = Written::default();
        let check = |written: &Written, parts: &Parts, now_ms, want: (bool, bool, Option<u64>)| {
            let due = written.due(parts, false, &budget, now_ms);
            assert_eq!((due.lifecycle, due.progress, due.again_ms), want, "at {now_ms}");
        };
        let first = parts("Running", 1, "a");
        check(&written, &first, 0, (true, true, None));
        written.wrote_lifecycle(first.lifecycle.clone());
        written.wrote_progress(first.progress.clone(), 0);
        check(&written, &first, 10_000, (false, false, None));
        check(&written, &parts("Running", 1, "b"), 10_000, (false, false, None));
        check(&written, &parts("Running", 2, "b"), 500, (false, false, Some(2_000)));
        check(&written, &parts("CleaningUp", 2, "b"), 500, (true, false, Some(2_000)));
        check(&written, &parts("Running", 2, "b"), 2_000, (false, true, None));
        let due = written.due(&parts("Succeeded", 2, "b"), true, &budget, 500);
        assert!(due.lifecycle && due.progress, "the last one is not held back");
        written.forget();
        check(&written, &first, 2_000, (true, true, None));
    }

    #[test]
    fn many_runs_share_one_budget_and_lifecycle_overdraws_it() {
        let mut budget = Budget::new(0);
        for _ in 0..WRITES_PER_S * BURST_S {
            assert_eq!(budget.ready_ms(0), 0);
            budget.wrote(1_000, 0);
        }
        assert_eq!(budget.ready_ms(0), 1, "empty, until the first thousandth is there");
        for _ in 0..WRITES_PER_S {
            budget.wrote(1_000, 0);
        }
        let ready_ms = budget.ready_ms(0);
        assert!((1_000..=1_001).contains(&ready_ms), "{ready_ms}");
        assert_eq!(budget.ready_ms(1_001), 1_001);
        let one = parts("Running", 2, "b");
        assert_eq!(Written::default().due(&one, false, &budget, 0).again_ms, Some(ready_ms));
        assert!(Written::default().due(&one, false, &budget, 0).lifecycle);
    }

    #[test]
    fn large_objects_are_paid_for_by_the_byte() {
        let mut budget = Budget::new(0);
        budget.wrote((BYTES_PER_S * BURST_S) as usize, 0);
        budget.wrote(BYTES_PER_S as usize, 0);
        assert!(budget.ready_ms(0) >= 1_000);
    }

    #[test]
    fn over_a_minute_no_more_is_written_than_the_budget_allows() {
        let (mut budget, mut written, mut writes) = (Budget::new(0), vec![Written::default(); 100], 0_u64);
        for now_ms in (0..60_000).step_by(100) {
            for one in &mut written {
                let parts = parts("Running", now_ms, "t");
                let due = one.due(&parts, false, &budget, now_ms);
                if due.progress {
                    budget.wrote(4_000, now_ms);
                    one.wrote_progress(parts.progress, now_ms);
                    writes += 1;
                }
            }
        }
        assert!((WRITES_PER_S * 59..=WRITES_PER_S * 66).contains(&writes), "{writes}");
    }
}
