//! Which replica of the operator leads: one Lease of our own making.
//!
//! - [`decide`]: the rules, pure.
//! - [`election`]: the task that follows them against the API server, and what it tells the rest.
//! - [`fence`]: a client that writes only with a mandate.
//! - [`clock`]: whose time counts.
//!
//! Why not a crate: those at hand compare wall clocks, or do not write with the resourceVersion that they have judged; and
//! a leader here needs to know at every write whether its time is over, not only that somebody told it so.
//!
//! The Lease alone does not keep two from writing: between a look at [`election::Mandate`] and the arrival of a write lies
//! whatever stopped the process. So every status carries an [`decide::epoch`], and every other object a resourceVersion
//! that a new leader has moved on.

pub mod clock;
pub mod decide;
pub mod election;
pub mod fence;

#[cfg(test)]
mod tests;

pub use decide::{Role, Terms, epoch};
pub use election::{Leadership, Mandate, identity};
