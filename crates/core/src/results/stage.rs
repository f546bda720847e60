//! One stage in the report: the rows that `results.json` shows of it.
//!
//! Counts are exact and say what they cover: `count` is every operation that succeeded, `drained` those of them
//! that ended after the window; rates divide the others by the window; latencies are of all of `count`.
//! Deliberately only shapes: [`super::merge`] fills them, [`crate::thresholds`] judges them.

use super::part::{ClientUse, Lateness, NetworkHealth, PartState, Pause};
use crate::op::{ErrorClass, Op};
use crate::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the coordinator knows of a stage beside the parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageFacts {
    /// Position in the plan.
    pub stage: u32,
    /// Name in the plan.
    pub name: String,
    /// `preflight`, `prepare`, `execute` or `cleanup`.
    pub kind: String,
    /// How it ended, in one word of the caller's.
    pub state: String,
    /// Warm-up: its results do not count.
    pub discard: bool,
    /// Agents that were to take part.
    pub agents_planned: u32,
    /// Planned start, as wall time.
    pub planned_start: Option<String>,
    /// Length of the planned window, nanoseconds; `None` when the stage ends with its work.
    pub window_ns: Option<u64>,
    /// Latest release minus earliest, of all who began at the common start, nanoseconds; `None` below two of them.
    pub skew_ns: Option<u64>,
    /// Bound on the error of the clock comparison, nanoseconds.
    pub clock_error_ns: Option<u64>,
    /// How often the start was armed again.
    pub rearmed: u32,
    /// Why its results are in doubt, if they are.
    pub degraded: Vec<String>,
}

/// One stage, merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// Position in the plan.
    pub stage: u32,
    /// Name in the plan.
    pub name: String,
    /// `preflight`, `prepare`, `execute` or `cleanup`.
    pub kind: String,
    /// How it ended.
    pub state: String,
    /// Warm-up: its results do not count.
    pub discard: bool,
    /// Agents that were to take part.
    pub agents_planned: u32,
    /// Agents of which there is a part that covers the whole window.
    pub agents_complete: u32,
    /// How it started.
    pub start: StartReport,
    /// What rates divide by, nanoseconds.
    pub window_ns: u64,
    /// Why its results are in doubt, if they are.
    pub degraded: Vec<String>,
    /// Agents whose client set the pace.
    pub client_bound_agents: u32,
    /// All operations.
    pub total: OpReport,
    /// Each operation that was done, all size classes.
    pub operations: Vec<OpReport>,
    /// Each operation and size class.
    pub size_classes: Vec<OpReport>,
    /// Requests sent for operations: succeeded, failed, retries.
    pub requests: u64,
    /// Requests that serve no operation: markers, locks, listings, probes.
    pub other_requests: u64,
    /// Requests sent again after a failure.
    pub retries: u64,
    /// Deletes that found nothing to delete.
    pub starved_deletes: u64,
    /// Operations of an open loop that were never sent.
    pub dropped_starts: u64,
    /// Operations done again after a loss.
    pub repeated_operations: u64,
    /// Each attempt of each agent.
    pub agents: Vec<AgentRow>,
    /// Each endpoint, over all agents.
    pub endpoints: Vec<EndpointReport>,
    /// What happened in each second.
    pub series: Vec<SeriesRow>,
    /// What the agents ran on; one row per value that occurs.
    pub environment: Vec<EnvironmentRow>,
    /// What went wrong.
    pub problems: Vec<Problem>,
    /// Problems that are only counted.
    pub problems_dropped: u64,
}

/// How a stage started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartReport {
    /// Planned start, as wall time.
    pub planned: Option<String>,
    /// Name of the warm-up whose common start this is: the stage flowed out of it without a barrier, on every agent for
    /// itself, so that nobody started anew. Skews, clock error and arming are those of that start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherited_from: Option<String>,
    /// Latest minus earliest release of workers, over all who began at the common start, microseconds, rounded up; `None`
    /// below two of them.
    pub skew_micros: Option<u64>,
    /// The same of first operations, over attempts that cover the whole window.
    pub first_operation_skew_micros: Option<u64>,
    /// Bound on the error of the clock comparison, microseconds, rounded up.
    pub clock_error_micros: Option<u64>,
    /// How often it was armed again.
    pub rearmed: u32,
}

/// One line of a table of operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpReport {
    /// The operation; `None` is all of them.
    pub op: Option<Op>,
    /// Name of the size class; `None` is all of them.
    pub size_class: Option<String>,
    /// Operations that succeeded.
    pub count: u64,
    /// Of these, how many ended after the window.
    pub drained: u64,
    /// Operations that failed.
    pub error_count: u64,
    /// The same by class; classes without errors are left out.
    pub errors: BTreeMap<ErrorClass, u64>,
    /// Open loop: operations that started late.
    pub late_starts: u64,
    /// Bytes that succeeded operations moved.
    pub bytes: u64,
    /// Operations within the window, per second, thousandths.
    pub milli_operations_per_second: u64,
    /// Their bytes, per second.
    pub bytes_per_second: u64,
    /// From the intended start to the end.
    pub response: Option<LatencyReport>,
    /// From sending to the end.
    pub service: Option<LatencyReport>,
    /// From sending to the first byte, of the operations that have one.
    pub first_byte: Option<LatencyReport>,
}

/// A latency in numbers, nanoseconds. Mean, minimum and maximum are exact; percentiles have 3 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyReport {
    /// Of how many operations; never 0.
    pub count: u64,
    /// Mean.
    pub mean_ns: u64,
    /// Shortest.
    pub min_ns: u64,
    /// Median.
    pub p50_ns: u64,
    /// 90th percentile.
    pub p90_ns: u64,
    /// 95th percentile.
    pub p95_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// Longest.
    pub max_ns: u64,
    /// Operations longer than an hour, of which only count, sum and maximum are known.
    pub above_range: u64,
}

/// One attempt of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRow {
    /// Index of the agent.
    pub agent: u32,
    /// Attempt under it.
    pub attempt: u32,
    /// How much of the window it covered, and why not all.
    pub state: PartState,
    /// Window that it covered, nanoseconds.
    pub window_ns: u64,
    /// Operations that succeeded.
    pub count: u64,
    /// Operations that failed.
    pub error_count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Mean response time, nanoseconds.
    pub response_mean_ns: Option<u64>,
    /// 99th percentile of response time, nanoseconds.
    pub response_p99_ns: Option<u64>,
    /// Release of its workers after the planned start, nanoseconds, own clock.
    pub released_after_ns: Option<i64>,
    /// How well it kept time.
    pub lateness: Lateness,
    /// What it used.
    pub client: ClientUse,
    /// Process CPU time per operation that was sent, nanoseconds.
    pub cpu_per_operation_ns: Option<u64>,
    /// How its connection fared.
    pub network: NetworkHealth,
    /// When it did not work.
    pub pauses: Vec<Pause>,
    /// Requests that serve no operation.
    pub other_requests: u64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReport {
    /// The endpoint.
    pub uri: String,
    /// Requests that were sent to it.
    pub requests: u64,
    /// Requests that failed, by class; classes without errors are left out.
    pub errors: BTreeMap<ErrorClass, u64>,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Service time of requests that succeeded.
    pub service: Option<LatencyReport>,
}

/// One operation in one second, over all agents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeriesRow {
    /// Second since the stage's start; past the window it holds what drained.
    pub second: u32,
    /// The operation.
    pub op: Op,
    /// Operations that succeeded.
    pub count: u64,
    /// Bytes.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Mean response time, nanoseconds.
    pub mean_ns: Option<u64>,
    /// Median of `count` response times, nanoseconds; only where all of them are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ns: Option<u64>,
    /// 99th percentile, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ns: Option<u64>,
    /// Longest response time, nanoseconds.
    pub max_ns: u64,
}

/// A property of the agents' environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentRow {
    /// What.
    pub key: String,
    /// Its value.
    pub value: String,
    /// How many attempts have it.
    pub agents: u32,
}
