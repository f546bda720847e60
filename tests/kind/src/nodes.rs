//! Ways to do to a node what its owner can do: stop its kubelet, restart its container runtime, pull its plug.
//!
//! A cluster's API has none. kind's nodes are containers of Docker, named as they are; those of the cluster of this repository
//! obey `lockstep-cluster node`. Of any other cluster nobody here owns the nodes, and what takes them is not shown there.

use anyhow::{Context, Result, bail, ensure};
use lockstep_testcluster::workspace_binary;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The order that stops a kubelet,
pub const STOP_KUBELET: &[&str] = &["stop", "kubelet"];
/// and the one that starts it again.
pub const START_KUBELET: &[&str] = &["start", "kubelet"];
/// The order that restarts the container runtime.
pub const RESTART_CONTAINERD: &[&str] = &["restart", "containerd"];
/// The order that takes a node off the network,
pub const UNPLUG: &[&str] = &["unplug"];
/// and the one that brings it back.
pub const PLUG: &[&str] = &["plug"];

/// How nodes are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// Containers of Docker, made by kind.
    Kind,
    /// Those of the cluster of this repository, which keeps its state in this directory.
    Own(PathBuf),
    /// Not at all; why.
    Nobodys(String),
}

impl Nodes {
    /// By what lies beside the kubeconfig, or what it calls the cluster.
    pub fn of(kubeconfig: &Path) -> Self {
        let beside = kubeconfig.parent().filter(|directory| directory.join("cluster.json").is_file());
        if let Some(directory) = beside {
            return Self::Own(directory.to_owned());
        }
        let context = std::fs::read_to_string(kubeconfig).unwrap_or_default();
        let current = context.lines().find_map(|line| line.trim().strip_prefix("current-context:"));
        match current.map(|name| name.trim().trim_matches('"')) {
            Some(name) if name.starts_with("kind-") => Self::Kind,
            name => {
                Self::Nobodys(format!("nobody here owns the nodes of {}", name.unwrap_or("this cluster")))
            }
        }
    }

    /// Why nodes cannot be told anything, if they cannot.
    pub fn why_not(&self) -> Option<String> {
        match self {
            Self::Kind | Self::Own(_) => None,
            Self::Nobodys(why) => Some(why.clone()),
        }
    }

    /// Tells a node to do something.
    ///
    /// # Errors
    /// There is no way to it, or it does not obey.
    pub fn order(&self, node: &str, order: &[&str]) -> Result<()> {
        let mut command = match self {
            Self::Nobodys(why) => bail!("{why}"),
            Self::Own(state) => {
                let mut command = Command::new(workspace_binary("lockstep-cluster"));
                command.arg("--state").arg(state).args(["node", node]).args(order);
                command
            }
            Self::Kind => {
                let mut command = Command::new("docker");
                match order {
                    [what @ ("start" | "stop" | "restart"), service] => {
                        command.args(["exec", node, "systemctl", what, service]);
                    }
                    ["unplug"] => _ = command.args(["network", "disconnect", "kind", node]),
                    ["plug"] => _ = command.args(["network", "connect", "kind", node]),
                    other => bail!("{other:?} is no order to a node"),
                }
                command
            }
        };
        let output = command.output().with_context(|| format!("{command:?} cannot be run"))?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, text.trim());
        Ok(())
    }
}
