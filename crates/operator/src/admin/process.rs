//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::time::{SystemTime, UNIX_EPOCH};

/// What the kernel says of this process; zero where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, user and system, seconds.
    pub cpu_s: f64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// When it began, seconds since 1970.
    pub start_time_s: f64,
}

impl Process {
    /// As of now.
    #[must_use]
    pub fn now() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime_s = uptime.split(' ').next().and_then(|text| text.parse().ok());
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let fds = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let ticks_per_s = rustix::param::clock_ticks_per_second();
        Self {
            open_fds: fds as u64,
            ..Self::of(
                &read("stat"),
                ticks_per_s,
                rustix::param::page_size(),
                (now_s, uptime_s.unwrap_or(0.0)),
            )
        }
    }

    /// Of the text of `/proc/self/stat`; see proc_pid_stat(5). `clock`: now, and how long the machine is up.
    fn of(stat: &str, ticks_per_s: u64, page_bytes: usize, (now_s, uptime_s): (f64, f64)) -> Self {
        // The name before the last parenthesis may hold spaces; what follows begins with the third field.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or(Vec::new(), |(_, fields)| fields.split_whitespace().collect());
        let field =
            |number: usize| fields.get(number - 3).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let seconds = |ticks: u64| ticks as f64 / ticks_per_s.max(1) as f64;
        Self {
            cpu_s: seconds(field(14) + field(15)),
            resident_bytes: field(24) * page_bytes as u64,
            threads: field(20),
            open_fds: 0,
            start_time_s: now_s - uptime_s + seconds(field(22)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1000 9000000 300 0 0 0";
        let seen = Process::of(stat, 100, 4_096, (5_000.0, 60.0));
        assert_eq!((seen.cpu_s, seen.resident_bytes, seen.threads), (3.0, 300 * 4_096, 9));
        assert!((seen.start_time_s - 4_950.0).abs() < 1e-6, "{seen:?}");
        let own = Process::now();
        assert!(own.resident_bytes > 1_000_000 && own.threads >= 1 && own.open_fds > 2, "{own:?}");
    }
}
