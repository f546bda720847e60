//! What the agent uses of its machine: CPU time, memory, cgroup limits and throttling.
//!
//! Exists so that a result can say when the client, and not the storage, set the pace. Reads `/proc` and
//! `/sys/fs/cgroup` at the beginning and end of a stage; deliberately nothing per operation. What cannot be read is
//! zero or `None`: a missing file is a property of the machine and never an error.

use std::fs;

/// A reading of the agent's own use. Differences of two readings mean something; the absolute values do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of this process, user and system, nanoseconds.
    pub cpu_ns: u64,
    /// All cores of the machine in user mode, nanoseconds, in the kernel's ticks (usually 10 ms).
    pub machine_user_ns: u64,
    /// All cores of the machine in the kernel, interrupts included, nanoseconds, in ticks.
    pub machine_system_ns: u64,
    /// All cores of the machine idle with I/O outstanding, nanoseconds, in ticks.
    pub machine_iowait_ns: u64,
    /// How long the cgroup's CPU limit held threads back, nanoseconds.
    pub throttled_ns: u64,
    /// How often it did.
    pub throttled_periods: u64,
    /// Resident memory now, bytes.
    pub resident_bytes: u64,
}

impl Usage {
    /// Reads everything.
    #[must_use]
    pub fn read() -> Self {
        let tick_ns = 1_000_000_000 / u64::from(ticks_per_second());
        let [user, nice, system, _idle, iowait, irq, softirq] = machine_ticks().unwrap_or_default();
        let (throttled_periods, throttled_ns) = throttling().unwrap_or_default();
        Self {
            cpu_ns: crate::clock::process_cpu_ns(),
            machine_user_ns: (user + nice) * tick_ns,
            machine_system_ns: (system + irq + softirq) * tick_ns,
            machine_iowait_ns: iowait * tick_ns,
            throttled_ns,
            throttled_periods,
            resident_bytes: resident_bytes().unwrap_or_default(),
        }
    }

    /// What was used since an `earlier` reading; memory is the later value.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            machine_user_ns: self.machine_user_ns.saturating_sub(earlier.machine_user_ns),
            machine_system_ns: self.machine_system_ns.saturating_sub(earlier.machine_system_ns),
            machine_iowait_ns: self.machine_iowait_ns.saturating_sub(earlier.machine_iowait_ns),
            throttled_ns: self.throttled_ns.saturating_sub(earlier.throttled_ns),
            throttled_periods: self.throttled_periods.saturating_sub(earlier.throttled_periods),
            resident_bytes: self.resident_bytes,
        }
    }
}

/// CPU limit of the cgroup in thousandths of a core, where there is one.
#[must_use]
pub fn limit_millicores() -> Option<u64> {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok()?;
    let mut fields = text.split_ascii_whitespace();
    let quota: u64 = fields.next()?.parse().ok()?;
    let period: u64 = fields.next()?.parse().ok()?;
    (quota * 1000).checked_div(period)
}

/// Memory limit of the cgroup in bytes, where there is one.
#[must_use]
pub fn limit_memory_bytes() -> Option<u64> {
    fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()
}

/// Memory of the machine in bytes, and how much of it is available.
#[must_use]
pub fn machine_memory_bytes() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    Some((field("MemTotal:")?, field("MemAvailable:")?))
}

/// Resident memory of this process in bytes.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1)
}

/// Ticks of all cores: user, nice, system, idle, iowait, irq, softirq.
fn machine_ticks() -> Option<[u64; 7]> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let mut fields = text.lines().next()?.split_ascii_whitespace().skip(1);
    let mut ticks = [0; 7];
    for tick in &mut ticks {
        *tick = fields.next()?.parse().ok()?;
    }
    Some(ticks)
}

/// Throttled periods and nanoseconds of the cgroup (version 2).
fn throttling() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/sys/fs/cgroup/cpu.stat").ok()?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some((field("nr_throttled ")?, field("throttled_usec ")? * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_work_shows_as_cpu_time() {
        let before = Usage::read();
        let until_ns = crate::clock::process_cpu_ns() + 5_000_000;
        while crate::clock::process_cpu_ns() < until_ns {
            std::hint::spin_loop();
        }
        let used = Usage::read().since(&before);
        assert!(used.cpu_ns >= 5_000_000, "{used:?}");
        assert!(used.resident_bytes > 1 << 16, "{used:?}");
    }
}
