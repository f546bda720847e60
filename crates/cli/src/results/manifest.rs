//! `run.yaml`: the manifest as it was run. Overrides are applied, so that the file can be run again, and recorded in
//! comments, so that a reader sees what came from the command line.

use crate::args::request::Input;
use crate::input;
use lockstep_api::Manifest;
use std::fmt::Write as _;

/// The file. `started` is wall time.
///
/// # Errors
///
/// None that a manifest can cause; kept for the caller to report rather than to hide.
pub fn record(
    manifest: &Manifest,
    input: &Input,
    uid: &str,
    started: &str,
) -> Result<String, serde_yaml::Error> {
    let document = input::document(input, manifest);
    let mut file = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(file, "# As it was run by lockstep {version}: uid {uid}, started {started}.");
    let _ = writeln!(
        file,
        "# From {}; what the command line replaced is replaced below, too:",
        comment(&input.source.to_string())
    );
    if let Some(agents) = input.agents {
        let _ = writeln!(file, "#   --agents {agents}");
    }
    for (path, value) in &input.overrides {
        let _ = writeln!(file, "#   --set {}={}", comment(path), comment(value));
    }
    if input.agents.is_none() && input.overrides.is_empty() {
        file.push_str("#   nothing\n");
    }
    file.push_str(&serde_yaml::to_string(&document)?);
    Ok(file)
}

/// A value that cannot leave its comment.
fn comment(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::ManifestSource;

    const YAML: &str = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: x}
spec:
  target: {uri: 'mem://'}
  dataset: {objects: 10, size: {fixed: 4Ki}, sharing: PerAgent}
";

    #[test]
    fn what_is_recorded_can_be_run_again_as_it_was_run() {
        let overrides = vec![("spec.seed".to_owned(), "7".to_owned())];
        let input = Input { source: ManifestSource::Stdin, overrides, agents: Some(3) };
        let manifest = lockstep_api::load(YAML.as_bytes(), &input.overrides).expect("loads");
        let file = record(&manifest, &input, "u1", "2026-01-01T00:00:00Z").expect("records");
        assert!(file.contains("#   --agents 3\n#   --set spec.seed=7\n"), "{file}");
        let again = lockstep_api::load(file.as_bytes(), &[]).expect("loads again");
        assert_eq!((again.run.spec.seed, again.run.spec.agents.replicas), (7, 3));
    }

    #[test]
    fn no_value_leaves_its_comment() {
        let overrides = vec![("metadata.name".to_owned(), "x\nspec: {}".to_owned())];
        let input = Input { source: ManifestSource::Stdin, overrides, agents: None };
        let manifest = lockstep_api::load(YAML.as_bytes(), &[]).expect("loads");
        let file = record(&manifest, &input, "u1", "t").expect("records");
        assert!(file.contains("#   --set metadata.name=x\\nspec: {}\n"), "{file}");
    }
}
