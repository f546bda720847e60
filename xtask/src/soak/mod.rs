//! `cargo xtask soak`: what takes minutes because its point is real time: defaults that are a minute long, runs that
//! lose an agent again and again, two hundred agents at once.
//!
//! Tests in CI shorten these spans; here they are what users get. Every check has a limit, starts real processes
//! through the test kit, and leaves nothing behind. What measures time on a machine's few cores goes first and alone; the others mostly wait, and do so side by side.
//!
//! | check | what must hold |
//! |---|---|
//! | `start-skew` | 200 agents begin within the default of `start.maxSkew`, and the run is not degraded |
//! | `disconnect-20s`, `disconnect-40s` | an agent that is cut off for so long comes back as if nothing had been |
//! | `orphan-grace` | an agent that is cut off for good ends by itself, with exit code 70, after the local default of 60 s |
//! | `hundred-runs` | the operator brings 100 runs at once with 2 agents each through, none Disconnected, in few writes |
//! | `crowded` | among 10,000 finished runs and 20,000 foreign pods it idles, writes nothing, and serves |
//! | `outage-30s`, `outage-3m`, `outage-10m` | the API server is gone for so long, etcd compacted: the run goes on, status is current at once |
//! | `operator-idle` | the operator without runs writes nothing but its Lease for a minute |
//! | `losses` | with an agent killed every minute, each is replaced, and the run ends in order |

mod checks;
mod detour;
mod operator;

use anyhow::{Context, Result, bail, ensure};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// What a check found: text for the table, or what is wrong.
type Found = Result<String>;

/// One check.
struct Check {
    name: &'static str,
    run: fn(&Machine) -> Found,
}

/// What checks are run with.
struct Machine {
    lockstep: PathBuf,
    agent: PathBuf,
    minutes: u64,
}

const ALONE: [Check; 3] = [
    Check { name: "start-skew", run: checks::start_skew },
    Check { name: "hundred-runs", run: |_| checks::scale("hundred") },
    Check { name: "crowded", run: |_| checks::scale("crowded") },
];
const TOGETHER: [Check; 8] = [
    Check { name: "disconnect-20s", run: |machine| checks::disconnect(machine, Duration::from_secs(20)) },
    Check { name: "disconnect-40s", run: |machine| checks::disconnect(machine, Duration::from_secs(40)) },
    Check { name: "orphan-grace", run: checks::orphan_grace },
    Check { name: "losses", run: checks::losses },
    Check { name: "operator-idle", run: |_| operator::idle() },
    Check { name: "outage-30s", run: |_| operator::outage(Duration::from_secs(30)) },
    Check { name: "outage-3m", run: |_| operator::outage(Duration::from_secs(180)) },
    Check { name: "outage-10m", run: |_| operator::outage(Duration::from_secs(600)) },
];

/// A line of the table.
struct Line {
    name: &'static str,
    found: Found,
    took: Duration,
}

/// Runs what was asked for, and prints a table.
///
/// # Errors
/// When a check fails, or nothing can be built.
pub fn run(arguments: &[&str]) -> Result<()> {
    let (mut only, mut minutes) = (Vec::new(), 10);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match *argument {
            "--only" => only.push(*arguments.next().context("--only needs a name")?),
            "--minutes" => minutes = arguments.next().context("--minutes needs a number")?.parse()?,
            other => bail!("`{other}` is unknown; usage: cargo xtask soak [--minutes N] [--only NAME]..."),
        }
    }
    let known = |name: &&str| ALONE.iter().chain(&TOGETHER).any(|check| check.name == *name);
    ensure!(only.iter().all(known), "one of {only:?} is unknown; see xtask/src/soak/mod.rs");
    let machine = Machine { minutes, ..built()? };
    let wanted = |check: &&Check| only.is_empty() || only.contains(&check.name);
    let mut lines: Vec<Line> = ALONE.iter().filter(wanted).map(|check| line(check, &machine)).collect();
    lines.extend(std::thread::scope(|scope| {
        let machine = &machine;
        let started: Vec<_> =
            TOGETHER.iter().filter(wanted).map(|check| scope.spawn(move || line(check, machine))).collect();
        started.into_iter().filter_map(|thread| thread.join().ok()).collect::<Vec<_>>()
    }));
    println!();
    for Line { name, found, took } in &lines {
        match found {
            Ok(text) => println!("PASS  {name:<16} {:>4} s  {text}", took.as_secs()),
            Err(error) => println!("FAIL  {name:<16} {:>4} s  {error:#}", took.as_secs()),
        }
    }
    let failed = lines.iter().filter(|line| line.found.is_err()).count();
    ensure!(failed == 0, "{failed} of {} checks failed", lines.len());
    Ok(())
}

/// The test kit fails by panicking; here a panic is a line of the table like any other.
fn line(check: &Check, machine: &Machine) -> Line {
    eprintln!("  {} begins", check.name);
    let start = Instant::now();
    let found = catch_unwind(AssertUnwindSafe(|| (check.run)(machine))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
        Err(anyhow::anyhow!("{text}"))
    });
    Line { name: check.name, found, took: start.elapsed() }
}

/// Builds the binaries, and finds them beside this one.
fn built() -> Result<Machine> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let this = std::env::current_exe()?;
    let directory = this.parent().context("a directory")?;
    let mut build = vec!["build", "--quiet", "--workspace", "--bins"];
    if directory.file_name().is_some_and(|name| name == "release") {
        build.push("--release");
    }
    let status = Command::new("cargo").args(build).current_dir(root).status().context("cargo")?;
    ensure!(status.success(), "the build failed");
    let (lockstep, agent) = (directory.join("lockstep"), directory.join("lockstep-agent"));
    Ok(Machine { lockstep, agent, minutes: 0 })
}
