//! What happened in each second of a stage, per operation.
//!
//! Second *n* is `[T + n s, T + n s + 1 s)` in the agent's own clock, where T is the stage's start; as all agents
//! share T, rows of many agents add up second by second, exactly. An operation belongs to the second in which it
//! ended; seconds past the window hold what drained. Deliberately a sparse table: a second in which nothing ended
//! has no row.

use super::response::Response;
use super::totals::Totals;
use super::wire::{DecodeError, from_base64, put_varint, take_varint, take_varint_u32, to_base64};
use crate::op::Op;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

/// More rows than this are refused when a series is read: a week of seconds.
pub const MAX_SECONDS: usize = 7 * 24 * 3600;

/// One operation in one second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpSecond {
    /// Operations that succeeded.
    pub count: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Sum of the response times of those that succeeded, nanoseconds.
    pub sum_ns: u64,
    /// Longest response time, nanoseconds; 0 without any.
    pub max_ns: u64,
    /// Response times, where they were kept per second; never a part of them: a merge with a side that lacks
    /// them has none. Not part of the encoded form.
    pub response: Option<Response>,
}

impl OpSecond {
    /// Adds another one, exactly.
    pub fn merge(&mut self, other: &Self) {
        self.response = match (self.response.take(), &other.response) {
            (mine, _) if other.count == 0 => mine,
            (_, theirs) if self.count == 0 => theirs.clone(),
            (Some(mine), Some(theirs)) => mine.merged(theirs),
            _ => None,
        };
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.errors = self.errors.saturating_add(other.errors);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.errors == 0
    }
}

/// One second. Holds only operations that something is known of: there is a row for each second of each agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondRow {
    /// In the order of [`Op::ALL`].
    ops: Vec<(Op, OpSecond)>,
}

impl SecondRow {
    /// What there is, in the order of [`Op::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Op, &OpSecond)> + '_ {
        self.ops.iter().map(|(op, second)| (*op, second))
    }

    /// What one operation did, if it did anything.
    #[must_use]
    pub fn op(&self, op: Op) -> Option<&OpSecond> {
        self.iter().find_map(|(of, second)| (of == op).then_some(second))
    }

    /// Adds what an operation did in this second.
    pub fn add(&mut self, op: Op, more: &OpSecond) {
        if more.is_empty() {
            return;
        }
        match self.ops.binary_search_by_key(&op.index(), |(of, _)| of.index()) {
            Ok(at) => self.ops[at].1.merge(more),
            Err(at) => {
                // Merged, so that what nothing succeeded in has no response times.
                let mut sum = OpSecond::default();
                sum.merge(more);
                self.ops.insert(at, (op, sum));
            }
        }
    }

    /// Adds another row of the same second.
    pub fn merge(&mut self, other: &Self) {
        other.iter().for_each(|(op, more)| self.add(op, more));
    }

    /// All operations together.
    #[must_use]
    pub fn overall(&self) -> OpSecond {
        let mut sum = OpSecond::default();
        self.iter().for_each(|(_, op)| sum.merge(op));
        sum
    }

    fn responses(&mut self) -> impl Iterator<Item = &mut Response> + '_ {
        self.ops.iter_mut().filter_map(|(_, op)| op.response.as_mut())
    }
}

/// Rows by second since the stage's start.
#[derive(Clone, Debug, Default)]
pub struct Series {
    rows: BTreeMap<u32, SecondRow>,
    /// Seconds below are packed.
    packed_below: u32,
    /// Seconds below are reduced to percentiles.
    reduced_below: u32,
    /// What packed response times take, bytes.
    packed_bytes: usize,
}

impl Series {
    /// A series without rows.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: BTreeMap::new(), packed_below: 0, reduced_below: 0, packed_bytes: 0 }
    }

    /// Adds what was recorded in `second`. With `keep_response`, response times of the second are kept too, for
    /// percentiles over time.
    pub fn add(&mut self, second: u32, totals: &Totals, keep_response: bool) {
        let mut row = SecondRow::default();
        for (op, _, cell) in totals.iter() {
            let response = cell.response();
            let kept = keep_response.then(|| Response::Open(Box::new(response.histogram.clone())));
            let of_class = OpSecond {
                count: cell.count(),
                bytes: cell.bytes,
                errors: cell.error_count(),
                sum_ns: response.sum_ns,
                max_ns: response.max_ns,
                response: kept,
            };
            row.add(op, &of_class);
        }
        if !row.ops.is_empty() {
            self.rows.entry(second).or_default().merge(&row);
        }
    }

    /// Seconds below `below` are over: their response times are packed, and while all packed ones take more than `bytes_max`,
    /// the oldest are reduced to percentiles. What comes late for a second that was packed is still added.
    pub fn settle(&mut self, below: u32, bytes_max: usize) {
        if below <= self.packed_below {
            return;
        }
        for (_, row) in self.rows.range_mut(self.packed_below..below) {
            self.packed_bytes += row.responses().map(Response::pack).sum::<usize>();
        }
        self.packed_below = below;
        for (second, row) in self.rows.range_mut(self.reduced_below..below) {
            if self.packed_bytes <= bytes_max {
                break;
            }
            let given_back: usize = row.responses().map(Response::reduce).sum();
            self.packed_bytes = self.packed_bytes.saturating_sub(given_back);
            self.reduced_below = second + 1;
        }
    }

    /// Adds another series, exactly.
    pub fn merge(&mut self, other: &Self) {
        for (second, row) in &other.rows {
            self.rows.entry(*second).or_default().merge(row);
        }
    }

    /// The rows in order of time: (second, row).
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, &SecondRow)> + '_ {
        self.rows.iter().map(|(second, row)| (*second, row))
    }

    /// The row of a second, if anything ended in it.
    #[must_use]
    pub fn row(&self, second: u32) -> Option<&SecondRow> {
        self.rows.get(&second)
    }

    /// The same in series of at most `rows` rows each, in order of time; merged, they are this one.
    #[must_use]
    pub fn pieces(&self, rows: usize) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        for (at, (second, row)) in self.rows.iter().enumerate() {
            if at % rows.max(1) == 0 {
                pieces.push(Self::new());
            }
            if let Some(piece) = pieces.last_mut() {
                piece.rows.insert(*second, row.clone());
            }
        }
        pieces
    }

    /// How many seconds have a row.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets the response times of single seconds, and with them most of the memory.
    pub fn drop_response(&mut self) {
        for (_, op) in self.rows.values_mut().flat_map(|row| &mut row.ops) {
            op.response = None;
        }
    }

    /// Appends the compact form: number of rows, then for each the distance to the row before it, a bit per
    /// operation present, and five numbers for each of those. Response times are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.rows.len() as u64);
        let mut next = 0;
        for (second, row) in &self.rows {
            put_varint(out, u64::from(*second) - next);
            put_varint(out, row.iter().fold(0u64, |bits, (op, _)| bits | 1 << op.index()));
            for (_, op) in row.iter() {
                for number in [op.count, op.bytes, op.errors, op.sum_ns, op.max_ns] {
                    put_varint(out, number);
                }
            }
            next = u64::from(*second) + 1;
        }
    }

    /// Reads what [`Series::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// When the input is truncated, has bytes left over, or holds a second or an operation out of range.
    pub fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let input = &mut input;
        let rows = take_varint(input)?;
        if rows > MAX_SECONDS as u64 {
            return Err(DecodeError::TooLarge);
        }
        let mut series = Self::new();
        let mut next = 0u32;
        for _ in 0..rows {
            let second = next.checked_add(take_varint_u32(input)?).ok_or(DecodeError::OutOfRange)?;
            next = second.checked_add(1).ok_or(DecodeError::OutOfRange)?;
            let present = take_varint(input)?;
            if present == 0 || present >> Op::ALL.len() != 0 {
                return Err(DecodeError::OutOfRange);
            }
            let mut row = SecondRow::default();
            for op in Op::ALL.into_iter().filter(|op| present >> op.index() & 1 == 1) {
                let mut second = OpSecond::default();
                let OpSecond { count, bytes, errors, sum_ns, max_ns, response: _ } = &mut second;
                for number in [count, bytes, errors, sum_ns, max_ns] {
                    *number = take_varint(input)?;
                }
                row.ops.push((op, second));
            }
            series.rows.insert(second, row);
        }
        if input.is_empty() { Ok(series) } else { Err(DecodeError::Trailing) }
    }
}

/// Equal when they hold the same, however packed.
impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl Eq for Series {}

/// Base64 of the compact form.
impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        serializer.serialize_str(&to_base64(&bytes))
    }
}

impl<'de> Deserialize<'de> for Series {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        from_base64(&text).and_then(|bytes| Self::decode(&bytes)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Sample;
    use super::super::totals::tests::any_totals;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn any_series() -> impl Strategy<Value = Series> {
        vec((0u32..20, any_totals(), any::<bool>()), 0..6).prop_map(|seconds| {
            let mut series = Series::new();
            for (second, totals, keep_response) in seconds {
                series.add(second, &totals, keep_response);
            }
            series
        })
    }

    fn sum(all: &[&Series]) -> Series {
        let mut sum = Series::new();
        for series in all {
            sum.merge(series);
        }
        sum
    }

    proptest! {
        #[test]
        fn merging_has_no_order(a in any_series(), b in any_series(), c in any_series()) {
            let whole = sum(&[&a, &b, &c]);
            prop_assert_eq!(&sum(&[&c, &b, &a]), &whole);
            prop_assert_eq!(&sum(&[&a, &sum(&[&b, &c])]), &whole);
        }

        #[test]
        fn rows_add_up_to_the_totals(seconds in vec((0u32..9, any_totals()), 0..6)) {
            let (mut series, mut totals) = (Series::new(), Totals::new());
            for (second, of_second) in &seconds {
                series.add(*second, of_second, false);
                totals.merge(of_second);
            }
            let mut overall = OpSecond::default();
            for (_, row) in series.iter() {
                overall.merge(&row.overall());
            }
            let want = totals.overall();
            prop_assert_eq!((overall.count, overall.errors, overall.bytes, overall.sum_ns, overall.max_ns),
                (want.count(), want.error_count(), want.bytes, want.response().sum_ns, want.response().max_ns));
        }

        #[test]
        fn pieces_are_the_whole(series in any_series(), rows in 1usize..5) {
            let pieces = series.pieces(rows);
            prop_assert!(pieces.iter().all(|piece| (1..=rows).contains(&piece.len())));
            prop_assert_eq!(sum(&pieces.iter().collect::<Vec<_>>()), series);
        }

        #[test]
        fn settling_changes_nothing_but_memory(series in any_series(), late in any_series(), below in 0u32..25) {
            let mut settled = series.clone();
            settled.settle(below, usize::MAX);
            prop_assert_eq!(&settled, &series);
            prop_assert_eq!(sum(&[&settled, &late]), sum(&[&series, &late]));
        }

        #[test]
        fn rows_survive_encoding(series in any_series()) {
            let mut bytes = Vec::new();
            series.encode(&mut bytes);
            let mut want = series;
            want.drop_response();
            prop_assert_eq!(Series::decode(&bytes), Ok(want));
            for cut in 0..bytes.len() {
                prop_assert!(Series::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Series::decode(&bytes);
        }
    }

    #[test]
    fn percentiles_are_never_of_a_part() {
        let response = || Some(Response::Open(Box::default()));
        let full = OpSecond { count: 2, response: response(), ..OpSecond::default() };
        let bare = OpSecond { count: 1, ..OpSecond::default() };
        let mut merged = full.clone();
        merged.merge(&bare);
        assert_eq!((merged.count, merged.response), (3, None));
        let mut merged = OpSecond { errors: 4, ..OpSecond::default() };
        merged.merge(&full);
        assert!(merged.response.is_some(), "a side without operations lacks nothing");
    }

    #[test]
    fn what_is_kept_of_response_times_is_bounded_and_the_youngest() {
        let mut totals = Totals::new();
        for micros in 1..1_000 {
            let end_ns = micros * 1_000;
            let sample = Sample {
                op: Op::Get,
                size_bytes: 1,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns,
            };
            totals.record_ok(&sample, false, false);
        }
        let (mut series, bytes_max) = (Series::new(), 20_000);
        for second in 0..100 {
            series.add(second, &totals, true);
            series.settle(second, bytes_max);
        }
        let response = |second: u32| {
            let row = series.row(second).and_then(|row| row.op(Op::Get));
            row.and_then(|op| op.response.clone()).expect("a response")
        };
        assert!(matches!(response(99), Response::Open(_)) && matches!(response(98), Response::Packed(_)));
        assert!(matches!(response(0), Response::Reduced { .. }));
        assert_eq!(response(0).p50_p99_ns(), response(99).p50_p99_ns());
        let packed: usize = (0..99).map(|second| response(second).pack()).sum();
        assert!(packed <= bytes_max && packed > bytes_max / 2, "{packed}");
    }
}
