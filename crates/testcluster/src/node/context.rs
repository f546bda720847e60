//! What the tasks of a node share, and what those of one pod do.

use super::crowd::Crowds;
use super::events::Events;
use super::faults::Orders;
use super::names::Names;
use super::options::NodeOptions;
use super::sandbox::Rights;
use super::state::PodState;
use crate::addresses::Network;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::Client;
use kube::api::PatchParams;
use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Shared by everything that a node does.
pub(super) struct NodeContext {
    pub options: NodeOptions,
    client: Client,
    pub address: Ipv4Addr,
    /// Where the addresses of pods come from.
    pub network: Arc<Network>,
    pub api_server: SocketAddrV4,
    /// Directory of the cluster's keeper.
    pub keeper: PathBuf,
    /// Directory of this node.
    pub directory: PathBuf,
    /// Whether the node is cut off from the API server.
    pub silent: watch::Sender<bool>,
    pub orders: Orders,
    /// Containers that share processes.
    pub crowds: Crowds,
    pub events: Events,
    /// Which names lead where, for `/etc/hosts`.
    pub names: watch::Sender<Arc<Names>>,
    /// How late a change of a ConfigMap, Secret or label reaches a mounted volume.
    pub refresh_every: watch::Sender<Duration>,
    /// Containers that run, by `namespace/pod/container`.
    running: Mutex<HashMap<String, Handle>>,
    /// Pods that this node runs, or ran.
    pods: Mutex<Vec<Weak<PodContext>>>,
}

/// A way to a running container.
#[derive(Clone)]
pub(super) struct Handle {
    /// Process id of its first process.
    pub process: u32,
    pub orders: mpsc::UnboundedSender<KillOrder>,
}

/// Why a running container is ended from outside.
#[derive(Clone, Debug)]
pub(super) enum KillOrder {
    /// As the kernel does when its memory is at its limit.
    OutOfMemory,
    /// A probe asks for a restart.
    Unhealthy,
}

impl NodeContext {
    pub(super) fn new(
        options: NodeOptions,
        client: Client,
        network: Arc<Network>,
        api_server: SocketAddrV4,
        keeper: PathBuf,
        directory: PathBuf,
        events: Events,
    ) -> Self {
        Self {
            silent: watch::Sender::new(false),
            orders: Orders::default(),
            crowds: Crowds::default(),
            names: watch::Sender::new(Arc::default()),
            refresh_every: watch::Sender::new(options.refresh_every),
            running: Mutex::default(),
            pods: Mutex::default(),
            options,
            client,
            address: network.next(),
            network,
            api_server,
            keeper,
            directory,
            events,
        }
    }

    /// The API server as this node reaches it: waits while the node is cut off.
    pub(super) async fn client(&self) -> Client {
        let mut silent = self.silent.subscribe();
        // The sender lives as long as this does.
        let _ = silent.wait_for(|silent| !silent).await;
        self.client.clone()
    }

    /// Running containers whose `namespace/pod/container` satisfies a condition.
    pub(super) fn running(&self, matches: impl Fn(&str) -> bool) -> Vec<Handle> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter(|(name, _)| matches(name)).map(|(_, handle)| handle.clone()).collect()
    }

    /// Enters a pod; it is one as long as somebody holds it.
    pub(super) fn note(&self, pod: &Arc<PodContext>) {
        let mut pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.retain(|pod| pod.strong_count() > 0);
        pods.push(Arc::downgrade(pod));
    }

    /// Pods that this node runs.
    pub(super) fn pods(&self) -> Vec<Arc<PodContext>> {
        let pods = self.pods.lock().unwrap_or_else(PoisonError::into_inner);
        pods.iter().filter_map(Weak::upgrade).collect()
    }

    /// Enters a running container; it is one until the guard is dropped.
    pub(super) fn enter(self: &Arc<Self>, name: String, handle: Handle) -> Entered {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), handle);
        Entered { node: Arc::clone(self), name }
    }
}

/// A container that runs.
pub(super) struct Entered {
    node: Arc<NodeContext>,
    name: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.node.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Shared by everything that happens to one pod.
pub(super) struct PodContext {
    pub node: Arc<NodeContext>,
    /// As it was when it came; what may change later is in `latest`.
    pub pod: Pod,
    pub latest: watch::Receiver<Pod>,
    pub address: Ipv4Addr,
    /// Its volumes and root file systems; gone with it.
    pub directory: PathBuf,
    /// Its logs; kept.
    pub logs: PathBuf,
    pub state: watch::Sender<PodState>,
    /// The status that was written last.
    pub published: tokio::sync::Mutex<PodStatus>,
    /// Set once the pod must end: how long its processes may take.
    pub ending: watch::Sender<Option<Duration>>,
}

impl PodContext {
    pub(super) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// What its processes take for the name of their machine.
    pub(super) fn hostname(&self) -> &str {
        let asked = self.pod.spec.as_ref().and_then(|spec| spec.hostname.as_deref());
        asked.unwrap_or_else(|| self.name())
    }

    pub(super) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `name_namespace(uid)`, as a kubelet writes a pod in messages.
    pub(super) fn described(&self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    /// `namespace/name`, which orders are matched with.
    pub(super) fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    /// Returns once the pod must end.
    pub(super) async fn ends(&self) {
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
    }

    /// Who a container runs as: its own security context over the pod's.
    pub(super) fn rights(&self, container: &Container) -> Rights {
        let pod = self.pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let dropped = own.capabilities.and_then(|capabilities| capabilities.drop).unwrap_or_default();
        let groups = pod.fs_group.into_iter().chain(pod.supplemental_groups.into_iter().flatten()).collect();
        Rights {
            uid: own.run_as_user.or(pod.run_as_user),
            gid: own.run_as_group.or(pod.run_as_group),
            groups,
            drops_capabilities: dropped.iter().any(|name| name == "ALL"),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
            read_only_root: own.read_only_root_filesystem == Some(true),
        }
    }

    /// Changes what is known of a container, and wakes whoever publishes it.
    pub(super) fn update(&self, container: &str, change: impl FnOnce(&mut super::state::Record)) {
        self.state.send_modify(|state| change(state.containers.entry(container.to_owned()).or_default()));
    }

    /// Reports something that happened to a container.
    pub(super) fn container_event(&self, container: &str, kind: &'static str, reason: &str, message: &str) {
        let (name, init) = (container, self.pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()));
        let is_init = init.into_iter().flatten().any(|container| container.name == name);
        let field = if is_init { "initContainers" } else { "containers" };
        self.node.events.report(&self.pod, &format!("spec.{field}{{{name}}}"), kind, reason, message);
    }

    /// Reports something that happened to the pod.
    pub(super) fn event(&self, kind: &'static str, reason: &str, message: &str) {
        self.node.events.report(&self.pod, "", kind, reason, message);
    }
}

/// Variables of a container that was started, for its exec probes.
pub(super) type Environment = BTreeMap<String, String>;

/// Who manages the fields that a node writes.
pub(super) fn as_kubelet() -> PatchParams {
    PatchParams { field_manager: Some("kubelet".to_owned()), ..PatchParams::default() }
}
