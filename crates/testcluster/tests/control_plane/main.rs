//! The test control plane and the node that runs its pods, tested themselves: what stands on them stands on this.

mod faults;
mod harness;
mod lives;
mod pods;
mod story;
