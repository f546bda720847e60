//! Types generated from `proto/`, and conversions to and from `lockstep-core`.
