//! The cgroups below which the pods of nodes are: `/lockstep-cluster-N/node-K`, in one hierarchy (v2) or in each (v1).
//!
//! Only those of pods: the daemons stay where they were started. On v2 the controllers are handed down, as kubelets expect.

use crate::state::Settings;
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";
/// How long the kernel may take to let go of a cgroup whose last process was killed.
const LIMIT: Duration = Duration::from_secs(20);

/// What a node's kubelet is told.
pub(crate) fn of_node(settings: &Settings, node: &str) -> String {
    format!("/{}/{node}", base(settings))
}

fn base(settings: &Settings) -> String {
    format!("lockstep-cluster-{}", settings.network)
}

/// The hierarchies of this machine, and whether it is the one of v2.
fn hierarchies() -> Result<(Vec<PathBuf>, bool)> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok((vec![PathBuf::from(ROOT)], true));
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    // Beside those of v1 there may be that of v2, without controllers; runc makes cgroups in it all the same.
    let of_v1 = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(path))
    });
    Ok((of_v1.collect(), false))
}

/// Makes those of a node.
pub(crate) fn make(settings: &Settings, node: &str) -> Result<()> {
    let (hierarchies, is_v2) = hierarchies()?;
    ensure!(!hierarchies.is_empty(), "no cgroups are mounted on {ROOT}");
    for hierarchy in hierarchies {
        let base = hierarchy.join(base(settings));
        let path = base.join(node);
        std::fs::create_dir_all(&path).with_context(|| format!("failed to make {}", path.display()))?;
        if is_v2 {
            for parent in [&hierarchy, &base] {
                hand_down(parent)?;
            }
        }
    }
    Ok(())
}

/// Gives the children of a cgroup the controllers that it has.
fn hand_down(parent: &Path) -> Result<()> {
    let controllers = std::fs::read_to_string(parent.join("cgroup.controllers"))?;
    for controller in controllers.split_whitespace() {
        let control = parent.join("cgroup.subtree_control");
        std::fs::write(&control, format!("+{controller}"))
            .with_context(|| format!("failed to write +{controller} to {}", control.display()))?;
    }
    Ok(())
}

/// Removes all of them. Their processes must have ended.
pub(crate) fn remove(settings: &Settings) -> Result<()> {
    for hierarchy in hierarchies()?.0 {
        let base = hierarchy.join(base(settings));
        let mut last = Ok(());
        let is_gone = wait::until(LIMIT, || {
            last = remove_tree(&base);
            !base.exists()
        });
        ensure!(is_gone, "{} cannot be removed: {last:?}", base.display());
    }
    Ok(())
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        // Files of a cgroup go with it.
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(path)
}
