//! The coordinator: drives `core::run` for many runs at once over gRPC. Sessions, timers, intake of results.
//!
//! It knows nothing of Kubernetes, processes, terminals or files: its host does what [`HostRequest`] asks. It
//! decides nothing: that is done in `lockstep_core::run`.

pub mod host;

pub use host::{HostRequest, LiveStage, ResultStore, RunEnd, Snapshot};
