//! What the table says about the machine: enough to read ratios by, nothing that names it.

use rustix::time::{ClockId, clock_gettime};

/// Cores that this process may use.
pub fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

/// Load of the last minute, as the kernel counts it; not a number where it does not tell.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(f64::NAN)
}

/// CPU time of this process so far, seconds.
pub fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// One line.
pub fn describe(load_before: f64) -> String {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    format!(
        "{} cores, {} GiB of memory, files on tmpfs; load of the machine {load_before:.1} before, {:.1} after.",
        cores(),
        (memory_kib + (1 << 19)) >> 20,
        load()
    )
}
