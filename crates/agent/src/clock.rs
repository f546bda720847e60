//! The agent's monotonic clock, in nanoseconds.
//!
//! Everything that an agent measures or is told (starts, windows, intervals) is an instant of this clock: it never
//! jumps, and the coordinator knows its offset to every agent's. It is `CLOCK_MONOTONIC` as this process sees it, so
//! two agents in different time namespaces differ by any amount, and neither minds. Wall clocks are deliberately
//! absent.

use rustix::thread::clock_nanosleep_absolute;
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};

/// How long before the instant a spinning waiter stops sleeping, nanoseconds.
pub const SPIN_NS: u64 = 200_000;

/// Now, in nanoseconds.
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// CPU time that this process has used so far, all threads, user and system, nanoseconds.
#[must_use]
pub fn process_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::ProcessCPUTime))
}

/// The smallest step of the clock, nanoseconds.
#[must_use]
pub fn resolution_ns() -> u64 {
    nanoseconds(clock_getres(ClockId::Monotonic))
}

/// Sleeps until the clock shows `at_ns`; wakes late by what the kernel's timer slack and scheduler add.
pub fn sleep_until(at_ns: u64) {
    let at = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as _ };
    // A signal ends the sleep early, which the second look at the clock finds out.
    while now_ns() < at_ns {
        let _ = clock_nanosleep_absolute(ClockId::Monotonic, &at);
    }
}

/// Sleeps until shortly before `at_ns`, and spins for the rest (at most [`SPIN_NS`]) so that the instant is met
/// within a microsecond on an idle core.
pub fn spin_until(at_ns: u64) {
    sleep_until(at_ns.saturating_sub(SPIN_NS));
    while now_ns() < at_ns {
        std::hint::spin_loop();
    }
}

fn nanoseconds(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * 1_000_000_000 + (time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeping_never_ends_before_its_instant() {
        for ahead_ns in [0, 50_000, 2_000_000] {
            let at_ns = now_ns() + ahead_ns;
            sleep_until(at_ns);
            assert!(now_ns() >= at_ns);
            let at_ns = now_ns() + ahead_ns;
            spin_until(at_ns);
            assert!(now_ns() >= at_ns);
        }
    }
}
