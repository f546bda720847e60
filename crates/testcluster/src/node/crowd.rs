//! Many containers in few processes: for scale, where a process per pod would take more memory than there is.
//!
//! A crowd's process has one root file system and one `/etc/hosts`, that of the pod that came first, and sees the node's
//! directory where it is; variables that name a file of a mount are translated to where it really is. Everything else of a
//! member is its own: pod, address, token, status, events. What a member is, its program says: it is told in lines of JSON over
//! a socket (see `src/bin/lockstep-crowd.rs`). A member that is killed is asked to end at once: threads have no signals.

use super::context::PodContext;
use super::sandbox::{Bind, Process, Rights, Sandbox};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// What a crowd's log is filtered by: a thousand agents have much to say, and a test of scale asks for how long they waited.
const LOG: &str = "warn,lockstep_agent::session::report=info";

/// Which containers share processes.
#[derive(Clone, Debug)]
pub(super) struct CrowdOptions {
    /// Those whose command is this path.
    pub command: String,
    /// The program that runs them.
    pub program: PathBuf,
    /// How many share a process.
    pub members: usize,
}

/// A started container: a process of its own, or part of one.
pub(super) enum Started {
    /// A process of its own.
    Own(Process),
    /// Part of one.
    Member(Member),
}

impl Started {
    /// Process id of its first process.
    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Own(process) => process.id(),
            Self::Member(member) => member.crowd.process,
        }
    }

    /// Waits for its end; the exit code is 128 + n for signal n.
    pub(super) async fn wait(&mut self) -> Result<i32> {
        match self {
            Self::Own(process) => process.wait().await,
            Self::Member(member) => Ok((&mut member.ended).await.unwrap_or(137)),
        }
    }

    /// Asks it to end.
    pub(super) fn terminate(&self) {
        match self {
            Self::Own(process) => process.terminate(),
            Self::Member(member) => member.end(143),
        }
    }

    /// Kills it.
    pub(super) fn kill(&self) {
        match self {
            Self::Own(process) => process.kill(),
            Self::Member(member) => member.end(137),
        }
    }
}

/// A container that is part of a process.
pub(super) struct Member {
    id: u64,
    crowd: Arc<Crowd>,
    ended: oneshot::Receiver<i32>,
}

impl Member {
    fn end(&self, code: i32) {
        let _ = self.crowd.orders.send(json!({"id": self.id, "end": code}));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end(137);
    }
}

/// Whoever waits for the end of a member.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<i32>>>>;

/// A process that runs members.
struct Crowd {
    process: u32,
    orders: mpsc::UnboundedSender<Value>,
    waiting: Waiting,
}

/// The crowds of a node.
#[derive(Default)]
pub(super) struct Crowds(Mutex<State>);

#[derive(Default)]
struct State {
    /// The one that is being filled, and its members so far.
    open: Option<(Arc<Crowd>, usize)>,
    /// Kept, so that they live as long as the node.
    processes: Vec<Process>,
    members: u64,
}

impl Crowds {
    /// Starts a container with these variables; `binds` say where its paths really are.
    pub(super) fn join(
        &self,
        ctx: &PodContext,
        options: &CrowdOptions,
        binds: &[Bind],
        environment: &BTreeMap<String, String>,
    ) -> Result<Member> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = state.open.as_ref().is_some_and(|(_, members)| *members < options.members);
        if !room {
            let (process, crowd) = Crowd::start(ctx, options, state.processes.len())?;
            state.processes.push(process);
            state.open = Some((Arc::new(crowd), 0));
        }
        state.members += 1;
        let id = state.members;
        let (crowd, members) = state.open.as_mut().context("a crowd")?;
        *members += 1;
        let (end, ended) = oneshot::channel();
        crowd.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, end);
        let environment: BTreeMap<&String, String> =
            environment.iter().map(|(name, value)| (name, really(value, binds))).collect();
        let _ = crowd.orders.send(json!({"id": id, "environment": environment}));
        Ok(Member { id, crowd: Arc::clone(crowd), ended })
    }
}

/// A path of the container as a path of this machine; anything else as it is.
fn really(value: &str, binds: &[Bind]) -> String {
    let inside = |bind: &&Bind| {
        value == bind.to
            || value
                .strip_prefix(&bind.to)
                .is_some_and(|rest| bind.to.ends_with('/') || rest.starts_with('/'))
    };
    match binds.iter().filter(inside).max_by_key(|bind| bind.to.len()) {
        Some(bind) => format!("{}{}", bind.from.display(), &value[bind.to.len()..]),
        None => value.to_owned(),
    }
}

impl Crowd {
    fn start(ctx: &PodContext, options: &CrowdOptions, number: usize) -> Result<(Process, Self)> {
        let node = &ctx.node;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let program = "/lockstep-crowd".to_owned();
        let directory = node.directory.display().to_string();
        let mut binds = vec![
            Bind { from: options.program.clone(), to: program.clone(), read_only: true },
            Bind { from: node.directory.clone(), to: directory, read_only: false },
        ];
        for file in ["hosts", "resolv.conf", "host.conf"] {
            binds.push(Bind { from: ctx.directory.join(file), to: format!("/etc/{file}"), read_only: false });
        }
        let logs = node.directory.join("logs").join(format!("crowd-{number}"));
        std::fs::create_dir_all(&logs)?;
        let environment = BTreeMap::from([("LOCKSTEP_LOG".to_owned(), LOG.to_owned())]);
        let process = Sandbox {
            keeper: &node.keeper,
            root: &node.directory.join(format!("crowd-{number}.root")),
            hostname: "crowd",
            binds: &binds,
            rights: &Rights::default(),
            command: &[program, address.to_string()],
            environment: &environment,
            working_directory: "/",
            log: &logs.join("0.log"),
        }
        .start()?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let waiting = Waiting::default();
        tokio::spawn(converse(listener, receiver, Arc::clone(&waiting)));
        let id = process.id();
        Ok((process, Self { process: id, orders, waiting }))
    }
}

/// Passes orders on, and ends of members back, until the process is gone.
async fn converse(listener: TcpListener, mut orders: mpsc::UnboundedReceiver<Value>, waiting: Waiting) {
    let Ok((stream, _)) = listener.accept().await else { return };
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { break };
                if write.write_all(format!("{order}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
            line = lines.next_line() => {
                let Ok(Some(line)) = line else { break };
                let Ok(ended) = serde_json::from_str::<Value>(&line) else { continue };
                let (id, code) = (ended["id"].as_u64().unwrap_or(0), ended["code"].as_i64().unwrap_or(137));
                let end = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                if let Some(end) = end {
                    let _ = end.send(i32::try_from(code).unwrap_or(137));
                }
            }
        }
    }
    // Whoever still waits is told: its sender is dropped.
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_mount_is_where_it_really_is_and_nothing_else_changes() {
        let binds = [
            Bind { from: "/node/token".into(), to: "/var/run/lockstep".to_owned(), read_only: true },
            Bind { from: "/node/hosts".into(), to: "/etc/hosts".to_owned(), read_only: true },
        ];
        assert_eq!(really("/var/run/lockstep/token", &binds), "/node/token/token");
        assert_eq!(really("/var/run/lockstep2/token", &binds), "/var/run/lockstep2/token");
        assert_eq!(really("/etc/hosts", &binds), "/node/hosts");
        assert_eq!(really("operator.system.svc:7443", &binds), "operator.system.svc:7443");
    }
}
