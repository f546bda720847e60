//! Tries of control requests: looks, checks, marker and lock. One answer of 503, or one connection that died, must not
//! end a run of hours before it began.
//!
//! Deliberately never used for operations: what is measured is tried once. Renewals of the lock have a rule of their own
//! (`renewal.rs`). Each try is a request more among those that are counted beside operations.

use super::classify::Fault;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Most tries of one control request.
pub(super) const TRIES: u32 = 3;
/// No further try begins so long after the first one did.
const TRIES_LIMIT: Duration = Duration::from_secs(10);
/// Pause before the second try; each further one is four times as long. All are between half and one and a half of it.
const PAUSE: Duration = Duration::from_millis(100);

/// What `request` comes to, tried again while it fails in ways that may pass.
pub(super) async fn tried<T>(mut request: impl AsyncFnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let began = Instant::now();
    let (mut tries, mut pause) = (0, PAUSE);
    loop {
        let fault = match request().await {
            Err(fault) if fault.may_pass() => fault,
            result => return result,
        };
        tries += 1;
        if tries == TRIES || began.elapsed() + pause >= TRIES_LIMIT {
            return Err(fault.after(tries));
        }
        tokio::time::sleep(jittered(pause)).await;
        pause *= 4;
    }
}

/// So that agents whom one outage stopped do not come back in one moment.
fn jittered(pause: Duration) -> Duration {
    let share = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + share)
}
