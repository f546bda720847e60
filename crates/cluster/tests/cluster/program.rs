//! The program under test, with a state directory of its own.

use rustix::process::{Pid, Signal, kill_process};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than anything here takes, programs that are built first excepted.
pub const LIMIT: Duration = Duration::from_secs(180);

/// One at a time: two would only wait for each other's CPU.
static ALONE: Mutex<()> = Mutex::new(());

pub struct Cluster {
    state: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    pub fn new(name: &str) -> Self {
        Self::at(Path::new(&format!("/var/lib/lockstep-cluster-test-{name}")))
    }

    pub fn at(state: &Path) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { state: state.to_owned(), _alone: alone }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-cluster"));
        command.arg("--state").arg(&self.state).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        text(arguments, self.command(arguments).output().unwrap())
    }

    /// What it says when it fails, as it must.
    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeds");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Runs `up`, and kills it as soon as it has made something.
    pub fn kill_up_when(&self, made: &str) {
        let mut up = self.command(&["up", "--nodes", "2"]).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + LIMIT;
        while !self.state.join(made).exists() {
            assert!(up.try_wait().unwrap().is_none(), "it ended before it made {made}");
            assert!(Instant::now() < end, "it never made {made}");
            std::thread::sleep(Duration::from_millis(1));
        }
        up.kill().unwrap();
        up.wait().unwrap();
    }

    /// Ends every process of a machine but the first, in no order.
    pub fn kill_everything_of(&self, machine: &str) {
        let init = std::fs::read_to_string(self.state.join(machine).join("init")).unwrap();
        let init = init.split(' ').next().unwrap().to_owned();
        let namespace = |id: &str| std::fs::read_link(format!("/proc/{id}/ns/pid")).ok();
        let ours = namespace(&init).expect("the machine runs");
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if id != init && namespace(&id).as_ref() == Some(&ours) {
                let id = Pid::from_raw(id.parse().unwrap()).unwrap();
                let _ = kill_process(id, Signal::KILL);
            }
        }
    }

    /// Its state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with("", arguments)
    }

    pub fn kubectl_with(&self, input: &str, arguments: &[&str]) -> String {
        text(arguments, self.kubectl_output(input, arguments))
    }

    /// What it says, if it succeeds.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Option<String> {
        let output = self.kubectl_output("", arguments);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn kubectl_output(&self, input: &str, arguments: &[&str]) -> Output {
        let mut kubectl = Command::new(lockstep_testcluster::Tool::Kubectl.path().unwrap());
        kubectl.env("KUBECONFIG", self.state.join("kubeconfig")).args(arguments);
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = kubectl.spawn().unwrap();
        running.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        running.wait_with_output().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed leaves the machine to others all the same; LOCKSTEP_KEEP is for whoever wants to see why.
        if self.state.join("cluster.json").exists() && std::env::var_os("LOCKSTEP_KEEP").is_none() {
            let _ = self.command(&["down"]).output();
        }
    }
}

fn text(arguments: &[&str], output: Output) -> String {
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{arguments:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}
