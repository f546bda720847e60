//! Lockstep agent.
