//! Where workers wait for the common start.
//!
//! A start is set by the director, may be taken back or set anew until it has passed, and is met by each worker on its
//! own: it sleeps in the kernel until the instant, and spins for the last part when told to. So nobody has to
//! wake anybody at the start, which is where late starts come from.

use super::hands::Hands;
use crate::clock;
use crate::target::Target;
use tokio::sync::watch;

/// From here on a worker waits in the kernel and no longer looks whether the start was taken back, nanoseconds.
/// Covers the one-millisecond timers of an object target's runtime.
const LAST_NS: u64 = 3_000_000;
/// Longest time for which a start that was taken back goes unnoticed, nanoseconds.
const SLICE_NS: u64 = 20_000_000;

/// A start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The instant, agent's clock, nanoseconds.
    pub at_ns: u64,
    /// So many workers spin for the last part, those with the lowest numbers: no more than there are cores.
    pub spinners: u32,
}

/// See the module's text.
#[derive(Debug)]
pub struct Gate {
    start: watch::Sender<Option<Start>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { start: watch::Sender::new(None) }
    }
}

impl Gate {
    /// Sets the start, or takes it back.
    pub fn set(&self, start: Option<Start>) {
        self.start.send_replace(start);
    }

    /// The instant of the start, if one is set.
    #[must_use]
    pub fn origin_ns(&self) -> Option<u64> {
        self.start.borrow().map(|start| start.at_ns)
    }

    /// Wakes those who wait, so that they look whether to stop.
    pub fn wake(&self) {
        self.start.send_modify(|_| {});
    }

    /// Waits for the start. Returns its instant, or `None` when told to stop.
    pub async fn pass<T: Target>(&self, hands: &Hands, target: &mut T) -> Option<u64> {
        let mut changes = self.start.subscribe();
        loop {
            if hands.stopped() {
                return None;
            }
            let start = *changes.borrow_and_update();
            let Some(Start { at_ns, spinners }) = start else {
                changes.changed().await.ok()?;
                continue;
            };
            let now_ns = clock::now_ns();
            let last_ns = at_ns.saturating_sub(LAST_NS);
            if now_ns < last_ns {
                target.wait_until(last_ns.min(now_ns + SLICE_NS)).await;
                continue;
            }
            if hands.worker < spinners {
                clock::spin_until(at_ns);
            } else {
                clock::sleep_until(at_ns);
            }
            return Some(at_ns);
        }
    }
}
