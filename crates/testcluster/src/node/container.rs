//! The life of a container: image, configuration, start, end, restart.
//!
//! Reasons and messages are those of pkg/kubelet/kuberuntime/kuberuntime_container.go (creation, termination message) and
//! kuberuntime_manager.go (back-off).

use super::context::{Entered, Environment, Handle, KillOrder, PodContext};
use super::crowd::Started;
use super::environment::{command, environment};
use super::events::{NORMAL, WARNING};
use super::faults::Fault;
use super::image::pull;
use super::options::Image;
use super::probes::{self, Probed};
use super::sandbox::{Bind, Sandbox};
use super::state::{Doing, is_sidecar, restarts};
use super::volumes::Volumes;
use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How often a configuration that was wrong is looked at again; a kubelet does so with its next sync, 10 s or later.
pub(super) const CONFIGURATION_RETRY: Duration = Duration::from_secs(1);
/// Back-offs double up to this multiple of the first: 5 min with a kubelet's 10 s.
const BACK_OFF_FACTOR_MAX: u32 = 30;
/// A termination message is cut here (`MaxContainerTerminationMessageLength`).
const MESSAGE_BYTES: usize = 4096;
/// Of a log that stands in for one, so much (`MaxContainerTerminationMessageLogLength`, `...LogLines`).
const LOG_MESSAGE: (usize, usize) = (2048, 80);

/// A container that was started.
struct Running {
    process: Started,
    orders: mpsc::UnboundedReceiver<KillOrder>,
    since: Timestamp,
    id: String,
    log: PathBuf,
    message: PathBuf,
    probed: Probed,
    _entered: Entered,
}

/// Starts a container, again and again where its policy says so, until it or the pod is done.
pub(super) async fn live(ctx: Arc<PodContext>, container: Container, volumes: Arc<Mounts>) {
    let name = container.name.clone();
    let mut crashes = 0;
    loop {
        let started = tokio::select! {
            started = prepare(&ctx, &container, &volumes) => started,
            () = ctx.ends() => return,
        };
        let running = match started {
            Ok(running) => running,
            Err(error) => {
                wait(&ctx, &name, "RunContainerError", &format!("{error:#}"));
                ctx.container_event(&name, WARNING, "Failed", &format!("Error: {error:#}"));
                continue_after(&ctx, CONFIGURATION_RETRY).await;
                continue;
            }
        };
        let began = Instant::now();
        let ended = run(&ctx, &container, running).await;
        let code = ended.exit_code;
        ctx.update(&name, |record| {
            record.state = Some(Doing::Ended(ended));
            (record.is_ready, record.is_started) = (false, false);
        });
        let spec = ctx.pod.spec.as_ref();
        let policy = if is_sidecar(&container) {
            Some("Always")
        } else {
            spec.and_then(|spec| spec.restart_policy.as_deref())
        };
        // Init containers that succeeded are done, whatever the policy of the pod.
        let is_init = spec
            .and_then(|spec| spec.init_containers.as_ref())
            .into_iter()
            .flatten()
            .any(|init| init.name == name);
        let is_done = is_init && !is_sidecar(&container) && code == 0;
        if is_done || ctx.ending.borrow().is_some() || !restarts(policy, code) {
            return;
        }
        let first = ctx.node.options.back_off;
        // What ran for long enough begins anew, as a kubelet's back-off is forgotten after twice its maximum.
        crashes = if began.elapsed() > first * BACK_OFF_FACTOR_MAX * 2 { 1 } else { crashes + 1 };
        if crashes > 1 {
            let back_off = doubled(first, crashes - 2);
            let described = ctx.described();
            let message = format!(
                "back-off {}s restarting failed container={name} pod={described}",
                back_off.as_secs()
            );
            ctx.container_event(
                &name,
                WARNING,
                "BackOff",
                &format!("Back-off restarting failed container {name} in pod {described}"),
            );
            wait(&ctx, &name, "CrashLoopBackOff", &message);
            tokio::select! {
                () = tokio::time::sleep(back_off) => {}
                () = ctx.ends() => return,
            }
        }
        ctx.update(&name, |record| record.restarts += 1);
    }
}

/// Where the volumes of a pod are, for its containers.
pub(super) struct Mounts(pub Vec<(String, PathBuf)>);

impl Mounts {
    pub(super) fn of(volumes: &Volumes, names: impl Iterator<Item = String>) -> Self {
        Self(names.filter_map(|name| Some((name.clone(), volumes.path(&name)?))).collect())
    }

    fn path(&self, name: &str) -> Option<&Path> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }
}

/// A back-off after so many failures before.
pub(super) fn doubled(first: Duration, times: u32) -> Duration {
    first * 2_u32.saturating_pow(times).min(BACK_OFF_FACTOR_MAX)
}

async fn continue_after(ctx: &PodContext, delay: Duration) {
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = ctx.ends() => {}
    }
}

/// Everything up to the running process; waits, and says for what, while it cannot be had.
async fn prepare(ctx: &Arc<PodContext>, container: &Container, volumes: &Mounts) -> Result<Running> {
    let name = &container.name;
    let image = pull(ctx, container).await;
    let environment = loop {
        let error = match environment(ctx, container).await {
            Ok(environment) => match create_fault(ctx) {
                None => break environment,
                Some(message) => ("CreateContainerError", message),
            },
            Err(error) => ("CreateContainerConfigError", format!("{error:#}")),
        };
        ctx.container_event(name, WARNING, "Failed", &format!("Error: {}", error.1));
        wait(ctx, name, error.0, &error.1);
        tokio::time::sleep(CONFIGURATION_RETRY).await;
    };
    start(ctx, container, volumes, &image, environment)
}

fn create_fault(ctx: &PodContext) -> Option<String> {
    let faults = ctx.node.orders.of(&ctx.key());
    faults.into_iter().find_map(|fault| match fault {
        Fault::CreateContainer(message) => Some(message),
        Fault::ImagePull(_) | Fault::SlowStart(_) => None,
    })
}

/// Says that a container waits, and for what.
pub(super) fn wait(ctx: &PodContext, container: &str, reason: &str, message: &str) {
    ctx.update(container, |record| {
        if let Some(Doing::Ended(ended)) = record.state.take() {
            record.last = Some(ended);
        }
        record.state = Some(Doing::Waiting(reason.to_owned(), message.to_owned()));
    });
}

fn start(
    ctx: &Arc<PodContext>,
    container: &Container,
    volumes: &Mounts,
    image: &Image,
    environment: Environment,
) -> Result<Running> {
    let name = &container.name;
    let number = ctx.state.borrow().containers.get(name).map_or(0, |record| record.restarts);
    let (logs, rights) = (ctx.logs.join(name), ctx.rights(container));
    std::fs::create_dir_all(&logs)?;
    let log = logs.join(format!("{number}.log"));
    let message = ctx.directory.join(format!("{name}.{number}.message"));
    std::fs::write(&message, "")?;
    std::fs::set_permissions(&message, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let mut binds: Vec<Bind> = image
        .files
        .iter()
        .map(|(to, from)| Bind { from: from.clone(), to: to.clone(), read_only: true })
        .collect();
    for file in ["hosts", "resolv.conf", "host.conf"] {
        binds.push(Bind { from: ctx.directory.join(file), to: format!("/etc/{file}"), read_only: false });
    }
    for mount in container.volume_mounts.iter().flatten() {
        let from =
            volumes.path(&mount.name).with_context(|| format!("no volume is called {}", mount.name))?;
        let from = mount.sub_path.as_ref().map_or_else(|| from.to_owned(), |path| from.join(path));
        binds.push(Bind { from, to: mount.mount_path.clone(), read_only: mount.read_only == Some(true) });
    }
    let to = container.termination_message_path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned());
    binds.push(Bind { from: message.clone(), to, read_only: false });
    let command = command(container, &image.entrypoint, &environment);
    let sandbox = Sandbox {
        keeper: &ctx.node.keeper,
        root: &ctx.directory.join(format!("{name}.{number}.root")),
        hostname: ctx.hostname(),
        binds: &binds,
        rights: &rights,
        command: &command,
        environment: &environment,
        working_directory: container.working_dir.as_deref().unwrap_or("/"),
        log: &log,
    };
    let process = match image.crowd.as_ref().filter(|crowd| command.first() == Some(&crowd.command)) {
        Some(crowd) => Started::Member(ctx.node.crowds.join(ctx, crowd, &binds, &environment)?),
        None => Started::Own(sandbox.start()?),
    };
    ctx.container_event(name, NORMAL, "Created", "Container created");
    ctx.container_event(name, NORMAL, "Started", "Container started");
    let (sender, orders) = mpsc::unbounded_channel();
    let handle = Handle { process: process.id(), orders: sender };
    let entered = ctx.node.enter(format!("{}/{name}", ctx.key()), handle.clone());
    let id = format!("containerd://{}-{name}-{number}", ctx.uid());
    let probed = Probed { ctx: Arc::clone(ctx), container: container.clone(), environment, handle };
    Ok(Running { process, orders, since: Timestamp::now(), id, log, message, probed, _entered: entered })
}

/// Waits for the end of a container, and brings it about where something asks for it.
async fn run(ctx: &Arc<PodContext>, container: &Container, mut running: Running) -> ContainerStateTerminated {
    let name = &container.name;
    let (since, id) = (running.since, running.id.clone());
    ctx.update(name, |record| {
        if let Some(Doing::Ended(ended)) = record.state.take() {
            record.last = Some(ended);
        }
        record.state = Some(Doing::Running(since));
        record.id = Some(id);
    });
    let probes = probes::start(&running.probed);
    let grace = ctx.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    let mut ending = ctx.ending.subscribe();
    ending.mark_changed();
    let mut kill_at: Option<Instant> = None;
    let mut is_out_of_memory = false;
    let code = loop {
        tokio::select! {
            code = running.process.wait() => break code.unwrap_or(137),
            Ok(()) = ending.changed() => {
                // Asked for once more with less time, it has less time.
                if let Some(grace) = *ending.borrow_and_update() {
                    if kill_at.is_none() {
                        ctx.container_event(name, NORMAL, "Killing", &format!("Stopping container {name}"));
                        running.process.terminate();
                    }
                    let end = Instant::now() + grace;
                    kill_at = Some(kill_at.map_or(end, |old| old.min(end)));
                }
            }
            Some(order) = running.orders.recv() => match order {
                KillOrder::OutOfMemory => {
                    is_out_of_memory = true;
                    running.process.kill();
                }
                KillOrder::Unhealthy => {
                    running.process.terminate();
                    kill_at = Some(Instant::now() + grace);
                }
            },
            () = until(kill_at) => {
                kill_at = Some(Instant::now() + grace.max(Duration::from_secs(1)));
                running.process.kill();
            }
        }
    };
    drop(probes);
    let reason = match code {
        0 => "Completed",
        _ if is_out_of_memory => "OOMKilled",
        _ => "Error",
    };
    let falls_back =
        container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") && code != 0;
    ContainerStateTerminated {
        exit_code: code,
        reason: Some(reason.to_owned()),
        message: message(&running.message, &running.log, falls_back),
        started_at: Some(Time(running.since)),
        finished_at: Some(Time(Timestamp::now())),
        container_id: Some(running.id.clone()),
        ..ContainerStateTerminated::default()
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// What the container left as its message, or the end of its log.
fn message(path: &Path, log: &Path, falls_back: bool) -> Option<String> {
    let mut text = std::fs::read(path).unwrap_or_default();
    text.truncate(MESSAGE_BYTES);
    if text.is_empty() && falls_back {
        let log = std::fs::read(log).unwrap_or_default();
        let (bytes, lines) = LOG_MESSAGE;
        let mut starts =
            log.iter().enumerate().rev().skip(1).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let start = starts.nth(lines - 1).unwrap_or(0).max(log.len().saturating_sub(bytes));
        text = log[start..].to_vec();
    }
    Some(String::from_utf8_lossy(&text).into_owned()).filter(|text| !text.is_empty())
}
