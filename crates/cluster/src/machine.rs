//! A machine: Linux namespaces (net, uts, ipc, mount, pid) with a first process, and daemons in them.
//!
//! The pid namespace is what makes it possible to end a machine for certain: when its first process dies, by whatever
//! means, the kernel kills everything in it, down to the last container, and with the last process go its mounts and its
//! network. So nothing about daemons need be written down: who is in the pid namespace of a first process that is ours
//! is ours. That process writes itself down (`machine.sh`) before it does anything.
//!
//! No namespace has a name: what `ip netns` shows is other people's.

use crate::state::{Lock, State};
use crate::wait;
use anyhow::{Context, Result, ensure};
use lockstep_core::problem::Problem;
use lockstep_testcluster::cache;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const SCRIPT: &str = include_str!("machine.sh");
/// How long a machine may take to boot, and to end.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a daemon may take until it is a process of its name.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long a daemon may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A machine of a cluster, which need not run.
pub(crate) struct Machine {
    /// `control`, `node-1`, ...
    pub name: String,
    directory: PathBuf,
    state: PathBuf,
}

/// A program that runs until it is ended.
pub(crate) struct Daemon {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Where it finds the programs that it starts, before the usual places.
    pub path: PathBuf,
}

impl Daemon {
    /// Its name, and that of its log.
    pub(crate) fn name(&self) -> String {
        base(&self.program.to_string_lossy()).to_owned()
    }
}

impl Machine {
    pub(crate) fn new(state: &State, name: &str) -> Self {
        Self { name: name.to_owned(), directory: state.path().join(name), state: state.path().to_owned() }
    }

    /// Every machine that was made or begun in a state directory.
    pub(crate) fn all(state: &State) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(state.path())? {
            let entry = entry?;
            if entry.path().join("init").exists() {
                found.push(Self::new(state, &entry.file_name().to_string_lossy()));
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// A path of its `/var`, which has the same name in the machine and outside.
    pub(crate) fn var(&self, path: &str) -> PathBuf {
        self.directory.join("var").join(path)
    }

    /// Where a daemon logs.
    pub(crate) fn log(&self, daemon: &str) -> PathBuf {
        self.var("log").join(format!("{daemon}.log"))
    }

    /// Id of the first process, if it runs. The id alone could by now be somebody else's, so its time of start must be
    /// the same, and it must have been started for this directory.
    pub(crate) fn init(&self) -> Option<u32> {
        let written = Stat::parse(&std::fs::read_to_string(self.directory.join("init")).ok()?)?;
        let now = Stat::parse(&std::fs::read_to_string(format!("/proc/{}/stat", written.id)).ok()?)?;
        let command = std::fs::read(format!("/proc/{}/cmdline", written.id)).ok()?;
        let directory = self.directory.as_os_str().as_encoded_bytes();
        let is_ours = command.split(|byte| *byte == 0).any(|argument| argument == directory);
        (is_ours && now.started == written.started && now.state != 'Z').then_some(written.id)
    }

    fn running(&self) -> Result<u32> {
        self.init().with_context(|| format!("{} does not run", self.name))
    }

    /// Starts it, unless it runs; says whether it had to.
    pub(crate) fn boot(&self, lock: &Lock) -> Result<bool> {
        if self.init().is_some() {
            return Ok(false);
        }
        std::fs::create_dir_all(self.var("log"))?;
        std::fs::create_dir_all(self.state.join("shared"))?;
        for left in ["init", "booted"] {
            let _ = std::fs::remove_file(self.directory.join(left));
        }
        let (script, log) = (self.directory.join("machine.sh"), self.directory.join("machine.log"));
        std::fs::write(&script, SCRIPT)?;
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--uts",
            "--ipc",
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "/bin/sh",
            "-c",
        ]);
        // The first that this shell forks is the first in the new pid namespace; the shell itself goes.
        command.args([r#"exec 3<&0; /bin/sh "$@" <&3 3<&- &"#, "sh"]);
        command.args([&script, &self.directory]).arg(&self.name).arg(&self.state).arg(cache());
        let said = File::create(&log)?;
        // It holds the lock until it is written down, even if we are gone by then.
        command.stdin(lock.0.try_clone()?).stdout(said.try_clone()?).stderr(said);
        command.current_dir("/").process_group(0);
        let started = command.status().context("unshare (of util-linux) cannot be run")?;
        let (booted, init) = (self.directory.join("booted"), self.directory.join("init"));
        let is_ended = || !started.success() || (init.exists() && self.init().is_none());
        if wait::until(LIMIT, || booted.exists() || is_ended()) && !is_ended() {
            return Ok(true);
        }
        let how = if is_ended() { "it ended".to_owned() } else { format!("not done after {LIMIT:?}") };
        Err(self.problem("The machine did not boot", &how, &log).into())
    }

    /// A command that runs in the machine.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Result<Command> {
        let mut command = self.enter(&["--net", "--uts", "--ipc", "--mount", "--pid"])?;
        command.arg("--").arg(program.as_ref());
        Ok(command)
    }

    /// A command of this machine, with the network of that one.
    pub(crate) fn on_network(&self, program: &str) -> Result<Command> {
        let mut command = self.enter(&["--net"])?;
        command.arg("--").arg(program);
        Ok(command)
    }

    fn enter(&self, namespaces: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.running()?)).args(namespaces).current_dir("/");
        Ok(command)
    }

    /// Starts a daemon, unless it runs; says whether it had to.
    pub(crate) fn start(&self, daemon: &Daemon) -> Result<bool> {
        let name = daemon.name();
        if self.find(&name).is_some() {
            return Ok(false);
        }
        let mut command = self.command("/bin/sh")?;
        // Its parent ends, so it becomes a child of the first process, and nobody's outside.
        command.args(["-c", r#"log=$1; shift; exec setsid --fork "$@" >>"$log" 2>&1 </dev/null"#, "sh"]);
        command.arg(self.log(&name)).arg(&daemon.program).args(&daemon.arguments);
        let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env_clear().env("PATH", format!("{}:{usual}", daemon.path.display()));
        command.env("HOME", "/var/lib").stdin(Stdio::null());
        expect(&format!("{} on {}", name, self.name), &command.output()?)?;
        if wait::until(START_LIMIT, || self.find(&name).is_some()) {
            return Ok(true);
        }
        Err(self.problem(&format!("{name} did not start"), "it ended at once", &self.log(&name)).into())
    }

    /// Id of the process of this name on the machine.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.processes().into_iter().find(|(_, found)| found == name).map(|(id, _)| id)
    }

    /// Every process of the machine: id outside, and name of its program.
    pub(crate) fn processes(&self) -> Vec<(u32, String)> {
        let Some(init) = self.init() else { return Vec::new() };
        let namespace = |id: u32| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let (ours, Ok(entries)) = (namespace(init), std::fs::read_dir("/proc")) else { return Vec::new() };
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let named = |id: u32| {
            let command = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
            let program = command.split(|byte| *byte == 0).next().filter(|program| !program.is_empty())?;
            Some((id, base(&String::from_utf8_lossy(program)).to_owned()))
        };
        ids.filter(|id| ours.is_some() && namespace(*id) == ours).filter_map(named).collect()
    }

    /// Ends a daemon: politely first. One that does not run is no error.
    pub(crate) fn stop(&self, name: &str) -> Result<()> {
        let Some(id) = self.find(name) else { return Ok(()) };
        signal(id, Signal::TERM);
        if !wait::until(STOP_LIMIT, || self.find(name) != Some(id)) {
            signal(id, Signal::KILL);
            let is_gone = wait::until(STOP_LIMIT, || self.find(name) != Some(id));
            ensure!(is_gone, "{name} on {} (process {id}) does not end", self.name);
        }
        Ok(())
    }

    /// Ends the machine and everything on it, at once. One that does not run is no error.
    pub(crate) fn power_off(&self) -> Result<()> {
        let Some(init) = self.init() else { return Ok(()) };
        signal(init, Signal::KILL);
        let is_gone = wait::until(LIMIT, || self.init().is_none());
        ensure!(is_gone, "{} (process {init}) does not end: something in it hangs in the kernel", self.name);
        Ok(())
    }

    /// What went wrong here, with what the log says last.
    pub(crate) fn problem(&self, what: &str, cause: &str, log: &Path) -> Problem {
        let said = last_lines(log, 12);
        Problem::new(
            format!("{what} on {}", self.name),
            format!("{cause}; {} says last:\n{said}", log.display()),
        )
        .likely("this kernel or machine lacks something that docs/cluster.md lists under needs")
        .likely("the machine is busy: a build, other tests")
        .next(format!("read {}", log.display()))
        .next("lockstep-cluster down, then up again")
        .kept("everything that was made so far; `lockstep-cluster down` removes it")
    }
}

fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        // What is gone needs none.
        let _ = kill_process(id, signal);
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The last lines of a log.
pub(crate) fn last_lines(log: &Path, count: usize) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The output of a command that must succeed.
pub(crate) fn expect(what: &str, output: &Output) -> Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "{what}: {}: {}", output.status, text(&output.stderr));
    Ok(text(&output.stdout))
}

/// What `/proc/<id>/stat` says of a process (proc(5)).
struct Stat {
    id: u32,
    state: char,
    /// In ticks since boot.
    started: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        let id = line.split(' ').next()?.parse().ok()?;
        // The name of the program, in brackets, may hold anything.
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
        Some(Self {
            id,
            state: fields.first()?.chars().next()?,
            started: fields.get(19)?.trim().parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let line = std::fs::read_to_string("/proc/self/stat").unwrap();
        let stat = Stat::parse(&line).unwrap();
        assert_eq!(stat.id, std::process::id());
        let odd =
            Stat::parse("7 (a b) R) (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20").unwrap();
        assert_eq!((odd.id, odd.state, odd.started), (7, 'S', 4711));
        assert!(Stat::parse("").is_none());
    }
}
