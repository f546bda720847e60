//! The status of a `BenchmarkRun`: what controllers wrote and people read.
//!
//! No enums and no floats in here, and unknown fields are ignored: an older CRD or reader must not refuse a newer
//! status. Numbers are integers with their unit in the name. Deliberately no logic; what goes in is decided by the
//! run's state machine.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is known about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct BenchmarkRunStatus {
    /// Generation of the spec that this status speaks of; -1 before anybody looked.
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// Epoch of the coordinator that wrote this; never decreases.
    #[schemars(range(min = 0))]
    pub epoch: i64,
    /// Which installation claimed the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub controller: Option<String>,
    /// Where the run stands, in one word; derived, for people.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// What the measurement says, in one word: Pending, Passed, Failed, Inconclusive or None.
    #[schemars(length(max = 32))]
    pub verdict: String,
    /// Where the run stands, in one sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// Attempt of the whole run, from 1.
    #[schemars(range(min = 0))]
    pub attempt: i64,
    /// Which attempt of each agent may have a pod: runs of indexes with their attempt, `0-7:0` or `0-2:0,3:1,4-7:0`. No pod
    /// is made that does not stand here; a coordinator that takes over expects these.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 65_536))]
    pub agent_attempts: String,
    /// When the run began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended, in whatever way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Throughput of the stage that runs or ran last, for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub throughput: Option<String>,
    /// Worst skew of a start, for a column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub skew: Option<String>,
    /// How many agents are where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentsStatus>,
    /// What is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressStatus>,
    /// One entry per stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40))]
    pub stages: Vec<StageStatus>,
    /// One entry per threshold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub thresholds: Vec<ThresholdStatus>,
    /// The agents in the worst state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub agent_problems: Vec<AgentProblem>,
    /// How many details did not fit.
    #[schemars(range(min = 0))]
    pub details_dropped: i64,
    /// Where results are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<ResultsStatus>,
    /// The conditions.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub conditions: Vec<Condition>,
}

/// How many agents are where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct AgentsStatus {
    /// Agents that the spec asks for.
    pub desired: i64,
    /// Pods with a node.
    pub scheduled: i64,
    /// Agents that said hello.
    pub joined: i64,
    /// Agents that accepted their plan and are prepared.
    pub ready: i64,
    /// Agents in a stage.
    pub running: i64,
    /// Agents that said hello, are heard, and well.
    pub heard: i64,
    /// Agents that are heard, and whose progress stands still.
    pub stalled: i64,
    /// Agents that may come back.
    pub disconnected: i64,
    /// Agents that will not.
    pub lost: i64,
    /// Agents that handed in everything.
    pub completed: i64,
    /// Replacements so far.
    pub replaced: i64,
    /// Ready of desired, for a column.
    #[schemars(length(max = 32))]
    pub summary: String,
}

/// What is being done, and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ProgressStatus {
    /// Name of the stage.
    #[schemars(length(max = 63))]
    pub stage: String,
    /// What is being done, e.g. `creating files`.
    #[schemars(length(max = 128))]
    pub what: String,
    /// How much is done, in `unit`.
    pub done: i64,
    /// How much there is, in `unit`.
    pub total: i64,
    /// What `done` and `total` count.
    #[schemars(length(max = 32))]
    pub unit: String,
    /// Percent done.
    pub percent: i64,
    /// Percent done with its sign, for a column.
    #[schemars(length(max = 16))]
    pub summary: String,
    /// Units per second.
    pub rate_per_second: i64,
    /// Seconds that the rest takes at this rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_remaining_seconds: Option<i64>,
    /// What the run waits for, and why; not there while everybody works.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub waiting_for: Option<String>,
    /// Operations per second in the latest second that every agent has reported.
    pub operations_per_second: i64,
    /// Bytes per second in that second.
    pub bytes_per_second: i64,
    /// Median response time in that second, microseconds; exact over the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_micros: Option<i64>,
    /// 99th percentile of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_micros: Option<i64>,
    /// When this was true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_update_time: Option<Time>,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct StageStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// What it does: preflight, prepare, execute or cleanup.
    #[schemars(length(max = 32))]
    pub kind: String,
    /// Where it stands: Waiting, Starting, Working, Done, Failed or Skipped.
    #[schemars(length(max = 32))]
    pub state: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How its start went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<StageStart>,
    /// Agents that took part.
    pub agents: i64,
    /// Objects written or removed: of prepare and cleanup.
    pub objects: i64,
    /// Objects that already were as they should be.
    pub objects_unchanged: i64,
    /// Operations done.
    pub operations: i64,
    /// Bytes moved.
    pub bytes: i64,
    /// Operations per second over the window, rounded down.
    pub operations_per_second: i64,
    /// Bytes per second over the window, rounded down.
    pub bytes_per_second: i64,
    /// Failed operations.
    pub errors: i64,
    /// Response times per operation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub latency: Vec<LatencyStatus>,
    /// Index ranges of the data set that are done, `[first, last]` each, kept small by merging.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub completed_ranges: Option<String>,
    /// Whether part of the measurement is missing or doubtful.
    pub degraded: bool,
    /// Whether the clients, not the storage, set the pace.
    pub client_bound: bool,
}

/// How the start of a stage went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct StageStart {
    /// When everybody was to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_time: Option<Time>,
    /// Latest minus earliest start, microseconds.
    pub skew_micros: i64,
    /// Bound on the error of the clocks' estimate, microseconds.
    pub clock_error_micros: i64,
    /// How often the start was armed again.
    pub rearmed: i64,
}

/// Response times of one operation in one stage, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct LatencyStatus {
    /// The operation.
    #[schemars(length(max = 32))]
    pub op: String,
    /// How many.
    pub count: i64,
    /// Mean.
    pub mean_micros: i64,
    /// Median.
    pub p50_micros: i64,
    /// 90th percentile.
    pub p90_micros: i64,
    /// 99th percentile.
    pub p99_micros: i64,
    /// 99.9th percentile.
    pub p999_micros: i64,
    /// Longest.
    pub max_micros: i64,
}

/// One threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ThresholdStatus {
    /// Its name.
    #[schemars(length(max = 128))]
    pub name: String,
    /// What was observed, with its unit.
    #[schemars(length(max = 64))]
    pub observed: String,
    /// The limit, with its unit.
    #[schemars(length(max = 64))]
    pub limit: String,
    /// Passed, Failed or Unknown.
    #[schemars(length(max = 32))]
    pub result: String,
}

/// One agent that is in trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct AgentProblem {
    /// Its index.
    pub index: i64,
    /// Its attempt, from 0.
    pub attempt: i64,
    /// Its pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// The pod's node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Where it stands.
    #[schemars(length(max = 64))]
    pub state: String,
    /// Why, one of the closed reasons.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 512))]
    pub message: String,
}

/// Where results are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ResultsStatus {
    /// ConfigMap with the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub config_map: Option<String>,
    /// Where it was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub uri: Option<String>,
    /// SHA-256 of the report, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub sha256: Option<String>,
}
