//! Real servers and processes for tests: what a test cannot fake without testing its own fake.
//!
//! | module | what it runs |
//! |---|---|
//! | [`s3`] | an S3 server in this process, which counts every request and fails as told |
//! | [`docs`] | commands of the documentation, as scripts |
//! | [`counts`] | a report, held against what that server counted |
//! | [`echo`] | the same server telling everything secret that it was sent |
//! | [`seaweed`] | SeaweedFS in a process of its own: somebody else's idea of S3 |
//! | [`objects`] | what lies in a bucket, as boto3 sees it |
//! | [`python`] | packages of Python, pinned, in the user's cache |
//! | [`raw`] | listeners that refuse, hang, or talk nonsense |
//! | [`proxy`] | a TCP proxy that refuses, holds or loses bytes as told |
//! | [`process`] | commands with captured output, deadlines and signals |
//! | [`tmpfs`] | a command with a small file system of its own |
//! | [`oci`] | archives of container images, written and read |
//!
//! Everything listens on loopback, on ports that the kernel chose, and ends when its value is dropped. Nothing is skipped
//! in silence: what a test needs and this machine lacks is a panic that says what to do. Panics are the way to fail
//! here, because all of it runs in tests. Nothing of this crate is shipped.

pub mod counts;
pub mod docs;
pub mod echo;
pub mod objects;
pub mod process;
pub mod proxy;
pub mod python;
pub mod raw;
pub mod s3;
mod s3_faults;
pub mod seaweed;
pub mod tmpfs;

pub use lockstep_image::oci;
