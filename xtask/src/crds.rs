//! `deploy/crds`: the definition of the resource as YAML, made from the types in `crates/api`.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

const HEADER: &str = "# Made by `cargo xtask crds` from crates/api. Do not edit.\n";

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds/lockstep.dev_benchmarkruns.yaml")
}

fn render() -> Result<String> {
    Ok(format!("{HEADER}{}", serde_yaml::to_string(lockstep_api::crd::json())?))
}

/// Writes the file.
pub fn write() -> Result<()> {
    let path = path();
    std::fs::write(&path, render()?).with_context(|| format!("cannot write {}", path.display()))
}

/// Fails when the file is not what [`write`] would make of it.
pub fn check() -> Result<()> {
    let path = path();
    let found = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(found == render()?, "{} is stale: run `cargo xtask crds`", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_current() {
        super::check().unwrap();
    }
}
