//! Pods of agents: made from the run, its plan and the installation; judged by what the cluster says of them.
//!
//! [`Recipe`](build::Recipe) is the proof that a template was merged and holds nothing that it may not; only a recipe makes
//! pods. Deliberately without a client: a pod leaves here as JSON, so that a field of the template that is newer than
//! our types is sent as it was written.

pub mod agent_start;
pub mod build;
pub mod config;
pub mod config_maps;
pub mod ended;
pub mod facts;
pub mod merge;
mod placement;
pub mod refuse;
pub mod rejected;
pub mod remembered;
pub mod secrets;
pub mod strategy;
pub mod trouble;

pub use build::{PodManifest, Recipe, RunIdentity};
pub use config::Installation;
pub use facts::PodFacts;
