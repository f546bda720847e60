//! The operator: what it would do and what it would say, as functions of what it has seen, and the client half around them.
//!
//! ```text
//! observe ─→ validate ─────────→ plan ────────→ apply ──→ publish
//! (client)   validate::validate  plan::plan     (client)  status::project, fit, split, pace; events
//! ```
//!
//! - [`pods`]: the template merged over ours, what it may not set, the pod of each attempt, and what is wrong with one.
//! - [`validate`]: from the stored run to its plan and the recipe of its pods, or to everything that is wrong with it.
//! - [`plan`]: from what is there to what is to be done, each step with its reason.
//! - [`status`]: from the decider's view and what was merged to the status, its conditions, its size and its pace.
//! - [`events`]: from the decider's story to Events.
//!
//! The client half is [`client`]; [`trust`] is how the operator and its agents know each other, [`leader`] which of its
//! replicas leads, and [`admin`] lets people and Prometheus look on.
//!
//! Nothing in the pure half holds a client, reads a clock or keeps a socket: time is an argument, observations are values, and
//! every answer can be tested as one. It decides nothing that `core::run` decides: which attempt lives, what a loss costs
//! and how a run ends come from there.

pub mod admin;
pub mod client;
pub mod events;
pub mod leader;
pub mod plan;
pub mod pods;
pub mod status;
#[cfg(test)]
mod testing;
pub mod trust;
pub mod validate;
