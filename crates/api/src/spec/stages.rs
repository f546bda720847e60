//! `spec.stages`: what happens, in order. Preflight comes first by itself and is not written down.

use super::dataset::SizeSpec;
use super::words::{Arrival, BarrierMode, MetricName, OpName, RunOn, Tolerance};
use crate::span::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Workers per agent where nothing is said.
pub const CONCURRENCY: u32 = 16;

/// One stage; exactly one of `prepare`, `execute` and `cleanup` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct StageSpec {
    /// Name, unique within the run; `preflight` is taken.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Writes the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<PrepareSpec>,
    /// Measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execute: Option<ExecuteSpec>,
    /// Removes what the run wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleanup: Option<CleanupSpec>,
    /// Warm-up: flows into the next execute stage, and its results do not count.
    #[serde(default)]
    pub discard: bool,
    /// How the stage's end is synchronised, and what silence means in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<BarrierSpec>,
    /// Whether the stage runs after a failure or an abort; Always makes sense for cleanup.
    #[serde(default = "success")]
    pub run_on: RunOn,
}

const fn success() -> RunOn {
    RunOn::Success
}

const fn concurrency() -> u32 {
    CONCURRENCY
}

/// Writes the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct PrepareSpec {
    /// Workers per agent.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: u32,
}

/// Measures. Fields that are absent come from the stage that `like` names, then from the defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ExecuteSpec {
    /// Length of the window; this or operationCount or both, whichever ends first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Operations of all agents together, after which the stage ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub operation_count: Option<u64>,
    /// Takes concurrency, rate and operations from the execute stage of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub like: Option<String>,
    /// Workers per agent; default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: Option<u32>,
    /// Open loop: operations arrive at a rate. Without it a closed loop: each worker asks as soon as it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateSpec>,
    /// The mix. Without it and without `like`: Get 70, Put 20, Head 8, Delete 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub operations: Vec<OperationSpec>,
}

/// An open loop; exactly one of `operationsPerSecond` and `search` is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct RateSpec {
    /// Arrivals per second of all agents together, down to thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.001, max = 1_000_000_000.0))]
    pub operations_per_second: Option<f64>,
    /// Looks for the highest rate that meets a goal. Reserved: this version refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<RateSearchSpec>,
    /// How arrivals are spaced.
    #[serde(default = "poisson")]
    pub arrival: Arrival,
    /// Splits the rate again over those who live when an agent is lost.
    #[serde(default = "yes")]
    pub redistribute: bool,
}

const fn poisson() -> Arrival {
    Arrival::Poisson
}

const fn yes() -> bool {
    true
}

/// The goal of a search for a rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct RateSearchSpec {
    /// Which response time must hold.
    pub metric: MetricName,
    /// Its limit.
    pub at_most: Span,
}

/// One operation of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct OperationSpec {
    /// Which operation.
    pub op: OpName,
    /// Share of the mix, against the sum of weights; 0 leaves it out.
    #[serde(default = "weight")]
    #[schemars(range(max = 10_000))]
    pub weight: u32,
    /// How existing objects are chosen by Get, Head and List; default uniform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<KeysSpec>,
    /// Sizes of new objects of Put, where they differ from the data set's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<SizeSpec>,
}

const fn weight() -> u32 {
    1
}

/// How existing objects are chosen; exactly one member is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct KeysSpec {
    /// Each object alike: `uniform: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uniform: Option<Empty>,
    /// A few objects are popular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipf: Option<ZipfSpec>,
    /// A share of the objects gets a share of the operations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hot_set: Option<HotSetSpec>,
    /// The agent's own share in order, again and again: `sequential: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequential: Option<Empty>,
    /// The agent's own share in order, once: `once: {}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Empty>,
}

/// A member without parameters, written `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Empty {}

/// Popularity after Zipf.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ZipfSpec {
    /// Exponent: 0.99 is what YCSB uses; more is steeper.
    #[schemars(range(min = 0.01, max = 5.0))]
    pub exponent: f64,
}

/// A share of the objects gets a share of the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct HotSetSpec {
    /// Percent of the objects that are hot.
    #[schemars(range(min = 1, max = 100))]
    pub objects_percent: u32,
    /// Percent of the operations that go to them.
    #[schemars(range(min = 1, max = 100))]
    pub operations_percent: u32,
}

/// Removes what the run wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct CleanupSpec {
    /// What an error means.
    #[serde(default = "tolerant")]
    pub tolerance: Tolerance,
    /// Workers per agent.
    #[serde(default = "concurrency")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: u32,
}

const fn tolerant() -> Tolerance {
    Tolerance::Tolerant
}

/// How a stage's end is synchronised. Absent fields: All, 2m, the failure policy's stallTimeout, 1s, 5, 3s, 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct BarrierSpec {
    /// Who must arrive; default All.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BarrierMode>,
    /// How long Majority and BestEffort wait for the rest; default 2m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How long an agent's progress may stand still; default failurePolicy.stallTimeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_timeout: Option<Span>,
    /// Time between heartbeats; default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval: Option<Span>,
    /// Missed heartbeats before the coordinator asks; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub missed_threshold: Option<u32>,
    /// How long the coordinator waits for the answer; default 3s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_timeout: Option<Span>,
    /// How often it asks again; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub query_retries: Option<u32>,
}
