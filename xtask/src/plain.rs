//! `deploy/lockstep*.yaml`: what the chart makes, for those who want no helm. Rendered by the helm of the tests, so that there
//! is one place where an installation is described.
//!
//! Where this machine has no helm yet, `tidy` leaves these files alone and a test builds one.

use anyhow::{Context, Result, ensure};
use lockstep_testcluster::Tool;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One such file.
struct Plain {
    /// Below the repository's root.
    path: &'static str,
    /// Where it is installed.
    namespace: &'static str,
    /// What differs from the chart's values.
    values: &'static [&'static str],
    /// What stands above.
    head: &'static str,
}

const PLAIN: [Plain; 2] = [
    Plain {
        path: "deploy/lockstep.yaml",
        namespace: "lockstep-system",
        values: &[],
        head: "\
# Made by `cargo xtask crds` from deploy/helm/lockstep. Do not edit.
# Lockstep for all namespaces of a cluster: kubectl apply --server-side -f lockstep.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: lockstep-system
  labels: {pod-security.kubernetes.io/enforce: restricted}
",
    },
    Plain {
        path: "deploy/lockstep-namespace.yaml",
        namespace: "my-namespace",
        values: &["scope=namespace"],
        head: "\
# Made by `cargo xtask crds` from deploy/helm/lockstep. Do not edit.
# Lockstep for one namespace, to be applied by its admin; the definition of the resource has to be there (deploy/crds):
# sed s/my-namespace/NAMESPACE/ lockstep-namespace.yaml | kubectl apply -f -
",
    },
];

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Writes all of them; builds helm if there is none.
///
/// # Errors
/// There is no helm and none can be built, or a file cannot be written.
pub fn write() -> Result<()> {
    let helm = Tool::Helm.path()?;
    for plain in &PLAIN {
        let file = Path::new(ROOT).join(plain.path);
        std::fs::write(file, plain.render(&helm)?).with_context(|| format!("cannot write {}", plain.path))?;
    }
    Ok(())
}

/// Those that are not what [`write`] would make of them; none, where there is no helm.
///
/// # Errors
/// One that cannot be made or read.
pub fn stale() -> Result<Vec<String>> {
    Tool::Helm.found().map_or(Ok(Vec::new()), |helm| stale_by(&helm))
}

fn stale_by(helm: &PathBuf) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for plain in &PLAIN {
        let found = std::fs::read_to_string(Path::new(ROOT).join(plain.path));
        if found.with_context(|| format!("cannot read {}", plain.path))? != plain.render(helm)? {
            stale.push(format!("{} is stale: run `cargo xtask crds`", plain.path));
        }
    }
    Ok(stale)
}

impl Plain {
    fn render(&self, helm: &PathBuf) -> Result<String> {
        let nobodys = tempfile::tempdir()?;
        let mut template = Command::new(helm);
        template.args(["template", "lockstep", "deploy/helm/lockstep", "--namespace", self.namespace]);
        // Nothing but helm keeps anything.
        // Without helm nobody runs its test either.
        template.args(["--set", "crds.keep=false", "--skip-tests"]).current_dir(ROOT);
        self.values.iter().for_each(|value| _ = template.args(["--set", value]));
        // Nothing of the user's own.
        for variable in ["HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "HELM_CACHE_HOME"] {
            template.env(variable, nobodys.path());
        }
        let output = template.env_remove("KUBECONFIG").output().context("helm")?;
        ensure!(output.status.success(), "{}: {}", self.path, String::from_utf8_lossy(&output.stderr));
        let mut text = self.head.to_owned();
        let helms =
            |line: &&str| line.contains("helm.sh/") || line.ends_with("app.kubernetes.io/managed-by: Helm");
        for line in String::from_utf8(output.stdout)?.lines().filter(|line| !helms(line)) {
            if !line.starts_with("# Source: ") {
                text.push_str(line);
                text.push('\n');
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_manifests_are_current() {
        let helm = Tool::Helm.path().unwrap();
        assert_eq!(stale_by(&helm).unwrap(), [""; 0]);
    }
}
