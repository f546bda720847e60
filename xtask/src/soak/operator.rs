//! The test of the operator's rights, with a minute of idleness instead of seconds: it writes nothing but its Lease.

use super::Found;
use anyhow::{Context, ensure};
use std::process::Command;

/// How long it is looked at.
const IDLE_S: &str = "60";

/// Runs that test.
pub fn idle() -> Found {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut test = Command::new("cargo");
    test.args(["test", "--quiet", "--workspace", "--test", "cluster"]);
    if !cfg!(debug_assertions) {
        test.arg("--release");
    }
    test.args(["--", "what_the_operator_may_is_what_it_uses"]).env("LOCKSTEP_TEST_IDLE_S", IDLE_S);
    let output = test.current_dir(root).output().context("cargo")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains("1 passed"), "{said}");
    Ok(format!("{IDLE_S} s without a write"))
}
