//! What a cluster could leave on this machine, or change of it. Others may run clusters at the same time, so everything that
//! is looked for bears the name of the one under test.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Settings of the whole kernel that a kubelet would change.
const SETTINGS: [&str; 7] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
];
/// Places of the system that nodes would use, were their file systems not their own.
const PLACES: [&str; 8] = [
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/local-path",
    "/var/log/pods",
    "/var/log/containers",
    "/run/containerd",
    "/opt/cni",
];
/// How long the kernel may take to let go of what it was told to.
const LIMIT: Duration = Duration::from_secs(20);

/// The settings and places of this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    settings: Vec<String>,
    places: Vec<bool>,
}

impl Machine {
    pub fn seen() -> Self {
        let setting = |name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        Self {
            settings: SETTINGS.map(setting).into(),
            places: PLACES.map(|place| Path::new(place).exists()).into(),
        }
    }
}

/// What bears the name of a cluster.
pub struct Traces {
    state: PathBuf,
    network: u64,
    before: Machine,
}

impl Traces {
    /// Of a cluster that was made, or begun: its settings are written by now.
    pub fn of(state: &Path, before: Machine) -> Self {
        let settings = std::fs::read_to_string(state.join("cluster.json")).unwrap();
        let settings: serde_json::Value = serde_json::from_str(&settings).unwrap();
        Self { state: state.to_owned(), network: settings["network"].as_u64().unwrap(), before }
    }

    /// Fails when anything of it is there, or anything of this machine was changed.
    pub fn assert_gone(&self) {
        let end = Instant::now() + LIMIT;
        loop {
            let left = self.left();
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(Machine::seen(), self.before);
    }

    /// Everything of it that is there.
    pub fn left(&self) -> Vec<String> {
        let state = self.state.to_str().unwrap();
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            // Whoever lives in a machine, down to the processes of its pods, has mounts of its directory.
            let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
            if mounts.contains(state) {
                left.push(format!("process {}", entry.file_name().display()));
            }
        }
        let network = self.network;
        let mut paths = vec![self.state.clone(), format!("/sys/class/net/lockstep{network}").into()];
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let hierarchies = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]);
        paths.extend(hierarchies.map(|hierarchy| hierarchy.join(format!("lockstep-cluster-{network}"))));
        left.extend(paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
        left
    }
}
