//! Lockstep api.
