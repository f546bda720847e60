//! A run of real processes whose network a test can make worse, and what it said and left behind.
//!
//! Agents are started by `lockstep` itself. A wrapper in their place can send their connections through a
//! [`Front`], which the test puts between them and the coordinator.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use lockstep_testkit::process::{Dir, Running, children_of, wait_until};
use lockstep_testkit::proxy::Proxy;
use lockstep_testkit::s3::{ACCESS_KEY, SECRET_KEY, TestS3};
use rustix::process::Pid;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a run may take to say what is waited for.
pub const SOON: Duration = Duration::from_secs(30);

/// A directory in which `lockstep` runs.
pub struct Lab {
    pub dir: Dir,
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: Dir::new(env!("CARGO_BIN_EXE_lockstep")) }
    }

    /// Starts `lockstep run` on a manifest.
    pub fn run(&self, manifest: &str, args: &[&str]) -> Running {
        self.run_with(manifest, args, &self.dir.beside("lockstep-agent"))
    }

    /// The same with another program in the agents' place.
    pub fn run_with(&self, manifest: &str, args: &[&str], agent: &std::path::Path) -> Running {
        let file = self.dir.write("run.yaml", manifest);
        self.dir
            .command()
            .args(["run", "-f"])
            .arg(file)
            .args(["--results", "results"])
            .args(args)
            .env("LOCKSTEP_AGENT", agent)
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
            .start()
    }

    /// A program for the agents' place: it tells the coordinator's address, and has agent `index` dial what
    /// [`Lab::let_dial`] says.
    pub fn detour(&self, index: u32) -> PathBuf {
        let agent = self.dir.beside("lockstep-agent");
        let (here, agent) = (self.dir.path().display(), agent.display());
        let script = format!(
            "#!/bin/sh\n[ \"$8\" = {index} ] || exec {agent} \"$@\"\necho \"$2\" > {here}/asked.part\n\
             mv {here}/asked.part {here}/asked\nwhile [ ! -f {here}/answer ]; do sleep 0.01; done\n\
             shift 2\nexec {agent} --coordinator \"$(cat {here}/answer)\" \"$@\"\n"
        );
        let path = self.dir.write("detour.sh", script);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .expect("it becomes executable");
        path
    }

    /// Where the coordinator listens, as told to the agent of [`Lab::detour`].
    pub fn coordinator(&self) -> SocketAddr {
        let asked = self.dir.path().join("asked");
        assert!(wait_until(SOON, || asked.exists()), "no agent was started");
        self.dir.read("asked").trim().parse().expect("an address")
    }

    /// What the agent of [`Lab::detour`] dials.
    pub fn let_dial(&self, address: SocketAddr) {
        let part = self.dir.write("answer.part", address.to_string());
        std::fs::rename(part, self.dir.path().join("answer")).expect("the answer is given");
    }

    /// The one directory of results.
    pub fn results(&self) -> PathBuf {
        let mut found = std::fs::read_dir(self.dir.path().join("results")).expect("a directory of results");
        found.next().expect("one run").expect("its name").path()
    }

    /// `results.json`.
    pub fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.results().join("results.json")).expect("results.json");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The log of an agent's first attempt.
    pub fn agent_log(&self, index: u32) -> String {
        let agents = self.results().join("agents");
        let logs =
            std::fs::read_dir(&agents).expect("logs of agents").filter_map(|entry| Some(entry.ok()?.path()));
        let mut logs: Vec<PathBuf> = logs.collect();
        logs.sort();
        std::fs::read_to_string(&logs[index as usize]).expect("the log of an agent")
    }
}

/// A manifest of agents on an S3 server: prepare, then `mixed` for some seconds at a steady rate, which the server and
/// two cores bear.
pub fn on_s3(s3: &TestS3, agents: u32, seconds: u32, more: &str) -> String {
    let endpoint = s3.endpoint();
    format!(
        "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: lab}}
spec:
  agents: {{replicas: {agents}}}
  start: {{onSkew: Report, maxSkew: 10s}}
  target:
    uri: s3://bench/lab
    endpoints: [\"{endpoint}\"]
    options: {{timeout: 2m}}
  dataset: {{objects: 40, size: {{fixed: 1Ki}}}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 2}}}}
    - name: mixed
      execute:
        duration: {seconds}s
        concurrency: 4
        rate: {{operationsPerSecond: 100, arrival: Deterministic}}
        operations: [{{op: Get, weight: 3}}, {{op: Put, weight: 1}}]
{more}"
    )
}

/// Ids of the agents of a run, in the order of their start.
pub fn agents_of(run: &Running, agents: usize) -> Vec<Pid> {
    let mut found = Vec::new();
    let all = wait_until(SOON, || {
        found = children_of(run.pid());
        found.len() == agents
    });
    assert!(all, "{agents} agents were not started: {found:?}\n{}", run.stderr());
    found
}

/// Whether a process is gone; one that nobody has reaped yet is.
pub fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Resident memory of a process, bytes.
pub fn resident_bytes(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A stage of a report.
pub fn stage<'a>(report: &'a Value, name: &str) -> &'a Value {
    let stages = report["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no stage {name}: {report:#}"))
}

/// When an agent's state became this first, milliseconds of the run.
pub fn told_at_ms(report: &Value, agent: Option<u32>, what: &str, reason: &str) -> Option<u64> {
    let timeline = report["timeline"].as_array().expect("a timeline");
    let told = timeline.iter().find(|told| {
        told["agent"].as_u64() == agent.map(u64::from)
            && told["what"] == what
            && told["reason"].as_str().is_some_and(|text| text.contains(reason))
    });
    told.and_then(|told| told["atMs"].as_u64())
}

/// Panics unless every sum over `mixed` is the same, and is what the server saw; returns it.
pub fn assert_exact(report: &Value, s3: &TestS3, prepared: u64) -> u64 {
    let mixed = stage(report, "mixed");
    let sum = |rows: &Value, field: &str| {
        rows.as_array().expect("rows").iter().map(|row| row[field].as_u64().expect("a number")).sum::<u64>()
    };
    let total = mixed["total"]["count"].as_u64().expect("a count");
    assert_eq!(mixed["total"]["errorCount"], 0, "{:#}", mixed["problems"]);
    assert_eq!(sum(&mixed["series"], "count"), total, "the series of mixed");
    assert_eq!(sum(&mixed["agents"], "count"), total, "the agents of mixed");
    assert_eq!(sum(&mixed["operations"], "count"), total, "the operations of mixed");
    let seen = (s3.data("GET") + s3.data("PUT")) as u64;
    let retries = mixed["retries"].as_u64().expect("a number");
    assert_eq!(seen, prepared + total + retries, "requests that the server saw");
    total
}

/// Panics unless operations are in every second from the first to the last of `mixed` that was asked.
pub fn assert_every_second(report: &Value, seconds: u64) {
    let series = stage(report, "mixed")["series"].as_array().expect("a series");
    for second in 0..seconds {
        let here = series.iter().filter(|row| row["second"].as_u64() == Some(second));
        let count: u64 = here.map(|row| row["count"].as_u64().expect("a count")).sum();
        assert!(count > 0, "no operation in second {second}");
    }
}

/// Lets an agent's first connection, its control stream, pass, and sends every other one through a proxy.
pub struct Front {
    pub address: SocketAddr,
}

impl Front {
    pub fn start(coordinator: SocketAddr, others: &Proxy) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let (address, others) = (listener.local_addr().expect("its address"), others.address());
        // Ends with the test's process; connections end with their ends.
        std::thread::spawn(move || {
            let mut upstream = coordinator;
            while let Ok((down, _)) = listener.accept() {
                let Ok(up) = TcpStream::connect(upstream) else { continue };
                upstream = others;
                let _ = (down.set_nodelay(true), up.set_nodelay(true));
                let (Ok(down2), Ok(up2)) = (down.try_clone(), up.try_clone()) else { continue };
                std::thread::spawn(move || pass(down, up));
                std::thread::spawn(move || pass(up2, down2));
            }
        });
        Self { address }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Waits until no other test of this kind runs: what is measured is time, on a machine of two cores.
pub fn alone() -> File {
    let path = std::env::temp_dir().join("lockstep-test-alone.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).expect("a lock file");
    file.lock().expect("the lock");
    file
}

/// Reads a growing text, and gives the longest time between two changes of what `counter` reads in it, from the first
/// to the last.
pub fn longest_pause(limit: Duration, mut counter: impl FnMut() -> Option<u64>) -> (Duration, u64, u32) {
    let end = Instant::now() + limit;
    let (mut longest, mut last, mut changes) = (Duration::ZERO, None::<(Instant, u64)>, 0);
    while Instant::now() < end {
        let (now, read) = (Instant::now(), counter());
        if let Some(read) = read {
            match last {
                Some((_, value)) if value == read => {}
                Some((at, value)) => {
                    assert!(read > value, "the counter went from {value} back to {read}");
                    longest = longest.max(now - at);
                    last = Some((now, read));
                    changes += 1;
                }
                None => last = Some((now, read)),
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (at, value) = last.expect("a counter was shown");
    (longest.max(at.elapsed()), value, changes)
}
