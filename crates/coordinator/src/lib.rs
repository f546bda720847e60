//! The coordinator: drives `core::run` for many runs at once over gRPC. Sessions, timers, intake of results.
//!
//! It knows nothing of Kubernetes, processes, terminals or files: its host does what [`HostRequest`] asks. It
//! decides nothing: that is done in `lockstep_core::run`.

mod actor;
pub mod auth;
pub mod buckets;
mod caps;
mod clock;
pub mod counters;
pub mod host;
mod incoming;
mod kept;
mod link;
mod live;
pub mod progress;
mod record;
mod registry;
pub mod report;
mod server;
mod sessions;
pub mod waiting;

pub use auth::{Authenticate, Caller, SharedSecrets};
pub use caps::Caps;
pub use clock::{RunClock, monotonic_ns};
pub use counters::Counters;
pub use host::{
    HostRequest, LiveStage, Persisted, Persisting, RecordError, Recording, ResultStore, RunEnd, Snapshot,
};
pub use record::ResumeError;

use actor::{Actor, Beginning, Input};
use lockstep_core::plan::Plan;
use lockstep_core::results::part::StagePart;
use lockstep_core::run::Run;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::Stop;
use lockstep_proto::v1::coordination_server::CoordinationServer;
use registry::{Registry, RunEntry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
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
    /// Serves on a bound listener, on the current tokio runtime, until [`Coordinator::shutdown`]; runs are driven by the runtime
    /// that begins them, which may be another. `tls`: how connections are encrypted, if they are.
    #[must_use]
    pub fn serve(
        listener: TcpListener,
        auth: Arc<dyn Authenticate>,
        tls: Option<Arc<rustls::ServerConfig>>,
    ) -> Self {
        Self::serve_capped(std::future::ready(listener), auth, tls, Caps::default())
    }

    /// The same on a listener that is still to come, with limits of one's own on encrypted connections. Runs may begin before:
    /// their agents dial until somebody listens.
    #[must_use]
    pub fn serve_capped(
        listening: impl Future<Output = TcpListener> + Send + 'static,
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
            let mut stopped = std::pin::pin!(async {
                let _ = stopped.await;
            });
            let listener = tokio::select! {
                listener = listening => listener,
                () = &mut stopped => return,
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

    /// Begins a run. `spin`: its agents share this machine, and it has at least as many cores. `epoch`: of this coordinator;
    /// agents refuse what bears a lower one than they have seen. Requests for the host come out of the receiver, the last of
    /// them [`HostRequest::Over`] or [`HostRequest::Replaced`].
    ///
    /// # Errors
    /// When the plan cannot be encoded.
    pub fn begin(
        &self,
        plan: Arc<Plan>,
        spin: bool,
        epoch: u64,
        store: Arc<dyn ResultStore>,
    ) -> Result<(RunHandle, Requests), serde_json::Error> {
        let clock = RunClock::default();
        let began_ns = clock.now_ns();
        let mut run = Run::new(plan, spin, began_ns);
        let first = run.begin();
        self.drive(Beginning { run, first, clock, began_ns, epoch, parts: Vec::new(), store })
    }

    /// Goes on with a run that another coordinator had, from what its store has: the record, and the results. `epoch` is
    /// higher than that of any before.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn resume(
        &self,
        record: &[u8],
        parts: Vec<StagePart>,
        epoch: u64,
        store: Arc<dyn ResultStore>,
    ) -> Result<(RunHandle, Requests), ResumeError> {
        let (mut run, clock) = record::read(record)?;
        let first = run.resume(clock.now_ns());
        let began_ns = run.began_ns();
        Ok(self.drive(Beginning { run, first, clock, began_ns, epoch, parts, store })?)
    }

    fn drive(&self, beginning: Beginning) -> Result<(RunHandle, Requests), serde_json::Error> {
        let plan = beginning.run.plan();
        let plan_json = serde_json::to_vec(&*plan)?;
        let (inputs, receiver) = mpsc::unbounded_channel();
        let (host, requests) = mpsc::unbounded_channel();
        // Of the highest level, so that it is there whatever the log is filtered by.
        let span = tracing::error_span!("run", run = %plan.run.name, uid = %plan.run.uid);
        let (clock, counters) = (beginning.clock, Arc::clone(&self.observer.counters));
        let (actor, snapshots) =
            Actor::new(beginning, plan_json, counters, receiver, inputs.downgrade(), host);
        let entry =
            RunEntry { replicas: plan.replicas, inputs: inputs.clone(), snapshots: snapshots.clone() };
        let registered = self.registry.add(plan.run.uid.clone(), entry);
        let drive = async move {
            let _registered = registered;
            actor.drive().await
        };
        let task = tokio::spawn(drive.instrument(span));
        let _ends = EndsWithIt(task.abort_handle());
        Ok((RunHandle { inputs, snapshots, plan, clock, task, _ends }, requests))
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
    plan: Arc<Plan>,
    clock: RunClock,
    task: JoinHandle<Option<RunEnd>>,
    _ends: EndsWithIt,
}

/// A run whose handle is dropped is let go: nothing more is said or written for it.
#[derive(Debug)]
struct EndsWithIt(AbortHandle);

impl Drop for EndsWithIt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the coordinator asks of the host of a run.
pub type Requests = mpsc::UnboundedReceiver<HostRequest>;

impl RunHandle {
    /// The plan that is run.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The clock of the run's instants.
    #[must_use]
    pub fn clock(&self) -> RunClock {
        self.clock
    }

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

    /// Everything that a report needs, once the run is over; `None` when another coordinator has it.
    ///
    /// # Errors
    /// When the run's task was ended from outside, or panicked.
    pub async fn end(self) -> Result<Option<RunEnd>, tokio::task::JoinError> {
        let Self { inputs, snapshots: _, plan: _, clock: _, task, _ends } = self;
        drop(inputs);
        task.await
    }
}
