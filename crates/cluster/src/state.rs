//! The state directory: the only truth about what was made.
//!
//! | path | what |
//! |---|---|
//! | `cluster.json` | settings and the number of the network, written before anything is made |
//! | `ready` | it was up once, with these settings |
//! | `kubeconfig` | the admin's |
//! | `control/`, `node-1/`, ... | a machine each: `init` (its first process), `var/` (its disk, with `var/log/*.log`) |
//! | `shared/` | a directory that all machines see as `/var/lib/shared` |
//!
//! The directory is locked (flock on itself) by whoever makes or removes something, so that a machine that is on its way
//! is written down before anybody else looks.

use anyhow::{Context, Result, bail};
use lockstep_core::problem::Problem;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How a cluster differs from any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Which of the networks 198.18.0.0/24 to 198.18.255.0/24 is its own.
    pub network: u8,
    /// Nodes beside the control plane.
    pub nodes: u8,
    /// Silence of a node after which it counts as unreachable.
    pub node_grace_s: u64,
    /// How long pods tolerate an unreachable node.
    pub toleration_s: u64,
}

/// The directory, which need not exist.
pub(crate) struct State {
    directory: PathBuf,
}

/// Held while something is made or removed. Whoever is given a copy of the file holds it too.
pub(crate) struct Lock(pub File);

impl State {
    pub(crate) fn new(directory: PathBuf) -> Self {
        // What runs in the machines knows it by this name, wherever this process was started.
        Self { directory: std::path::absolute(&directory).unwrap_or(directory) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.join("kubeconfig")
    }

    /// Makes the directory, and locks it.
    pub(crate) fn create(&self) -> Result<Lock> {
        loop {
            std::fs::create_dir_all(&self.directory)
                .with_context(|| format!("failed to make {}", self.directory.display()))?;
            if let Some(lock) = self.lock()? {
                return Ok(lock);
            }
        }
    }

    /// Locks the directory; none if there is none.
    pub(crate) fn lock(&self) -> Result<Option<Lock>> {
        let file = match File::open(&self.directory) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("failed to open {}", self.directory.display()));
            }
        };
        if file.try_lock().is_err() {
            eprintln!("cluster: waiting for another lockstep-cluster that is at work");
            file.lock().context("failed to lock the state directory")?;
        }
        // Whoever had it before may have removed the directory.
        let is_same = |now: std::fs::Metadata| {
            file.metadata().is_ok_and(|then| (then.dev(), then.ino()) == (now.dev(), now.ino()))
        };
        Ok(std::fs::metadata(&self.directory).is_ok_and(is_same).then_some(Lock(file)))
    }

    /// The settings of the cluster that was made or begun; none if there is none.
    pub(crate) fn settings(&self) -> Result<Option<Settings>> {
        match std::fs::read(self.directory.join("cluster.json")) {
            Ok(bytes) => {
                let settings = serde_json::from_slice(&bytes);
                Ok(Some(settings.context("cluster.json is not what this version writes")?))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("failed to read cluster.json"),
        }
    }

    pub(crate) fn write_settings(&self, settings: &Settings) -> Result<()> {
        self.write("cluster.json", &serde_json::to_vec_pretty(settings)?)
    }

    /// The settings of a cluster that must be there.
    pub(crate) fn existing(&self) -> Result<Settings> {
        if let Some(settings) = self.settings()? {
            return Ok(settings);
        }
        let cause = format!("{} holds none", self.directory.display());
        Err(Problem::new("There is no cluster", cause)
            .likely("it was never started, or it is elsewhere (--state, LOCKSTEP_CLUSTER)")
            .next("make cluster-up")
            .into())
    }

    /// Gives the user a copy of the admin's kubeconfig, which stays valid for as long as the cluster is there.
    pub(crate) fn write_kubeconfig(&self, from: &Path) -> Result<()> {
        std::fs::copy(from, self.kubeconfig()).map(drop).context("failed to write the kubeconfig")
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.directory.join("ready").exists()
    }

    pub(crate) fn write_ready(&self) -> Result<()> {
        self.write("ready", b"")
    }

    /// Writes a file in one step.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let (path, fresh) = (self.directory.join(name), self.directory.join(format!("{name}.new")));
        std::fs::write(&fresh, content)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// Removes the directory, in which nothing may be mounted any more.
    pub(crate) fn remove(&self, _lock: &Lock) -> Result<()> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        if let Some(mount) = mounted.map(Path::new).find(|mount| mount.starts_with(&self.directory)) {
            bail!("{} is mounted, by somebody else: unmount it first", mount.display());
        }
        std::fs::remove_dir_all(&self.directory)
            .with_context(|| format!("failed to remove {}", self.directory.display()))
    }
}
