//! The recorder of one worker (or of the tasks of one runtime), and the record of a stage that an agent keeps of
//! all its workers' intervals.
//!
//! Which stage an operation counts for: the one whose window it was *sent* in, by `start_ns`. It is counted there
//! whenever it ends; one that ends at or after the window's end is counted too, and marked as drained. So every
//! request that was sent is in exactly one stage's totals (warm-up included), `count = in window + drained`, and
//! rates divide what is in the window by the window. An operation that the schedule wanted but that was never
//! sent is a dropped start of the stage in which it was intended.
//!
//! Which second: the one in which it ended, counted from the stage's start. A record that comes after its
//! second was closed (tasks of one runtime may finish out of order by a hair) goes to the open second; nothing is
//! lost, and the sum of all intervals is the sum of all records.
//!
//! The recorder is owned by its thread: no lock, and no allocation but for pages of histograms that are touched
//! for the first time. Once a second it has an interval to hand over. It deliberately keeps no cumulative totals:
//! 64 workers would keep 64 copies of wide histograms; [`StageRecord`] keeps one per agent.

use super::cell::Sample;
use super::series::Series;
use super::totals::Totals;
use crate::op::ErrorClass;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// Finished intervals that wait for the owner before younger ones are merged into the youngest of their stage.
pub const MAX_WAITING_INTERVALS: usize = 8;

/// Whether the schedule waits for answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoopKind {
    /// The next operation is sent when the last one ended; response time is service time.
    Closed,
    /// Operations are sent by a schedule; response time counts from the intended start.
    Open,
}

/// When a stage is measured, in the agent's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageWindow {
    /// Position of the stage in the plan.
    pub stage: u32,
    /// T: the stage's start, nanoseconds.
    pub origin_ns: u64,
    /// The end of the window, nanoseconds; `None` for a stage that ends when its work is done.
    pub end_ns: Option<u64>,
    /// Whether its load is an open loop.
    pub kind: LoopKind,
}

impl StageWindow {
    /// The second of an instant, counted from the stage's start; the last one holds everything later than what
    /// fits.
    #[must_use]
    pub fn second_of(&self, at_ns: u64) -> u32 {
        u32::try_from(at_ns.saturating_sub(self.origin_ns) / SECOND_NS).unwrap_or(u32::MAX)
    }
}

/// What one recorder saw of one stage in one second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// Position of the stage in the plan.
    pub stage: u32,
    /// Second since the stage's start.
    pub second: u32,
    /// What ended in it.
    pub totals: Totals,
}

/// What is open of one stage.
#[derive(Debug)]
struct Lane {
    window: StageWindow,
    /// `u64::MAX` where the window has no end.
    end_ns: u64,
    second: u32,
    /// Where the open second ends.
    boundary_ns: u64,
    totals: Totals,
}

impl Lane {
    fn new(window: StageWindow) -> Self {
        Self {
            window,
            end_ns: window.end_ns.unwrap_or(u64::MAX),
            second: 0,
            boundary_ns: window.origin_ns.saturating_add(SECOND_NS),
            totals: Totals::new(),
        }
    }

    fn open_second_of(&mut self, at_ns: u64) {
        self.second = self.window.second_of(at_ns);
        let end = (u64::from(self.second) + 1).saturating_mul(SECOND_NS);
        self.boundary_ns = self.window.origin_ns.saturating_add(end);
    }
}

/// Records operations; owned by one thread. See the module's text.
#[derive(Debug)]
pub struct Recorder {
    lane: Lane,
    /// The stage before, while its operations drain.
    draining: Option<Lane>,
    finished: VecDeque<Interval>,
    spare: Vec<Totals>,
}

impl Recorder {
    /// A recorder whose first stage is `window`.
    #[must_use]
    pub fn new(window: StageWindow) -> Self {
        Self {
            lane: Lane::new(window),
            draining: None,
            finished: VecDeque::with_capacity(MAX_WAITING_INTERVALS + 1),
            spare: Vec::new(),
        }
    }

    /// Goes on with the next stage; may be called before its start. Operations sent before `window.origin_ns`
    /// still count for the stage that was current, one stage back; older ones have to be over.
    pub fn enter(&mut self, window: StageWindow) {
        if window.kind != self.lane.window.kind {
            // Cells of an open loop keep response times apart; those of a closed one must not begin to.
            self.spare.clear();
        }
        let previous = std::mem::replace(&mut self.lane, Lane::new(window));
        if let Some(mut older) = self.draining.replace(previous) {
            Self::close(&mut older, &mut self.spare, &mut self.finished);
        }
    }

    /// The stage whose window is recorded now.
    #[must_use]
    pub const fn window(&self) -> &StageWindow {
        &self.lane.window
    }

    /// Moves the end of the current window, e.g. when a stage is ended early. What was recorded stays as it was.
    pub fn set_end(&mut self, end_ns: u64) {
        self.lane.window.end_ns = Some(end_ns);
        self.lane.end_ns = end_ns;
    }

    /// Counts an operation that succeeded. True when an interval waits in [`Recorder::take_finished`].
    #[inline]
    pub fn record_ok(&mut self, sample: &Sample) -> bool {
        let lane = self.lane_at(sample.start_ns, sample.end_ns);
        let (open_loop, drained) = (lane.window.kind == LoopKind::Open, sample.end_ns >= lane.end_ns);
        lane.totals.record_ok(sample, open_loop, drained);
        !self.finished.is_empty()
    }

    /// Counts an operation that failed. True as for [`Recorder::record_ok`].
    #[inline]
    pub fn record_error(&mut self, sample: &Sample, class: ErrorClass) -> bool {
        self.lane_at(sample.start_ns, sample.end_ns).totals.record_error(sample, class);
        !self.finished.is_empty()
    }

    /// Counts a delete that found nothing to delete, at `at_ns`.
    pub fn count_starved_delete(&mut self, at_ns: u64) {
        self.lane_at(at_ns, at_ns).totals.starved_deletes += 1;
    }

    /// Counts `count` operations that were intended at `intended_ns` and will not be sent any more.
    pub fn count_dropped_starts(&mut self, intended_ns: u64, count: u64) {
        self.lane_at(intended_ns, intended_ns).totals.dropped_starts += count;
    }

    /// Counts an operation, sent at `start_ns`, as one that a lost attempt had done before.
    pub fn count_repeated_operation(&mut self, start_ns: u64) {
        self.lane_at(start_ns, start_ns).totals.repeated_operations += 1;
    }

    /// Counts one more request for an operation that was sent at `start_ns` first.
    pub fn count_retry(&mut self, start_ns: u64) {
        self.lane_at(start_ns, start_ns).totals.retries += 1;
    }

    /// The oldest finished interval. An owner that leaves them lying gets younger ones merged, never lost.
    pub fn take_finished(&mut self) -> Option<Interval> {
        self.finished.pop_front()
    }

    /// Finishes the open second of every stage whatever the time, at a stage's end or before a rest; then
    /// [`Recorder::take_finished`] yields everything that was recorded.
    pub fn flush(&mut self) {
        if let Some(draining) = &mut self.draining {
            Self::close(draining, &mut self.spare, &mut self.finished);
        }
        Self::close(&mut self.lane, &mut self.spare, &mut self.finished);
    }

    /// Gives back the memory of an interval that was merged elsewhere, so that the next second allocates nothing.
    pub fn recycle(&mut self, mut totals: Totals) {
        if self.spare.len() < 2 {
            totals.clear();
            self.spare.push(totals);
        }
    }

    /// The stage for an operation sent at `start_ns`, with the second of `end_ns` open.
    #[inline]
    fn lane_at(&mut self, start_ns: u64, end_ns: u64) -> &mut Lane {
        let lane = match &mut self.draining {
            Some(draining) if start_ns < self.lane.window.origin_ns => draining,
            _ => &mut self.lane,
        };
        if end_ns >= lane.boundary_ns {
            Self::close(lane, &mut self.spare, &mut self.finished);
            lane.open_second_of(end_ns);
        }
        lane
    }

    /// Moves what a lane holds to the finished intervals.
    #[cold]
    fn close(lane: &mut Lane, spare: &mut Vec<Totals>, finished: &mut VecDeque<Interval>) {
        if lane.totals.is_empty() {
            return;
        }
        let waiting = finished.len();
        match finished.iter_mut().rev().find(|interval| interval.stage == lane.window.stage) {
            Some(youngest) if waiting >= MAX_WAITING_INTERVALS || youngest.second == lane.second => {
                youngest.totals.merge(&lane.totals);
                youngest.second = lane.second;
                lane.totals.clear();
            }
            _ => {
                let totals = std::mem::replace(&mut lane.totals, spare.pop().unwrap_or_default());
                finished.push_back(Interval { stage: lane.window.stage, second: lane.second, totals });
            }
        }
    }
}

/// What an agent keeps of one stage: the sum of its workers' intervals, and the same by second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageRecord {
    /// Sum of all intervals.
    pub totals: Totals,
    /// The same by second.
    pub series: Series,
}

impl StageRecord {
    /// Adds one interval of the stage; the caller sees to it that it is of this stage.
    pub fn absorb(&mut self, interval: &Interval) {
        self.totals.merge(&interval.totals);
        self.series.add(interval.second, &interval.totals, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Op, SizeClass};

    const T_NS: u64 = 5_000_000_000;

    fn window(stage: u32, from_second: u64, to_second: Option<u64>) -> StageWindow {
        StageWindow {
            stage,
            origin_ns: T_NS + from_second * SECOND_NS,
            end_ns: to_second.map(|second| T_NS + second * SECOND_NS),
            kind: LoopKind::Closed,
        }
    }

    /// A get between two instants in milliseconds after the first stage's start.
    fn get(from_ms: u64, to_ms: u64) -> Sample {
        let start_ns = T_NS + from_ms * 1_000_000;
        let end_ns = T_NS + to_ms * 1_000_000;
        Sample { op: Op::Get, size_bytes: 10, intended_ns: start_ns, start_ns, first_byte_ns: None, end_ns }
    }

    /// (stage, second, count, drained) of everything that a recorder hands out.
    fn drain(recorder: &mut Recorder) -> Vec<(u32, u32, u64, u64)> {
        recorder.flush();
        let mut seen = Vec::new();
        while let Some(interval) = recorder.take_finished() {
            let cell = interval.totals.by_op(Op::Get);
            seen.push((interval.stage, interval.second, cell.count(), cell.drained));
            recorder.recycle(interval.totals);
        }
        seen
    }

    #[test]
    fn seconds_count_from_the_stages_start_by_the_end_of_operations() {
        let mut recorder = Recorder::new(window(3, 0, Some(2)));
        assert!(!recorder.record_ok(&get(0, 999)));
        assert!(recorder.record_ok(&get(999, 1000)), "a boundary was passed");
        recorder.record_ok(&get(1000, 1999));
        recorder.record_ok(&get(1999, 4500));
        assert_eq!(drain(&mut recorder), [(3, 0, 1, 0), (3, 1, 2, 0), (3, 4, 1, 1)]);
    }

    #[test]
    fn the_windows_end_is_outside_it() {
        let mut recorder = Recorder::new(window(0, 0, Some(1)));
        recorder.record_ok(&get(500, 1000));
        assert_eq!(drain(&mut recorder), [(0, 1, 1, 1)]);
    }

    #[test]
    fn an_operation_counts_for_the_stage_in_which_it_was_sent() {
        let mut recorder = Recorder::new(window(1, 0, Some(1)));
        recorder.record_ok(&get(100, 200));
        recorder.enter(window(2, 1, Some(3)));
        recorder.record_ok(&get(900, 990)); // entered early: still the first stage's window
        recorder.record_ok(&get(1001, 1010));
        recorder.record_ok(&get(950, 1020)); // overlapping: sent before the switch, ended after
        let mut seen = drain(&mut recorder);
        seen.sort_unstable();
        assert_eq!(seen, [(1, 0, 2, 0), (1, 1, 1, 1), (2, 0, 1, 0)]);
    }

    #[test]
    fn a_record_behind_its_second_is_kept() {
        let mut recorder = Recorder::new(window(0, 0, None));
        recorder.record_ok(&get(900, 1001));
        recorder.record_ok(&get(900, 999));
        assert_eq!(drain(&mut recorder), [(0, 1, 2, 0)]);
    }

    #[test]
    fn intervals_left_lying_are_merged_and_bounded() {
        let mut recorder = Recorder::new(window(0, 0, None));
        for second in 0..100 {
            recorder.record_ok(&get(second * 1000, second * 1000 + 1));
        }
        let seen = drain(&mut recorder);
        assert_eq!(seen.len(), MAX_WAITING_INTERVALS);
        assert_eq!(seen.iter().map(|(_, _, count, _)| count).sum::<u64>(), 100);
        assert_eq!(seen.last(), Some(&(0, 99, 93, 0)));
    }

    #[test]
    fn the_sum_of_intervals_is_everything_recorded_also_with_recycled_memory() {
        let mut recorder = Recorder::new(window(0, 0, Some(3)));
        let (mut record, mut want) = (StageRecord::default(), Totals::new());
        for at in 0..4000u64 {
            let mut sample = get(at, at + at % 7 + 1);
            sample.size_bytes = at % 3 * 5000;
            if at % 11 == 0 {
                recorder.record_error(&sample, ErrorClass::Timeout);
                want.record_error(&sample, ErrorClass::Timeout);
            } else {
                recorder.record_ok(&sample);
                want.record_ok(&sample, false, sample.end_ns >= T_NS + 3 * SECOND_NS);
            }
            while let Some(interval) = recorder.take_finished() {
                record.absorb(&interval);
                recorder.recycle(interval.totals);
            }
        }
        recorder.count_retry(T_NS);
        recorder.count_starved_delete(T_NS);
        recorder.count_dropped_starts(T_NS, 2);
        recorder.count_repeated_operation(T_NS);
        (want.retries, want.starved_deletes, want.dropped_starts, want.repeated_operations) = (1, 1, 2, 1);
        recorder.flush();
        while let Some(interval) = recorder.take_finished() {
            record.absorb(&interval);
        }
        assert_eq!(record.totals, want);
        assert_eq!(record.totals.requests(), 4001);
        let in_rows: u64 =
            record.series.iter().map(|(_, row)| row.overall().count + row.overall().errors).sum();
        assert_eq!(in_rows, 4000);
        assert!(record.totals.cell(Op::Get, SizeClass::of(5000)).is_some_and(|cell| cell.drained > 0));
    }
}
