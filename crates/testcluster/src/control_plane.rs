//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, as processes that go with the test.
//!
//! Nodes and other users are impersonated by the admin, so the audit log knows them. The endpoint controllers are off,
//! since the API server takes no loopback address into Endpoints or EndpointSlices (`ValidateEndpointIP` in
//! pkg/apis/core/validation/validation.go); `node::names` does what they and a DNS server would.

use crate::addresses::Network;
use crate::binaries::Tool;
use crate::components::{Components, User, flags, is_made};
use crate::keeper::{Keeper, Kept};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// How long it may take until the API server is ready: seconds, unless the machine is busy with everybody else's build.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How often it is asked.
const READY_POLL: Duration = Duration::from_millis(50);

/// How a control plane differs from any other.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Silence of a node after which the node life-cycle controller calls it unreachable.
    pub node_monitor_grace: Duration,
    /// How long a pod tolerates an unreachable node, in whole seconds, unless it says so itself.
    pub unreachable_toleration: Duration,
}

impl Default for Options {
    /// As Kubernetes does by default: 50 s and 300 s.
    fn default() -> Self {
        Self { node_monitor_grace: Duration::from_secs(50), unreachable_toleration: Duration::from_secs(300) }
    }
}

/// A running control plane. Its processes and its directory go when it is dropped, or with this process.
pub struct ControlPlane {
    // In the order in which they end.
    scheduler: Kept,
    controller_manager: Kept,
    api_server: Mutex<Option<Kept>>,
    etcd: Kept,
    pub(crate) layout: Components,
    pub(crate) keeper: Keeper,
    pub(crate) network: Arc<Network>,
    options: Options,
    names: AtomicU64,
}

impl ControlPlane {
    /// The control plane that the tests of this binary share; started by whoever asks first.
    ///
    /// # Panics
    /// It cannot be had or does not become ready. Whoever asks later is told the same, at once.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Result<ControlPlane, String>> = OnceCell::const_new();
        let start =
            || async { Self::try_start(Options::default()).await.map_err(|error| format!("{error:?}")) };
        SHARED.get_or_init(start).await.as_ref().unwrap_or_else(|error| panic!("{error}"))
    }

    /// A control plane of one's own, for tests that stop its parts.
    ///
    /// # Panics
    /// It cannot be had or does not become ready; the panic shows what the component in question said.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// A control plane of one's own, with options.
    ///
    /// # Panics
    /// As [`ControlPlane::start`].
    pub async fn start_with(options: Options) -> Self {
        Self::try_start(options).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    async fn try_start(options: Options) -> Result<Self> {
        let network = Network::claim()?;
        let keeper = Keeper::new()?;
        let layout = Components::new(keeper.path(), network.host(1));
        // In this source for all to see: who reaches it is on this machine, and it is gone with the test.
        layout.write(&User::of_control_plane(|name| format!("{name}-token")))?;
        let mut etcd = start_component(&keeper, "etcd", Tool::Etcd, layout.etcd())?;
        let mut api_server = start_api_server(&keeper, &layout, &options)?;
        wait_until_ready(&layout, &mut etcd, &mut api_server).await?;
        let mut manager = layout.kube_controller_manager(options.node_monitor_grace);
        manager.extend(flags(&[
            (
                "controllers",
                "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller",
            ),
            ("node-monitor-period", "1s"),
            // A node each 100 ms instead of each 10 s.
            ("node-eviction-rate", "10"),
        ]));
        let name = "kube-controller-manager";
        let scheduler = start_component(&keeper, "kube-scheduler", Tool::Scheduler, layout.kube_scheduler())?;
        Ok(Self {
            scheduler,
            controller_manager: start_component(&keeper, name, Tool::ControllerManager, manager)?,
            api_server: Mutex::new(Some(api_server)),
            etcd,
            layout,
            keeper,
            network: Arc::new(network),
            options,
            names: AtomicU64::new(0),
        })
    }

    /// Its directory: logs of the components (`<name>.log`), the audit log, certificates. Gone with the control plane.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.keeper.path()
    }

    /// URL of the API server.
    #[must_use]
    pub fn url(&self) -> String {
        self.layout.url()
    }

    /// Process ids of its components, for tests that measure them.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let api_server = self.api_server.lock().unwrap_or_else(PoisonError::into_inner);
        let kept =
            [Some(&self.scheduler), Some(&self.controller_manager), api_server.as_ref(), Some(&self.etcd)];
        kept.into_iter().flatten().map(Kept::id).collect()
    }

    /// Kills the API server: from now on connections are refused.
    pub fn stop_api_server(&self) {
        drop(self.api_server.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Starts the API server again, with the address, certificate and keys that it had, and waits until it is ready.
    ///
    /// # Panics
    /// It runs already, or does not become ready.
    pub async fn start_api_server(&self) {
        assert!(
            self.api_server.lock().unwrap_or_else(PoisonError::into_inner).is_none(),
            "the API server runs: stop it first"
        );
        let start = async {
            let mut started = start_api_server(&self.keeper, &self.layout, &self.options)?;
            wait_for(&self.layout, &mut [("kube-apiserver", &mut started)]).await?;
            anyhow::Ok(started)
        };
        let started = start.await.unwrap_or_else(|error| panic!("{error:?}"));
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = Some(started);
    }

    /// Compacts etcd up to now: whoever watches from before is told that his resource version is too old (410 Gone).
    ///
    /// # Panics
    /// etcd refuses.
    pub fn compact_etcd(&self) {
        let compact = || -> Result<()> {
            // The answer to any read bears the revision. "AA==" is the key of one zero byte.
            let head = self.etcd_call("kv/range", r#"{"key":"AA=="}"#)?;
            let revision = head["header"]["revision"].as_str().context("an answer without a revision")?;
            self.etcd_call("kv/compaction", &format!(r#"{{"revision":"{revision}","physical":true}}"#))?;
            Ok(())
        };
        compact().unwrap_or_else(|error| panic!("etcd was not compacted: {error:?}"));
    }

    /// Size of etcd's database in bytes, as it says itself: `(allocated, in use)`.
    ///
    /// # Panics
    /// etcd does not answer.
    #[must_use]
    pub fn etcd_size_bytes(&self) -> (u64, u64) {
        let status = self.etcd_call("maintenance/status", "{}").unwrap_or_else(|error| panic!("{error:?}"));
        let bytes = |field: &str| status[field].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        (bytes("dbSize"), bytes("dbSizeInUse"))
    }

    /// A call of etcd's JSON gateway.
    fn etcd_call(&self, method: &str, body: &str) -> Result<serde_json::Value> {
        let address = self.layout.etcd_address();
        let mut socket = TcpStream::connect(address).context("failed to reach etcd")?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let length = body.len();
        write!(
            socket,
            "POST /v3/{method} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        ensure!(head.split_whitespace().nth(1) == Some("200"), "{answer}");
        Ok(serde_json::from_str(body)?)
    }

    /// A name that nobody else has in this control plane: the prefix and a number.
    pub(crate) fn unique(&self, prefix: &str) -> String {
        format!("{prefix}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }
}

fn start_api_server(keeper: &Keeper, layout: &Components, options: &Options) -> Result<Kept> {
    let mut arguments = layout.kube_apiserver(options.unreachable_toleration.as_secs());
    arguments.extend(flags(&[("endpoint-reconciler-type", "none"), ("authorization-mode", "RBAC")]));
    start_component(keeper, "kube-apiserver", Tool::ApiServer, arguments)
}

fn start_component(keeper: &Keeper, name: &str, tool: Tool, arguments: Vec<String>) -> Result<Kept> {
    let mut command = keeper.command(tool.path()?);
    command.args(arguments);
    keeper.start(command, name)
}

async fn wait_until_ready(layout: &Components, etcd: &mut Kept, api_server: &mut Kept) -> Result<()> {
    wait_for(layout, &mut [("etcd", etcd), ("kube-apiserver", api_server)]).await
}

/// Polls `/readyz` until it says ok, a component ends, or the limit passes.
async fn wait_for(layout: &Components, components: &mut [(&str, &mut Kept)]) -> Result<()> {
    let end = Instant::now() + READY_LIMIT;
    let mut last = String::from("it never made its certificate");
    loop {
        if is_made(&layout.ca()) {
            match readyz(layout).await {
                Ok(()) => return Ok(()),
                Err(error) => last = format!("{error:#}"),
            }
        }
        for (name, component) in &mut *components {
            component.ensure_runs(name)?;
        }
        if Instant::now() >= end {
            let said: Vec<String> = components
                .iter()
                .map(|(name, kept)| format!("{name} said last:\n{}", kept.last_lines(20)))
                .collect();
            bail!("the API server is not ready after {READY_LIMIT:?}: {last}\n{}", said.join("\n"));
        }
        tokio::time::sleep(READY_POLL).await;
    }
}

async fn readyz(layout: &Components) -> Result<()> {
    let client = crate::access::client(&layout.admin_kubeconfig()).await?;
    let answer = client.request_text(http_get("/readyz")?).await?;
    ensure!(answer == "ok", "/readyz says {answer}");
    Ok(())
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}
