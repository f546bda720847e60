//! The programs of the cluster: built from Go modules (`lockstep_testcluster::Tool`), or taken out of Debian packages.
//!
//! containerd, runc, the CNI plugins, nftables and busybox come from the packages of the distribution, unpacked into the
//! cache and not installed: nothing of the system changes. What was unpacked is named after a hash of what apt would
//! download, so an update of the distribution is another directory. Libraries that the system may lack lie beside, and
//! only `nft` is started with them.

use crate::machine::expect;
use anyhow::{Context, Result};
use lockstep_core::problem::Problem;
use lockstep_testcluster::{Tool, cache};
use sha2::{Digest, Sha256};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages that are unpacked: the programs, and the libraries of `nft`.
const PACKAGES: [&str; 13] = [
    "busybox-static",
    "containerd",
    "containernetworking-plugins",
    "libedit2",
    "libgmp10",
    "libjansson4",
    "libmnl0",
    "libnftables1",
    "libnftnl11",
    "libseccomp2",
    "libxtables12",
    "nftables",
    "runc",
];

/// Where the programs are.
pub(crate) struct Programs {
    pub etcd: PathBuf,
    pub api_server: PathBuf,
    pub controller_manager: PathBuf,
    pub scheduler: PathBuf,
    pub kubectl: PathBuf,
    pub kubelet: PathBuf,
    pub proxy: PathBuf,
    pub coredns: PathBuf,
    pub local_path: PathBuf,
    pub pod: PathBuf,
    pub packages: Packages,
}

/// What was unpacked.
pub(crate) struct Packages {
    directory: PathBuf,
}

impl Programs {
    /// All of them; what is missing is built or fetched first.
    pub(crate) fn get() -> Result<Self> {
        Ok(Self {
            packages: Packages::get()?,
            pod: Tool::Pod.path()?,
            etcd: Tool::Etcd.path()?,
            api_server: Tool::ApiServer.path()?,
            controller_manager: Tool::ControllerManager.path()?,
            scheduler: Tool::Scheduler.path()?,
            kubectl: Tool::Kubectl.path()?,
            kubelet: Tool::Kubelet.path()?,
            proxy: Tool::Proxy.path()?,
            coredns: Tool::CoreDns.path()?,
            local_path: Tool::LocalPath.path()?,
        })
    }
}

impl Packages {
    fn get() -> Result<Self> {
        let listed = Command::new("apt-get").args(["download", "--print-uris"]).args(PACKAGES).output();
        let listed = listed.map_err(anyhow::Error::from).and_then(|output| expect("apt-get", &output));
        let listed = listed.map_err(|error| problem(&format!("{error:#}")))?;
        let hash: String = Sha256::digest(&listed).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let directory = cache().join(format!("cluster-packages-{hash}"));
        if !directory.is_dir() {
            eprintln!("cluster: fetching {} packages into {}", PACKAGES.len(), directory.display());
            unpack(&directory).map_err(|error| problem(&format!("{error:#}")))?;
        }
        Ok(Self { directory })
    }

    /// Directory with links to what is started by name: containerd and its shim, runc, nft, the programs of CNI apart.
    pub(crate) fn bin(&self) -> PathBuf {
        self.directory.join("bin")
    }

    /// Directory of the CNI plugins.
    pub(crate) fn cni(&self) -> PathBuf {
        self.directory.join("usr/lib/cni")
    }

    /// busybox, static.
    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| self.directory.join(place));
        places.into_iter().find(|place| place.is_file()).context("busybox-static holds no busybox")
    }
}

/// Unpacks into a directory that is there in one step, or not.
fn unpack(directory: &Path) -> Result<()> {
    let fresh = directory.with_extension(format!("{}.new", std::process::id()));
    let downloads = fresh.join("downloads");
    std::fs::create_dir_all(&downloads)?;
    // apt fetches as a user of its own, who may not read everybody's cache; root may.
    let mut apt = Command::new("apt-get");
    apt.args(["download", "--quiet=2", "--option=APT::Sandbox::User=root"]).args(PACKAGES);
    expect("apt-get download", &apt.current_dir(&downloads).output()?)?;
    for package in std::fs::read_dir(&downloads)? {
        let package = package?.path();
        let unpacked = Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&fresh).output()?;
        expect(&format!("dpkg-deb of {}", package.display()), &unpacked)?;
    }
    std::fs::remove_dir_all(&downloads)?;
    let bin = fresh.join("bin.new");
    std::fs::create_dir(&bin)?;
    for program in ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc"] {
        let program = Path::new(program);
        anyhow::ensure!(fresh.join(program).is_file(), "no package holds {}", program.display());
        symlink(Path::new("..").join(program), bin.join(program.file_name().context("a name")?))?;
    }
    let nft = format!(
        "#!/bin/sh\nhere={}\nfor library in \"$here\"/usr/lib/*/libnftables.so.1; do\n    \
         LD_LIBRARY_PATH=${{library%/*}} exec \"$here/usr/sbin/nft\" \"$@\"\ndone\n",
        directory.display()
    );
    std::fs::write(bin.join("nft"), nft)?;
    std::fs::set_permissions(bin.join("nft"), std::fs::Permissions::from_mode(0o755))?;
    // A package of an old layout may have brought a `bin`.
    if fresh.join("bin").is_dir() {
        for entry in std::fs::read_dir(fresh.join("bin"))? {
            let entry = entry?;
            std::fs::rename(entry.path(), bin.join(entry.file_name()))?;
        }
        std::fs::remove_dir(fresh.join("bin"))?;
    }
    std::fs::rename(&bin, fresh.join("bin"))?;
    match std::fs::rename(&fresh, directory) {
        // Whoever was quicker has the same.
        Err(_) if directory.is_dir() => Ok(std::fs::remove_dir_all(&fresh)?),
        other => Ok(other?),
    }
}

fn problem(cause: &str) -> Problem {
    Problem::new("The cluster needs programs of Debian packages, and they cannot be had", cause)
        .likely("this is neither Debian nor Ubuntu, whose packages are unpacked (not installed) for this")
        .likely("apt has no lists yet, or no way to its mirror")
        .next("apt-get update")
        .next(format!("apt-get download {}", PACKAGES.join(" ")))
}
