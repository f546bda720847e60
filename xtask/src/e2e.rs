//! `cargo xtask e2e`: builds the end-to-end suite (tests/kind) and runs it on the cluster that KUBECONFIG names, or, where that names none, on
//! one that is made for the occasion with an image of this checkout.
//!
//! The suite is a program of its own, so that nobody who only generates files has to build a Kubernetes client.

use anyhow::{Context, Result, ensure};
use clap::Parser as _;
use lockstep_image::command::{self, Args};
use std::process::Command;

/// Runs it with these arguments: `lockstep-e2e --list` says which there are.
///
/// # Errors
/// It cannot be built, or something was not as it should be.
pub fn run(arguments: &[&str]) -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // Cargo builds binaries of other packages only on request, and those of all at once with the features that tests have.
    let build = ["build", "--quiet", "--workspace", "--bins"];
    let built = Command::new("cargo").args(build).current_dir(root).status().context("cargo")?;
    ensure!(built.success(), "the build failed");
    let this = std::env::current_exe().context("this program's path")?;
    let program = this.with_file_name("lockstep-e2e");
    let mut suite = Command::new(&program);
    suite.args(arguments);
    if std::env::var_os("KUBECONFIG").is_none_or(|value| value.is_empty()) {
        // Of what was built here, or, to be measured, of what is shipped.
        let profile = if arguments.contains(&"bench") { "release" } else { "dev" };
        let image = this.with_file_name("lockstep-e2e.tar");
        let output = image.to_str().context("a path that is text")?;
        command::run(Args::parse_from(["image", "--profile", profile, "--output", output]))?;
        suite.arg("--cluster").arg(image);
    }
    let status = suite.status().with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(status.success(), "the end-to-end suite did not end well");
    Ok(())
}
