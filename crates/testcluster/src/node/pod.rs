//! The life of a pod on this node, from the moment it is bound to the moment it is gone.

use super::container::{self, Mounts};
use super::context::{NodeContext, PodContext};
use super::events::{NORMAL, WARNING};
use super::faults::Fault;
use super::state::{Doing, EVICTED, PodState, Record, is_sidecar};
use super::volumes::Volumes;
use super::{names, publish};
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, Pod, PodSpec, Probe};
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// First and longest pause between attempts to mount volumes.
const MOUNT_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// `activeDeadlineSeconds` passed: reason and message of pkg/kubelet/active_deadline.go.
const DEADLINE: (&str, &str) =
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

/// Runs a pod, until it is taken out of the API.
pub(super) async fn live(node: Arc<NodeContext>, latest: watch::Receiver<Pod>) {
    let pod = latest.borrow().clone();
    let is_done = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_done = matches!(is_done, Some("Succeeded" | "Failed"));
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let (name, namespace) =
        (pod.metadata.name.clone().unwrap_or_default(), pod.metadata.namespace.clone().unwrap_or_default());
    let taken_before = pod.status.as_ref().and_then(|status| status.start_time.clone());
    let state = PodState {
        started_at: Some(taken_before.map_or_else(Timestamp::now, |time| time.0)),
        containers: lost_containers(&pod),
        ..PodState::default()
    };
    let ctx = Arc::new(PodContext {
        address: node.network.next(),
        directory: node.directory.join("pods").join(&uid),
        logs: node.directory.join("logs").join(format!("{namespace}_{name}_{uid}")),
        state: watch::Sender::new(state),
        published: tokio::sync::Mutex::default(),
        ending: watch::Sender::new(None),
        latest: latest.clone(),
        node,
        pod,
    });
    let mut tasks = JoinSet::new();
    if !is_done {
        ctx.node.note(&ctx);
        tasks.spawn(publish::follow(Arc::clone(&ctx)));
        run(&ctx, latest.clone()).await;
        publish::write(&ctx).await;
    }
    let mut latest = latest;
    if latest.wait_for(is_deleted).await.is_ok() {
        publish::confirm_deletion(&ctx).await;
    }
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Containers that ran here before, on a machine that was lost meanwhile: nobody knows how they ended
/// (`ContainerStatusUnknown` in pkg/kubelet/kubelet_pods.go).
fn lost_containers(pod: &Pod) -> BTreeMap<String, Record> {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    let ran = statuses.into_iter().flatten().filter(|status| status.container_id.is_some());
    ran.map(|status| {
        let ended = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            container_id: status.container_id.clone(),
            ..ContainerStateTerminated::default()
        };
        let record = Record {
            state: Some(Doing::Ended(ended)),
            restarts: status.restart_count + 1,
            id: status.container_id.clone(),
            ..Record::default()
        };
        (status.name.clone(), record)
    })
    .collect()
}

/// Runs the containers to their end: their own, that of a deadline, or that of a deletion.
async fn run(ctx: &Arc<PodContext>, mut latest: watch::Receiver<Pod>) {
    let Some(spec) = &ctx.pod.spec else { return };
    if let Some(unknown) = unsupported(spec) {
        let message = format!("Pod was rejected: the test node does not know {unknown}");
        ctx.event(WARNING, "UnexpectedAdmissionError", &message);
        ctx.state.send_modify(|state| state.failed = Some(("UnexpectedAdmissionError".to_owned(), message)));
        return;
    }
    let was_lost = !ctx.state.borrow().containers.is_empty();
    if is_deleted(&latest.borrow()) || was_lost && spec.restart_policy.as_deref() == Some("Never") {
        // Nothing is started for what must end.
        ctx.state.send_modify(|state| state.is_over = true);
        return;
    }
    let started_at = ctx.state.borrow().started_at.unwrap_or_else(Timestamp::now);
    let mut deadline = deadline(&ctx.pod, started_at);
    let mut containers = std::pin::pin!(containers(ctx, spec));
    let mut is_late = false;
    latest.mark_changed();
    loop {
        tokio::select! {
            () = &mut containers => break,
            Ok(()) = latest.changed() => {
                let pod = latest.borrow_and_update();
                deadline = self::deadline(&pod, started_at);
                if is_deleted(&pod) {
                    end(ctx, pod.metadata.deletion_grace_period_seconds);
                }
            }
            () = async { tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)).await },
                if deadline.is_some() && !is_late =>
            {
                is_late = true;
                ctx.event(NORMAL, DEADLINE.0, DEADLINE.1);
                let why = (DEADLINE.0.to_owned(), DEADLINE.1.to_owned());
                ctx.state.send_modify(|state| state.failed = Some(why));
                end(ctx, spec.termination_grace_period_seconds);
            }
        }
    }
    ctx.state.send_modify(|state| state.is_over = true);
}

/// When a pod has been active for as long as it may; the API lets that be set and lowered while it lives.
fn deadline(pod: &Pod, started_at: Timestamp) -> Option<tokio::time::Instant> {
    let seconds = u64::try_from(pod.spec.as_ref()?.active_deadline_seconds?).ok()?;
    let elapsed = Duration::try_from(Timestamp::now().duration_since(started_at)).unwrap_or_default();
    Some(tokio::time::Instant::now() + Duration::from_secs(seconds).saturating_sub(elapsed))
}

/// Ends a pod for the node's own sake, at once: `evictPod` in pkg/kubelet/eviction/eviction_manager.go.
pub(super) fn evict(ctx: &PodContext, message: &str) {
    ctx.event(WARNING, EVICTED, message);
    ctx.state.send_modify(|state| state.failed = Some((EVICTED.to_owned(), message.to_owned())));
    end(ctx, Some(0));
}

/// Asks all processes of the pod to end within a grace of seconds.
fn end(ctx: &PodContext, grace_s: Option<i64>) {
    let grace = Duration::from_secs(u64::try_from(grace_s.unwrap_or(30)).unwrap_or(0));
    ctx.ending.send_replace(Some(grace));
}

/// What a pod may ask for that this node would get wrong in silence.
fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let containers = || spec.containers.iter().chain(init);
    let probes =
        || containers().flat_map(|at| [&at.liveness_probe, &at.readiness_probe, &at.startup_probe]).flatten();
    let is_https =
        |probe: &Probe| probe.http_get.as_ref().is_some_and(|get| get.scheme.as_deref() == Some("HTTPS"));
    [
        (spec.readiness_gates.is_some(), "readiness gates"),
        (spec.host_network == Some(true), "hostNetwork"),
        (spec.host_aliases.is_some(), "hostAliases"),
        (containers().any(|container| container.lifecycle.is_some()), "life-cycle hooks"),
        (containers().any(|container| container.volume_devices.is_some()), "volumeDevices"),
        (
            containers()
                .flat_map(|at| at.volume_mounts.iter().flatten())
                .any(|at| at.sub_path_expr.is_some()),
            "subPathExpr",
        ),
        (probes().any(|probe| probe.grpc.is_some()), "gRPC probes"),
        (probes().any(is_https), "HTTPS probes"),
    ]
    .into_iter()
    .find_map(|(is_asked, what)| is_asked.then_some(what))
}

async fn containers(ctx: &Arc<PodContext>, spec: &PodSpec) {
    let slow = ctx.node.orders.of(&ctx.key()).into_iter().find_map(|fault| match fault {
        Fault::SlowStart(delay) => Some(delay),
        Fault::ImagePull(_) | Fault::CreateContainer(_) => None,
    });
    let set_up = async {
        tokio::time::sleep(slow.unwrap_or_default()).await;
        set_up(ctx).await
    };
    let volumes = tokio::select! {
        volumes = set_up => volumes,
        () = ctx.ends() => return,
    };
    let names = spec.volumes.iter().flatten().map(|volume| volume.name.clone());
    let mounts = Arc::new(Mounts::of(&volumes, names));
    // Everything that goes on beside the containers ends with this function, and so do the containers.
    let mut aside = JoinSet::new();
    let (own, follower) = (Arc::clone(ctx), Arc::clone(ctx));
    aside.spawn(async move { volumes.follow(&own).await });
    aside.spawn(follow_names(follower));
    ctx.state.send_modify(|state| state.is_set_up = true);

    let live =
        |container: &Container| container::live(Arc::clone(ctx), container.clone(), Arc::clone(&mounts));
    let mut sidecars = JoinSet::new();
    for container in spec.init_containers.iter().flatten() {
        if is_sidecar(container) {
            sidecars.spawn(live(container));
            let name = container.name.clone();
            let started =
                move |state: &PodState| state.containers.get(&name).is_some_and(|record| record.is_started);
            let mut state = ctx.state.subscribe();
            tokio::select! {
                _ = state.wait_for(started) => {}
                () = ctx.ends() => break,
            }
        } else {
            live(container).await;
            let state = ctx.state.borrow();
            if !state.containers.get(&container.name).is_some_and(Record::has_succeeded) {
                break;
            }
        }
    }
    let is_initialized = ctx.ending.borrow().is_none() && {
        let state = ctx.state.borrow();
        let mut init = spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container));
        init.all(|container| state.containers.get(&container.name).is_some_and(Record::has_succeeded))
    };
    if is_initialized {
        let mut main: JoinSet<()> = spec.containers.iter().map(live).collect();
        while main.join_next().await.is_some() {}
    }
    // Sidecars end after the others.
    if !sidecars.is_empty() && ctx.ending.borrow().is_none() {
        end(ctx, spec.termination_grace_period_seconds);
    }
    while sidecars.join_next().await.is_some() {}
}

/// Makes what the containers find: volumes and name resolution. Tries until it can.
async fn set_up(ctx: &Arc<PodContext>) -> Volumes {
    let mut pause = MOUNT_RETRY.0;
    loop {
        let made = async {
            std::fs::create_dir_all(&ctx.directory)?;
            write_names(ctx)?;
            // Whatever is not in `hosts` is asked of this machine's port 53, where nobody is.
            std::fs::write(ctx.directory.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
            // A name with several addresses has them all.
            std::fs::write(ctx.directory.join("host.conf"), "multi on\n")?;
            Volumes::mount(ctx).await
        };
        match made.await {
            Ok(volumes) => return volumes,
            Err(error) => ctx.event(WARNING, "FailedMount", &format!("{error:#}")),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MOUNT_RETRY.1);
    }
}

fn write_names(ctx: &PodContext) -> std::io::Result<()> {
    let names = Arc::clone(&ctx.node.names.borrow());
    let text = names.hosts(ctx.hostname(), &ctx.address.to_string(), ctx.namespace());
    names::overwrite(&ctx.directory.join("hosts"), &text)
}

async fn follow_names(ctx: Arc<PodContext>) {
    let mut changes = ctx.node.names.subscribe();
    changes.mark_changed();
    while changes.changed().await.is_ok() {
        changes.mark_unchanged();
        if let Err(error) = write_names(&ctx) {
            ctx.event(WARNING, "FailedSync", &format!("failed to write /etc/hosts: {error}"));
        }
    }
}
