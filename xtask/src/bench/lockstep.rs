//! `lockstep run` as anybody runs it: a manifest in a file, a results directory, an exit code.

use super::release_directory;
use super::table::Turn;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Limit on one run.
const LIMIT: Duration = Duration::from_secs(180);
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// The binary, and a directory for manifests and results; removed when dropped.
pub struct Lockstep {
    binary: PathBuf,
    scratch: TempDir,
    runs: Cell<u32>,
}

/// A run under way.
pub struct Under<'a> {
    /// Process id of `lockstep`.
    pub id: u32,
    /// What it wrote to standard output so far: a JSON object per line.
    pub progress: &'a Path,
}

impl Lockstep {
    /// The release binary.
    pub fn beside_this() -> Result<Self> {
        let binary = release_directory()?.join("lockstep");
        ensure!(binary.exists(), "{} is not built", binary.display());
        Ok(Self { binary, scratch: tempfile::tempdir()?, runs: Cell::new(0) })
    }

    /// Runs a manifest to its end, and returns `results.json`.
    pub fn run(&self, manifest: &str, agents: u32) -> Result<Value> {
        self.watch(manifest, agents, &mut |_| Ok(()))
    }

    /// The same; `look` is called every 50 ms while it lasts.
    pub fn watch(
        &self,
        manifest: &str,
        agents: u32,
        look: &mut dyn FnMut(&Under<'_>) -> Result<()>,
    ) -> Result<Value> {
        let number = self.runs.replace(self.runs.get() + 1);
        let directory = self.scratch.path().join(number.to_string());
        std::fs::create_dir(&directory)?;
        let (file, progress) = (directory.join("run.yaml"), directory.join("progress"));
        let (results, errors) = (directory.join("results"), directory.join("errors"));
        std::fs::write(&file, manifest)?;
        let mut child = Command::new(&self.binary)
            .args(["run", "--json", "--agents", &agents.to_string(), "-f"])
            .arg(&file)
            .arg("--results")
            .arg(&results)
            .stdin(Stdio::null())
            .stdout(File::create(&progress)?)
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let (id, end) = (child.id(), Instant::now() + LIMIT);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if Instant::now() > end {
                // Its agents notice at once and end.
                child.kill()?;
                child.wait()?;
                bail!("`lockstep run` took longer than {LIMIT:?}");
            }
            look(&Under { id, progress: &progress })?;
            std::thread::sleep(LOOK);
        };
        if !status.success() {
            bail!("`lockstep run` ended with {status}:\n{}", std::fs::read_to_string(&errors)?);
        }
        let run = std::fs::read_dir(&results)?.next().context("a results directory")??;
        let document = serde_json::from_slice(&std::fs::read(run.path().join("results.json"))?)?;
        std::fs::remove_dir_all(&directory)?;
        Ok(document)
    }
}

/// A stage of `results.json` by its name.
pub fn stage<'a>(results: &'a Value, name: &str) -> Result<&'a Value> {
    let stages = results["stages"].as_array().context("no stages in results.json")?;
    stages.iter().find(|stage| stage["name"] == name).with_context(|| format!("no stage `{name}`"))
}

/// What a stage did, and the CPU time of its agents, control and report threads included.
pub fn turn(results: &Value, name: &str) -> Result<Turn> {
    let stage = stage(results, name)?;
    let total = &stage["total"];
    let count =
        |field: &str| total[field].as_u64().with_context(|| format!("no `{field}` in stage `{name}`"));
    ensure!(count("errorCount")? == 0, "operations of stage `{name}` failed");
    let agents = stage["agents"].as_array().context("no agents in results.json")?;
    let cpu_ns: u64 = agents.iter().filter_map(|agent| agent["client"]["processCpuNs"].as_u64()).sum();
    Ok(Turn {
        operations: count("count")?,
        wall_s: stage["windowNs"].as_u64().context("no window")? as f64 / 1e9,
        cpu_s: cpu_ns as f64 / 1e9,
    })
}

/// A manifest from its target, data set and stages, each a line of YAML in flow style.
pub fn manifest(uri: &str, dataset: &str, stages: &[String]) -> String {
    let stages: Vec<String> = stages.iter().map(|stage| format!("    - {stage}\n")).collect();
    format!(
        "apiVersion: lockstep.dev/v1alpha1\nkind: BenchmarkRun\nmetadata: {{name: bench}}\nspec:\n  \
         target: {{uri: \"{uri}\"}}\n  dataset: {dataset}\n  stages:\n{}",
        stages.concat()
    )
}
