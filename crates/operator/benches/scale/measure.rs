//! CPU and memory of a process, and what it asked of the API server meanwhile.

use super::Cluster;
use std::time::{Duration, Instant};

/// A process at an instant.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    cpu_s: f64,
    /// Resident memory, MiB.
    pub resident_mib: f64,
    /// The most that it ever was, MiB.
    pub peak_mib: f64,
}

impl Sample {
    /// Cores in use since `before`.
    pub fn cores_since(&self, before: &Self) -> f64 {
        (self.cpu_s - before.cpu_s) / (self.at - before.at).as_secs_f64()
    }
}

/// A process as the kernel sees it.
pub fn sample(process: u32) -> Sample {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).expect("it runs");
    let (stat, status) = (read("stat"), read("status"));
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a stat line").1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().trim_end_matches("kB").trim().parse::<f64>().expect(name)
    };
    Sample {
        at: Instant::now(),
        cpu_s: (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64,
        resident_mib: kib("VmRSS:") / 1024.0,
        peak_mib: kib("VmHWM:") / 1024.0,
    }
}

/// What was seen of the operator over a while.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Cores in use.
    pub cores: f64,
    /// At the end.
    pub sample: Sample,
    /// Writes to the API server per minute, without Leases.
    pub writes_per_minute: f64,
    /// What they were, the most frequent first.
    pub rights: Vec<(String, usize)>,
    /// Growth of etcd's data in use, MiB per hour; of all that the cluster does.
    pub etcd_mib_per_hour: f64,
}

/// Looks at the operator for so long.
pub async fn look(cluster: &Cluster, span: Duration) -> Seen {
    let process = cluster.operator();
    let writes = || {
        let user = cluster.user();
        let all = cluster.plane.audit().into_iter();
        let ours = all.filter(|entry| entry.user == user && entry.is_write());
        // What authenticates agents changes nothing.
        let ours = ours.filter(|entry| entry.resource != "leases" && entry.resource != "tokenreviews");
        ours.map(|entry| entry.right()).collect::<Vec<_>>()
    };
    let (before, known, etcd) = (sample(process), writes().len(), cluster.plane.etcd_size_bytes().1);
    tokio::time::sleep(span).await;
    let after = sample(process);
    let mut rights: Vec<(String, usize)> = Vec::new();
    let all = writes();
    for right in &all[known.min(all.len())..] {
        match rights.iter_mut().find(|(name, _)| name == right) {
            Some((_, count)) => *count += 1,
            None => rights.push((right.clone(), 1)),
        }
    }
    rights.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let minutes = span.as_secs_f64() / 60.0;
    let grown = cluster.plane.etcd_size_bytes().1 as f64 - etcd as f64;
    Seen {
        cores: after.cores_since(&before),
        sample: after,
        writes_per_minute: (all.len() - known.min(all.len())) as f64 / minutes,
        rights,
        etcd_mib_per_hour: grown / f64::from(1 << 20) / (minutes / 60.0),
    }
}
