//! Preflight's checks of the agent's own machine: open files, memory, clock, limits of the cgroup.
//!
//! Found before any load, because each of them would otherwise show minutes later as something else: too many open
//! files as failed operations, too little memory as a killed agent. Deliberately nothing about the target: its
//! place knows that.

use crate::target::place::Check;
use crate::{clock, cpu};
use lockstep_core::plan::{Plan, StageKind};
use lockstep_core::problem::{Problem, exit};
use rustix::process::{Resource, getrlimit};
use std::collections::BTreeMap;

/// Descriptors that an agent needs beside those of its workers.
const OPEN_FILES_BASE: u64 = 64;
/// Memory that one worker may need: histograms, buffers of 1 MiB, its stack.
const WORKER_BYTES: u64 = 2 << 20;
/// Memory of an agent without workers.
const AGENT_BYTES: u64 = 32 << 20;
/// A clock whose steps are longer than this cannot time an operation, nanoseconds.
const RESOLUTION_MAX_NS: u64 = 1_000_000;

/// Most workers of any stage.
fn workers_max(plan: &Plan) -> u64 {
    let workers = plan.stages.iter().map(|stage| match &stage.kind {
        StageKind::Preflight => 0,
        StageKind::Prepare { concurrency } | StageKind::Cleanup { concurrency, .. } => *concurrency,
        StageKind::Execute(execute) => execute.concurrency,
    });
    u64::from(workers.max().unwrap_or(0))
}

/// All checks of the machine.
#[must_use]
pub fn machine(plan: &Plan) -> Vec<Check> {
    let workers = workers_max(plan);
    vec![open_files(workers), memory(workers), clock_source(), cgroup()]
}

fn open_files(workers: u64) -> Check {
    // A file target holds its base and one file per worker; an object target one or two sockets.
    let needed = OPEN_FILES_BASE + 3 * workers;
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let finding = format!("{limit} may be open, about {needed} needed");
    let problem = (limit < needed).then(|| {
        Problem::new("the agent may not open enough files for its workers", finding.clone())
            .likely("the limit on open files is low, or `concurrency` is high")
            .next(format!("ulimit -n {}", needed.next_power_of_two()))
            .next("lower `concurrency`")
            .exit(exit::REFUSED)
    });
    Check { name: "open-files", finding, problem }
}

fn memory(workers: u64) -> Check {
    let needed = AGENT_BYTES + workers * WORKER_BYTES;
    let available = cpu::machine_memory_bytes().map_or(u64::MAX, |(_, available)| available);
    let limit = cpu::limit_memory_bytes().unwrap_or(u64::MAX).min(available);
    if limit == u64::MAX {
        return Check { name: "memory", finding: "unknown".into(), problem: None };
    }
    let finding = format!("{} MiB available, at most {} MiB needed", limit >> 20, needed >> 20);
    let problem = (limit < needed).then(|| {
        Problem::new("the agent has too little memory for its workers", finding.clone())
            .likely("the pod's memory limit is low, or `concurrency` is high")
            .next("raise the limit, or lower `concurrency`")
            .exit(exit::REFUSED)
    });
    Check { name: "memory", finding, problem }
}

fn clock_source() -> Check {
    let resolution_ns = clock::resolution_ns();
    let path = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = std::fs::read_to_string(path).unwrap_or_else(|_| "unknown".into());
    let finding = format!("steps of {resolution_ns} ns, source {}", source.trim());
    let problem = (resolution_ns > RESOLUTION_MAX_NS).then(|| {
        Problem::new("the machine's clock is too coarse to time operations", finding.clone())
            .likely("the kernel runs without high-resolution timers")
            .exit(exit::REFUSED)
    });
    Check { name: "clock", finding, problem }
}

fn cgroup() -> Check {
    let cpu =
        cpu::limit_millicores().map_or("no limit".into(), |limit| format!("{limit} thousandths of a core"));
    let memory = cpu::limit_memory_bytes().map_or("no limit".into(), |limit| format!("{} MiB", limit >> 20));
    Check { name: "cgroup", finding: format!("CPU: {cpu}; memory: {memory}"), problem: None }
}

/// What the agent runs on, for the environment of a part.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    let name = rustix::system::uname();
    let mut environment = BTreeMap::new();
    let mut set = |key: &str, value: String| environment.insert(key.to_owned(), value);
    set("kernel", format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()));
    set("machine", name.machine().to_string_lossy().into_owned());
    set("agent.version", env!("CARGO_PKG_VERSION").to_owned());
    set("cores", std::thread::available_parallelism().map_or(0, std::num::NonZero::get).to_string());
    if let Some((total, _)) = cpu::machine_memory_bytes() {
        set("memory.bytes", total.to_string());
    }
    if let Some(limit) = cpu::limit_millicores() {
        set("cgroup.cpu.millicores", limit.to_string());
    }
    if let Some(limit) = cpu::limit_memory_bytes() {
        set("cgroup.memory.bytes", limit.to_string());
    }
    environment
}
