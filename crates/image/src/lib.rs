//! The container image, made without a daemon and without anybody else's image.
//!
//! | module | what it is |
//! |---|---|
//! | [`contents`] | what is in the image, and what it says of itself |
//! | [`oci`] | archives of images, written and read |
//! | [`packages`] | files of Debian packages, by this machine's apt |
//! | [`elf`] | what a program needs to be started |
//! | [`command`] | `cargo xtask image` |
//!
//! Deliberately no registry is spoken to: an image is pushed, scanned and signed by the tools that people have for it.
//! Nothing of this crate is shipped.

pub mod command;
pub mod contents;
pub mod elf;
pub mod oci;
pub mod packages;
mod strip;
