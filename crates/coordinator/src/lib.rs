//! The coordinator: drives `core::run` for many runs at once over gRPC. Sessions, timers, intake of results.
//!
//! It knows nothing of Kubernetes, processes, terminals or files: its host does what [`HostRequest`] asks. It
//! decides nothing: that is done in `lockstep_core::run`.

mod actor;
pub mod auth;
mod caps;
mod clock;
pub mod counters;
pub mod host;
mod incoming;
mod live;
pub mod progress;
pub mod report;
mod server;
mod sessions;

pub use auth::{Authenticate, Caller, SharedSecrets};
pub use caps::Caps;
pub use clock::monotonic_ns;
pub use counters::Counters;
pub use host::{HostRequest, LiveStage, Persisted, Persisting, ResultStore, RunEnd, Snapshot};

use actor::{Actor, Input, Registry, RunEntry};
use lockstep_core::plan::Plan;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::Stop;
use lockstep_proto::v1::coordination_server::CoordinationServer;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::Instrument;

/// How long open streams may take to end at shutdown.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

/// A gRPC server for the agents of any number of runs.
#[derive(Debug)]
pub struct Coordinator {
    registry: Registry,
    observer: Observer,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Coordinator {
    /// Serves on a bound listener, on the current tokio runtime, until [`Coordinator::shutdown`]. `tls`: how connections
    /// are encrypted, if they are.
    #[must_use]
    pub fn serve(
        listener: TcpListener,
        auth: Arc<dyn Authenticate>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        Self::serve_capped(listener, auth, tls, Caps::default())
    }

    /// The same with limits of one's own on encrypted connections.
    #[must_use]
    pub fn serve_capped(
        listener: TcpListener,
        auth: Arc<dyn Authenticate>,
        tls: Option<Arc<rustls::ServerConfig>>,
        caps: Caps,
    ) -> Self {
        let (registry, counters) = (Registry::default(), Arc::new(Counters::default()));
        let serving = Arc::new(AtomicBool::new(true));
        let observer = Observer {
            registry: registry.clone(),
            counters: Arc::clone(&counters),
            serving: Arc::clone(&serving),
        };
        let service = server::Service::new(registry.clone(), auth, counters);
        let service = CoordinationServer::new(service).max_decoding_message_size(caps::MESSAGE_BYTES_MAX);
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(async move {
            let router = tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(Duration::from_secs(30)))
                .http2_keepalive_timeout(Some(Duration::from_secs(10)))
                .max_concurrent_streams(caps::STREAMS_MAX)
                .http2_max_header_list_size(caps::HEADERS_BYTES_MAX)
                .add_service(caps::Capped(service));
            let stopped = async {
                let _ = stopped.await;
            };
            let served = match tls {
                Some(config) => {
                    let incoming = incoming::encrypted(listener, config, caps);
                    router.serve_with_incoming_shutdown(incoming, stopped).await
                }
                None => router.serve_with_incoming_shutdown(incoming::plain(listener), stopped).await,
            };
            if let Err(error) = served {
                tracing::error!(%error, "the coordinator's server ended");
            }
            serving.store(false, Ordering::Relaxed);
        });
        Self { registry, observer, stop: Some(stop), server }
    }

    /// Begins a run. `spin`: its agents share this machine, and it has at least as many cores. Requests for the host come out of the receiver, the last of them [`HostRequest::Over`].
    ///
    /// # Errors
    /// When the plan cannot be encoded.
    pub fn begin(
        &self,
        plan: Arc<Plan>,
        spin: bool,
        store: Arc<dyn ResultStore>,
    ) -> Result<(RunHandle, mpsc::UnboundedReceiver<HostRequest>), serde_json::Error> {
        let plan_json = serde_json::to_vec(&*plan)?;
        let (inputs, receiver) = mpsc::unbounded_channel();
        let (host, requests) = mpsc::unbounded_channel();
        let uid = plan.run.uid.clone();
        // Of the highest level, so that it is there whatever the log is filtered by.
        let span = tracing::error_span!("run", run = %plan.run.name, %uid);
        let (replicas, counters) = (plan.replicas, Arc::clone(&self.observer.counters));
        let (actor, snapshots) =
            Actor::new(plan, plan_json, spin, store, counters, receiver, inputs.downgrade(), host);
        let entry = RunEntry { replicas, inputs: inputs.clone(), snapshots: snapshots.clone() };
        self.registry.add(uid.clone(), entry);
        let registry = self.registry.clone();
        let drive = async move {
            let end = actor.drive().await;
            registry.remove(&uid);
            end
        };
        let task = tokio::spawn(drive.instrument(span));
        Ok((RunHandle { inputs, snapshots, task }, requests))
    }

    /// A view of it for whoever only looks on.
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Stops serving: streams are told, and have a second to end.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if tokio::time::timeout(SHUTDOWN_LIMIT, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// A view of a coordinator, which outlives it.
#[derive(Clone, Debug)]
pub struct Observer {
    registry: Registry,
    counters: Arc<Counters>,
    serving: Arc<AtomicBool>,
}

impl Observer {
    /// What was counted since it began, over all runs.
    #[must_use]
    pub fn counted(&self) -> counters::Counted {
        self.counters.counted()
    }

    /// The runs under way, as they stand.
    #[must_use]
    pub fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        self.registry.snapshots()
    }

    /// Whether its server runs.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }
}

/// A run that was begun.
#[derive(Debug)]
pub struct RunHandle {
    inputs: mpsc::UnboundedSender<Input>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    task: JoinHandle<RunEnd>,
}

impl RunHandle {
    /// Asks the run to stop; may only harden.
    pub fn stop(&self, stop: Stop) {
        let _ = self.inputs.send(Input::Stop(stop));
    }

    /// The process or container of an attempt is known to have ended. `clean`: by itself, with success.
    pub fn ended(&self, index: u32, attempt: u32, reason: LossReason, clean: bool) {
        let _ = self.inputs.send(Input::Ended { index, attempt, reason, clean });
    }

    /// The run as it stands, about four times a second and on every notable change.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Everything that a report needs, once the run is over.
    ///
    /// # Errors
    /// When the run's task was ended from outside, or panicked.
    pub async fn end(self) -> Result<RunEnd, tokio::task::JoinError> {
        let Self { inputs, snapshots: _, task } = self;
        drop(inputs);
        task.await
    }
}
