//! The agent: does what a plan says to storage, in step with the others, and measures it.
//!
//! [`session`] talks to the coordinator, [`engine`] does the work, [`target`]s are what it is done to. Architecture
//! invariant: control never waits for data; the session's thread and the engine's share channels and atomics, and
//! nothing else.

#![allow(clippy::result_large_err, reason = "a `Problem` is cold, and made for people")]

pub mod clock;
pub mod cpu;
pub mod engine;
pub mod log;
pub mod panics;
pub mod preflight;
mod scrub;
pub mod session;
pub mod target;
