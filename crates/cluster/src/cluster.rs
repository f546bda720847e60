//! All of it together: up, down, status, and what happens to nodes.
//!
//! `up` looks at each part and starts what does not run, so it begins, continues and mends alike. Only what an earlier `up`
//! left half-made (there is no `ready`) is removed first. `down` needs nothing but the state directory.

use crate::control::Control;
use crate::machine::Machine;
use crate::network;
use crate::node::Node;
use crate::programs::Programs;
use crate::state::{Lock, Settings, State};
use crate::{Action, Daemon, cgroups, images};
use anyhow::Result;
use lockstep_core::problem::Problem;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// A line for whoever waits.
pub(crate) fn say(line: &str) {
    eprintln!("cluster: {line}");
}

pub(crate) fn up(state: &State, wanted: &Settings, archives: &[PathBuf]) -> Result<()> {
    readable(archives)?;
    let programs = Programs::get()?;
    let mut all = images::own(&programs)?;
    all.extend(archives.iter().cloned());
    let began = Instant::now();
    let lock = begin(state, wanted)?;
    let settings = state.existing()?;
    let control = Control::new(state, &settings, &programs);
    let nodes: Vec<Node> =
        (1..=settings.nodes).map(|number| Node::new(state, &settings, &programs, number)).collect();

    control.furnish()?;
    if control.machine.boot(&lock)? {
        network::wire_control(&settings, &control.machine)?;
    }
    for node in &nodes {
        boot(&settings, &control, node, &lock)?;
        node.start("containerd")?;
    }
    // Importing takes containerd and disks, starting the control plane takes neither.
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| -> Result<()> {
            nodes.iter().try_for_each(Node::wait_for_containerd)?;
            images::import(nodes.iter().map(|node| &node.machine), &programs, &all)
        });
        control.start()?;
        for node in &nodes {
            node.start_all()?;
        }
        importing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    say("images imported");
    control.wait_for_nodes(nodes.iter().map(|node| &node.machine))?;
    control.wait_for_dns()?;
    state.write_kubeconfig(&control.kubeconfig("admin"))?;
    state.write_ready()?;
    say(&format!(
        "{} nodes are ready, and DNS answers, after {:.1} s",
        nodes.len(),
        began.elapsed().as_secs_f64()
    ));
    println!("export KUBECONFIG={}", state.kubeconfig().display());
    Ok(())
}

/// Locks the state, and sees to it that it holds settings, of which nothing or all was made before.
fn begin(state: &State, wanted: &Settings) -> Result<Lock> {
    let mut lock = state.create()?;
    if let Some(found) = state.settings()? {
        if state.is_ready() {
            let wanted = Settings { network: found.network, ..wanted.clone() };
            if wanted == found {
                say("it runs already: what has ended is started again, images are imported again");
                return Ok(lock);
            }
            return Err(Problem::new(
                "The cluster was not started",
                format!("one runs with other settings: {found:?}, asked for was {wanted:?}"),
            )
            .likely("it was started for something else, with --nodes, --node-grace or --toleration")
            .next("lockstep-cluster down, then up again")
            .kept("the cluster that runs")
            .into());
        }
        say("an earlier start was not finished: what it left is removed first");
        remove(state, &lock)?;
        lock = state.create()?;
    }
    state.write_settings(&Settings { network: network::free()?, ..wanted.clone() })?;
    Ok(lock)
}

/// Boots a node, unless it runs, and joins it to the network.
fn boot(settings: &Settings, control: &Control, node: &Node, lock: &Lock) -> Result<()> {
    node.furnish(control)?;
    node.machine.boot(lock)?;
    network::wire_node(settings, &control.machine, &node.machine, node.number)
}

fn readable(archives: &[PathBuf]) -> Result<()> {
    for archive in archives {
        std::fs::File::open(archive).map_err(|error| images::unreadable(archive, &error))?;
    }
    Ok(())
}

pub(crate) fn load(state: &State, archives: &[PathBuf]) -> Result<()> {
    readable(archives)?;
    let settings = state.existing()?;
    let programs = Programs::get()?;
    let nodes: Vec<Machine> = node_names(&settings).map(|name| Machine::new(state, &name)).collect();
    images::import(nodes.iter(), &programs, archives)
}

fn node_names(settings: &Settings) -> impl Iterator<Item = String> {
    (1..=settings.nodes).map(|number| format!("node-{number}"))
}

pub(crate) fn down(state: &State) -> Result<()> {
    let began = Instant::now();
    match state.lock()? {
        Some(lock) => remove(state, &lock)?,
        None => say(&format!("there is nothing: {} does not exist", state.path().display())),
    }
    say(&format!("down after {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

fn remove(state: &State, lock: &Lock) -> Result<()> {
    is_ours(state.path())?;
    for machine in Machine::all(state)? {
        machine.power_off()?;
    }
    if let Some(settings) = state.settings()? {
        // The kernel takes a network down some time after its last process; what bears its name then is not ours.
        network::wait_for_wire(&settings);
        cgroups::remove(&settings)?;
    }
    state.remove(lock)
}

/// A directory that holds something else must not be removed, whatever `--state` says.
fn is_ours(directory: &Path) -> Result<()> {
    let mut entries = std::fs::read_dir(directory)?;
    if entries.next().is_none() || directory.join("cluster.json").exists() {
        return Ok(());
    }
    Err(Problem::new(
        format!("{} was not removed", directory.display()),
        "it holds files, and no cluster.json: no cluster was made in it",
    )
    .likely("--state or LOCKSTEP_CLUSTER names another directory than was meant")
    .next("name the directory of the cluster")
    .kept("everything")
    .into())
}

pub(crate) fn status(state: &State) -> Result<()> {
    let settings = state.existing()?;
    println!("state       {}", state.path().display());
    println!("kubeconfig  {}", state.kubeconfig().display());
    println!("started     {}", if state.is_ready() { "yes" } else { "not to its end: run up, or down" });
    for name in std::iter::once("control".to_owned()).chain(node_names(&settings)) {
        let machine = Machine::new(state, &name);
        let Some(init) = machine.init() else {
            println!("{name:<11} off");
            continue;
        };
        let mut daemons: Vec<(u32, String)> = machine.processes();
        let others = daemons.len();
        daemons.retain(|(_, name)| machine.log(name).exists());
        let others = others - daemons.len();
        let daemons: Vec<String> = daemons.into_iter().map(|(id, name)| format!("{name} ({id})")).collect();
        println!("{name:<11} process {init}: {}; {others} other processes", daemons.join(", "));
    }
    Ok(())
}

pub(crate) fn happen(state: &State, name: &str, action: Action, daemon: Option<Daemon>) -> Result<()> {
    let settings = state.existing()?;
    let Some(number) = (1..=settings.nodes).find(|number| name == format!("node-{number}")) else {
        let names: Vec<String> = node_names(&settings).collect();
        return Err(Problem::new(format!("Nothing was done to {name}"), "there is no node of that name")
            .likely(format!("the nodes are {}", names.join(", ")))
            .next("lockstep-cluster status")
            .into());
    };
    let programs = Programs::get()?;
    let control = Control::new(state, &settings, &programs);
    let node = Node::new(state, &settings, &programs, number);
    let daemon = daemon.map_or("", |daemon| match daemon {
        Daemon::Kubelet => "kubelet",
        Daemon::Containerd => "containerd",
        Daemon::KubeProxy => "kube-proxy",
    });
    match action {
        Action::Stop => node.machine.stop(daemon),
        Action::Start => node.start(daemon).map(drop),
        Action::Restart => node.machine.stop(daemon).and_then(|()| node.start(daemon)).map(drop),
        Action::Unplug => network::plug(&control.machine, &node.machine, false),
        Action::Plug => network::plug(&control.machine, &node.machine, true),
        Action::PowerOff => node.machine.power_off(),
        Action::PowerOn => {
            let Some(lock) = state.lock()? else { return state.existing().map(drop) };
            boot(&settings, &control, &node, &lock)?;
            node.start_all()
        }
    }
}
