//! The resource: `BenchmarkRun` of `lockstep.dev/v1alpha1`, from YAML to a plan.
//!
//! - [`spec`] and [`status`] are the types; [`crd`] makes the `CustomResourceDefinition` from them, with the CEL
//!   rules of [`rules`].
//! - [`manifest`] reads a file as strictly as the API server does, and says everything that is wrong with it at once.
//! - [`resolve`] turns a spec into the one [`lockstep_core::plan::Plan`] that everybody works from, or into faults.
//! - [`conditions`], [`reasons`] and [`labels`] are the vocabularies that people and tools grep for; [`outcome`] says which
//!   conditions and which exit code a finished run has.
//!
//! This crate deliberately does no I/O (bytes come in, values go out), holds no client, and knows no gRPC.

pub mod conditions;
pub mod crd;
pub mod fault;
pub mod labels;
pub mod manifest;
pub mod outcome;
pub mod quantity;
pub mod reasons;
pub mod resolve;
pub mod rules;
pub mod span;
pub mod spec;
pub mod status;

pub use fault::Fault;
pub use manifest::{Manifest, load};
pub use resolve::{ResolveOptions, Resolved, resolve};
pub use spec::{BenchmarkRun, BenchmarkRunSpec};
pub use status::BenchmarkRunStatus;
