//! The results directory: what a run leaves behind, written so that a crash at any instant loses nothing that was
//! acknowledged. docs/results.md describes it file by file; change both together.
//!
//! Each part is on disk before its agent may forget it ([`store`]); `results.json` is written anew when a stage is over,
//! and the tables beside it at the end ([`artefacts`]). [`salvage`] reads all of it back.

pub mod agents;
pub mod artefacts;
pub mod directory;
pub mod histograms;
pub mod manifest;
pub mod memory;
pub mod salvage;
pub mod series;
pub mod store;
pub mod wall;

pub use directory::ResultsDirectory;
