//! What Lockstep decides and computes, and nothing that it touches.
//!
//! Plans, data sets as functions, the run's state machine, exact merging of results. Everything here is pure:
//! time and randomness are arguments. This crate deliberately does no I/O, spawns nothing, reads no clock and
//! uses no unseeded random source, so that the same code runs under the operator, on one machine, and in tests.

pub mod clock;
pub mod dataset;
pub mod format;
pub mod keys;
pub mod lease;
pub mod link;
pub mod op;
pub mod options;
pub mod pacing;
pub mod pairs;
pub mod plan;
pub mod problem;
pub mod ranges;
pub mod results;
pub mod rng;
pub mod run;
pub mod thresholds;
pub mod units;
