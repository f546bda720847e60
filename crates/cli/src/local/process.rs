//! Agents as processes: started, ended by id, and reaped, each by a task of its own.
//!
//! Standard input of an agent is a pipe. Its first line is the run's secret; after that it stays open and silent for as
//! long as this process lives, so that an agent learns at once when its coordinator is gone, however it went. An agent is
//! in a process group of its own: Ctrl-C in the terminal reaches this process, which then stops the run in order.
//!
//! A process is ended through the handle that reaps it, so that its id cannot have passed to another process.

use crate::results::ResultsDirectory;
use lockstep_core::run::agent::LossReason;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// Exit code of an agent that stopped because its coordinator was silent.
const ORPHANED: i32 = 70;

/// An attempt of an agent: index and attempt.
pub type Seat = (u32, u32);

/// What every agent is started with.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Where the coordinator listens.
    pub coordinator: SocketAddr,
    /// Name of the run.
    pub run: String,
    /// Uid of the run.
    pub uid: String,
    /// What agents must present.
    pub secret: String,
    /// How many agents there are.
    pub agents: u32,
    /// Cores to split among them.
    pub cores: Vec<usize>,
    /// Where their logs go.
    pub results: ResultsDirectory,
}

/// A process that ended.
#[derive(Debug)]
pub struct Exit {
    /// Whose it was.
    pub seat: Seat,
    /// As a loss would be named.
    pub reason: LossReason,
    /// Whether it ended by itself, with success.
    pub clean: bool,
    /// Whether it was asked for.
    pub killed: bool,
}

/// The processes of a run.
#[derive(Debug)]
pub struct Processes {
    recipe: Recipe,
    kills: HashMap<Seat, Option<oneshot::Sender<()>>>,
    exits: mpsc::UnboundedReceiver<Exit>,
    report: mpsc::UnboundedSender<Exit>,
}

impl Processes {
    /// No process yet.
    pub fn new(recipe: Recipe) -> Self {
        let (report, exits) = mpsc::unbounded_channel();
        Self { recipe, kills: HashMap::new(), exits, report }
    }

    /// Starts an agent.
    ///
    /// # Errors
    ///
    /// When the kernel starts no process, or the log cannot be made.
    pub fn spawn(&mut self, seat: Seat) -> io::Result<()> {
        let log = File::create(self.recipe.results.agent_log(seat.0, seat.1))?;
        let child = self.command(seat).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let (kill, killed) = oneshot::channel();
        self.kills.insert(seat, Some(kill));
        tokio::spawn(tend(seat, child, self.recipe.secret.clone(), killed, self.report.clone()));
        Ok(())
    }

    /// Ends the process of an attempt, if it has one; its exit follows.
    pub fn kill(&mut self, seat: Seat) {
        if let Some(kill) = self.kills.get_mut(&seat).and_then(Option::take) {
            // A process that is gone already needs no end.
            let _ = kill.send(());
        }
    }

    /// The next process that ended; waits for ever while none does.
    pub async fn next_exit(&mut self) -> Exit {
        match self.exits.recv().await {
            Some(exit) => {
                self.kills.remove(&exit.seat);
                exit
            }
            // Cannot be: a sender is kept here.
            None => std::future::pending().await,
        }
    }

    /// Ends and reaps every process that is left. Returns how many there were.
    pub async fn kill_all(&mut self) -> usize {
        let left: Vec<Seat> = self.kills.keys().copied().collect();
        for seat in &left {
            self.kill(*seat);
        }
        while !self.kills.is_empty() {
            self.next_exit().await;
        }
        left.len()
    }

    /// Waits until every process has ended by itself.
    pub async fn all_ended(&mut self) {
        while !self.kills.is_empty() {
            self.next_exit().await;
        }
    }

    fn command(&self, (index, attempt): Seat) -> Command {
        let Recipe { program, coordinator, run, uid, secret: _, agents, cores, results: _ } = &self.recipe;
        let cores: Vec<String> =
            super::cores::of_agent(cores, *agents, index).iter().map(ToString::to_string).collect();
        let mut command = Command::new(program);
        command
            .args(["--coordinator", &coordinator.to_string(), "--run", run, "--uid", uid])
            .args([
                "--index",
                &index.to_string(),
                "--attempt",
                &attempt.to_string(),
                "--cores",
                &cores.join(","),
            ])
            .process_group(0)
            // When this process gives up before its time, no agent outlives it.
            .kill_on_drop(true);
        command
    }
}

/// Looks after one process: hands it the secret, keeps its pipe open, ends it when asked, and reports its end.
async fn tend(
    seat: Seat,
    mut child: Child,
    secret: String,
    mut killed: oneshot::Receiver<()>,
    report: mpsc::UnboundedSender<Exit>,
) {
    // The pipe is held until the process ended: its end would tell the agent that the coordinator is dead.
    let mut pipe = child.stdin.take();
    if let Some(pipe) = &mut pipe {
        // An agent that is gone already is reported by its exit.
        let _ = pipe.write_all(format!("{secret}\n").as_bytes()).await;
    }
    let mut was_killed = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Ok(()) = &mut killed, if !was_killed => {
                was_killed = true;
                // Fails only when the process has ended; then it is reaped at once.
                let _ = child.start_kill();
            }
        }
    };
    drop(pipe);
    let (reason, clean) = match &status {
        Ok(status) => loss(*status),
        Err(error) => (LossReason::Ended(format!("could not be waited for: {error}")), false),
    };
    let _ = report.send(Exit { seat, reason, clean, killed: was_killed });
}

/// How an exit would be named as a loss, and whether it is a success.
fn loss(status: ExitStatus) -> (LossReason, bool) {
    match (status.code(), status.signal()) {
        (Some(ORPHANED), _) => (LossReason::Orphaned, false),
        (Some(code), _) => (LossReason::Ended(format!("exit code {code}")), code == 0),
        (None, Some(signal)) => (LossReason::Ended(format!("signal {signal}")), false),
        (None, None) => (LossReason::Ended("for an unknown reason".to_owned()), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Processes of a shell script in place of the agent.
    fn processes(directory: &Path, script: &str) -> Processes {
        use std::os::unix::fs::PermissionsExt as _;
        let program = directory.join("agent.sh");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writes");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("is executable");
        Processes::new(Recipe {
            program,
            coordinator: SocketAddr::from(([127, 0, 0, 1], 9)),
            run: "nightly".to_owned(),
            uid: "u-1".to_owned(),
            secret: "s3cret".to_owned(),
            agents: 2,
            cores: vec![0, 1, 2, 3],
            results: ResultsDirectory::create(directory, "nightly", "t", "u-1").expect("creates"),
        })
    }

    fn log(processes: &Processes) -> String {
        std::fs::read_to_string(processes.recipe.results.agent_log(1, 0)).expect("reads")
    }

    #[tokio::test]
    async fn an_agent_gets_its_place_by_argument_and_the_secret_by_pipe() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let script = "read secret; echo \"$@ secret=$secret\"; env | grep -c s3cret >&2; exit 70";
        let mut processes = processes(directory.path(), script);
        processes.spawn((1, 0)).expect("starts");
        let exit = processes.next_exit().await;
        assert_eq!((exit.seat, exit.reason, exit.clean), ((1, 0), LossReason::Orphaned, false));
        let want = "--coordinator 127.0.0.1:9 --run nightly --uid u-1 --index 1 --attempt 0 --cores 2,3 secret=s3cret";
        assert_eq!(log(&processes).lines().collect::<Vec<_>>(), [want, "0"]);
    }

    #[tokio::test]
    async fn the_pipe_stays_open_until_the_process_is_ended() {
        let directory = tempfile::tempdir().expect("temporary directory");
        // Ends by itself only when its pipe does.
        let mut processes = processes(directory.path(), "read secret; echo ready; read rest; exit 0");
        processes.spawn((1, 0)).expect("starts");
        processes.kill((1, 0));
        let exit = processes.next_exit().await;
        let killed = LossReason::Ended("signal 9".to_owned());
        assert_eq!((exit.reason, exit.clean, exit.killed), (killed, false, true));
    }

    #[tokio::test]
    async fn no_process_is_left() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut processes = processes(directory.path(), "exec sleep 1000");
        for seat in [(0, 0), (1, 0), (1, 1)] {
            processes.spawn(seat).expect("starts");
        }
        assert_eq!((processes.kill_all().await, processes.kill_all().await), (3, 0));
    }

    #[test]
    fn exits_are_named_as_losses() {
        let ended = |how: &str| LossReason::Ended(how.to_owned());
        assert_eq!(loss(ExitStatus::from_raw(0)), (ended("exit code 0"), true));
        assert_eq!(loss(ExitStatus::from_raw(70 << 8)), (LossReason::Orphaned, false));
        assert_eq!(loss(ExitStatus::from_raw(1 << 8)), (ended("exit code 1"), false));
        assert_eq!(loss(ExitStatus::from_raw(9)), (ended("signal 9"), false));
    }
}
