//! Where the kubelet would stand: a node that runs its pods as local processes.
//!
//! The scheduler binds pods to it, the node life-cycle controller watches its Lease, the API server gives its pods tokens;
//! all of that is real. This stands in for the kubelet, the container runtime and name resolution, and for nothing else:
//!
//! | file | stands in for |
//! |---|---|
//! | `register`, `pods` | Node, Lease, the watch of pods that are bound here |
//! | `pod`, `container`, `image`, `probes` | the pod workers: order, restarts, back-off, deadlines, termination |
//! | `environment`, `volumes`, `atomic`, `token` | what containers are told and find |
//! | `sandbox`, `machine` | the container runtime: root file system, mounts, user |
//! | `state`, `publish`, `events` | what a kubelet says, in its shapes (sources in each file) |
//! | `names` | EndpointSlices and DNS |
//! | `crowd` | many containers in few processes, for scale |
//! | `faults` | what goes wrong on order |
//!
//! What it refuses rather than get wrong: see `unsupported` in `pod`. What it leaves out: resources are not enforced, there
//! is no `kubectl logs` or `exec` (use [`Node::logs`]), pods share the machine's network and process ids.

mod atomic;
mod container;
mod context;
mod crowd;
mod environment;
mod events;
mod faults;
mod image;
mod machine;
mod names;
mod options;
mod pod;
mod pods;
mod probes;
mod publish;
mod register;
mod sandbox;
mod state;
mod token;
mod volumes;

use self::context::{KillOrder, NodeContext};
use self::events::Events;
use self::machine::MACHINE;
use crate::ControlPlane;
use crate::access::Caller;
use anyhow::{Context, Result};
use kube::Client;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use faults::Fault;
pub use options::{Image, NodeOptions};

/// How long a node may take to leave when it is dropped.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// A node. Dropped, it kills its pods' processes and leaves the cluster.
pub struct Node<'c> {
    context: Arc<NodeContext>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    _cluster: &'c ControlPlane,
}

impl ControlPlane {
    /// A node that the scheduler may use.
    ///
    /// # Panics
    /// This machine cannot run pods (the panic says why and what to do), or the controllers do not admit the node.
    pub async fn node(&self, options: NodeOptions) -> Node<'_> {
        let name = options.name.clone();
        Node::start(self, options).await.unwrap_or_else(|error| panic!("node {name}: {error:?}"))
    }
}

impl<'c> Node<'c> {
    async fn start(cluster: &'c ControlPlane, options: NodeOptions) -> Result<Self> {
        MACHINE.check()?;
        let own = cluster.kubeconfig_as(&Caller::node(&options.name)).await;
        let admin = cluster.kubeconfig();
        let directory = cluster.directory().join("nodes").join(&options.name);
        std::fs::create_dir_all(&directory).context("failed to make the node's directory")?;
        // What a lost machine of this name had is lost; its logs are kept for the tests.
        let _ = std::fs::remove_dir_all(directory.join("pods"));
        let (network, api_server) = (Arc::clone(&cluster.network), cluster.layout.api_server());
        let keeper = cluster.directory().to_owned();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (ready, started) = oneshot::channel();
        // A thread and runtime of its own: a test that waits for a tool must not stop its node, and a node that is
        // dropped ends all its tasks, and with them its processes, before drop returns.
        let run = move || -> Result<()> {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(async {
                let (events, reports) = Events::new();
                let client = crate::access::client(&own).await?;
                let admin = crate::access::client(&admin).await?;
                let context = Arc::new(NodeContext::new(
                    options, client, network, api_server, keeper, directory, events,
                ));
                register::grant(admin.clone()).await?;
                register::enter(&context).await?;
                tokio::spawn(register::keep(Arc::clone(&context)));
                tokio::spawn(events::write(Arc::clone(&context), reports));
                tokio::spawn(names::follow(Arc::clone(&context), admin.clone()));
                tokio::spawn(pods::follow(Arc::clone(&context)));
                // Nobody who waits is nobody to tell.
                let _ = ready.send(Arc::clone(&context));
                stopped.cancelled().await;
                let _ = tokio::time::timeout(LEAVE_LIMIT, leave(&context, admin)).await;
                Ok(())
            })
        };
        let (failed, failure) = oneshot::channel();
        let thread = std::thread::Builder::new().name("test-node".to_owned()).spawn(move || {
            if let Err(error) = run() {
                let _ = failed.send(error);
            }
        })?;
        let Ok(context) = started.await else {
            return Err(failure.await.context("the node's thread panicked")?);
        };
        Ok(Self { context, stop, thread: Some(thread), _cluster: cluster })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.context.options.name
    }

    /// From now on something goes wrong with pods of this pattern: of `name`, or of `namespace/name`; `*` is anything.
    pub fn order(&self, pattern: &str, fault: Fault) {
        self.context.orders.give(pattern, fault);
    }

    /// Nothing that was ordered for this pattern goes wrong any more.
    pub fn heal(&self, pattern: &str) {
        self.context.orders.withdraw(pattern);
    }

    /// Kills the running containers of this name in pods of a pattern, as the kernel does when their memory is at its
    /// limit: 137, `OOMKilled`. Returns how many there were.
    pub fn kill_out_of_memory(&self, pattern: &str, container: &str) -> usize {
        let handles = self.context.running(|running| is_of(running, pattern, container));
        handles.iter().filter(|handle| handle.orders.send(KillOrder::OutOfMemory).is_ok()).count()
    }

    /// Evicts pods of a pattern as a kubelet does whose node runs out of something; `message` says of what. Returns how many
    /// there were.
    pub fn evict(&self, pattern: &str, message: &str) -> usize {
        let pods = self.context.pods();
        let asked =
            pods.iter().filter(|pod| faults::matches(pattern, &pod.key()) && !pod.state.borrow().is_over);
        asked.map(|pod| pod::evict(pod, message)).count()
    }

    /// Process ids of the running containers of this name in pods of a pattern, for tests that send signals or measure.
    #[must_use]
    pub fn processes(&self, pattern: &str, container: &str) -> Vec<u32> {
        let handles = self.context.running(|running| is_of(running, pattern, container));
        handles.iter().map(|handle| handle.process).collect()
    }

    /// Cuts the node off from the API server: no Lease, no status, nothing is heard of deletions. Its pods run on, and reach
    /// the API server themselves. The node life-cycle controller takes them only while another node speaks: where all are
    /// silent it suspects itself.
    pub fn fall_silent(&self) {
        self.context.silent.send_replace(true);
    }

    /// Ends a silence.
    pub fn speak_again(&self) {
        self.context.silent.send_replace(false);
    }

    /// The machine is lost: its processes are killed, and it says nothing any more. Its Node stays. A new node of its name is
    /// the machine after a reboot.
    pub fn lose(self) {
        self.fall_silent();
    }

    /// Changes how late a change of a ConfigMap, Secret or label may reach a mounted volume, from the next look on.
    pub fn refresh_every(&self, every: Duration) {
        self.context.refresh_every.send_replace(every);
    }

    /// What a container wrote to its outputs in all its starts; also of a pod that is gone. Several pods that had the
    /// name, one after the other, follow each other.
    #[must_use]
    pub fn logs(&self, namespace: &str, pod: &str, container: &str) -> String {
        let prefix = format!("{namespace}_{pod}_");
        let of_pod =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        let mut text = String::new();
        for pod in self.log_directories().into_iter().filter(of_pod) {
            for number in 0.. {
                let Ok(log) = std::fs::read(pod.join(container).join(format!("{number}.log"))) else { break };
                text.push_str(&String::from_utf8_lossy(&log));
            }
        }
        text
    }

    /// Where the logs of all pods that this node ever ran are: `<namespace>_<pod>_<uid>/<container>/<start>.log`.
    #[must_use]
    pub fn log_directory(&self) -> PathBuf {
        self.context.directory.join("logs")
    }

    fn log_directories(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.log_directory()).into_iter().flatten().flatten();
        let mut directories: Vec<(std::time::SystemTime, PathBuf)> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.created().ok()?, entry.path())))
            .collect();
        directories.sort();
        directories.into_iter().map(|(_, path)| path).collect()
    }
}

/// Whether `namespace/pod/container` is that container of a pod of this pattern.
fn is_of(running: &str, pattern: &str, container: &str) -> bool {
    running.rsplit_once('/').is_some_and(|(pod, name)| name == container && faults::matches(pattern, pod))
}

async fn leave(context: &NodeContext, admin: Client) {
    if !*context.silent.borrow() {
        register::leave(context, admin).await;
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
