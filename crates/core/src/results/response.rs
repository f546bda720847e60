//! Response times of one operation in one second: written to while the second is young, and kept small afterwards.
//!
//! A histogram's pages take tens of KiB, and a run has a second for each second. So the histogram of a second that is over
//! is packed, to two or three bytes per bucket, and can still be added to; of one that is long over only two percentiles
//! may be left. Deliberately without a policy: [`super::series::Series::settle`] says which seconds are over.

use super::histogram::Histogram;
use std::borrow::Cow;

/// See the module's text.
#[derive(Clone, Debug)]
pub enum Response {
    /// Of a second that is young.
    Open(Box<Histogram>),
    /// The same, in [`Histogram::encode`]'s form.
    Packed(Box<[u8]>),
    /// What is left of a second that is long over.
    Reduced {
        /// Median, nanoseconds.
        p50_ns: u64,
        /// 99th percentile, nanoseconds.
        p99_ns: u64,
    },
}

impl Response {
    /// All of them; `None` when only percentiles are left.
    #[must_use]
    pub fn histogram(&self) -> Option<Cow<'_, Histogram>> {
        match self {
            Self::Open(histogram) => Some(Cow::Borrowed(histogram)),
            // We have packed it ourselves.
            Self::Packed(bytes) => Histogram::decode(bytes).ok().map(Cow::Owned),
            Self::Reduced { .. } => None,
        }
    }

    /// Median and 99th percentile, nanoseconds; `None` without any.
    #[must_use]
    pub fn p50_p99_ns(&self) -> Option<(u64, u64)> {
        if let Self::Reduced { p50_ns, p99_ns } = self {
            return Some((*p50_ns, *p99_ns));
        }
        let histogram = self.histogram()?;
        Some((histogram.value_at_quantile(0.5)?, histogram.value_at_quantile(0.99)?))
    }

    /// Both together, as packed as `self` is; `None` when that is not known any more.
    #[must_use]
    pub fn merged(self, other: &Self) -> Option<Self> {
        let theirs = other.histogram()?;
        match self {
            Self::Open(mut mine) => {
                mine.merge(&theirs);
                Some(Self::Open(mine))
            }
            Self::Packed(_) => {
                let mut mine = self.histogram()?.into_owned();
                mine.merge(&theirs);
                Some(Self::packed(&mine))
            }
            Self::Reduced { .. } => None,
        }
    }

    fn packed(histogram: &Histogram) -> Self {
        let mut bytes = Vec::new();
        histogram.encode(&mut bytes);
        Self::Packed(bytes.into())
    }

    /// Packs it; answers how many bytes it takes now.
    pub fn pack(&mut self) -> usize {
        if let Self::Open(histogram) = self {
            *self = Self::packed(histogram);
        }
        match self {
            Self::Packed(bytes) => bytes.len(),
            _ => 0,
        }
    }

    /// Keeps percentiles only; answers how many packed bytes that gave back.
    pub fn reduce(&mut self) -> usize {
        let bytes = self.pack();
        if let Some((p50_ns, p99_ns)) = self.p50_p99_ns() {
            *self = Self::Reduced { p50_ns, p99_ns };
        }
        bytes
    }
}

/// Equal when they hold the same, however packed.
impl PartialEq for Response {
    fn eq(&self, other: &Self) -> bool {
        match (self.histogram(), other.histogram()) {
            (Some(mine), Some(theirs)) => mine == theirs,
            (None, None) => self.p50_p99_ns() == other.p50_p99_ns(),
            _ => false,
        }
    }
}

impl Eq for Response {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values_ns: impl IntoIterator<Item = u64>) -> Response {
        let mut histogram = Histogram::new();
        values_ns.into_iter().for_each(|ns| histogram.record(ns));
        Response::Open(Box::new(histogram))
    }

    #[test]
    fn packing_loses_nothing_and_takes_what_comes_late() {
        let whole = of((1..2_000).map(|micros| micros * 1_000));
        let mut early = of((1..1_500).map(|micros| micros * 1_000));
        let bytes = early.pack();
        assert!(bytes > 0 && bytes < 5_000, "{bytes}");
        let late = of((1_500..2_000).map(|micros| micros * 1_000));
        let merged = early.merged(&late).expect("both are known");
        assert!(matches!(merged, Response::Packed(_)), "{merged:?}");
        assert_eq!(merged, whole);
        assert_eq!(merged.p50_p99_ns(), whole.p50_p99_ns());
    }

    #[test]
    fn what_is_reduced_keeps_its_percentiles_and_is_never_a_part() {
        let mut response = of([10_000, 20_000, 30_000]);
        let known = response.p50_p99_ns();
        assert!(response.reduce() > 0);
        assert_eq!((response.p50_p99_ns(), response.histogram()), (known, None));
        assert_eq!(response.merged(&of([1])), None);
        assert_eq!(of([1]).merged(&Response::Reduced { p50_ns: 1, p99_ns: 2 }), None);
    }
}
