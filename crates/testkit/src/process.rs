//! Commands as tests need them: captured output, deadlines, signals by id, a directory of their own.
//!
//! Every child leads a process group of its own, and the group is killed when its value is dropped: a test that
//! fails leaves nothing behind. Signals go to ids that this module started, never to names.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How a process ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; 128 + n for one ended by signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Ended {
    /// Panics, with everything it said, unless the exit code is this.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// A running command.
pub struct Running {
    child: Child,
    what: String,
    started: Instant,
    stdout: Captured,
    stderr: Captured,
    ended: Option<ExitStatus>,
}

/// Output that a thread reads, so that no pipe ever fills.
struct Captured {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let reader = stream.map(|mut stream| {
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..read]);
                }
            })
        });
        Self { text, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Everything, once the pipe is closed; a grandchild that keeps it open is waited for at most 5 s: on a
    /// busy machine what was written last takes its time.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            let limit = Instant::now() + Duration::from_secs(5);
            while !reader.is_finished() && Instant::now() < limit {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        self.so_far()
    }
}

impl Running {
    /// Starts a command in a process group of its own, with captured output and nothing to read.
    ///
    /// # Panics
    /// It cannot be started; the panic says which command.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let what = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
        let (stdout, stderr) = (Captured::of(child.stdout.take()), Captured::of(child.stderr.take()));
        Self { child, what, started: Instant::now(), stdout, stderr, ended: None }
    }

    /// Process id, which is also the id of its process group.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// Standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Sends a signal to the process, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            let _ = kill_process(self.pid(), signal);
        }
    }

    /// Sends a signal to its process group.
    pub fn signal_group(&self, signal: Signal) {
        let _ = kill_process_group(self.pid(), signal);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It still runs after `limit`; the panic shows what it said.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Ended {
        let ended = wait_until(limit, || self.poll().is_some());
        assert!(
            ended,
            "{} still runs after {limit:?}\nstdout:\n{}\nstderr:\n{}",
            self.what,
            self.stdout(),
            self.stderr()
        );
        let took = self.started.elapsed();
        let status = self.ended.expect("it has ended");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ended { code, stdout: self.stdout.all(), stderr: self.stderr.all(), took }
    }

    /// Waits until its output (either) contains a text.
    ///
    /// # Panics
    /// It does not within `limit`, or the process ends without.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, limit: Duration) {
        let says = |running: &Self| running.stdout().contains(text) || running.stderr().contains(text);
        wait_until(limit, || says(self) || self.poll().is_some());
        if !says(self) {
            let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
            let found = stdout.contains(text) || stderr.contains(text);
            assert!(found, "{} never said `{text}`\nstdout:\n{stdout}\nstderr:\n{stderr}", self.what);
        }
    }

    /// Ids of the processes of its group that live, itself included.
    #[must_use]
    pub fn group(&self) -> Vec<Pid> {
        processes_of_group(self.pid())
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal_group(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Looks at a condition until it holds; `false` when it does not within `limit`.
pub fn wait_until(limit: Duration, condition: impl FnMut() -> bool) -> bool {
    wait_until_every(Duration::from_millis(2), limit, condition)
}

/// The same for a condition that takes something to look at, with a pause of `pause` between looks.
pub fn wait_until_every(pause: Duration, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(pause);
    }
}

/// Sends a signal to a process by its id; an id that is gone is no error.
pub fn signal(pid: Pid, signal: Signal) {
    let _ = kill_process(pid, signal);
}

/// Ids of the living processes of a group (zombies are none).
#[must_use]
pub fn processes_of_group(group: Pid) -> Vec<Pid> {
    processes(|stat| stat.group == group.as_raw_nonzero().get())
}

/// Ids of the living children of a process.
#[must_use]
pub fn children_of(parent: Pid) -> Vec<Pid> {
    processes(|stat| stat.parent == parent.as_raw_nonzero().get())
}

struct Stat {
    state: char,
    parent: i32,
    group: i32,
}

fn processes(condition: impl Fn(&Stat) -> bool) -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let living = ids.filter(|id| stat_of(*id).is_some_and(|stat| stat.state != 'Z' && condition(&stat)));
    let mut found: Vec<_> = living.filter_map(Pid::from_raw).collect();
    found.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
    found
}

fn stat_of(id: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name before may hold spaces and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

/// A directory of one test, removed when dropped.
pub struct Dir {
    directory: TempDir,
    binary: PathBuf,
}

impl Dir {
    /// A new directory in which `binary` is run: `env!("CARGO_BIN_EXE_lockstep")` in tests of that crate.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory, binary: binary.into() }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, and the directories above it, and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let parent = path.parent().expect("a file lies in a directory");
        std::fs::create_dir_all(parent).expect("the directories above the file");
        std::fs::write(&path, content).expect("the file is written");
        path
    }

    /// Reads a file.
    #[must_use]
    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.path().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The binary, to be run in this directory.
    #[must_use]
    pub fn command(&self) -> TestCommand {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.path());
        TestCommand { command }
    }

    /// Another binary that was built beside this one.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        let path = self.binary.with_file_name(name);
        assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", path.display());
        path
    }
}

/// The binary with its arguments.
pub struct TestCommand {
    command: Command,
}

impl TestCommand {
    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(mut self) -> Running {
        Running::start(&mut self.command)
    }

    /// Runs it to its end, which must come within `limit`.
    #[must_use]
    #[track_caller]
    pub fn run(self, limit: Duration) -> Ended {
        self.start().wait(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn output_code_and_signals_are_told() {
        let ended = shell("echo out; echo err >&2; exit 3").wait(Duration::from_secs(10));
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (3, "out\n", "err\n"));
        let mut running = shell("echo up; sleep 100");
        running.wait_for("up", Duration::from_secs(10));
        running.signal_group(Signal::TERM);
        assert_eq!(running.wait(Duration::from_secs(10)).code, 128 + 15);
    }

    #[test]
    fn what_is_dropped_leaves_nothing_running() {
        let mut running = shell("sleep 100 & echo up; wait");
        running.wait_for("up", Duration::from_secs(10));
        let group = running.pid();
        assert!(wait_until(Duration::from_secs(10), || processes_of_group(group).len() == 2));
        assert_eq!(children_of(group).len(), 1);
        drop(running);
        assert!(wait_until(Duration::from_secs(10), || processes_of_group(group).is_empty()));
    }
}
