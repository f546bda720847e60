//! Types generated from `proto/`, and conversions to and from `lockstep-core`. Holds no logic.

mod convert;

pub use convert::{ConvertError, directive_to_wire};

/// Generated from `proto/lockstep/v1/coordination.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("lockstep.v1");
}

/// Version of the protocol, major * 1000 + minor.
pub const PROTOCOL: u32 = 1_000;

/// Metadata key: uid of the run.
pub const META_RUN: &str = "lockstep-run";
/// Metadata key: index of the agent.
pub const META_INDEX: &str = "lockstep-index";
/// Metadata key: attempt of the agent.
pub const META_ATTEMPT: &str = "lockstep-attempt";

/// FNV-1a over `bytes`: what a receipt answers with. Guards against mixing results up, not against malice.
#[must_use]
pub fn receipt_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
