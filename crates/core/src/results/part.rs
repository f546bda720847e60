//! What one attempt of one agent hands in for one stage.
//!
//! A part is complete in itself: counts, series, how well the agent kept to the start, what the client itself
//! used, how its connection fared. The coordinator makes parts, too: of an attempt that was lost, from the last
//! totals that it reported. Deliberately no derived numbers: rates and percentiles are made when parts are merged
//! ([`super::merge::merge_stage`]).

use super::cell::Latency;
use super::series::Series;
use super::totals::Totals;
use super::wire::bounded_list;
use crate::op::ErrorClass;
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the encoding; others are refused.
pub const PART_FORMAT: u32 = 1;
/// Largest encoded part, bytes; [`StagePart::from_bytes`] refuses more unread. A day of per-second rows of five
/// operations is some 10 MiB.
pub const MAX_PART_BYTES: usize = 16 << 20;
/// Most problems that a part keeps; more are only counted.
pub const MAX_PROBLEMS: usize = 32;
/// Most pauses that a part keeps; more are only counted.
pub const MAX_PAUSES: usize = 256;
/// Most endpoints of a part.
pub const MAX_ENDPOINTS: usize = 256;
/// Most ranges of a part.
pub const MAX_RANGES: usize = 65_536;

/// Why a part could not be encoded or read.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// Larger than [`MAX_PART_BYTES`].
    #[error("the part has {bytes} bytes, more than the limit of {MAX_PART_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Of another version of the encoding.
    #[error("the part has format {found}, this program reads {PART_FORMAT}")]
    Format {
        /// The version that it names.
        found: u32,
    },
    /// Not a part at all.
    #[error("the part does not parse")]
    Malformed(#[from] serde_json::Error),
}

/// How much of the stage's window the attempt covered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum PartState {
    /// All of it: started on time, worked to the end.
    Complete,
    /// A part of it, and the counts are exact.
    Partial {
        /// Why.
        reason: String,
    },
    /// The attempt was killed or never came back: the counts are what it had reported.
    Lost {
        /// Why.
        reason: String,
        /// What it did in this span is unknown: from here, nanoseconds since the stage's start,
        unaccounted_from_ns: u64,
        /// to here.
        unaccounted_to_ns: u64,
    },
}

/// How well an agent kept time, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lateness {
    /// Latest release of one of its workers after the planned start.
    pub worker_start_max_ns: u64,
    /// Open loop: longest time between intended and real start.
    pub pacing_lag_max_ns: u64,
    /// Open loop: mean of that time.
    pub pacing_lag_mean_ns: u64,
}

/// What the machine and the agent's process used during the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientUse {
    /// Cores that the agent may use, thousandths.
    pub milli_cores: u64,
    /// All cores of the machine, in user mode, nanoseconds.
    pub machine_user_ns: u64,
    /// All cores of the machine, in the kernel, nanoseconds.
    pub machine_system_ns: u64,
    /// All cores of the machine, idle with I/O outstanding, nanoseconds.
    pub machine_iowait_ns: u64,
    /// The agent's process, user and kernel, nanoseconds.
    pub process_cpu_ns: u64,
    /// Largest resident set of the process, bytes.
    pub max_rss_bytes: u64,
    /// Time for which the cgroup was throttled, nanoseconds.
    pub throttled_ns: u64,
    /// Why the client and not the storage set the pace; `None` when it did not.
    pub client_bound: Option<String>,
}

/// How the connection to the coordinator fared during the stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkHealth {
    /// Heartbeats that were answered.
    pub heartbeats: u64,
    /// Shortest round trip, nanoseconds; 0 without heartbeats.
    pub rtt_min_ns: u64,
    /// Mean round trip, nanoseconds.
    pub rtt_mean_ns: u64,
    /// Longest round trip, nanoseconds.
    pub rtt_max_ns: u64,
    /// Longest silence of the coordinator, nanoseconds.
    pub gap_max_ns: u64,
    /// How often the agent dialled anew.
    pub reconnects: u64,
    /// Bytes received from the coordinator.
    pub bytes_in: u64,
    /// Bytes sent to it.
    pub bytes_out: u64,
}

/// A span in which the agent did not work, nanoseconds since the stage's start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// First instant.
    pub from_ns: u64,
    /// Last instant.
    pub to_ns: u64,
    /// What it was: stopped by a signal, machine asleep, late join.
    pub what: String,
}

/// What went through one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    /// The endpoint.
    pub uri: String,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Requests that failed, by [`ErrorClass::index`].
    pub errors: [u64; ErrorClass::ALL.len()],
    /// Bytes of content received from it.
    pub bytes_in: u64,
    /// Bytes of content sent to it.
    pub bytes_out: u64,
    /// Service time of requests that succeeded.
    pub service: Latency,
}

impl EndpointRow {
    /// Adds another row of the same endpoint.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        for (mine, theirs) in self.errors.iter_mut().zip(&other.errors) {
            *mine = mine.saturating_add(*theirs);
        }
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.service.merge(&other.service);
    }
}

/// What is shown of one attempt by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Summary {
    /// Operations that succeeded.
    pub count: u64,
    /// Operations that failed.
    pub error_count: u64,
    /// Requests behind them, retries included.
    pub requests: u64,
    /// Bytes.
    pub bytes: u64,
    /// Mean response time, nanoseconds.
    pub response_mean_ns: Option<u64>,
    /// 99th percentile of response time, nanoseconds.
    pub response_p99_ns: Option<u64>,
}

impl Summary {
    fn of(totals: &Totals) -> Self {
        let overall = totals.overall();
        Self {
            count: overall.count(),
            error_count: overall.error_count(),
            requests: totals.requests(),
            bytes: overall.bytes,
            response_mean_ns: overall.response().mean_ns(),
            response_p99_ns: overall.response().quantile_ns(0.99),
        }
    }
}

/// Results of one attempt of one agent for one stage. Instants "since the stage's start" count from T in the
/// agent's own monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePart {
    /// [`PART_FORMAT`].
    pub format: u32,
    /// Position of the stage in the plan.
    pub stage: u32,
    /// Index of the agent.
    pub agent: u32,
    /// Attempt under that index, from 0.
    pub attempt: u32,
    /// How much of the window it covered.
    pub state: PartState,
    /// T in the agent's monotonic clock, nanoseconds.
    pub planned_start_ns: u64,
    /// When its workers were released, agent's monotonic clock; `None` when they never were.
    pub released_ns: Option<u64>,
    /// When its first operation was sent, agent's monotonic clock.
    pub first_operation_ns: Option<u64>,
    /// [`StagePart::released_ns`] in the coordinator's clock; set by the coordinator.
    pub released_coordinator_ns: Option<u64>,
    /// [`StagePart::first_operation_ns`] in the coordinator's clock; set by the coordinator.
    pub first_operation_coordinator_ns: Option<u64>,
    /// Since the stage's start, when it stopped starting operations: the window that it covered, nanoseconds.
    pub window_ns: u64,
    /// Everything that it did.
    pub totals: Totals,
    /// The same by second.
    pub series: Series,
    /// How well it kept time.
    pub lateness: Lateness,
    /// What it used.
    pub client: ClientUse,
    /// How its connection fared.
    pub network: NetworkHealth,
    /// When it did not work; the first [`MAX_PAUSES`].
    #[serde(deserialize_with = "bounded_list::<_, _, MAX_PAUSES>")]
    pub pauses: Vec<Pause>,
    /// Pauses beyond the limit.
    pub pauses_dropped: u64,
    /// What went through each endpoint.
    #[serde(deserialize_with = "bounded_list::<_, _, MAX_ENDPOINTS>")]
    pub endpoints: Vec<EndpointRow>,
    /// Requests that serve no operation: markers, locks, listings, probes.
    pub other_requests: u64,
    /// Half-open ranges of what is done (prepare, cleanup); numbers as [`super::ledger::numbered`] gives them.
    #[serde(deserialize_with = "bounded_list::<_, _, MAX_RANGES>")]
    pub ranges_done: Vec<(u64, u64)>,
    /// Objects that it created (prepare).
    pub created: u64,
    /// Objects that were there already (prepare).
    pub existed: u64,
    /// What went wrong; the first [`MAX_PROBLEMS`].
    #[serde(deserialize_with = "bounded_list::<_, _, MAX_PROBLEMS>")]
    pub problems: Vec<Problem>,
    /// Problems beyond the limit.
    pub problems_dropped: u64,
    /// What the agent ran on: kernel, file system and mount options, memory, cgroup limits, versions.
    pub environment: BTreeMap<String, String>,
    /// Where parts of a stage were merged to be kept: what is shown of this one. Its `totals`, `series` and `endpoints`
    /// are then of all of them, or empty. No agent hands that in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

impl StagePart {
    /// An empty part of a complete attempt; the rest is filled in field by field.
    #[must_use]
    pub fn new(stage: u32, agent: u32, attempt: u32) -> Self {
        Self {
            format: PART_FORMAT,
            stage,
            agent,
            attempt,
            state: PartState::Complete,
            planned_start_ns: 0,
            released_ns: None,
            first_operation_ns: None,
            released_coordinator_ns: None,
            first_operation_coordinator_ns: None,
            window_ns: 0,
            totals: Totals::new(),
            series: Series::new(),
            lateness: Lateness::default(),
            client: ClientUse::default(),
            network: NetworkHealth::default(),
            pauses: Vec::new(),
            pauses_dropped: 0,
            endpoints: Vec::new(),
            other_requests: 0,
            ranges_done: Vec::new(),
            created: 0,
            existed: 0,
            problems: Vec::new(),
            problems_dropped: 0,
            environment: BTreeMap::new(),
            summary: None,
        }
    }

    /// What is shown of this attempt by itself.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary.clone().unwrap_or_else(|| Summary::of(&self.totals))
    }

    /// This part without what is only ever shown merged over agents, which is most of it: `totals`, `series`, `endpoints`.
    #[must_use]
    pub fn light(&self) -> Self {
        let Self {
            format,
            stage,
            agent,
            attempt,
            state,
            planned_start_ns,
            released_ns,
            first_operation_ns,
            released_coordinator_ns,
            first_operation_coordinator_ns,
            window_ns,
            totals: _,
            series: _,
            lateness,
            client,
            network,
            pauses,
            pauses_dropped,
            endpoints: _,
            other_requests,
            ranges_done,
            created,
            existed,
            problems,
            problems_dropped,
            environment,
            summary: _,
        } = self;
        Self {
            format: *format,
            stage: *stage,
            agent: *agent,
            attempt: *attempt,
            state: state.clone(),
            planned_start_ns: *planned_start_ns,
            released_ns: *released_ns,
            first_operation_ns: *first_operation_ns,
            released_coordinator_ns: *released_coordinator_ns,
            first_operation_coordinator_ns: *first_operation_coordinator_ns,
            window_ns: *window_ns,
            totals: Totals::new(),
            series: Series::new(),
            lateness: lateness.clone(),
            client: client.clone(),
            network: network.clone(),
            pauses: pauses.clone(),
            pauses_dropped: *pauses_dropped,
            endpoints: Vec::new(),
            other_requests: *other_requests,
            ranges_done: ranges_done.clone(),
            created: *created,
            existed: *existed,
            problems: problems.clone(),
            problems_dropped: *problems_dropped,
            environment: environment.clone(),
            summary: Some(self.summary()),
        }
    }

    /// Keeps a problem, or counts it when there are enough.
    pub fn add_problem(&mut self, problem: Problem) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem);
        } else {
            self.problems_dropped += 1;
        }
    }

    /// Keeps a pause, or counts it when there are enough.
    pub fn add_pause(&mut self, pause: Pause) {
        if self.pauses.len() < MAX_PAUSES {
            self.pauses.push(pause);
        } else {
            self.pauses_dropped += 1;
        }
    }

    /// Encodes the part: a JSON document in which histograms and series are compact strings.
    ///
    /// # Errors
    /// [`PartError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, PartError> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() > MAX_PART_BYTES { Err(PartError::TooLarge { bytes: bytes.len() }) } else { Ok(bytes) }
    }

    /// Reads what [`StagePart::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`PartError`], for anything else; lists and histograms are bounded while they are read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PartError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        if bytes.len() > MAX_PART_BYTES {
            return Err(PartError::TooLarge { bytes: bytes.len() });
        }
        // The version comes first: another one may not even parse.
        let Version { format } = serde_json::from_slice(bytes)?;
        if format != PART_FORMAT {
            return Err(PartError::Format { found: format });
        }
        // An agent's counts are what is shown of it.
        Ok(Self { summary: None, ..serde_json::from_slice(bytes)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::totals::tests::any_totals;
    use super::*;
    use proptest::prelude::*;

    fn part_of(totals: Totals) -> StagePart {
        let mut part = StagePart::new(2, 7, 1);
        part.series.add(3, &totals, false);
        let mut endpoint =
            EndpointRow { uri: "http://s3-0:9000".to_owned(), requests: 3, ..EndpointRow::default() };
        endpoint.service.record(5000);
        part.endpoints.push(endpoint);
        part.environment.insert("kernel".to_owned(), "6.8".to_owned());
        part.ranges_done.push((0, 100));
        part.state =
            PartState::Lost { reason: "OOMKilled".to_owned(), unaccounted_from_ns: 1, unaccounted_to_ns: 2 };
        for at in 0..40 {
            part.add_problem(Problem::new("it broke", at.to_string()));
        }
        part.totals = totals;
        part
    }

    #[test]
    fn problems_and_pauses_are_bounded_and_counted() {
        let mut part = part_of(Totals::new());
        for at in 0..300 {
            part.add_pause(Pause { from_ns: at, to_ns: at, what: String::new() });
        }
        assert_eq!((part.problems.len(), part.problems_dropped), (MAX_PROBLEMS, 8));
        assert_eq!((part.pauses.len(), part.pauses_dropped), (MAX_PAUSES, 44));
    }

    #[test]
    fn other_versions_and_sizes_are_refused() {
        let mut part = part_of(Totals::new());
        part.format = 2;
        let bytes = part.to_bytes().expect("encodes");
        assert!(matches!(StagePart::from_bytes(&bytes), Err(PartError::Format { found: 2 })));
        let huge = vec![b' '; MAX_PART_BYTES + 1];
        assert!(matches!(StagePart::from_bytes(&huge), Err(PartError::TooLarge { .. })));
        part.environment.insert("huge".to_owned(), "x".repeat(MAX_PART_BYTES));
        assert!(matches!(part.to_bytes(), Err(PartError::TooLarge { .. })));
    }

    #[test]
    fn lists_are_bounded_while_they_are_read() {
        let mut part = part_of(Totals::new());
        part.endpoints = vec![EndpointRow::default(); MAX_ENDPOINTS + 1];
        let bytes = part.to_bytes().expect("encodes");
        assert!(matches!(StagePart::from_bytes(&bytes), Err(PartError::Malformed(_))));
    }

    #[test]
    fn a_usual_part_is_small() {
        let mut part = StagePart::new(1, 0, 1);
        // Five minutes of 20,000 gets and puts per second would be the same: only distinct buckets cost.
        for at in 0..200_000u64 {
            // Latencies between 50 µs and 20 ms, most of them short.
            let service_ns = 50_000 + (at * 7919 % 1000).pow(3) / 50;
            let op = if at % 4 == 0 { crate::op::Op::Put } else { crate::op::Op::Get };
            let sample = super::super::Sample {
                op,
                size_bytes: 4096,
                intended_ns: 0,
                start_ns: 0,
                first_byte_ns: None,
                end_ns: service_ns,
            };
            part.totals.record_ok(&sample, false, false);
        }
        for second in 0..300 {
            part.series.add(second, &part.totals, false);
        }
        let bytes = part.to_bytes().expect("encodes").len();
        assert!(bytes < 100_000, "{bytes} bytes");
    }

    proptest! {
        #[test]
        fn parts_survive_encoding(totals in any_totals()) {
            let part = part_of(totals);
            let bytes = part.to_bytes().expect("encodes");
            prop_assert_eq!(StagePart::from_bytes(&bytes).expect("reads"), part);
        }

        #[test]
        fn damaged_parts_never_panic(totals in any_totals(), at: prop::sample::Index, byte: u8) {
            let mut bytes = part_of(totals).to_bytes().expect("encodes");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(part) = StagePart::from_bytes(&bytes) {
                // What was read can also be merged and shown.
                let facts = super::super::StageFacts { stage: part.stage, ..Default::default() };
                let _ = super::super::merge_stage(&facts, &[part], None);
            }
        }
    }
}
