//! What this machine has, as far as a cluster could change it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Settings of the whole kernel that a kubelet would change, and places of the system that it would use.
const SETTINGS: [&str; 7] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
];
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
/// Until a network namespace that nobody is in is gone.
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    namespaces: BTreeSet<String>,
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    settings: Vec<String>,
    places: Vec<bool>,
}

impl Machine {
    pub fn seen() -> Self {
        let setting = |name| std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
        Self {
            namespaces: namespaces(),
            mounts: std::fs::read_to_string("/proc/self/mounts")
                .unwrap()
                .lines()
                .map(str::to_owned)
                .collect(),
            links: names("/sys/class/net"),
            cgroups: cgroups(),
            settings: SETTINGS.map(setting).into(),
            places: PLACES.map(|place| Path::new(place).exists()).into(),
        }
    }

    /// Fails when there is anything that was not there before; the kernel may take a moment to let go.
    pub fn assert_same(mut self, before: &Self) {
        let end = Instant::now() + LIMIT;
        loop {
            let fresh = |now: &BTreeSet<String>, then: &BTreeSet<String>| -> Vec<String> {
                now.difference(then).cloned().collect()
            };
            let left = [
                ("namespaces", fresh(&self.namespaces, &before.namespaces)),
                ("mounts", fresh(&self.mounts, &before.mounts)),
                ("links", fresh(&self.links, &before.links)),
                ("cgroups", fresh(&self.cgroups, &before.cgroups)),
            ];
            if left.iter().all(|(_, left)| left.is_empty()) {
                break;
            }
            assert!(Instant::now() < end, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(100));
            self = Self::seen();
        }
        assert_eq!((&self.settings, &self.places), (&before.settings, &before.places));
    }
}

fn names(directory: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Namespaces that a machine is made of, by those who are in them.
fn namespaces() -> BTreeSet<String> {
    let links = names("/proc")
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok())
        .flat_map(|id| ["net", "pid"].map(|kind| std::fs::read_link(format!("/proc/{id}/ns/{kind}")).ok()));
    links.flatten().map(|link| link.to_string_lossy().into_owned()).collect()
}

/// Cgroups of clusters, in the hierarchies of v1 and in that of v2.
fn cgroups() -> BTreeSet<String> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies =
        names("/sys/fs/cgroup").into_iter().map(|name| root.join(name)).filter(|path| path.is_dir());
    let below = hierarchies
        .chain([root.to_owned()])
        .filter_map(|path| std::fs::read_dir(path).ok())
        .flatten()
        .flatten();
    let paths = below.map(|entry| entry.path().to_string_lossy().into_owned());
    paths.filter(|path| path.contains("lockstep-cluster")).collect()
}
