//! `cargo deny`: licences, sources and doubled versions of dependencies (`deny.toml`), as a part of tidy.
//!
//! Deliberately without advisories, whose database needs the network: a check that fails because a host is away is soon
//! not believed. `cargo deny check` has them too.

use anyhow::{Context, Result, ensure};
use std::process::{Command, Stdio};

/// Checks where cargo-deny is installed, and says so where it is not.
///
/// # Errors
/// Something that `deny.toml` does not allow; what, was printed.
pub fn check() -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let deny = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.current_dir(root).arg("deny").args(arguments);
        command
    };
    let version = deny(&["--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !version.context("cannot start cargo")?.success() {
        println!(
            "dependencies were not checked: cargo-deny is not installed (cargo install cargo-deny --locked)"
        );
        return Ok(());
    }
    let arguments = ["--log-level", "error", "check", "--show-stats", "bans", "licenses", "sources"];
    let checked = deny(&arguments).status().context("cannot start cargo deny")?;
    ensure!(checked.success(), "dependencies that deny.toml does not allow");
    Ok(())
}
