//! What makes targets: one value per engine, from which workers get their targets and the keeper its place.
//!
//! The engine is generic over this, so each scheme has its own worker loop and pays for no `dyn`.

use super::place::Place;
use super::{Object, Outcome, Target};
use crate::engine::hands::Hands;
use lockstep_core::dataset::DataSet;
use lockstep_core::options::Given;
use lockstep_core::plan::TargetPlan;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::part::EndpointRow;
use std::sync::Arc;
use std::time::Duration;

/// What a worker will do with its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Write the data set.
    Prepare,
    /// Measure.
    Execute,
    /// Remove what was written; directories that become empty go too.
    Cleanup,
}

/// What a worker's target is made for.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// What it will do.
    pub role: Role,
    /// The data set of the key space that it works in: contents are functions of this.
    pub data: Arc<DataSet>,
    /// Whom to ask whether to stop, and whom to tell that something moved.
    pub hands: Hands,
}

/// What a target counted beside operations; see the fields of the same names in a stage's part.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// What went through each endpoint.
    pub endpoints: Vec<EndpointRow>,
    /// Requests that served no operation.
    pub other_requests: u64,
}

impl Account {
    /// Adds another account; rows of the same endpoint are merged.
    pub fn merge(&mut self, other: &Self) {
        self.other_requests += other.other_requests;
        for row in &other.endpoints {
            match self.endpoints.iter_mut().find(|mine| mine.uri == row.uri) {
                Some(mine) => mine.merge(row),
                None => self.endpoints.push(row.clone()),
            }
        }
    }
}

/// Makes targets and places of one scheme.
pub trait Backend: Send + Sync + 'static {
    /// What the workers of one runtime share, made on its thread: a client with its connections. Workers on plain
    /// threads have one each.
    type Lane;
    /// A worker's target.
    type Target: Target;
    /// The keeper's place.
    type Place: Place;
    /// Whether operations block their thread, so that each worker needs one of its own.
    const BLOCKING: bool;

    /// Makes what the workers of runtime number `lane` share. Called on that runtime's thread, within it.
    ///
    /// # Errors
    /// Whatever keeps it from being made, for people.
    fn lane(&self, lane: usize) -> Result<Self::Lane, Problem>;

    /// Makes a worker's target.
    ///
    /// # Errors
    /// Whatever keeps it from being made, for people.
    fn target(&self, lane: &Self::Lane, assignment: Assignment) -> Result<Self::Target, Problem>;

    /// Makes the place of a key space: an agent's own, or the shared one. Called on the keeper's thread, within its
    /// runtime.
    ///
    /// # Errors
    /// Whatever keeps it from being made, for people.
    fn place(&self, space: Option<u32>) -> Result<Self::Place, Problem>;
}

/// The options of a target.
///
/// # Errors
/// An unknown option, or a value that is not of its kind.
pub fn options(plan: &TargetPlan) -> Result<Given<'_>, Problem> {
    Given::read(plan.scheme, &plan.options).map_err(|error| {
        Problem::new(format!("the options of target {} were refused", plan.uri), error.to_string())
            .next("lockstep validate, and docs/manifest.md for the options of targets")
            .exit(exit::REFUSED)
    })
}

/// What the schemes for testing the engine do in place of storage: nothing, for as long as the option `latency` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimulatedLatency {
    /// Nanoseconds; 0 is none.
    pub ns: u64,
}

impl SimulatedLatency {
    /// Reads `target.options`.
    ///
    /// # Errors
    /// As [`options`].
    pub fn read(plan: &TargetPlan) -> Result<Self, Problem> {
        Ok(Self { ns: u64::try_from(options(plan)?.duration("latency").as_nanos()).unwrap_or(u64::MAX) })
    }

    /// Lets the time pass, or ends when told to stop.
    #[inline]
    pub fn pass(self, hands: &Hands) {
        if self.ns > 0 {
            wait_on_thread(crate::clock::now_ns() + self.ns, hands);
        }
    }
}

/// Sleeps on a plain thread until `at_ns`, or until told to stop.
pub fn wait_on_thread(at_ns: u64, hands: &Hands) {
    /// The last part is slept through: a parked thread wakes later than one that sleeps. A stop waits for so long.
    const LAST_NS: u64 = 2_000_000;
    while !hands.stopped() {
        match at_ns.saturating_sub(crate::clock::now_ns()) {
            0 => return,
            left_ns if left_ns > LAST_NS => hands.stop.park(Duration::from_nanos(left_ns - LAST_NS)),
            _ => crate::clock::sleep_until(at_ns),
        }
    }
}

/// What an operation that was stopped comes to. The engine does not count it: it neither succeeded nor failed.
pub fn stopped(object: Object<'_>) -> Outcome {
    Err(super::Failure {
        class: lockstep_core::op::ErrorClass::Other,
        detail: format!("stopped in the middle of {}", object.name),
    })
}
