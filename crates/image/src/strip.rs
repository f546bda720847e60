//! Programs without what only a debugger reads.
//!
//! Line tables go; names of functions stay, so that the backtrace of a panic in a cluster says where it was.

use anyhow::{Context, Result, bail};
use lockstep_core::problem::Problem;
use std::path::Path;
use std::process::Command;

/// The program at a path, without debug information. The file itself is left as it is.
///
/// # Errors
/// There is no `strip` for its architecture, or it fails.
pub fn strip(program: &Path, architecture: &str) -> Result<Vec<u8>> {
    let tool = tool(architecture);
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let stripped = directory.path().join("program");
    let mut command = Command::new(tool);
    command.arg("--strip-debug").arg("-o").arg(&stripped).arg(program);
    let output = command.output().map_err(|error| problem(program, tool, &error.to_string()))?;
    if !output.status.success() {
        bail!(problem(program, tool, String::from_utf8_lossy(&output.stderr).trim()));
    }
    std::fs::read(&stripped).with_context(|| format!("what {tool} made"))
}

/// The tool of binutils for an architecture, which has its own name where it is not this machine's.
fn tool(architecture: &str) -> &'static str {
    match architecture {
        own if own == crate::oci::architecture(std::env::consts::ARCH) => "strip",
        "arm64" => "aarch64-linux-gnu-strip",
        _ => "x86_64-linux-gnu-strip",
    }
}

fn problem(program: &Path, tool: &str, cause: &str) -> Problem {
    Problem::new(format!("the image cannot be made: {} cannot be stripped", program.display()), cause)
        .likely(format!("{tool} is not installed: it comes with the C compiler (binutils)"))
        .next("apt-get install binutils; for the other architecture binutils-aarch64-linux-gnu, binutils-x86-64-linux-gnu")
        .kept("the program is as it was, and nothing was written")
}
