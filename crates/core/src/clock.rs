//! The offset between two monotonic clocks, estimated from ping exchanges.
//!
//! Wall clocks are never trusted. Of all exchanges the one with the least round trip wins (Cristian 1989): the
//! remote reading was taken somewhere within the round trip, so half of it bounds the error. Deliberately no
//! drift model: the estimate is made anew before each armed start.

/// Exchanges that an estimate needs before a start may be armed.
pub const SAMPLES_MIN: u32 = 8;

/// One ping exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSample {
    /// Coordinator's monotonic clock when the ping was handed to the network, nanoseconds.
    pub sent_ns: u64,
    /// Agent's monotonic clock when it answered, nanoseconds.
    pub agent_ns: u64,
    /// Coordinator's monotonic clock when the answer was read, nanoseconds.
    pub received_ns: u64,
}

/// What is known of one agent's monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockEstimate {
    samples: u32,
    offset_ns: i128,
    round_trip_ns_min: u64,
    round_trip_ns_max: u64,
}

impl ClockEstimate {
    /// Takes one exchange in. One that was received before it was sent is dropped.
    pub fn add(&mut self, sample: ClockSample) {
        let Some(round_trip_ns) = sample.received_ns.checked_sub(sample.sent_ns) else { return };
        if self.samples == 0 || round_trip_ns < self.round_trip_ns_min {
            let middle_ns = sample.sent_ns + round_trip_ns / 2;
            self.offset_ns = i128::from(sample.agent_ns) - i128::from(middle_ns);
            self.round_trip_ns_min = round_trip_ns;
        }
        self.round_trip_ns_max = self.round_trip_ns_max.max(round_trip_ns);
        self.samples += 1;
    }

    /// Forgets everything, to estimate anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether there are enough exchanges to arm a start.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.samples >= SAMPLES_MIN
    }

    /// How many exchanges were taken in since the last reset.
    #[must_use]
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// Bound of the error, nanoseconds: half of the least round trip, rounded up.
    #[must_use]
    pub fn error_ns(&self) -> u64 {
        self.round_trip_ns_min.div_ceil(2)
    }

    /// Greatest round trip seen, nanoseconds.
    #[must_use]
    pub fn round_trip_ns_max(&self) -> u64 {
        self.round_trip_ns_max
    }

    /// An instant of the coordinator's clock on the agent's clock.
    #[must_use]
    pub fn to_agent_ns(&self, coordinator_ns: u64) -> u64 {
        (i128::from(coordinator_ns) + self.offset_ns).clamp(0, i128::from(u64::MAX)) as u64
    }

    /// An instant of the agent's clock on the coordinator's clock.
    #[must_use]
    pub fn to_coordinator_ns(&self, agent_ns: u64) -> u64 {
        (i128::from(agent_ns) - self.offset_ns).clamp(0, i128::from(u64::MAX)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the delays were, the true offset lies within the bound.
        #[test]
        fn bound_holds(offset in 0u64..1 << 50, trips in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000), 1..20)) {
            let mut estimate = ClockEstimate::default();
            let mut now_ns = 1_000_000_000;
            for (there_ns, back_ns) in trips {
                let sent_ns = now_ns;
                now_ns += there_ns + back_ns;
                let agent_ns = sent_ns + there_ns + offset;
                estimate.add(ClockSample { sent_ns, agent_ns, received_ns: now_ns });
                now_ns += 1_000;
            }
            let guess_ns = estimate.to_agent_ns(now_ns);
            prop_assert!(guess_ns.abs_diff(now_ns + offset) <= estimate.error_ns());
        }
    }
}
