//! What is written down of a run, and when: the run itself, as a document, so that another coordinator can go on from it.
//!
//! Architecture invariant: state is written before it is acted on. A step that decided something which agents cannot tell
//! again (a stage began, an attempt was given up, the run ends) makes the document due, and the shell holds that
//! step's actions back until it is durable. Everything else (leases, positions, starts) is told again by the agents
//! ([`super::standing`]), and written down when there is time. It deliberately knows no format and no storage.

use super::Run;
use crate::plan::Plan;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// What a change of the document costs when it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Detail: agents tell it again, or nothing depends on it. Written when there is time.
    Detail,
    /// The run would go on otherwise without it: durable before the actions of the same step.
    Decisive,
}

/// The plan goes with the record: agents have this one, whatever another version would make of the manifest.
pub(super) fn plan_out<S: Serializer>(plan: &Arc<Plan>, serializer: S) -> Result<S::Ok, S::Error> {
    Plan::serialize(plan, serializer)
}

pub(super) fn plan_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Plan>, D::Error> {
    Plan::deserialize(deserializer).map(Arc::new)
}

impl Run {
    /// Notes that the document changed.
    pub(super) fn note_change(&mut self, weight: Weight) {
        self.unrecorded = self.unrecorded.max(Some(weight));
    }

    /// How much changed since this was asked last; `None` is nothing worth writing down.
    pub fn take_unrecorded(&mut self) -> Option<Weight> {
        self.unrecorded.take()
    }
}
