//! The decider in a simulated world: model agents, a network that fails, and virtual time. One seed, one outcome.

mod chaos;
mod losses;
mod marks;
mod model;
mod plans;
mod starts;
mod stops;
mod takeovers;
mod world;
