//! `cargo xtask docs PAGE... [--has NEED]...`: runs the commands of pages against the cluster of the current context, as the tests
//! run them against theirs.

use anyhow::{Result, bail, ensure};
use lockstep_testkit::docs::{self, NEEDS};
use std::path::Path;
use std::process::Stdio;

/// Runs them, page after page.
///
/// # Errors
/// A command fails.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (mut pages, mut has, mut rest) = (Vec::new(), Vec::new(), arguments.iter());
    while let Some(argument) = rest.next() {
        match *argument {
            "--has" => has.extend(rest.next().copied()),
            page => pages.push(page),
        }
    }
    let known = |need: &&str| NEEDS.iter().any(|(name, _)| name == need);
    if pages.is_empty() || !has.iter().all(known) {
        let needs = NEEDS.map(|(name, meaning)| format!("  {name}: {meaning}")).join("\n");
        bail!("usage: cargo xtask docs PAGE... [--has NEED]...; needs are\n{needs}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for page in pages {
        let mut bash = docs::command(&root, page, &has);
        let status = bash.stdin(Stdio::null()).status()?;
        ensure!(status.success(), "{page}: {status}");
    }
    Ok(())
}
