//! Waiting for what other processes do: with a limit, and for nothing that can be watched instead.

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// Whether a condition came true within a limit.
pub(crate) fn until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(POLL);
    }
}
