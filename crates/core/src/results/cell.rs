//! What is kept of the operations of one kind and size class.
//!
//! A [`Cell`] holds exact counts, bytes, sums and extremes beside the histograms, so that means and maxima are
//! true and only percentiles are rounded (to 3 digits). An operation that failed is counted by its class and is
//! in no latency: a fast refusal would flatter the percentiles, and a timeout would only repeat its own limit.
//! Deliberately no rates: those need a window, which a table of counts does not know.

use super::histogram::Histogram;
use crate::op::{ErrorClass, Op};
use serde::{Deserialize, Serialize};

/// An operation of an open loop that starts later than this after its intended start counts as late: below it
/// lies the accuracy of timers.
pub const LATE_START_NS: u64 = 1_000_000;

/// One finished operation. Instants are nanoseconds of one monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What was done.
    pub op: Op,
    /// Bytes of content that were moved; 0 for operations without content.
    pub size_bytes: u64,
    /// When the schedule wanted it to start; equal to `start_ns` in a closed loop.
    pub intended_ns: u64,
    /// When it was sent.
    pub start_ns: u64,
    /// When the first byte of the answer's content came, where the target tells.
    pub first_byte_ns: Option<u64>,
    /// When it ended.
    pub end_ns: u64,
}

impl Sample {
    /// From sending to the end.
    #[must_use]
    #[inline]
    pub const fn service_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// From the intended start to the end.
    #[must_use]
    #[inline]
    pub const fn response_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.intended_ns)
    }
}

/// One kind of latency: sum and extremes exactly, the rest as a histogram. All in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Sum of all values.
    pub sum_ns: u64,
    /// The shortest; `u64::MAX` when there is none.
    pub min_ns: u64,
    /// The longest; 0 when there is none.
    pub max_ns: u64,
    /// All of them.
    pub histogram: Histogram,
}

impl Default for Latency {
    fn default() -> Self {
        Self { sum_ns: 0, min_ns: u64::MAX, max_ns: 0, histogram: Histogram::new() }
    }
}

impl Latency {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.min_ns = self.min_ns.min(ns);
        self.max_ns = self.max_ns.max(ns);
        self.histogram.record(ns);
    }

    /// Adds another one.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.histogram.merge(&other.histogram);
    }

    /// How many values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.histogram.count()
    }

    /// Mean in whole nanoseconds; `None` without values.
    #[must_use]
    pub const fn mean_ns(&self) -> Option<u64> {
        self.sum_ns.checked_div(self.count())
    }

    /// A quantile (0.0 to 1.0), never outside the exact extremes; `None` without values.
    #[must_use]
    pub fn quantile_ns(&self, quantile: f64) -> Option<u64> {
        // Not `clamp`: a part from the wire may hold a minimum above its maximum.
        self.histogram.value_at_quantile(quantile).map(|ns| ns.max(self.min_ns).min(self.max_ns))
    }

    /// Forgets all values, and keeps memory for the next round.
    pub fn clear(&mut self) {
        self.sum_ns = 0;
        self.min_ns = u64::MAX;
        self.max_ns = 0;
        self.histogram.clear();
    }
}

/// Everything about the operations of one kind and size class.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Bytes moved by operations that succeeded.
    pub bytes: u64,
    /// Of the operations that succeeded, how many ended after the window.
    pub drained: u64,
    /// Bytes of those.
    pub drained_bytes: u64,
    /// Operations that started more than [`LATE_START_NS`] after their intended start, failed ones included.
    pub late_starts: u64,
    /// Operations that failed, by [`ErrorClass::index`].
    pub errors: [u64; ErrorClass::ALL.len()],
    /// From sending to the end.
    pub service: Latency,
    /// From the intended start to the end; `None` in a closed loop, where it is the service time.
    response: Option<Box<Latency>>,
    /// From sending to the first byte of content; only of operations that have one.
    first_byte: Option<Box<Latency>>,
}

impl Cell {
    /// Counts an operation that succeeded. `open_loop`: response time is kept apart. `drained`: it ended after
    /// its stage's window.
    #[inline]
    pub fn record_ok(&mut self, sample: &Sample, open_loop: bool, drained: bool) {
        if open_loop || self.response.is_some() {
            self.record_response(sample);
        }
        self.bytes += sample.size_bytes;
        if drained {
            self.drained += 1;
            self.drained_bytes += sample.size_bytes;
        }
        if let Some(first_byte_ns) = sample.first_byte_ns {
            self.first_byte.get_or_insert_default().record(first_byte_ns.saturating_sub(sample.start_ns));
        }
        self.service.record(sample.service_ns());
    }

    /// Counts an operation that failed.
    #[inline]
    pub fn record_error(&mut self, sample: &Sample, class: ErrorClass) {
        self.errors[class.index()] += 1;
        self.late_starts += u64::from(sample.start_ns.saturating_sub(sample.intended_ns) > LATE_START_NS);
    }

    fn record_response(&mut self, sample: &Sample) {
        // What a closed loop recorded before has its service time as its response time.
        let service = &self.service;
        self.response.get_or_insert_with(|| Box::new(service.clone())).record(sample.response_ns());
        self.late_starts += u64::from(sample.start_ns.saturating_sub(sample.intended_ns) > LATE_START_NS);
    }

    /// Operations that succeeded, drained ones included.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.service.count()
    }

    /// Operations that failed.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.iter().fold(0, |sum, errors| sum.saturating_add(*errors))
    }

    /// Response time: from the intended start in an open loop, the service time in a closed one.
    #[must_use]
    pub fn response(&self) -> &Latency {
        self.response.as_deref().unwrap_or(&self.service)
    }

    /// Whether response time was kept apart from service time.
    #[must_use]
    pub fn is_open_loop(&self) -> bool {
        self.response.as_ref().is_some_and(|response| response.count() > 0)
    }

    /// Time to the first byte, if any operation had one.
    #[must_use]
    pub fn first_byte(&self) -> Option<&Latency> {
        self.first_byte.as_deref().filter(|first_byte| first_byte.count() > 0)
    }

    /// Adds another cell, exactly.
    pub fn merge(&mut self, other: &Self) {
        if self.response.is_some() || other.response.is_some() {
            let service = &self.service;
            self.response.get_or_insert_with(|| Box::new(service.clone())).merge(other.response());
        }
        if let Some(first_byte) = &other.first_byte {
            self.first_byte.get_or_insert_default().merge(first_byte);
        }
        self.service.merge(&other.service);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.drained = self.drained.saturating_add(other.drained);
        self.drained_bytes = self.drained_bytes.saturating_add(other.drained_bytes);
        self.late_starts = self.late_starts.saturating_add(other.late_starts);
        for (mine, theirs) in self.errors.iter_mut().zip(&other.errors) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    /// Forgets everything, and keeps memory for the next round.
    pub(super) fn clear(&mut self) {
        let Self { bytes, drained, drained_bytes, late_starts, errors, service, response, first_byte } = self;
        (*bytes, *drained, *drained_bytes, *late_starts) = (0, 0, 0, 0);
        *errors = [0; ErrorClass::ALL.len()];
        service.clear();
        for latency in [response, first_byte] {
            match latency {
                Some(latency) if latency.count() > 0 => latency.clear(),
                _ => *latency = None,
            }
        }
    }

    /// Whether nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0 && self.error_count() == 0
    }
}

/// Two cells are equal when what they tell is, whatever memory they keep from an earlier use.
impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        let Self { bytes, drained, drained_bytes, late_starts, errors, service, response: _, first_byte: _ } =
            self;
        *bytes == other.bytes
            && *drained == other.drained
            && *drained_bytes == other.drained_bytes
            && *late_starts == other.late_starts
            && *errors == other.errors
            && *service == other.service
            && self.response() == other.response()
            && self.first_byte() == other.first_byte()
    }
}

impl Eq for Cell {}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(intended_ns: u64, start_ns: u64, first_byte_ns: Option<u64>, end_ns: u64) -> Sample {
        Sample { op: Op::Get, size_bytes: 100, intended_ns, start_ns, first_byte_ns, end_ns }
    }

    #[test]
    fn a_closed_loop_keeps_one_histogram_and_answers_for_both() {
        let mut cell = Cell::default();
        cell.record_ok(&sample(1000, 1000, None, 51_000), false, false);
        assert!(!cell.is_open_loop());
        assert_eq!(cell.response(), &cell.service);
        assert_eq!(cell.first_byte(), None);
    }

    #[test]
    fn an_open_loop_counts_response_from_the_intended_start() {
        let mut cell = Cell::default();
        cell.record_ok(&sample(1000, 9_001_000, Some(9_003_000), 9_051_000), true, true);
        assert_eq!((cell.service.sum_ns, cell.response().sum_ns), (50_000, 9_050_000));
        assert_eq!(cell.first_byte().and_then(Latency::mean_ns), Some(2000));
        assert_eq!((cell.late_starts, cell.drained, cell.drained_bytes), (1, 1, 100));
    }

    #[test]
    fn failures_are_counted_and_not_timed() {
        let mut cell = Cell::default();
        cell.record_error(&sample(0, 0, None, 70), ErrorClass::Throttled);
        assert_eq!((cell.count(), cell.error_count(), cell.errors[ErrorClass::Throttled.index()]), (0, 1, 1));
        assert_eq!((cell.bytes, cell.service.mean_ns()), (0, None));
    }

    #[test]
    fn percentiles_stay_within_the_exact_extremes() {
        let mut latency = Latency::default();
        latency.record(100_001);
        assert_eq!(latency.quantile_ns(0.0), Some(100_001));
        assert_eq!(latency.quantile_ns(1.0), Some(100_001));
        latency.record(u64::MAX - 5);
        assert_eq!(latency.quantile_ns(1.0), Some(u64::MAX - 5), "above the range, the maximum is known");
    }
}
