//! The gRPC service: authenticates calls, finds their run, and forwards. One task per stream; none of them decides
//! anything, and none of them waits for a run's actor while a heartbeat waits behind it.

use crate::actor::Input;
use crate::auth::{Authenticate, Caller};
use crate::caps::HELLO_LIMIT;
use crate::clock::monotonic_ns;
use crate::counters::Counters;
use crate::incoming::Peer;
use crate::registry::{Registry, RunEntry};
use crate::sessions::{Kind, Sessions};
use futures::{Stream, StreamExt};
use lockstep_core::results::part::{MAX_PART_BYTES, StagePart};
use lockstep_core::results::recorder::Interval;
use lockstep_core::results::series::Series;
use lockstep_proto::v1::coordination_server::Coordination;
use lockstep_proto::v1::{self, from_agent::Body as Up, from_coordinator::Body as Down};
use lockstep_proto::{PROTOCOL, receipt_hash};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service over all runs of this coordinator.
pub(crate) struct Service {
    registry: Registry,
    auth: Arc<dyn Authenticate>,
    counters: Arc<Counters>,
    sessions: Sessions,
    began_ns: u64,
    next_session: AtomicU64,
}

impl Service {
    pub(crate) fn new(registry: Registry, auth: Arc<dyn Authenticate>, counters: Arc<Counters>) -> Self {
        let (sessions, next_session) = (Sessions::default(), AtomicU64::new(1));
        Self { registry, auth, counters, sessions, began_ns: monotonic_ns(), next_session }
    }

    async fn authenticate<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let known = self.known(request).await;
        known.inspect_err(|_| self.counters.change(|counted| counted.calls_refused += 1))
    }

    async fn known<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = self.auth.authenticate(request.metadata()).await?;
        if let Some(peer) = request.extensions().get::<Peer>() {
            peer.prove();
        }
        Ok(caller)
    }

    /// Who calls, and the run that is coordinated here.
    async fn of_run<T>(&self, request: &Request<T>) -> Result<(RunEntry, Caller), Status> {
        let caller = self.authenticate(request).await?;
        let entry = self.registry.find(&caller.run_uid);
        let entry = entry.ok_or_else(|| Status::unavailable("this run is not coordinated here"))?;
        if caller.index >= entry.replicas {
            return Err(Status::invalid_argument("no such index in this run"));
        }
        Ok((entry, caller))
    }

    /// Number of a new stream, and what resolves when it has to end.
    fn open(&self, caller: &Caller, kind: Kind) -> (u64, impl Future<Output = &'static str> + use<>) {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = self.sessions.open(caller, kind, number);
        (number, session.ended(Arc::clone(&self.auth), caller.clone()))
    }
}

/// What a stream of control begins with, and what its caller has read before.
async fn hello(inbound: &mut Streaming<v1::FromAgent>) -> Option<((u64, u64), v1::Hello)> {
    match tokio::time::timeout(HELLO_LIMIT, inbound.next()).await {
        Ok(Some(Ok(v1::FromAgent { seen, epoch, body: Some(Up::Hello(hello)), .. }))) => {
            Some(((epoch, seen), hello))
        }
        _ => None,
    }
}

/// A whole result.
async fn read_part(mut chunks: Streaming<v1::SubmitChunk>) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?.data);
        if bytes.len() > MAX_PART_BYTES {
            return Err(Status::resource_exhausted("a result larger than its limit"));
        }
    }
    Ok(bytes)
}

/// The control stream of one agent.
struct Control {
    registry: Registry,
    caller: Caller,
    number: u64,
    inbound: Streaming<v1::FromAgent>,
    outbound: mpsc::UnboundedSender<v1::FromCoordinator>,
}

impl Control {
    /// Forwards to whatever coordinates the run here, and waits while nothing does, until `ended`.
    async fn serve(mut self, mut ended: impl Future<Output = &'static str> + Unpin) {
        let first = tokio::select! {
            first = hello(&mut self.inbound) => first,
            _ = &mut ended => None,
        };
        let Some((mut seen, hello)) = first else { return };
        if hello.protocol / 1_000 != PROTOCOL / 1_000 {
            tracing::warn!(
                uid = self.caller.run_uid,
                agent = self.caller.index,
                protocol = hello.protocol,
                "protocol is not ours"
            );
            return;
        }
        loop {
            let entry = tokio::select! {
                entry = self.registry.wait(&self.caller.run_uid) => entry,
                message = self.inbound.next() => match message {
                    Some(Ok(message)) => {
                        seen = (message.epoch, message.seen);
                        continue;
                    }
                    Some(Err(_)) | None => return,
                },
                _ = &mut ended => return,
            };
            if self.caller.index >= entry.replicas {
                tracing::warn!(
                    uid = self.caller.run_uid,
                    agent = self.caller.index,
                    "no such index in this run"
                );
                return;
            }
            match self.forward(&entry, seen, hello.clone(), &mut ended).await {
                Some(last) => seen = last,
                None => return,
            }
        }
    }

    /// Forwards until the run is no longer coordinated here, and answers what was read last; `None` when the stream ended.
    async fn forward(
        &mut self,
        entry: &RunEntry,
        seen: (u64, u64),
        hello: v1::Hello,
        ended: &mut (impl Future<Output = &'static str> + Unpin),
    ) -> Option<(u64, u64)> {
        let (Caller { index, attempt, .. }, session) = (self.caller.clone(), self.number);
        let (mut last, outbound, hello) = (seen, self.outbound.clone(), Box::new(hello));
        let _ = entry.inputs.send(Input::Hello { index, attempt, session, seen, hello, outbound });
        loop {
            let message = tokio::select! {
                message = self.inbound.next() => message,
                () = entry.inputs.closed() => return Some(last),
                _ = &mut *ended => None,
            };
            let Some(Ok(message)) = message else {
                let _ = entry.inputs.send(Input::Closed { index, attempt, session });
                return None;
            };
            last = (message.epoch, message.seen);
            let received_ns = monotonic_ns();
            let input = Input::Message { index, attempt, session, message: Box::new(message), received_ns };
            if entry.inputs.send(input).is_err() {
                return Some(last);
            }
        }
    }
}

#[tonic::async_trait]
impl Coordination for Service {
    type ControlStream = Out<v1::FromCoordinator>;
    type ReportStream = Out<v1::ReportAck>;

    async fn control(
        &self,
        request: Request<Streaming<v1::FromAgent>>,
    ) -> Result<Response<Self::ControlStream>, Status> {
        let caller = self.authenticate(&request).await?;
        let (number, ended) = self.open(&caller, Kind::Control);
        let inbound = request.into_inner();
        let (outbound, receiver) = mpsc::unbounded_channel::<v1::FromCoordinator>();
        let control = Control { registry: self.registry.clone(), caller, number, inbound, outbound };
        let open = self.counters.session();
        tokio::spawn(async move {
            let _open = open;
            tokio::pin!(ended);
            control.serve(ended).await;
        });
        // A ping is stamped when the connection asks for it, not when it was queued: that is what bounds the error.
        let stream = UnboundedReceiverStream::new(receiver).map(|mut message| {
            if let Some(Down::Ping(ping)) = &mut message.body {
                ping.sent_ns = monotonic_ns();
            }
            Ok(message)
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn report(
        &self,
        request: Request<Streaming<v1::IntervalRecord>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (entry, caller) = self.of_run(&request).await?;
        let (_, ended) = self.open(&caller, Kind::Report);
        let Caller { index, attempt, .. } = caller;
        let stream = request.into_inner().map(move |record| {
            let record = record?;
            let totals = serde_json::from_slice(&record.totals)
                .map_err(|error| Status::invalid_argument(format!("totals: {error}")))?;
            let interval = Interval { stage: record.stage, second: record.second, totals };
            let last_seq = record.last_seq;
            let series = (!record.series.is_empty()).then(|| Series::decode(&record.series)).transpose();
            let series = series.map_err(|error| Status::invalid_argument(format!("series: {error}")))?;
            let input = Input::Interval {
                index,
                attempt,
                epoch: record.epoch,
                seqs: (record.first_seq, last_seq),
                interval: Box::new(interval),
                series: series.map(Box::new),
            };
            entry.inputs.send(input).map_err(|_| Status::unavailable("the run is over"))?;
            Ok(v1::ReportAck { last_seq })
        });
        Ok(Response::new(Box::pin(stream.take_until(ended))))
    }

    async fn submit(
        &self,
        request: Request<Streaming<v1::SubmitChunk>>,
    ) -> Result<Response<v1::Receipt>, Status> {
        let (entry, caller) = self.of_run(&request).await?;
        let (_, ended) = self.open(&caller, Kind::Submit);
        let Caller { index, attempt, .. } = caller;
        let bytes = tokio::select! {
            bytes = read_part(request.into_inner()) => bytes?,
            why = ended => return Err(Status::aborted(why)),
        };
        // Whole, that is: how long an agent takes to send it is nothing that is done here.
        let came_ns = monotonic_ns();
        let hash = receipt_hash(&bytes);
        let part = StagePart::from_bytes(&bytes)
            .map_err(|error| Status::invalid_argument(format!("result: {error}")))?;
        if (part.agent, part.attempt) != (index, attempt) {
            return Err(Status::permission_denied("a result of another agent"));
        }
        let stage_index = part.stage;
        tracing::debug!(stage_index, agent = index, attempt, "a result has come");
        let (done, persisted) = oneshot::channel();
        entry
            .inputs
            .send(Input::Submit { part: Box::new(part), done })
            .map_err(|_| Status::unavailable("the run is over"))?;
        match persisted.await {
            Ok(Ok(())) => {
                let after_ms = monotonic_ns().saturating_sub(came_ns) / 1_000_000;
                tracing::info!(stage_index, agent = index, attempt, after_ms, "a result is acknowledged");
                Ok(Response::new(v1::Receipt { hash }))
            }
            Ok(Err(error)) => Err(Status::internal(format!("the result could not be persisted: {error}"))),
            Err(_) => Err(Status::unavailable("the run is over")),
        }
    }

    async fn ping(&self, _: Request<v1::PingRequest>) -> Result<Response<v1::PingResponse>, Status> {
        let monotonic_ns = monotonic_ns();
        Ok(Response::new(v1::PingResponse {
            state: "Serving".to_owned(),
            uptime_ms: monotonic_ns.saturating_sub(self.began_ns) / 1_000_000,
            monotonic_ns,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}
