//! The half of the operator that holds a client: it observes, carries out what the planner says, and publishes.
//!
//! ```text
//! watches ─→ stores ─┐ wake            ┌─→ API server (steps)
//!                    ├────→ Desk (one per run): observe → validate → plan → apply → publish
//! coordinator ───────┘ requests        └─→ API server (status, Events)
//! ```
//!
//! A run has a desk of its own, one task, which does one round after the other; nothing of a run is done anywhere else. It
//! decides nothing: what to do comes from [`crate::plan`], what to say from [`crate::status`] and [`crate::events`], and
//! how the run goes from `core::run`.

pub mod apply;
pub mod context;
pub mod desk;
pub mod desks;
pub mod fenced;
pub mod follow;
pub mod going;
pub mod live;
pub mod memo;
pub mod orphans;
pub mod parts;
pub mod publish;
pub mod rest;
pub mod results;
pub mod store;
pub mod watch;
