//! Workflows of GitHub, ours and the sample that is shipped, read by actionlint before GitHub reads them; and that no job has more
//! rights than it names.
//!
//! Where this machine has no actionlint yet, `tidy` leaves them alone and a test builds one.

use anyhow::{Context, Result};
use lockstep_testcluster::Tool;
use std::path::Path;
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FILES: [&str; 3] =
    [".github/workflows/ci.yaml", ".github/workflows/release.yaml", "deploy/ci/github-actions.yaml"];

/// What is wrong with them; nothing, where there is no actionlint.
///
/// # Errors
/// It cannot be run.
pub fn faults() -> Result<Vec<String>> {
    Tool::Actionlint.found().map_or(Ok(Vec::new()), |program| faults_by(&program, &FILES))
}

fn faults_by(program: &Path, files: &[&str]) -> Result<Vec<String>> {
    let mut actionlint = Command::new(program);
    // What is on somebody's PATH must not decide.
    actionlint.args(["-oneline", "-no-color", "-shellcheck=", "-pyflakes="]).args(files).current_dir(ROOT);
    let output = actionlint.output().context("actionlint")?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok(said.lines().map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workflows_are_sound_and_ask_for_no_more_rights_than_they_name() {
        let actionlint = Tool::Actionlint.path().unwrap();
        assert_eq!(faults_by(&actionlint, &FILES).unwrap(), [""; 0]);
        for file in FILES {
            let text = std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap();
            let workflow: serde_json::Value = serde_yaml::from_str(&text).unwrap();
            let rights =
                workflow["permissions"].as_object().unwrap_or_else(|| panic!("{file} names no permissions"));
            assert!(rights.values().all(|right| right == "read"), "{file}: what writes is for single jobs");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("wrong.yaml");
        std::fs::write(
            &file,
            "on: push\njobs: {x: {runs-on: ubuntu-24.04, steps: [{run: 'echo ${{ nothing.here }}'}]}}\n",
        )
        .unwrap();
        let faults = faults_by(&Tool::Actionlint.path().unwrap(), &[&file.display().to_string()]).unwrap();
        assert!(faults.iter().any(|fault| fault.contains("undefined variable")), "{faults:?}");
    }
}
