//! The operator's planner: from what is observed of one run to the steps that are due, each with its reason.
//!
//! ```text
//! not ours ─→ nothing
//! Finished ─→ after.rs   pods by cleanupPolicy, finalizer, ttl
//! deleted ──┐
//! suspended ┼→ leave.rs  stop the decider, pods, finalizer
//! stopped ──┘
//! waiting ──→ gates.rs   claim, exclusive group, caps
//! placing ──→ gang.rs    name in status, make all pods, find nodes or give all back; then Begin
//! running ──→ live.rs    carry out what the decider wishes
//! ```
//!
//! Level-triggered and pure: it compares what is with what should be, and nothing depends on having seen a change. What it
//! keeps between two calls ([`Memory`]) may be lost with the operator: that costs time, never correctness.
//!
//! Architecture invariants: a pod is created only after the status write that names its attempt; it is deleted only with its
//! uid; never two attempts under one index, which the decider sees to, and which naming and uids make hold across leaders.
//! It deliberately decides nothing of what `core::run` decides: which attempts live, what a loss costs, how a run ends.

mod after;
pub mod decider;
mod gang;
mod gates;
mod leave;
mod live;
pub mod names;
pub mod observed;
pub mod orphans;
pub mod step;
#[cfg(test)]
mod tests;

pub use decider::{Decider, Wish};
pub use names::Names;
pub use observed::{CaMap, Memory, Observed, OtherRun, Rejected, RunFacts, Trial};
pub use step::{Action, Conclusion, Planned, Step, Wait};

/// The steps that are due for one run. The caller carries them out in order, and calls again when anything changed: the
/// run, its pods, another run, an answer of the API server, or `again_at`.
#[must_use]
pub fn plan(observed: &Observed<'_>) -> Planned {
    let mut planned = Planned::new(observed.memory.clone());
    planned.memory.note_pods(observed.pods);
    let run = observed.run;
    if let Some(whose) = gates::somebody_elses(observed) {
        planned.wait = Some(whose);
        return planned;
    }
    if run.finished.is_some() {
        after::plan(observed, &mut planned);
    } else if run.deleting || run.suspend || run.stop.is_some() {
        leave::plan(observed, &mut planned);
    } else {
        match observed.decider {
            Decider::TakingOver => planned.wait = Some(Wait::taking_over()),
            Decider::Over if !run.is_suspended_attempt() => planned.wait = Some(Wait::collecting()),
            Decider::Live { .. } => live::plan(observed, &mut planned),
            Decider::Absent | Decider::Over => {
                if gates::pass(observed, &mut planned) {
                    gang::plan(observed, &mut planned);
                }
            }
        }
    }
    planned
}
