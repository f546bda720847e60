//! The plan: a validated spec, resolved. What every agent will do in every stage, with nothing left to guess.
//!
//! One document serves everybody: the coordinator drives it, and each agent derives its own part from it and its
//! index. It exists so that nobody behind validation ever looks at a raw spec again. It deliberately holds no
//! list of objects: names, sizes and contents are functions of [`DataSet`] and an index.

use crate::dataset::DataSet;
use crate::dataset::size::SizeSpec;
use crate::op::Op;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Version of the plan's encoding; an agent refuses one that it does not know.
pub const PLAN_FORMAT: u32 = 1;

/// Everything that a run will do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// Which run this is.
    pub run: RunRef,
    /// How many agents.
    pub replicas: u32,
    /// Quorum to start.
    pub min_available: u32,
    /// Where the load goes.
    pub target: TargetPlan,
    /// What lies there.
    pub dataset: DataSet,
    /// Who owns which part of it.
    pub sharing: Sharing,
    /// What to do about objects that are already there.
    pub existing: Existing,
    /// The stages in order; the first is always preflight.
    pub stages: Vec<StagePlan>,
    /// How the start is coordinated.
    pub start: StartPlan,
    /// What to do about losses.
    pub failure: FailurePlan,
    /// What decides the verdict.
    pub thresholds: Vec<Threshold>,
    /// Limit on the whole run.
    pub active_deadline: Option<Duration>,
}

/// Names one execution of one run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunRef {
    /// Name of the run.
    pub name: String,
    /// Unique id of the run.
    pub uid: String,
    /// Attempt of the whole run, 1 unless it was suspended and resumed.
    pub attempt: u32,
}

/// URI scheme of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Buffered files.
    File,
    /// Memory of the agent's process.
    Mem,
    /// Nothing at all: measures the engine.
    Null,
    /// S3 and what speaks it.
    S3,
}

impl Plan {
    /// Objects of the data set: of all agents' own ones, where each has one.
    #[must_use]
    pub fn objects_in_all(&self) -> u64 {
        let sets = match self.sharing {
            Sharing::Shared => 1,
            Sharing::PerAgent => u64::from(self.replicas),
        };
        self.dataset.len().saturating_mul(sets)
    }
}

/// Where the load goes. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetPlan {
    /// Scheme of [`TargetPlan::uri`].
    pub scheme: Scheme,
    /// The URI as the manifest gives it, e.g. `s3://bench/nightly` or `file:///data/bench`.
    pub uri: String,
    /// Bucket (s3) or empty.
    pub bucket: String,
    /// Key prefix within the bucket without slashes at either end (s3), or the absolute path (file).
    pub path: String,
    /// Endpoint URLs (s3); empty means the provider's default.
    pub endpoints: Vec<String>,
    /// Which endpoint an operation uses.
    pub endpoint_selection: EndpointSelection,
    /// Documented options, e.g. `region`.
    pub options: BTreeMap<String, String>,
    /// What to do with the page cache (files).
    pub page_cache: PageCache,
}

/// Which of several endpoints an operation uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointSelection {
    /// In turn; does not hide a slow node.
    #[default]
    RoundRobin,
    /// The one with the fewest operations under way.
    LeastBusy,
    /// Agent *i* uses endpoint *i* mod n.
    PerAgent,
}

/// What a file target does with the page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageCache {
    /// Leave it alone.
    #[default]
    Keep,
    /// Ask the kernel to drop a file's pages after use (`posix_fadvise`).
    Drop,
}

/// Who owns which part of the data set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sharing {
    /// One data set for all agents, each owning a disjoint range of indexes.
    #[default]
    Shared,
    /// One data set per agent, each under a prefix of its own.
    PerAgent,
}

/// What prepare does about objects that are already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existing {
    /// Trust that everything is there; create nothing.
    Reuse,
    /// Look, and create what is missing or of another size.
    #[default]
    FillGaps,
    /// Create everything anew.
    Overwrite,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePlan {
    /// Unique name within the run.
    pub name: String,
    /// What it does.
    pub kind: StageKind,
    /// How its end is synchronised, and what silence means in it.
    pub barrier: Barrier,
    /// Whether it runs after a failure or an abort.
    pub run_on: RunOn,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StageKind {
    /// Checks of the agent and its target, before any load.
    Preflight,
    /// Writes the data set.
    Prepare {
        /// Workers per agent.
        concurrency: u32,
    },
    /// Measures.
    Execute(ExecutePlan),
    /// Removes what the run wrote.
    Cleanup {
        /// What an error means.
        tolerance: Tolerance,
        /// Workers per agent.
        concurrency: u32,
    },
}

impl StageKind {
    /// The kind in one word, as results, status and displays have it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Prepare { .. } => "prepare",
            Self::Execute(_) => "execute",
            Self::Cleanup { .. } => "cleanup",
        }
    }

    /// Whether the stage begins with an armed start. `after_discard`: the stage before it was a discard stage,
    /// which flows into this one.
    #[must_use]
    pub fn is_armed(&self, after_discard: bool) -> bool {
        match self {
            Self::Prepare { .. } => true,
            Self::Execute(_) => !after_discard,
            Self::Preflight | Self::Cleanup { .. } => false,
        }
    }

    /// Whether its work is leased from a pool until the pool is empty.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        match self {
            Self::Prepare { .. } | Self::Cleanup { .. } => true,
            Self::Execute(execute) => execute.operations.is_some(),
            Self::Preflight => false,
        }
    }

    /// Whether its results are thrown away.
    #[must_use]
    pub fn is_discard(&self) -> bool {
        matches!(self, Self::Execute(ExecutePlan { discard: true, .. }))
    }

    /// The plan of an execute stage.
    #[must_use]
    pub fn execute(&self) -> Option<&ExecutePlan> {
        match self {
            Self::Execute(execute) => Some(execute),
            _ => None,
        }
    }
}

/// What an execute stage does: `like` is resolved, defaults are filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutePlan {
    /// Length of the window; at least one of this and `operations` is set.
    pub duration: Option<Duration>,
    /// Operations of the whole cluster, leased to agents.
    pub operations: Option<u64>,
    /// Warm-up: flows into the next stage, and its results do not count.
    pub discard: bool,
    /// Workers per agent.
    pub concurrency: u32,
    /// Open loop; `None` is a closed loop.
    pub rate: Option<RatePlan>,
    /// The mix; weights are positive and their sum fits in 32 bits.
    pub operations_mix: Vec<OpPlan>,
}

/// One operation of a mix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpPlan {
    /// Which operation.
    pub op: Op,
    /// Share of the mix, against the sum of weights.
    pub weight: u32,
    /// How existing objects are chosen (`Get`, `Head`, `List`).
    pub keys: KeyChoice,
    /// Sizes of new objects (`Put`), where they differ from the data set's.
    pub size: Option<SizeSpec>,
}

/// How the next object is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum KeyChoice {
    /// Each object alike, over the whole data set.
    #[default]
    Uniform,
    /// Zipf over the whole data set, popular objects scattered over it.
    Zipf {
        /// Exponent, positive.
        exponent: f64,
    },
    /// A share of the objects gets a share of the operations.
    HotSet {
        /// Percent of the objects that are hot, 1..=100.
        objects_percent: u32,
        /// Percent of the operations that go to them, 0..=100.
        operations_percent: u32,
    },
    /// The agent's own share in order, again and again.
    Sequential,
    /// The agent's own share in order, once; then the operation has nothing left.
    Once,
}

/// A rate asked of the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RatePlan {
    /// Arrivals per second over all agents, in thousandths, so that small rates split exactly.
    pub milli_operations_per_second: u64,
    /// How arrivals are spaced.
    pub arrival: Arrival,
    /// Split the rate again over those who live, when an agent is lost.
    pub redistribute: bool,
}

/// How arrivals of an open loop are spaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arrival {
    /// Exponential gaps.
    #[default]
    Poisson,
    /// Gaps uniform between zero and twice the mean.
    Uniform,
    /// Equal gaps, the first arrival at the start.
    Deterministic,
}

/// What an error means in cleanup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tolerance {
    /// Any error fails the stage, a missing object too.
    Strict,
    /// Missing objects are fine.
    #[default]
    Tolerant,
    /// Every error is counted and none fails the stage.
    BestEffort,
}

/// Whether a stage runs after a failure or an abort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOn {
    /// Only when all went well so far.
    #[default]
    Success,
    /// Also after a failed stage or an abort.
    Always,
}

/// How the end of a stage is synchronised, and what silence means in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// Who must arrive.
    pub mode: BarrierMode,
    /// How long `Majority` and `BestEffort` wait for the rest, from the first arrival on.
    pub timeout: Duration,
    /// How long an agent's progress may stand still.
    pub stall_timeout: Duration,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Missed heartbeats before the coordinator asks.
    pub missed_threshold: u32,
    /// How long it waits for the answer.
    pub query_timeout: Duration,
    /// How often it asks again.
    pub query_retries: u32,
}

impl Default for Barrier {
    fn default() -> Self {
        Self {
            mode: BarrierMode::All,
            timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(300),
            heartbeat_interval: Duration::from_secs(1),
            missed_threshold: 5,
            query_timeout: Duration::from_secs(3),
            query_retries: 1,
        }
    }
}

/// Who must arrive before a barrier opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarrierMode {
    /// Every agent of the quorum.
    #[default]
    All,
    /// More than half, and the timeout is over.
    Majority,
    /// Everyone alive, or the timeout is over.
    BestEffort,
}

/// How the start is coordinated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPlan {
    /// How long the quorum may take to become ready.
    pub ready_timeout: Duration,
    /// Countdown before the first armed start.
    pub delay: Duration,
    /// Least time between arming and the start.
    pub lead_time: Duration,
    /// Skew above which the run is degraded.
    pub max_skew: Duration,
    /// What too much skew means for the verdict.
    pub on_skew: Objection,
    /// What a client-bound stage means for the verdict.
    pub on_client_bound: Objection,
    /// Whether an agent that comes late may join.
    pub late_join: LateJoin,
}

/// What a doubt about a measurement means for the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Objection {
    /// The verdict is `Inconclusive`.
    Inconclusive,
    /// It is only reported.
    Report,
}

/// Whether an agent that comes late may join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LateJoin {
    /// It may not.
    #[default]
    Refuse,
    /// It joins what is under way.
    Admit,
}

/// What to do about losses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePlan {
    /// What happens when an index has no attempts left.
    pub mode: FailureMode,
    /// Floor under any mode; 0 is none.
    pub min_agents: u32,
    /// Replacements per index (`RetryOnce` is resolved into 1 and [`FailureMode::FailFast`]).
    pub retry_attempts: u32,
    /// Wait before the first replacement, doubling to [`FailurePlan::RETRY_DELAY_MAX`].
    pub retry_delay: Duration,
    /// How long a disconnected agent may come back.
    pub reconnect_grace: Duration,
    /// How long an agent works on without its coordinator; at least `reconnect_grace`.
    pub orphan_grace: Duration,
    /// Budget of failed operations.
    pub error_budget: ErrorBudget,
    /// Reasons that are treated differently; the first match wins.
    pub rules: Vec<FailureRule>,
}

impl FailurePlan {
    /// The longest wait between two replacements.
    pub const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
}

/// What happens when an index has no attempts left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureMode {
    /// Abort everything.
    FailFast,
    /// Go on while more than half of the replicas live.
    #[default]
    ContinueIfMajority,
    /// Go on while one lives.
    BestEffort,
}

/// When failed operations end a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBudget {
    /// Percent of an agent's operations in a stage that may fail.
    pub percent: u32,
    /// Failures in a row, per agent, that end the stage.
    pub consecutive: u32,
}

/// Treats some reasons of loss differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRule {
    /// Reasons, as [`crate::run`] names them.
    pub reasons: Vec<String>,
    /// What to do.
    pub action: RuleAction,
    /// Whether a retry uses up an attempt.
    pub count_attempt: bool,
}

/// What a [`FailureRule`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleAction {
    /// Replace the agent.
    Retry,
    /// Abort the run.
    Abort,
    /// Go on without it.
    Continue,
}

/// A limit that decides the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// Name, unique within the run.
    pub name: String,
    /// Stage that it looks at.
    pub stage: String,
    /// Operation; `None` is all of them.
    pub op: Option<Op>,
    /// What is measured.
    pub metric: Metric,
    /// The limit.
    pub limit: Limit,
    /// What a breach means.
    pub on_breach: OnBreach,
}

/// What a threshold measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Mean response time, nanoseconds.
    Mean,
    /// Median response time, nanoseconds.
    P50,
    /// 90th percentile of response time, nanoseconds.
    P90,
    /// 99th percentile of response time, nanoseconds.
    P99,
    /// 99.9th percentile of response time, nanoseconds.
    P999,
    /// Longest response time, nanoseconds.
    Max,
    /// Operations per second, in thousandths.
    OperationsPerSecond,
    /// Bytes per second.
    BytesPerSecond,
    /// Failed operations, in thousandths of a percent.
    ErrorPercent,
}

/// A bound in the unit of its [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// Observed values up to this pass.
    AtMost(u64),
    /// Observed values from this on pass.
    AtLeast(u64),
}

/// What a breach means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnBreach {
    /// The verdict is `Failed`.
    #[default]
    Fail,
    /// It is only reported.
    Report,
}
