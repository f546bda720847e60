//! A cluster for the occasion, where none is named: made before, and removed after, also when somebody interrupts.

use anyhow::{Context, Result, ensure};
use lockstep_testcluster::workspace_binary;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Not where `make cluster-up` has its own, which is somebody's.
const STATE: &str = "/var/lib/lockstep-e2e";

/// One for the storage, one for whoever answers for names, and one that may go.
const NODES: &str = "3";

/// A running cluster. Removed when dropped.
pub struct Cluster {
    kubeconfig: PathBuf,
    is_up: bool,
}

impl Cluster {
    /// Makes one, with an image of this checkout in every node.
    ///
    /// # Errors
    /// What `lockstep-cluster` says.
    pub fn up(image: &Path) -> Result<Self> {
        let cluster = Self { kubeconfig: Path::new(STATE).join("kubeconfig"), is_up: true };
        std::thread::spawn(removed_when_interrupted);
        order(Command::new(program()).args(["up", "--nodes", NODES, "--image"]).arg(image))?;
        Ok(cluster)
    }

    /// Its admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Removes it.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn down(mut self) -> Result<()> {
        self.is_up = false;
        order(Command::new(program()).arg("down"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.is_up
            && let Err(error) = order(Command::new(program()).arg("down"))
        {
            eprintln!("{error:#}");
        }
    }
}

/// A Ctrl-C, or a CI that has lost patience, removes the cluster too.
fn removed_when_interrupted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(mut asked) = signal(SignalKind::terminate()) else { return };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = asked.recv() => {}
        }
    });
    eprintln!("interrupted: the cluster is removed");
    let removed = order(Command::new(program()).arg("down"));
    std::process::exit(if removed.is_ok() { 130 } else { 1 });
}

fn program() -> PathBuf {
    workspace_binary("lockstep-cluster")
}

fn order(command: &mut Command) -> Result<()> {
    command.env("LOCKSTEP_CLUSTER", STATE);
    let status = command.status().with_context(|| format!("{command:?} cannot be run"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
