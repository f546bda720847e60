//! Files of this repository that are made from its types, so that they cannot say something else: written, or held
//! against what they should be.

use crate::{crds, pages, plain, values};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// One such file.
struct Generated {
    /// Below the repository's root.
    path: &'static str,
    render: fn() -> Result<String>,
}

const GENERATED: [Generated; 7] = [
    Generated { path: "deploy/crds/lockstep.dev_benchmarkruns.yaml", render: crds::render },
    // A chart reads no file outside of itself.
    Generated { path: "deploy/helm/lockstep/files/crd.yaml", render: crds::render },
    Generated { path: "docs/manifest.md", render: pages::manifest::render },
    Generated { path: "docs/resource.md", render: pages::resource::render },
    Generated { path: "docs/status.md", render: pages::status::render },
    Generated { path: "docs/security.md", render: pages::security::render },
    Generated { path: "docs/values.md", render: values::render },
];

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Writes all of them.
///
/// # Errors
/// One that cannot be made or written.
pub fn write() -> Result<()> {
    for Generated { path, render } in GENERATED {
        std::fs::write(file(path), render()?).with_context(|| format!("cannot write {path}"))?;
    }
    // Last: it reads what was written, and may lack a helm.
    plain::write()
}

/// Those that are not what [`write`] would make of them, each with what is wrong.
///
/// # Errors
/// One that cannot be made or read.
pub fn stale() -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for Generated { path, render } in GENERATED {
        let found = std::fs::read_to_string(file(path)).with_context(|| format!("cannot read {path}"))?;
        if found != render()? {
            stale.push(format!("{path} is stale: run `cargo xtask crds`"));
        }
    }
    stale.extend(plain::stale()?);
    Ok(stale)
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_files_are_current() {
        assert_eq!(super::stale().unwrap(), [""; 0]);
    }
}
