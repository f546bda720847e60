//! `lockstep-cluster`: a Kubernetes cluster with nodes, for machines that have neither Docker nor a registry of images.
//!
//! Everything is the real thing: etcd, API server, controllers, scheduler, kubelets, kube-proxy, containerd, runc, CNI,
//! CoreDNS, a provisioner of volumes. What is made by hand is the machines: each is a set of Linux namespaces
//! (`machine`), joined by a bridge of their own (`network`). Nothing of it can leave this machine.
//!
//! | module | what |
//! |---|---|
//! | `state` | the directory that is the only truth about what was made |
//! | `machine` | namespaces with a first process; daemons in them |
//! | `network` | the wires between machines, and the one to this machine |
//! | `cgroups` | where the pods of nodes are counted |
//! | `programs`, `images` | what must be there before, built and fetched once |
//! | `control`, `node` | what runs on which machine, and how it is set up |
//! | `cluster` | all of it together: up, down, status, faults |
//!
//! Deliberately not here: anything durable, high availability, upgrades, more than one architecture, images from a
//! registry, NetworkPolicies that are enforced. It is for tests and for trying things out. See docs/cluster.md.

mod cgroups;
mod cluster;
mod control;
mod images;
mod machine;
mod network;
mod node;
mod programs;
mod state;
mod wait;

use clap::{Parser, Subcommand, ValueEnum};
use lockstep_core::problem::Problem;
use state::{Settings, State};
use std::path::PathBuf;
use std::process::ExitCode;

/// A Kubernetes cluster with nodes, without Docker, in namespaces of this machine.
#[derive(Parser)]
struct Arguments {
    /// Where all that it makes is written down and kept. A real disk: containerd's overlays need one.
    #[arg(long, global = true, env = "LOCKSTEP_CLUSTER", default_value = "/var/lib/lockstep-cluster")]
    state: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Starts what does not run yet, imports images, and waits until it can be used.
    Up {
        /// Nodes beside the control plane.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
        nodes: u8,
        /// Archives of images (OCI or `docker save`) to import into every node.
        #[arg(long = "image", value_name = "TAR")]
        images: Vec<PathBuf>,
        /// Silence of a node, in seconds, after which it counts as unreachable.
        #[arg(long, value_name = "SECONDS", default_value_t = 50)]
        node_grace: u64,
        /// How long pods tolerate an unreachable node, in seconds, unless they say so themselves.
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        toleration: u64,
    },
    /// Ends and removes everything that was made, in whatever state it is.
    Down,
    /// Says what runs.
    Status,
    /// Imports archives of images into every node.
    Load {
        /// Archives of images (OCI or `docker save`).
        #[arg(required = true, value_name = "TAR")]
        images: Vec<PathBuf>,
    },
    /// Does to one node what happens to nodes.
    Node {
        /// `node-1`, `node-2`, ...
        name: String,
        /// What happens.
        action: Action,
        /// To whom, where it is a daemon that stops, starts or restarts.
        #[arg(required_if_eq_any([("action", "stop"), ("action", "start"), ("action", "restart")]))]
        daemon: Option<Daemon>,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Action {
    /// Ends a daemon; pods go on.
    Stop,
    /// Starts a daemon.
    Start,
    /// Ends a daemon and starts it again.
    Restart,
    /// Takes the node off the network; everything on it goes on.
    Unplug,
    /// Puts it back.
    Plug,
    /// Ends everything on the node at once, as when power is lost. Its disk stays.
    PowerOff,
    /// Starts the node again, with the disk that it had.
    PowerOn,
}

/// What runs on every node.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Daemon {
    /// Runs the pods.
    Kubelet,
    /// Runs the containers.
    Containerd,
    /// Serves Services.
    KubeProxy,
}

fn main() -> ExitCode {
    let Arguments { state, command } = Arguments::parse();
    match run(&State::new(state), command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let problem = match error.downcast::<Problem>() {
                Ok(problem) => problem,
                Err(error) => Problem::new("lockstep-cluster failed", format!("{error:#}"))
                    .likely("this machine lacks what the cluster needs: see docs/cluster.md")
                    .next("lockstep-cluster down, then up again"),
            };
            eprint!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(state: &State, command: Command) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(Problem::new("The cluster cannot be touched", "this is not root")
            .likely("namespaces, cgroups and mounts are root's")
            .next("run it again with sudo")
            .into());
    }
    match command {
        Command::Up { nodes, images, node_grace, toleration } => cluster::up(
            state,
            &Settings { network: 0, nodes, node_grace_s: node_grace, toleration_s: toleration },
            &images,
        ),
        Command::Down => cluster::down(state),
        Command::Status => cluster::status(state),
        Command::Load { images } => cluster::load(state, &images),
        Command::Node { name, action, daemon } => cluster::happen(state, &name, action, daemon),
    }
}
