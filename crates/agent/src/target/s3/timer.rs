//! A timer that meets an instant of the agent's clock to within tens of microseconds.
//!
//! The runtime's own timers round up to whole milliseconds, which at thousands of operations a second is the
//! pace itself; spinning would burn the core that other workers need. So a worker that waits for intended starts
//! gets a `timerfd`, which the kernel's high-resolution timer wakes. Where none is to be had, the runtime's timer does.

use crate::clock::now_ns;
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::io;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// A timer of one worker, on the runtime it is first used on.
#[derive(Debug)]
pub(super) struct Timer(Option<AsyncFd<OwnedFd>>);

impl Timer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe for types that lie about their descriptor; `OwnedFd` does not"
    )]
    pub(super) fn new() -> Self {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).map_err(io::Error::from);
        Self(timer.and_then(AsyncFd::new).ok())
    }

    /// Waits until the clock shows `at_ns`; never ends before.
    pub(super) async fn wait_until(&mut self, at_ns: u64) {
        while now_ns() < at_ns {
            if self.wait_once(at_ns).await.is_err() {
                self.0 = None;
                tokio::time::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns()))).await;
            }
        }
    }

    async fn wait_once(&mut self, at_ns: u64) -> io::Result<()> {
        let timer = self.0.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let at = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as _ };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: at };
        timerfd_settime(timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)?;
        loop {
            let mut ready = timer.readable().await?;
            let mut expirations = [0; 8];
            // Readiness may be left over from a wait that was given up: then look again.
            if let Ok(read) = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations)?)) {
                return read.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_end_after_their_instant_also_after_one_was_given_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut timer = Timer::new();
            assert!(timer.0.is_some());
            for ahead_ns in [0, 300_000, 2_500_000] {
                let far = now_ns() + 3_600_000_000_000;
                assert!(tokio::time::timeout(Duration::from_millis(1), timer.wait_until(far)).await.is_err());
                let at_ns = now_ns() + ahead_ns;
                timer.wait_until(at_ns).await;
                assert!(now_ns() >= at_ns);
            }
        });
    }
}
