//! What this machine must have for pods to run on it, found once.

use super::sandbox::quote;
use anyhow::Result;
use lockstep_core::problem::Problem;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Directories that containers get otherwise, or not at all.
const NOT_SHARED: [&str; 4] = ["/dev", "/tmp", "/run", "/boot"];

/// This machine.
pub(super) static MACHINE: LazyLock<Machine> = LazyLock::new(Machine::look);

/// Tools and mounts of this machine.
pub(super) struct Machine {
    directories: Vec<PathBuf>,
    /// Mount points in `/` that the overlay does not show by itself: `/proc`, `/sys`, and often `/usr` or `/home`.
    pub mounts: Vec<String>,
}

impl Machine {
    fn look() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
        // Not in everybody's PATH, and where chroot often is.
        directories.extend(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut mounts: Vec<String> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|point| point.len() > 1 && point.matches('/').count() == 1 && Path::new(point).is_dir())
            .filter(|point| !NOT_SHARED.contains(point) && !point.contains('\\'))
            .map(ToOwned::to_owned)
            .collect();
        mounts.sort();
        mounts.dedup();
        Self { directories, mounts }
    }

    /// Absolute path of a tool.
    pub(super) fn tool(&self, name: &str) -> Result<PathBuf> {
        let found = self.directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
        Ok(found.ok_or_else(|| {
            Problem::new(
                "These tests run pods as local processes, which this machine cannot",
                format!("there is no `{name}`"),
            )
            .likely("util-linux or coreutils is not installed, as in a minimal container image")
            .next(
                "install util-linux and coreutils (unshare, nsenter, setpriv, mount, chroot, env, realpath)",
            )
        })?)
    }

    /// A tool as a word for a shell.
    pub(super) fn quoted(&self, name: &str) -> String {
        quote(&self.tool(name).unwrap_or_else(|_| PathBuf::from(name)).display().to_string())
    }

    /// Fails, saying what to do, where pods cannot be run.
    pub(super) fn check(&self) -> Result<()> {
        for tool in ["unshare", "nsenter", "setpriv", "mount", "chroot", "env", "realpath"] {
            self.tool(tool)?;
        }
        let mut probe = std::process::Command::new(self.tool("unshare")?);
        probe.args(["--mount", "--uts", "--propagation", "private", "/bin/sh", "-c"]);
        probe.arg("mount -t tmpfs none /tmp && mkdir /tmp/u /tmp/w /tmp/r && mount -t overlay -o lowerdir=/,upperdir=/tmp/u,workdir=/tmp/w o /tmp/r");
        let output = probe.output()?;
        if output.status.success() {
            return Ok(());
        }
        let problem = Problem::new(
            "These tests run pods as local processes, which this machine does not allow",
            String::from_utf8_lossy(&output.stderr).trim(),
        );
        Err(problem
            .likely("they run without root: mounts and users of pods need it")
            .likely("they run in a container without CAP_SYS_ADMIN, or on a kernel without overlayfs")
            .next("run them as root, or give the container CAP_SYS_ADMIN (docker run --privileged)")
            .into())
    }
}
