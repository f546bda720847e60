//! Waiting for what other processes do: with a limit, and for nothing that can be watched instead.

use lockstep_testkit::process::wait_until_every;
use std::time::Duration;

/// Pause between looks, many of which start a program or read all of `/proc`.
const POLL: Duration = Duration::from_millis(50);

/// Whether a condition came true within a limit.
pub(crate) fn until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    wait_until_every(POLL, limit, condition)
}
