//! The container image, made without a daemon and without anybody else's image.
//!
//! | module | what it is |
//! |---|---|
//! | [`oci`] | archives of images, written and read |
//!
//! Deliberately no registry is spoken to: an image is pushed, scanned and signed by the tools that people have for it.
//! Nothing of this crate is shipped.

pub mod oci;
