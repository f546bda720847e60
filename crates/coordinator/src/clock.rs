//! Clocks: the coordinator's monotonic one, and that of a run, which goes on over any number of coordinators.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC`, nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The clock on which a run counts: [`monotonic_ns`] where it began, and shifted where it was taken over, so that instants
/// of its record keep their meaning on a machine that has been up for another time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunClock {
    shift_ns: u64,
}

impl RunClock {
    /// One that shows `now_ns` at this moment.
    #[must_use]
    pub fn that_shows(now_ns: u64) -> Self {
        Self { shift_ns: now_ns.wrapping_sub(monotonic_ns()) }
    }

    /// Now, nanoseconds.
    #[must_use]
    pub fn now_ns(self) -> u64 {
        self.of(monotonic_ns())
    }

    /// An instant of [`monotonic_ns`] on this clock.
    #[must_use]
    pub fn of(self, monotonic_ns: u64) -> u64 {
        monotonic_ns.wrapping_add(self.shift_ns)
    }
}
