//! What one attempt has reported of one stage, packed.
//!
//! It is looked at only when the attempt is lost, and there are thousands of them, each with histograms of its own for hours:
//! so what comes is appended as it is encoded, and added up when there is as much of it again as there was before.

use lockstep_core::results::recorder::{Interval, StageRecord};
use lockstep_core::results::series::Series;
use lockstep_core::results::totals::Totals;

/// So much may wait to be added up, bytes, whatever there is already.
const WAITING_BYTES: usize = 8 << 10;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Totals with their series as JSON, one pair behind the other.
    packed: Vec<u8>,
    /// How many bytes were left when they were added up last.
    summed_bytes: usize,
    operations: u64,
}

impl Kept {
    /// Operations that succeeded.
    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    /// Adds a second.
    pub(crate) fn add(&mut self, interval: &Interval) {
        let mut one = StageRecord::default();
        one.absorb(interval);
        self.restore(&one.totals, &one.series);
    }

    /// Adds many at once.
    pub(crate) fn restore(&mut self, totals: &Totals, series: &Series) {
        self.operations += totals.operations();
        self.append(totals, series);
        if self.packed.len() > 2 * self.summed_bytes + WAITING_BYTES {
            let StageRecord { totals, series } = self.unpack();
            self.packed.clear();
            self.append(&totals, &series);
            self.packed.shrink_to_fit();
            self.summed_bytes = self.packed.len();
        }
    }

    fn append(&mut self, totals: &Totals, series: &Series) {
        serde_json::to_writer(&mut self.packed, &(totals, series)).expect("tables become JSON in memory");
    }

    /// All of it.
    pub(crate) fn unpack(&self) -> StageRecord {
        let mut sum = StageRecord::default();
        for pair in serde_json::Deserializer::from_slice(&self.packed).into_iter::<(Totals, Series)>() {
            let (totals, series) = pair.expect("it was written here");
            sum.totals.merge(&totals);
            sum.series.merge(&series);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_core::op::Op;
    use lockstep_core::results::cell::Sample;

    fn second(second: u32) -> Interval {
        let mut totals = Totals::new();
        for at in 0..100 {
            let end_ns = 10_000 + u64::from((second * 100 + at) % 977) * 1_000;
            let sample = Sample {
                op: Op::Get,
                size_bytes: 4_096,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns,
            };
            totals.record_ok(&sample, true, false);
        }
        Interval { stage: 0, second, totals }
    }

    #[test]
    fn what_comes_out_is_what_went_in_in_less_memory() {
        let (mut kept, mut record) = (Kept::default(), StageRecord::default());
        for interval in (0..1_000).map(second) {
            kept.add(&interval);
            record.absorb(&interval);
        }
        assert_eq!(kept.operations(), 100_000);
        // A day of such seconds takes some MiB.
        assert!(kept.packed.capacity() < 100_000, "{}", kept.packed.capacity());
        assert_eq!(kept.unpack(), record);
    }
}
