//! What was measured so far: interval records of all agents, merged by stage and second.
//!
//! Percentiles of a second are those of the merged histogram, so they are exact over the cluster. Histograms of seconds
//! that are over are packed, and of the oldest ones of a long stage only two percentiles are kept; counts always are.

use crate::host::LiveStage;
use crate::kept::Kept;
use lockstep_core::results::part::{PartState, StagePart};
use lockstep_core::results::recorder::Interval;
use lockstep_core::results::series::Series;
use lockstep_core::run::view::RunView;
use std::collections::{BTreeMap, HashMap};

/// How long a rate is shown that nothing renews, nanoseconds.
const STALE_NS: u64 = 3_000_000_000;
/// Seconds behind the youngest one from which on a second is over, but for agents that come back.
const YOUNG_S: u32 = 10;
/// What packed response times of one stage may take, bytes: an hour, if they spread over some thousand buckets.
const PACKED_BYTES_MAX: usize = 64 << 20;

/// One attempt of one agent in one stage.
type Key = (u32, u32, u32);

/// Everything that agents have reported and not yet submitted, and the merged series.
#[derive(Debug)]
pub(crate) struct Live {
    stages: Vec<Series>,
    totals: Vec<(u64, u64, u64)>,
    reported: HashMap<Key, Reported>,
}

#[derive(Debug, Default)]
struct Reported {
    kept: Kept,
    last_second: u32,
    heard_ns: u64,
    settled: bool,
}

impl Live {
    pub(crate) fn new(stages: usize) -> Self {
        Self {
            stages: (0..stages).map(|_| Series::new()).collect(),
            totals: vec![(0, 0, 0); stages],
            reported: HashMap::new(),
        }
    }

    pub(crate) fn add(&mut self, index: u32, attempt: u32, interval: &Interval, now_ns: u64) {
        let stage = interval.stage as usize;
        let Some(series) = self.stages.get_mut(stage) else { return };
        series.add(interval.second, &interval.totals, true);
        series.settle(interval.second.saturating_sub(YOUNG_S), PACKED_BYTES_MAX);
        let sums = &mut self.totals[stage];
        sums.0 += interval.totals.operations();
        sums.1 += interval.totals.bytes();
        sums.2 += interval.totals.errors();
        let reported = self.reported.entry((interval.stage, index, attempt)).or_default();
        reported.last_second = reported.last_second.max(interval.second);
        reported.heard_ns = now_ns;
        if !reported.settled {
            reported.kept.add(interval);
        }
    }

    /// What an attempt had reported to another coordinator before: its totals so far, by second. Response times of those
    /// seconds are not known here.
    pub(crate) fn restore(
        &mut self,
        index: u32,
        attempt: u32,
        so_far: &Interval,
        by_second: &Series,
        now_ns: u64,
    ) {
        let Some(sums) = self.totals.get_mut(so_far.stage as usize) else { return };
        let reported = self.reported.entry((so_far.stage, index, attempt)).or_default();
        if reported.settled {
            return;
        }
        sums.0 += so_far.totals.operations();
        sums.1 += so_far.totals.bytes();
        sums.2 += so_far.totals.errors();
        reported.last_second = reported.last_second.max(so_far.second);
        reported.heard_ns = now_ns;
        reported.kept.restore(&so_far.totals, by_second);
    }

    /// A result that was persisted under another coordinator.
    pub(crate) fn take_settled(&mut self, part: &StagePart) {
        let Some(sums) = self.totals.get_mut(part.stage as usize) else { return };
        sums.0 += part.totals.operations();
        sums.1 += part.totals.bytes();
        sums.2 += part.totals.errors();
        self.settle(part);
    }

    /// The result itself is here: what was reported of it before is no longer needed one by one.
    pub(crate) fn settle(&mut self, part: &StagePart) {
        let key = (part.stage, part.agent, part.attempt);
        let reported = self.reported.entry(key).or_default();
        let (seen, final_count) = (reported.kept.operations(), part.totals.operations());
        if !reported.settled && seen > final_count {
            tracing::warn!(
                agent = part.agent,
                stage_index = part.stage,
                seen,
                final_count,
                "intervals exceed the result"
            );
        }
        reported.settled = true;
        reported.kept = Kept::default();
    }

    /// What stands in the live view; `working`: the agents that are in the stage under way.
    pub(crate) fn stages(&self, working: &[u32], now_ns: u64) -> Vec<LiveStage> {
        (0..self.stages.len()).map(|stage| self.stage(stage, working, now_ns)).collect()
    }

    fn stage(&self, stage: usize, working: &[u32], now_ns: u64) -> LiveStage {
        let (operations, bytes, errors) = self.totals[stage];
        let of_stage = self.reported.iter().filter(|((at, ..), _)| *at as usize == stage);
        let active =
            of_stage.filter(|((_, index, _), reported)| !reported.settled && working.contains(index));
        // What was reported long ago is no rate of now: workers hang, or the network does.
        let recent = active.filter(|(_, reported)| now_ns.saturating_sub(reported.heard_ns) < STALE_NS);
        let second = recent.map(|(_, reported)| reported.last_second).min();
        let row = second
            .and_then(|second| self.stages[stage].row(second))
            .map(lockstep_core::results::series::SecondRow::overall);
        let percentiles = row.as_ref().and_then(|row| row.response.as_ref()?.p50_p99_ns());
        LiveStage {
            operations,
            bytes,
            errors,
            operations_per_s: row.as_ref().map_or(0.0, |row| row.count as f64),
            bytes_per_s: row.as_ref().map_or(0.0, |row| row.bytes as f64),
            p50_ns: percentiles.map(|(p50_ns, _)| p50_ns),
            p99_ns: percentiles.map(|(_, p99_ns)| p99_ns),
        }
    }

    /// Results of an attempt that was given up, out of what it had reported. `unheard_since_ns`: it may have been at work from
    /// then on, without our knowing since when.
    pub(crate) fn lost_parts(
        &mut self,
        (index, attempt): (u32, u32),
        stage: Option<u32>,
        reason: &str,
        view: &RunView,
        unheard_since_ns: Option<u64>,
        now_ns: u64,
    ) -> Vec<StagePart> {
        let mut stages: Vec<u32> = self
            .reported
            .iter()
            .filter(|((_, at, of), reported)| (*at, *of) == (index, attempt) && !reported.settled)
            .map(|((stage, ..), _)| *stage)
            .collect();
        if let Some(stage) = stage.filter(|stage| !stages.contains(stage)) {
            stages.push(stage);
        }
        stages.sort_unstable();
        let parts = stages.into_iter().map(|stage| {
            let reported = self.reported.remove(&(stage, index, attempt)).unwrap_or_default();
            let start_of = |stage: u32| view.stages.get(stage as usize)?.facts.planned_start_ns;
            let start_ns = start_of(stage).or(unheard_since_ns);
            // A warm-up that flowed into the next stage was over then.
            let until_ns = start_of(stage + 1).map_or(now_ns, |next_ns| next_ns.min(now_ns));
            // The last second that was reported is known as a whole.
            let known_s = if reported.heard_ns > 0 { u64::from(reported.last_second) + 1 } else { 0 };
            let from_ns = known_s * 1_000_000_000;
            let mut part = StagePart::new(stage, index, attempt);
            part.window_ns = from_ns;
            part.state = PartState::Lost {
                reason: reason.to_owned(),
                unaccounted_from_ns: from_ns,
                unaccounted_to_ns: until_ns.saturating_sub(start_ns.unwrap_or(until_ns)).max(from_ns),
            };
            let record = reported.kept.unpack();
            (part.totals, part.series) = (record.totals, record.series);
            part
        });
        parts.collect()
    }

    pub(crate) fn into_series(self) -> BTreeMap<u32, Series> {
        (0u32..).zip(self.stages).collect()
    }
}
