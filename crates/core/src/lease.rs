//! Leases: the pieces of work that the coordinator hands to agents, and what an agent says when one is done.
//!
//! Loss, resume, rebalancing and stragglers are one mechanism because all work with an end is leased. This module
//! only names the pieces; who gets which is decided in [`crate::run`].

use serde::{Deserialize, Serialize};

/// A piece of work for one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Unique within the run; never given out twice.
    pub id: u64,
    /// Stage that it belongs to. A put range serves the whole chain of stages that flow into each other.
    pub stage: u32,
    /// What is leased.
    pub kind: LeaseKind,
    /// Whose key space: the agent whose prefix it is under `Sharing::PerAgent`, `None` under `Shared`.
    pub space: Option<u32>,
    /// First index, or first operation number.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// What is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseKind {
    /// Indexes of the data set to create.
    Prepare,
    /// Fresh indexes that puts of an execute stage may use.
    Put,
    /// Operations of a stage with an operation count.
    Operations,
    /// Indexes to delete.
    Cleanup,
}

/// What an agent says of a lease that it is through with, wholly or because it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseDone {
    /// The lease.
    pub id: u64,
    /// Ranges of it that are done. For `Put`: that may have been written.
    pub done: Vec<(u64, u64)>,
    /// Objects that were written (prepare) or deleted (cleanup).
    pub changed: u64,
    /// Objects that already were as they should be (prepare: present; cleanup: missing).
    pub unchanged: u64,
    /// Bytes that were written.
    pub bytes: u64,
    /// How long the agent worked on it, nanoseconds; sizes the next lease.
    pub took_ns: u64,
}
