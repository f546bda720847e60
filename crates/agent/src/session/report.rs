//! The report thread: sends finished seconds and results over a connection of its own.
//!
//! Seconds that were sent and not acknowledged are kept as they are; those never sent are merged when the ring is
//! full. So time resolution may be lost, counts never, and memory is bounded whatever the network does.

use super::Identity;
use super::dial::{endpoint, root_cause, sign};
use super::redial_delay;
use crate::clock::now_ns;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::recorder::Interval;
use lockstep_core::rng::Stream;
use lockstep_proto::receipt_hash;
use lockstep_proto::v1::coordination_client::CoordinationClient;
use lockstep_proto::v1::{self};
use std::collections::VecDeque;
use std::io;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Channel;

/// Seconds that may be on their way unacknowledged.
const IN_FLIGHT_MAX: usize = 8;
/// Seconds that may wait unsent; younger ones are merged into the youngest.
const UNSENT_MAX: usize = 24;
/// Size of a piece of a result.
const CHUNK_BYTES: usize = 256 << 10;

/// What the control thread hands over.
#[derive(Debug)]
pub(crate) enum ToReport {
    /// A finished second.
    Interval(Box<Interval>),
    /// The coordinator has taken in everything up to this record.
    Seen(u64),
    /// Results to hand in; answered when all are acknowledged.
    Submit(Vec<StagePart>),
}

/// A finished second, or several merged, with the numbers that they stand for.
#[derive(Debug)]
struct Record {
    first_seq: u64,
    last_seq: u64,
    interval: Box<Interval>,
}

/// Seconds on their way.
#[derive(Debug, Default)]
struct Ring {
    next_seq: u64,
    in_flight: VecDeque<Record>,
    unsent: VecDeque<Record>,
}

impl Ring {
    fn push(&mut self, interval: Box<Interval>) {
        self.next_seq += 1;
        let seq = self.next_seq;
        if self.unsent.len() >= UNSENT_MAX
            && let Some(youngest) = self.unsent.back_mut()
            && youngest.interval.stage == interval.stage
        {
            youngest.interval.totals.merge(&interval.totals);
            youngest.interval.second = youngest.interval.second.max(interval.second);
            youngest.last_seq = seq;
            return;
        }
        self.unsent.push_back(Record { first_seq: seq, last_seq: seq, interval });
    }

    fn acknowledge(&mut self, seq: u64) {
        while self.in_flight.front().is_some_and(|record| record.last_seq <= seq) {
            self.in_flight.pop_front();
        }
    }

    /// The next record to send in this session, encoded.
    fn next(&mut self) -> Option<v1::IntervalRecord> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let record = self.unsent.pop_front()?;
        let wire = encode(&record);
        self.in_flight.push_back(record);
        Some(wire)
    }
}

fn encode(record: &Record) -> v1::IntervalRecord {
    v1::IntervalRecord {
        first_seq: record.first_seq,
        last_seq: record.last_seq,
        stage: record.interval.stage,
        second: record.interval.second,
        totals: serde_json::to_vec(&record.interval.totals).unwrap_or_default(),
    }
}

/// Starts the thread. `submitted` gets a unit for each [`ToReport::Submit`].
pub(crate) fn spawn(
    identity: Identity,
    inputs: mpsc::UnboundedReceiver<ToReport>,
    submitted: mpsc::UnboundedSender<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("report".into()).spawn(move || {
        runtime.block_on(serve(identity, inputs, submitted));
    })?;
    Ok(())
}

async fn serve(
    identity: Identity,
    mut inputs: mpsc::UnboundedReceiver<ToReport>,
    submitted: mpsc::UnboundedSender<()>,
) {
    let mut channel = connect(&identity).await;
    let mut ring = Ring::default();
    let (acked, mut acks) = mpsc::unbounded_channel::<Option<u64>>();
    let mut stream: Option<mpsc::Sender<v1::IntervalRecord>> = None;
    loop {
        tokio::select! {
            input = inputs.recv() => match input {
                None => return,
                Some(ToReport::Interval(interval)) => ring.push(interval),
                Some(ToReport::Seen(seq)) => ring.acknowledge(seq),
                Some(ToReport::Submit(parts)) => {
                    let (identity, channel, submitted) = (identity.clone(), channel.clone(), submitted.clone());
                    tokio::spawn(async move {
                        for part in parts {
                            submit(&identity, &channel, &part).await;
                        }
                        let _ = submitted.send(());
                    });
                }
            },
            Some(ack) = acks.recv() => match ack {
                Some(seq) => ring.acknowledge(seq),
                None => {
                    stream = None;
                    channel = connect(&identity).await;
                }
            },
        }
        if stream.is_none() && !(ring.unsent.is_empty() && ring.in_flight.is_empty()) {
            stream = Some(open(&identity, &channel, &ring, acked.clone()));
        }
        if let Some(outbound) = &stream {
            while let Some(record) = ring.next() {
                // The channel holds as many as may be in flight, twice: what is sent again, and what is new.
                let _ = outbound.try_send(record);
            }
        }
    }
}

/// A channel that connects when it is first used, and again when it has to. Certificates are read now, so that a new one
/// is made after each failure.
async fn connect(identity: &Identity) -> Channel {
    loop {
        match endpoint(identity) {
            Ok(endpoint) => return endpoint.connect_lazy(),
            Err(error) => tracing::warn!(error = %root_cause(&error), "the coordinator cannot be dialled"),
        }
        tokio::time::sleep(redial_delay(3, now_ns())).await;
    }
}

/// Opens a report stream on which everything unacknowledged is sent again first. Its end is told as `None`.
fn open(
    identity: &Identity,
    channel: &Channel,
    ring: &Ring,
    acked: mpsc::UnboundedSender<Option<u64>>,
) -> mpsc::Sender<v1::IntervalRecord> {
    let (outbound, receiver) = mpsc::channel(2 * IN_FLIGHT_MAX);
    for record in &ring.in_flight {
        let _ = outbound.try_send(encode(record));
    }
    let mut request = Request::new(ReceiverStream::new(receiver));
    let signed = sign(identity, request.metadata_mut());
    let mut client = CoordinationClient::new(channel.clone());
    tokio::spawn(async move {
        if signed.is_ok()
            && let Ok(response) = client.report(request).await
        {
            let mut answers = response.into_inner();
            while let Ok(Some(ack)) = answers.message().await {
                let _ = acked.send(Some(ack.last_seq));
            }
        }
        tokio::time::sleep(redial_delay(1, now_ns())).await;
        let _ = acked.send(None);
    });
    outbound
}

/// Hands one result in, and offers it until it is acknowledged.
async fn submit(identity: &Identity, channel: &Channel, part: &StagePart) {
    let bytes = match part.to_bytes() {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(stage = part.stage, %error, "a result cannot be encoded");
            return;
        }
    };
    let hash = receipt_hash(&bytes);
    let mut random = Stream::new(u64::from(identity.index), now_ns());
    for attempt in 0.. {
        let chunks: Vec<v1::SubmitChunk> =
            bytes.chunks(CHUNK_BYTES).map(|data| v1::SubmitChunk { data: data.to_vec() }).collect();
        let mut request = Request::new(futures::stream::iter(chunks));
        if let Err(error) = sign(identity, request.metadata_mut()) {
            tracing::warn!(error = %root_cause(&error), "nothing proves who this is; tried again");
        }
        let channel = if attempt == 0 { channel.clone() } else { connect(identity).await };
        match CoordinationClient::new(channel).submit(request).await {
            Ok(receipt) if receipt.get_ref().hash == hash => return,
            Ok(_) => tracing::warn!(stage = part.stage, "the receipt is of another result; offered again"),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                tracing::error!(stage = part.stage, message = status.message(), "the result is refused");
                return;
            }
            Err(status) => {
                tracing::warn!(
                    stage = part.stage,
                    message = status.message(),
                    "not acknowledged; offered again"
                );
            }
        }
        tokio::time::sleep(redial_delay(attempt, random.next_u64())).await;
    }
}
