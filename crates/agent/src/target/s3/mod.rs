//! The S3 target: objects in a bucket, through `object_store` on a transport of our own.
//!
//! ```text
//!   S3Backend (one per engine)
//!   S3Client (one per core)                    S3Place (one per agent)
//!     ├─ Link per endpoint: pool, counters       ├─ check, look, mark, unmark
//!     └─ S3Target per worker                     └─ lock ── renewal on a thread
//!          └─ Store per endpoint ── object_store ── Wire (transport) ── hyper
//! ```
//!
//! What is measured is the server and the network, so nothing here may repeat, merge, cache or redirect a request:
//! the server sees exactly one request per operation (multipart puts excepted), and `s3_*.rs` tests count them.
//! Deliberately missing: bulk delete, range requests, copy, and every way to credentials except the environment.

mod backend;
mod causes;
mod classify;
mod client;
mod content;
mod counters;
mod credentials;
mod lock;
mod options;
mod place;
mod renewal;
mod store;
mod target;
mod timer;
mod transport;
mod tries;
mod upload;

pub use backend::S3Backend;
pub use client::S3Client;
pub use counters::WireCounts;
pub use credentials::Credentials;
pub use lock::LOCK_NAME;
pub use place::S3Place;
pub use target::S3Target;
