//! Starts crates/operator/benches/scale, which measures the operator on a real control plane, and reads what it found.
//! A program of its own, so that nobody who only generates files has to build a Kubernetes client.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::{Command, Stdio};

/// One figure.
pub struct Figure {
    /// What it is of.
    pub name: String,
    /// The figure, in words.
    pub figure: String,
    /// What is wanted.
    pub goal: String,
    /// Whether it is so.
    pub met: bool,
}

/// Measures these things; `release`: as users have it, otherwise as tests do.
///
/// # Errors
/// When it cannot be built, or does not come to an end.
pub fn run(what: &[&str], quick: bool, release: bool) -> Result<Vec<Figure>> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    // Cargo builds binaries of other packages only on request.
    let mut build = vec!["build", "--quiet", "--workspace", "--bins"];
    let profile = if release { "release" } else { "dev" };
    build.extend(["--profile", profile]);
    let built = Command::new("cargo").args(build).current_dir(root).status().context("cargo")?;
    ensure!(built.success(), "the build failed");
    // The profile of benchmarks is that of a release; one package alone would be built anew, with other features.
    let profile = if release { "bench" } else { "dev" };
    let mut bench = Command::new("cargo");
    bench.args(["bench", "--quiet", "--workspace", "--bench", "scale", "--profile", profile, "--"]);
    bench.args(what).args(quick.then_some("--quick")).current_dir(root);
    let output = bench.stderr(Stdio::inherit()).output().context("cargo")?;
    ensure!(output.status.success(), "the measurement of the operator failed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter(|line| line.starts_with('{')).map(figure).collect()
}

fn figure(line: &str) -> Result<Figure> {
    let json: Value = serde_json::from_str(line)?;
    let text =
        |key: &str| json[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {line}"));
    Ok(Figure {
        name: text("name")?,
        figure: text("figure")?,
        goal: text("goal")?,
        met: json["met"].as_bool().context("met")?,
    })
}
