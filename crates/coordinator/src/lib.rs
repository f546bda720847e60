//! Lockstep coordinator.
