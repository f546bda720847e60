//! A histogram of durations in nanoseconds: 3 significant digits, 100 ns to 1 h, in the bucket layout of
//! HdrHistogram (<https://hdrhistogram.github.io/HdrHistogram/>, `new_with_bounds(100, 3_600_000_000_000, 3)`).
//!
//! It exists beside the `hdrhistogram` crate because that one allocates all 27,648 counts (216 KiB) at once, and
//! an agent keeps one per worker, operation, size class and kind of latency. Here counts live in pages that are
//! allocated when they are first touched; a distribution costs about 8 KiB per factor of two that it spans.
//! Deliberately without minimum, maximum and sum: those are kept exactly, beside it, by [`super::cell::Latency`].

pub use super::wire::DecodeError;
use super::wire::{from_base64, put_varint, take_varint, to_base64};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Lower bound of what the layout tells apart, in nanoseconds; smaller values are counted in the first buckets.
pub const LOWEST_NS: u64 = 100;
/// Upper bound of what has a bucket, in nanoseconds: one hour.
pub const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits of every value.
pub const SIGNIFICANT_DIGITS: u8 = 3;

/// log2 of the finest step: 64 ns, the power of two not above [`LOWEST_NS`].
const UNIT_BITS: u32 = 6;
/// log2 of the number of buckets per half-range: 1,024 are enough for 3 digits.
const HALF_BITS: u32 = 10;
/// Values up to this lie in the first, linear range.
const LINEAR_MASK: u64 = ((1 << (HALF_BITS + 1)) - 1) << UNIT_BITS;
/// Counts per page: 2 KiB, so that an outlier costs little and a dense range few allocations.
const PAGE_COUNTS: usize = 256;
/// Pages that cover the layout.
const PAGES: usize = 108;
/// Buckets of the layout, as hdrhistogram has them.
const BUCKETS: usize = PAGES * PAGE_COUNTS;

type Page = [u64; PAGE_COUNTS];

/// Counts of durations; see the module's text for layout and bounds.
#[derive(Clone)]
pub struct Histogram {
    /// `None` until a value falls into the page.
    pages: [Option<Box<Page>>; PAGES],
    in_range: u64,
    above_range: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// An empty histogram; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: [const { None }; PAGES], in_range: 0, above_range: 0 }
    }

    /// Counts one duration of `ns` nanoseconds. Above [`HIGHEST_NS`] it is counted in
    /// [`Histogram::above_range`]; allocates only where a page is touched for the first time.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        if ns > HIGHEST_NS {
            self.above_range += 1;
            return;
        }
        let index = index_of(ns);
        let page = &mut self.pages[index / PAGE_COUNTS];
        match page {
            Some(page) => page[index % PAGE_COUNTS] += 1,
            None => touch(page)[index % PAGE_COUNTS] += 1,
        }
        self.in_range += 1;
    }

    /// Adds everything that `other` has counted. Counts saturate, which no real run reaches.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            let Some(theirs) = theirs else { continue };
            match mine {
                Some(mine) => {
                    for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                        *mine = mine.saturating_add(*theirs);
                    }
                }
                // An emptied page kept by `clear` is not worth a copy.
                None if theirs.iter().any(|count| *count > 0) => *mine = Some(theirs.clone()),
                None => {}
            }
        }
        self.in_range = self.in_range.saturating_add(other.in_range);
        self.above_range = self.above_range.saturating_add(other.above_range);
    }

    /// Everything counted, in range or above it.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.in_range.saturating_add(self.above_range)
    }

    /// How many durations were longer than [`HIGHEST_NS`]. They take part in ranks, but have no bucket.
    #[must_use]
    pub const fn above_range(&self) -> u64 {
        self.above_range
    }

    /// Whether nothing was counted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Forgets all counts. A page that was in use stays allocated for the next round, one that was not is
    /// given back, so that an outlier's page does not stay for ever.
    pub fn clear(&mut self) {
        for page in &mut self.pages {
            if let Some(counts) = page {
                if counts.iter().any(|count| *count > 0) {
                    counts.fill(0);
                } else {
                    *page = None;
                }
            }
        }
        self.in_range = 0;
        self.above_range = 0;
    }

    /// The duration in nanoseconds that a share `quantile` (0.0 to 1.0, more is taken as 1.0) of all counts does
    /// not exceed, to 3 digits: the upper end of its bucket, as hdrhistogram's function of the same name gives
    /// it. `None` when nothing was counted; `u64::MAX` when the rank falls among those above the range.
    #[must_use]
    pub fn value_at_quantile(&self, quantile: f64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let rank = ((quantile.min(1.0) * self.count() as f64).ceil() as u64).max(1);
        let mut seen = 0u64;
        for (index, count) in self.iter() {
            seen = seen.saturating_add(count);
            if seen >= rank {
                let (lowest, width) = bounds_of(index);
                return Some(if quantile == 0.0 { lowest } else { lowest + (width - 1) });
            }
        }
        Some(u64::MAX)
    }

    /// The buckets that are not empty, in ascending order: (index in the layout, count).
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.pages.iter().enumerate().filter_map(|(number, page)| Some((number, page.as_ref()?))).flat_map(
            |(number, page)| {
                let first = number * PAGE_COUNTS;
                page.iter()
                    .enumerate()
                    .filter(|(_, count)| **count > 0)
                    .map(move |(at, count)| (first + at, *count))
            },
        )
    }

    /// How many values lie within each of these ascending bounds and not within the one before, nanoseconds; the last entry,
    /// one more than there are bounds, holds the rest. A value counts as the upper end of its bucket, which is within
    /// 0.1 % of it.
    #[must_use]
    pub fn counts_within(&self, bounds_ns: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; bounds_ns.len() + 1];
        let mut at = 0;
        for (index, count) in self.iter() {
            let (lowest, width) = bounds_of(index);
            while bounds_ns.get(at).is_some_and(|bound| *bound < lowest + (width - 1)) {
                at += 1;
            }
            counts[at] += count;
        }
        counts[bounds_ns.len()] += self.above_range;
        counts
    }

    /// Bytes on the heap, for budgets.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.pages.iter().flatten().count() * size_of::<Page>()
    }

    /// The same counts as an `hdrhistogram`, e.g. for its V2 serialisation. What lies above the range is not in
    /// it: write [`Histogram::above_range`] beside it.
    #[must_use]
    pub fn to_hdr(&self) -> hdrhistogram::Histogram<u64> {
        let mut hdr = hdrhistogram::Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that the layout admits");
        for (index, count) in self.iter() {
            hdr.saturating_record_n(bounds_of(index).0, count);
        }
        hdr
    }

    /// Appends the compact form: the count above the range, the number of buckets, then for each the distance
    /// to the bucket before it and its count, all as LEB128. Two to three bytes per bucket are usual.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.above_range);
        put_varint(out, self.iter().count() as u64);
        let mut next = 0;
        for (index, count) in self.iter() {
            put_varint(out, (index - next) as u64);
            put_varint(out, count);
            next = index + 1;
        }
    }

    /// Reads what [`Histogram::encode`] wrote, and nothing else.
    ///
    /// # Errors
    /// When the input is truncated, has bytes left over, or holds an index, a count or a sum out of range.
    pub fn decode(mut input: &[u8]) -> Result<Self, DecodeError> {
        let histogram = Self::decode_from(&mut input)?;
        if input.is_empty() { Ok(histogram) } else { Err(DecodeError::Trailing) }
    }

    /// Reads one histogram from the front of `input`, and leaves the rest.
    ///
    /// # Errors
    /// As [`Histogram::decode`], but for left-over bytes.
    pub fn decode_from(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut histogram = Self { above_range: take_varint(input)?, ..Self::new() };
        let buckets = take_varint(input)?;
        if buckets > BUCKETS as u64 {
            return Err(DecodeError::OutOfRange);
        }
        let mut next = 0u64;
        for _ in 0..buckets {
            let index = next.checked_add(take_varint(input)?).ok_or(DecodeError::OutOfRange)?;
            let count = take_varint(input)?;
            let sum = histogram.in_range.checked_add(count).ok_or(DecodeError::OutOfRange)?;
            if index > index_of(HIGHEST_NS) as u64
                || count == 0
                || sum.checked_add(histogram.above_range).is_none()
            {
                return Err(DecodeError::OutOfRange);
            }
            let index = index as usize;
            let page = histogram.pages[index / PAGE_COUNTS].get_or_insert_with(|| Box::new([0; PAGE_COUNTS]));
            page[index % PAGE_COUNTS] = count;
            histogram.in_range = sum;
            next = index as u64 + 1;
        }
        Ok(histogram)
    }
}

/// Two histograms are equal when their counts are, whatever pages they hold.
impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.in_range == other.in_range
            && self.above_range == other.above_range
            && self.iter().eq(other.iter())
    }
}

impl Eq for Histogram {}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Histogram")
            .field("count", &self.count())
            .field("above_range", &self.above_range)
            .field("p50_ns", &self.value_at_quantile(0.5))
            .field("p99_ns", &self.value_at_quantile(0.99))
            .finish_non_exhaustive()
    }
}

/// Base64 of the compact form.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        serializer.serialize_str(&to_base64(&bytes))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        from_base64(&text).and_then(|bytes| Self::decode(&bytes)).map_err(D::Error::custom)
    }
}

/// Position of a value up to [`HIGHEST_NS`] in the layout.
#[inline]
const fn index_of(ns: u64) -> usize {
    // Which power-of-two range: 0 for everything that fits the linear one.
    let range = (u64::BITS - UNIT_BITS - HALF_BITS - 1) - (ns | LINEAR_MASK).leading_zeros();
    ((range as usize) << HALF_BITS) + (ns >> (range + UNIT_BITS)) as usize
}

/// Lowest value of a bucket and the bucket's width, both in nanoseconds.
const fn bounds_of(index: usize) -> (u64, u64) {
    let range = ((index >> HALF_BITS) as u32).saturating_sub(1);
    let within = index as u64 - ((range as u64) << HALF_BITS);
    (within << (range + UNIT_BITS), 1 << (range + UNIT_BITS))
}

#[cold]
#[inline(never)]
fn touch(page: &mut Option<Box<Page>>) -> &mut Page {
    page.get_or_insert_with(|| Box::new([0; PAGE_COUNTS]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn histogram_of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    fn encoded(histogram: &Histogram) -> Vec<u8> {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        bytes
    }

    /// Durations of every magnitude, some beyond the range.
    fn duration() -> impl Strategy<Value = u64> {
        (0u32..45, any::<u64>()).prop_map(|(bits, random)| random & ((2u64 << bits) - 1))
    }

    #[test]
    fn the_layout_is_that_of_hdrhistogram() {
        let hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
            .expect("valid bounds");
        assert_eq!(hdr.distinct_values(), BUCKETS);
        for ns in [0, 1, 63, 64, 100, 131_071, 131_072, 262_143, 262_144, HIGHEST_NS - 1, HIGHEST_NS] {
            let (lowest, width) = bounds_of(index_of(ns));
            assert_eq!(
                (lowest, lowest + width - 1),
                (hdr.lowest_equivalent(ns), hdr.highest_equivalent(ns)),
                "{ns}"
            );
        }
    }

    #[test]
    fn what_is_above_an_hour_is_counted_and_not_clamped() {
        let histogram = histogram_of(&[1000, HIGHEST_NS, HIGHEST_NS + 1, u64::MAX]);
        assert_eq!((histogram.count(), histogram.above_range()), (4, 2));
        assert_eq!(histogram.value_at_quantile(0.75), Some(u64::MAX));
        assert_eq!(histogram.to_hdr().len(), 2);
    }

    #[test]
    fn coarse_buckets_hold_every_value_once() {
        let histogram = histogram_of(&[200, 900, 1_500, 2_000_000, HIGHEST_NS + 1]);
        assert_eq!(histogram.counts_within(&[1_000, 1_000_000, 10_000_000]), [2, 1, 1, 1]);
        assert_eq!(histogram.counts_within(&[]), [5]);
        assert_eq!(Histogram::new().counts_within(&[1_000]), [0, 0]);
    }

    #[test]
    fn an_empty_one_has_no_percentile_and_costs_nothing() {
        let histogram = Histogram::new();
        assert_eq!(histogram.value_at_quantile(0.5), None);
        assert_eq!(histogram.heap_bytes(), 0);
    }

    #[test]
    fn clearing_keeps_pages_in_use_and_gives_back_the_others() {
        let mut histogram = histogram_of(&[1000, HIGHEST_NS]);
        histogram.clear();
        assert!(histogram.is_empty());
        assert_eq!((histogram.heap_bytes(), &histogram), (2 * 2048, &Histogram::new()));
        histogram.record(1000);
        histogram.clear();
        assert_eq!(histogram.heap_bytes(), 2048);
    }

    #[test]
    fn hostile_encodings_are_refused() {
        let check = |bytes: &[u8], want| assert_eq!(Histogram::decode(bytes), Err(want), "{bytes:?}");
        check(&[], DecodeError::Truncated);
        check(&[0, 1, 5], DecodeError::Truncated);
        check(&[0, 1, 5, 0], DecodeError::OutOfRange); // a bucket with nothing in it
        check(&[0, 0, 0], DecodeError::Trailing);
        check(&[0, 0xff, 0xff, 0x7f], DecodeError::OutOfRange); // more buckets than there are
        check(&[0, 1, 0xff, 0xff, 0x7f, 1], DecodeError::OutOfRange); // no such bucket
        let mut overflow = vec![1, 1, 0];
        put_varint(&mut overflow, u64::MAX);
        check(&overflow, DecodeError::OutOfRange);
    }

    #[test]
    fn the_v2_artefact_reads_back() {
        let mut bytes = Vec::new();
        let hdr = histogram_of(&[5, 70_000, 9_000_000_000]).to_hdr();
        V2Serializer::new().serialize(&hdr, &mut bytes).expect("serialises");
        let back: hdrhistogram::Histogram<u64> = hdrhistogram::serialization::Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .expect("reads");
        assert_eq!(back.value_at_quantile(1.0), hdr.value_at_quantile(1.0));
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_hdrhistogram(values in vec(0u64..=HIGHEST_NS, 1..200), magnitude in 0u32..40,
                                                quantile in 0.0f64..=1.0) {
            let values: Vec<_> = values.iter().map(|value| value >> magnitude).collect();
            let mut hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)
                .expect("valid bounds");
            for value in &values {
                hdr.record(*value).expect("in range");
            }
            let ours = histogram_of(&values);
            for quantile in [quantile, 0.0, 0.5, 0.99, 1.0] {
                prop_assert_eq!(ours.value_at_quantile(quantile), Some(hdr.value_at_quantile(quantile)));
            }
            prop_assert_eq!(ours.to_hdr().iter_recorded().collect::<Vec<_>>(), hdr.iter_recorded().collect::<Vec<_>>());
        }

        #[test]
        fn merging_equals_recording_in_one_place(a in vec(duration(), 0..60), b in vec(duration(), 0..60),
                                                  c in vec(duration(), 0..60)) {
            let whole = histogram_of(&[&a[..], &b, &c].concat());
            let (a, b, c) = (histogram_of(&a), histogram_of(&b), histogram_of(&c));
            let mut left = a.clone();
            left.merge(&b);
            left.merge(&c);
            let mut right = c.clone();
            right.merge(&b);
            right.merge(&a);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&right, &whole);
        }

        #[test]
        fn counts_survive_encoding(values in vec(duration(), 0..200)) {
            let histogram = histogram_of(&values);
            let bytes = encoded(&histogram);
            prop_assert_eq!(Histogram::decode(&bytes), Ok(histogram.clone()));
            let json = serde_json::to_string(&histogram).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Histogram>(&json).expect("reads"), histogram);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Histogram::decode(&bytes[..cut]), Err(DecodeError::Truncated));
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(histogram) = Histogram::decode(&bytes) {
                prop_assert_eq!(Histogram::decode(&encoded(&histogram)), Ok(histogram));
            }
        }
    }
}
