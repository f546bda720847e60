//! `lockstep run`: the coordinator in this process, the agents as processes beside it.
//!
//! This is a host of the coordinator and nothing more: it starts and ends processes when asked, keeps what they hand in,
//! passes signals on, and shows what happens. Architecture invariant: it decides nothing; a run on one machine and one on
//! a cluster take the same decisions in the same place.

mod agent_binary;
mod cores;
mod drive;
mod identity;
mod process;
mod runner;
pub mod signals;

pub use runner::{probe, run};
