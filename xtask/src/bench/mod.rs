//! `cargo xtask bench`: what Lockstep costs beside plain loops of the same system calls, on the machine at hand.
//!
//! Everything goes through `lockstep run`, with processes, leases, reports, recording and results, because that is
//! what people run. Floors are measured in the same pass, in turns with it (A B A B), on the same number of
//! threads, over the same files. A row shows medians, and judges the median of the ratios of neighbouring turns:
//! whatever else the machine does meets both of a pair. Deliberately no comparison over time or between machines:
//! an absolute figure of a shared machine says nothing. What each row means: docs/benchmarks.md.
//!
//! The command builds the release binaries and goes on as the release build of itself, so that the floors are
//! optimised like what they are compared with.

mod coordinator;
mod files;
mod floor;
mod lockstep;
mod machine;
mod memory;
mod null;
mod operator;
mod place;
mod prepare;
mod table;

use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::process::Command;
use table::{Row, print};

/// The names that `--only` knows, in the order of the table.
const NAMES: [&str; 10] = [
    "null",
    "read-flat",
    "read-flat-2",
    "read-tree",
    "prepare",
    "memory",
    "coordinator",
    "run-overhead",
    "operator",
    "takeover",
];

/// Says to the release build that it is one.
const BUILT: &str = "--built";

/// What was asked for.
pub struct Options {
    /// Fewer and shorter turns: a look, not a measurement.
    pub quick: bool,
    only: Vec<String>,
}

impl Options {
    fn read(arguments: &[&str]) -> Result<(Self, bool)> {
        let (mut options, mut built) = (Self { quick: false, only: Vec::new() }, false);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match *argument {
                "--quick" => options.quick = true,
                BUILT => built = true,
                "--only" => {
                    let name = arguments.next().context("--only needs a name")?;
                    ensure!(NAMES.contains(name), "`{name}` is none of {}", NAMES.join(", "));
                    options.only.push((*name).to_owned());
                }
                other => bail!("`{other}` is unknown; usage: cargo xtask bench [--quick] [--only NAME]..."),
            }
        }
        Ok((options, built))
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Pairs of turns.
    pub fn pairs(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    /// Seconds of one turn.
    pub fn seconds(&self) -> u64 {
        if self.quick { 1 } else { 2 }
    }
}

/// Measures, and prints the table. Missed goals are shown, not failures: machines differ.
///
/// # Errors
/// When something cannot be built, run or read.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (options, built) = Options::read(arguments)?;
    if !built {
        return go_on_in_release(arguments);
    }
    let before = machine::load();
    let lockstep = lockstep::Lockstep::beside_this()?;
    let mut rows: Vec<Row> = Vec::new();
    if options.wants("null") {
        rows.push(null::measure(&options, &lockstep)?);
    }
    files::measure(&options, &lockstep, &mut rows)?;
    if options.wants("prepare") {
        rows.push(prepare::measure(&options, &lockstep)?);
    }
    if options.wants("memory") {
        rows.push(memory::measure(&options, &lockstep)?);
    }
    if options.wants("coordinator") {
        rows.push(coordinator::measure(&options, &lockstep)?);
    }
    operator::measure(&options, &mut rows)?;
    print(&rows, &machine::describe(before));
    Ok(())
}

/// Where the release build puts its binaries: beside the directory of this one.
fn release_directory() -> Result<PathBuf> {
    let this = std::env::current_exe().context("this program's path")?;
    let target = this.parent().and_then(std::path::Path::parent).context("a target directory")?;
    Ok(target.join("release"))
}

fn go_on_in_release(arguments: &[&str]) -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let build = ["build", "--quiet", "--release", "--workspace", "--bins"];
    let built = Command::new("cargo").args(build).current_dir(root).status().context("cargo")?;
    ensure!(built.success(), "the release build failed");
    let program = release_directory()?.join("xtask");
    let status = Command::new(&program).arg("bench").args(arguments).arg(BUILT).status();
    let status = status.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(status.success(), "the benchmark did not end well");
    Ok(())
}

/// Says on standard error what is under way: a table only comes at the end.
fn say(text: &str) {
    eprintln!("  {text}");
}
