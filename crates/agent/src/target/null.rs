//! The target that does nothing: what is measured over it is the engine itself.
//!
//! Every operation succeeds at once, or after `target.options.latency`. It deliberately stores nothing, so it cannot
//! tell an object that exists from one that does not: a prepare with `FillGaps` finds everything missing.

use super::backend::{Assignment, Backend, SimulatedLatency, stopped, wait_on_thread};
use super::mem::ProcessPlace;
use super::{Done, Failure, Object, Outcome, Target};
use crate::engine::hands::Hands;
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::TargetPlan;
use lockstep_core::problem::Problem;

/// Makes null targets.
#[derive(Debug)]
pub struct NullBackend {
    latency: SimulatedLatency,
}

impl NullBackend {
    /// A backend with the options of the plan.
    ///
    /// # Errors
    /// An option that cannot be read.
    pub fn new(plan: &TargetPlan) -> Result<Self, Problem> {
        Ok(Self { latency: SimulatedLatency::read(plan)? })
    }
}

impl Backend for NullBackend {
    type Lane = ();
    type Target = NullTarget;
    type Place = ProcessPlace;
    const BLOCKING: bool = true;

    fn lane(&self, _: usize) -> Result<(), Problem> {
        Ok(())
    }

    fn target(&self, (): &(), assignment: Assignment) -> Result<NullTarget, Problem> {
        Ok(NullTarget { latency: self.latency, hands: assignment.hands, filling: assignment.role })
    }

    fn place(&self, _: Option<u32>) -> Result<ProcessPlace, Problem> {
        Ok(ProcessPlace::new(false))
    }
}

/// A worker's null target.
#[derive(Debug)]
pub struct NullTarget {
    latency: SimulatedLatency,
    hands: Hands,
    filling: super::backend::Role,
}

impl NullTarget {
    #[inline]
    fn pass(&self, object: Object<'_>, bytes: u64) -> Outcome {
        self.latency.pass(&self.hands);
        if self.latency.ns > 0 && self.hands.stopped() {
            return stopped(object);
        }
        Ok(Done { bytes, first_byte_ns: None })
    }
}

impl Target for NullTarget {
    async fn get(&mut self, object: Object<'_>, _verify: bool) -> Outcome {
        self.pass(object, object.size)
    }

    async fn put(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object, object.size)
    }

    async fn head(&mut self, object: Object<'_>) -> Outcome {
        if self.filling == super::backend::Role::Prepare {
            return Err(Failure { class: ErrorClass::NotFound, detail: "null:// stores nothing".into() });
        }
        self.pass(object, object.size)
    }

    async fn list(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object, 0)
    }

    async fn delete(&mut self, object: Object<'_>) -> Outcome {
        self.pass(object, 0)
    }

    async fn wait_until(&mut self, at_ns: u64) {
        wait_on_thread(at_ns, &self.hands);
    }

    async fn breathe(&mut self) {}
}
