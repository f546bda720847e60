//! The report thread: sends finished seconds and results over a connection of its own.
//!
//! Seconds that were sent and not acknowledged are kept as they are; those never sent are merged when the ring is
//! full. So time resolution may be lost, counts never, and memory is bounded whatever the network does. What was acknowledged
//! of a stage that is not handed in yet is kept as a sum: to a coordinator that takes the run over it is told first.

use super::Identity;
use super::dial::{endpoint, root_cause, sign};
use super::redial_delay;
use crate::clock::now_ns;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::recorder::{Interval, StageRecord};
use lockstep_core::results::series::Series;
use lockstep_core::rng::Stream;
use lockstep_proto::receipt_hash;
use lockstep_proto::v1::coordination_client::CoordinationClient;
use lockstep_proto::v1::{self};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Seconds that may be on their way unacknowledged.
const IN_FLIGHT_MAX: usize = 8;
/// Seconds that may wait unsent; younger ones are merged into the youngest.
const UNSENT_MAX: usize = 24;
/// Size of a piece of a result.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a result is waited for through the line that seconds go through; it may be dead without a sign.
const LINE_LIMIT: Duration = Duration::from_secs(5);
/// Within what time seconds are told to a coordinator that took the run over, with full jitter: what it needs of a thousand
/// agents first is where they stand.
const TURN: Duration = Duration::from_secs(2);

/// What the control thread hands over.
#[derive(Debug)]
pub(crate) enum ToReport {
    /// A finished second.
    Interval(Box<Interval>),
    /// Who coordinates the run now, and in which epoch.
    Leader {
        /// Where it listens.
        at: SocketAddr,
        /// Its epoch: numbers of records count in it.
        epoch: u64,
    },
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
    /// With the sum of all that another coordinator had acknowledged: the same by second.
    series: Option<Series>,
}

/// Seconds on their way.
#[derive(Debug, Default)]
struct Ring {
    epoch: u64,
    next_seq: u64,
    in_flight: VecDeque<Record>,
    unsent: VecDeque<Record>,
    /// What was acknowledged of stages that are not handed in, and their last second.
    acknowledged: BTreeMap<u32, (u32, StageRecord)>,
    handed_in: BTreeSet<u32>,
}

impl Ring {
    fn push(&mut self, interval: Box<Interval>) {
        self.next_seq += 1;
        let seq = self.next_seq;
        if self.unsent.len() >= UNSENT_MAX
            && let Some(youngest) = self.unsent.back_mut()
            && youngest.interval.stage == interval.stage
            && youngest.series.is_none()
        {
            youngest.interval.totals.merge(&interval.totals);
            youngest.interval.second = youngest.interval.second.max(interval.second);
            youngest.last_seq = seq;
            return;
        }
        self.unsent.push_back(Record { first_seq: seq, last_seq: seq, interval, series: None });
    }

    fn acknowledge(&mut self, seq: u64) {
        while let Some(record) = self.in_flight.pop_front_if(|record| record.last_seq <= seq) {
            let Record { interval, series, .. } = record;
            if series.is_none() && !self.handed_in.contains(&interval.stage) {
                let (last, sum) = self.acknowledged.entry(interval.stage).or_default();
                *last = interval.second.max(*last);
                sum.absorb(&interval);
            }
        }
    }

    /// The result of a stage is with the coordinator, durably.
    fn hand_in(&mut self, stage: u32) {
        self.acknowledged.remove(&stage);
        self.handed_in.insert(stage);
    }

    /// Another coordinator begins with number 1: with what the one before had, then with what it may not have had.
    fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        let known = self.acknowledged.iter().map(|(&stage, (second, sum))| {
            let interval = Interval { stage, second: *second, totals: sum.totals.clone() };
            let series = Some(sum.series.clone());
            Record { first_seq: 0, last_seq: 0, interval: Box::new(interval), series }
        });
        let mut records: VecDeque<Record> = known.collect();
        // Sums that were on their way to a coordinator that is gone are made anew.
        let waiting = self.in_flight.drain(..).chain(self.unsent.drain(..));
        records.extend(waiting.filter(|record| record.series.is_none()));
        self.next_seq = 0;
        for record in &mut records {
            self.next_seq += 1;
            (record.first_seq, record.last_seq) = (self.next_seq, self.next_seq);
        }
        self.unsent = records;
    }

    /// The next record to send in this session, encoded.
    fn next(&mut self) -> Option<v1::IntervalRecord> {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let record = self.unsent.pop_front()?;
        let wire = self.encode(&record);
        self.in_flight.push_back(record);
        Some(wire)
    }

    fn encode(&self, record: &Record) -> v1::IntervalRecord {
        let mut series = Vec::new();
        if let Some(by_second) = &record.series {
            by_second.encode(&mut series);
        }
        v1::IntervalRecord {
            first_seq: record.first_seq,
            last_seq: record.last_seq,
            stage: record.interval.stage,
            second: record.interval.second,
            totals: serde_json::to_vec(&record.interval.totals).unwrap_or_default(),
            series,
            epoch: self.epoch,
        }
    }

    fn is_empty(&self) -> bool {
        self.unsent.is_empty() && self.in_flight.is_empty()
    }
}

/// Starts the thread. `submitted` gets a unit for each [`ToReport::Submit`].
pub(crate) fn spawn(
    identity: Identity,
    inputs: mpsc::UnboundedReceiver<ToReport>,
    submitted: mpsc::UnboundedSender<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let span = tracing::Span::current();
    std::thread::Builder::new().name("report".into()).spawn(move || {
        let _whose = span.entered();
        runtime.block_on(serve(identity, inputs, submitted));
    })?;
    Ok(())
}

async fn serve(
    identity: Identity,
    mut inputs: mpsc::UnboundedReceiver<ToReport>,
    submitted: mpsc::UnboundedSender<()>,
) {
    let mut ring = Ring::default();
    let leader = watch::Sender::new(None::<SocketAddr>);
    let (handed_in, mut stages) = mpsc::unbounded_channel::<u32>();
    let (acked, mut acks) = mpsc::unbounded_channel::<(u64, Option<u64>)>();
    // Acknowledgements of streams before the last one count in numbers that are no more.
    let mut line = 0;
    let mut failures = 0;
    let mut channel: Option<Channel> = None;
    let mut stream: Option<mpsc::Sender<v1::IntervalRecord>> = None;
    loop {
        tokio::select! {
            input = inputs.recv() => match input {
                None => return,
                Some(ToReport::Interval(interval)) => ring.push(interval),
                Some(ToReport::Seen(seq)) => ring.acknowledge(seq),
                Some(ToReport::Leader { at, epoch }) => {
                    let is_another = ring.epoch != 0 && epoch != ring.epoch;
                    if epoch != ring.epoch {
                        ring.begin_epoch(epoch);
                    }
                    leader.send_replace(Some(at));
                    (channel, stream, failures) = (None, None, 0);
                    line += 1;
                    let turn = Duration::from_millis(now_ns() % (TURN.as_millis() as u64));
                    let wait = if is_another { turn } else { Duration::ZERO };
                    tokio::spawn(dial_after(wait, line, acked.clone()));
                }
                Some(ToReport::Submit(parts)) => {
                    let line = channel.clone().zip(*leader.borrow());
                    let offer = Offer { identity: identity.clone(), leader: leader.subscribe(), line };
                    let (submitted, handed_in) = (submitted.clone(), handed_in.clone());
                    tokio::spawn(async move {
                        for part in parts {
                            offer.submit(&part).await;
                            let _ = handed_in.send(part.stage);
                        }
                        let _ = submitted.send(());
                    });
                }
            },
            Some(stage) = stages.recv() => ring.hand_in(stage),
            Some((of, ack)) = acks.recv() => match ack {
                _ if of != line => {}
                Some(seq) => {
                    failures = 0;
                    ring.acknowledge(seq);
                }
                None => {
                    stream = None;
                    let at = *leader.borrow();
                    channel = at.and_then(|at| connect(&identity, at));
                }
            },
        }
        if let (None, Some(channel), false) = (&stream, &channel, ring.is_empty()) {
            line += 1;
            let again = redial_delay(failures, now_ns());
            failures += 1;
            stream = Some(open(&identity, channel, &ring, (line, again), acked.clone()));
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
fn connect(identity: &Identity, at: SocketAddr) -> Option<Channel> {
    let endpoint = endpoint(identity, at);
    let told = endpoint.inspect_err(|error| {
        tracing::warn!(error = %root_cause(error), "the coordinator cannot be dialled");
    });
    told.ok().map(|endpoint| endpoint.connect_lazy())
}

/// Tells a while later that the coordinator is to be dialled.
async fn dial_after(wait: Duration, line: u64, acked: mpsc::UnboundedSender<(u64, Option<u64>)>) {
    tokio::time::sleep(wait).await;
    let _ = acked.send((line, None));
}

/// Opens a report stream on which everything unacknowledged is sent again first. `again` after its end, that is told as `None`.
fn open(
    identity: &Identity,
    channel: &Channel,
    ring: &Ring,
    (line, again): (u64, Duration),
    acked: mpsc::UnboundedSender<(u64, Option<u64>)>,
) -> mpsc::Sender<v1::IntervalRecord> {
    let (outbound, receiver) = mpsc::channel(2 * IN_FLIGHT_MAX);
    for record in &ring.in_flight {
        let _ = outbound.try_send(ring.encode(record));
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
                let _ = acked.send((line, Some(ack.last_seq)));
            }
        }
        dial_after(again, line, acked).await;
    });
    outbound
}

/// Hands results in to whoever coordinates the run.
struct Offer {
    identity: Identity,
    leader: watch::Receiver<Option<SocketAddr>>,
    /// What seconds are reported through, and to whom: a result goes the same way first. A thousand agents end together, and
    /// handshakes would take longer than their results.
    line: Option<(Channel, SocketAddr)>,
}

impl Offer {
    /// Hands one result in, and offers it until it is acknowledged.
    async fn submit(&self, part: &StagePart) {
        let bytes = match part.to_bytes() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(stage_index = part.stage, %error, "a result cannot be encoded");
                return;
            }
        };
        let mut random = Stream::new(u64::from(self.identity.index), now_ns());
        let offered = Instant::now();
        for attempt in 0.. {
            match self.offer(&bytes, attempt).await {
                Ok(()) => {
                    let after_ms = offered.elapsed().as_millis();
                    tracing::info!(stage_index = part.stage, after_ms, "the result is acknowledged");
                    return;
                }
                Err(status) if status.code() == tonic::Code::InvalidArgument => {
                    tracing::error!(
                        stage_index = part.stage,
                        message = status.message(),
                        "the result is refused"
                    );
                    return;
                }
                Err(status) => {
                    let message = status.message();
                    tracing::warn!(stage_index = part.stage, message, "not acknowledged; offered again");
                }
            }
            tokio::time::sleep(redial_delay(attempt, random.next_u64())).await;
        }
    }

    async fn offer(&self, bytes: &[u8], attempt: u32) -> Result<(), Status> {
        let mut leader = self.leader.clone();
        let found = leader.wait_for(Option::is_some).await.ok().and_then(|at| *at);
        let at = found.ok_or_else(|| Status::unavailable("the agent ends"))?;
        let known = self.line.as_ref().filter(|(_, known_at)| attempt == 0 && *known_at == at);
        let (channel, limit) = match known {
            Some((channel, _)) => (channel.clone(), LINE_LIMIT),
            None => {
                let channel = connect(&self.identity, at);
                (channel.ok_or_else(|| Status::unavailable("nobody can be dialled"))?, Duration::MAX)
            }
        };
        let chunks: Vec<v1::SubmitChunk> =
            bytes.chunks(CHUNK_BYTES).map(|data| v1::SubmitChunk { data: data.to_vec() }).collect();
        let mut request = Request::new(futures::stream::iter(chunks));
        if let Err(error) = sign(&self.identity, request.metadata_mut()) {
            tracing::warn!(error = %root_cause(&error), "nothing proves who this is; tried again");
        }
        let mut client = CoordinationClient::new(channel);
        // A coordinator that was stopped does not answer, and another has the run by then.
        let receipt = tokio::select! {
            receipt = client.submit(request) => receipt?,
            () = tokio::time::sleep(limit) => return Err(Status::unavailable("no answer through the open line")),
            _ = leader.changed() => return Err(Status::unavailable("another coordinator has the run")),
        };
        match receipt.get_ref().hash == receipt_hash(bytes) {
            true => Ok(()),
            false => Err(Status::data_loss("the receipt is of another result")),
        }
    }
}
