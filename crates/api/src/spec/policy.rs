//! `spec.start`, `failurePolicy`, `thresholds`, `results` and `stop`: how a run begins, is judged, and ends.

use super::words::{
    FailureModeName, LateJoin, MetricName, Objection, OnBreach, OpName, RuleAction, StopMode,
};
use crate::span::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// How the start is coordinated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct StartSpec {
    /// How long the quorum may take to become ready.
    pub ready_timeout: Span,
    /// Countdown before the first armed start.
    #[schemars(schema_with = "crate::span::zero_allowed")]
    pub delay: Span,
    /// Least time between arming and the start.
    pub lead_time: Span,
    /// Skew above which the run is degraded.
    pub max_skew: Span,
    /// What too much skew means for the verdict.
    pub on_skew: Objection,
    /// What it means when the clients, not the storage, set the pace.
    pub on_client_bound: Objection,
    /// Whether an agent that comes late may join.
    pub late_join: LateJoin,
}

impl Default for StartSpec {
    fn default() -> Self {
        Self {
            ready_timeout: Span::seconds(600),
            delay: Span::seconds(0),
            lead_time: Span::milliseconds(200),
            max_skew: Span::milliseconds(50),
            on_skew: Objection::Inconclusive,
            on_client_bound: Objection::Report,
            late_join: LateJoin::Refuse,
        }
    }
}

/// What to do when agents or operations fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct FailurePolicySpec {
    /// What happens when an agent has no attempts left.
    pub mode: FailureModeName,
    /// Floor under any mode: with fewer agents the run fails; 0 is none.
    #[schemars(range(max = 5000))]
    pub min_agents: u32,
    /// Replacements per agent; default 1, and 0 with FailFast.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100))]
    pub retry_attempts: Option<u32>,
    /// Wait before the first replacement; doubles up to 30s.
    #[schemars(schema_with = "crate::span::zero_allowed")]
    pub retry_delay: Span,
    /// How long a disconnected agent may come back.
    pub reconnect_grace: Span,
    /// How long an agent works on without its coordinator; at least reconnectGrace; default 2m, locally 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_grace: Option<Span>,
    /// How long an agent's progress may stand still, in stages whose barrier does not say otherwise.
    pub stall_timeout: Span,
    /// When failed operations end a stage.
    pub error_budget: ErrorBudgetSpec,
    /// Reasons that are treated differently; the first match wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub rules: Vec<FailureRuleSpec>,
}

impl Default for FailurePolicySpec {
    fn default() -> Self {
        Self {
            mode: FailureModeName::ContinueIfMajority,
            min_agents: 0,
            retry_attempts: None,
            retry_delay: Span::seconds(10),
            reconnect_grace: Span::seconds(60),
            orphan_grace: None,
            stall_timeout: Span::seconds(300),
            error_budget: ErrorBudgetSpec::default(),
            rules: Vec::new(),
        }
    }
}

/// When failed operations end a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct ErrorBudgetSpec {
    /// Percent of an agent's operations that may fail.
    #[schemars(range(max = 100))]
    pub percent: u32,
    /// Failures in a row, per agent, that end the stage.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub consecutive: u32,
}

impl Default for ErrorBudgetSpec {
    fn default() -> Self {
        Self { percent: 1, consecutive: 100 }
    }
}

/// Treats some reasons of loss differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct FailureRuleSpec {
    /// Reasons of loss, e.g. OOMKilled, Evicted, Preempted.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 64)))]
    pub on_reasons: Vec<String>,
    /// What to do.
    pub action: RuleAction,
    /// Whether a retry uses up an attempt.
    #[serde(default = "yes")]
    pub count_attempt: bool,
}

const fn yes() -> bool {
    true
}

/// A limit that decides the verdict; exactly one of `atMost` and `atLeast` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ThresholdSpec {
    /// Name, unique within the run; default `<stage>-<op>-<metric>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub name: Option<String>,
    /// Execute stage that it looks at.
    #[schemars(length(min = 1, max = 63))]
    pub stage: String,
    /// Operation; without it all of them together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub op: Option<OpName>,
    /// What is measured.
    pub metric: MetricName,
    /// Observed values up to this pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<LimitText>,
    /// Observed values from this on pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<LimitText>,
    /// What a breach means.
    #[serde(default = "fail")]
    pub on_breach: OnBreach,
}

const fn fail() -> OnBreach {
    OnBreach::Fail
}

/// A limit in the unit of its metric: `20ms` or `350us` (response times), `4900` (operationsPerSecond), `1Gi`
/// (bytesPerSecond), `"0.5"` (errorPercent). Which one it is, only the metric can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitText {
    /// A bare number.
    Integer(u64),
    /// A number with a unit, or with a decimal point.
    Text(String),
}

impl JsonSchema for LimitText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": 32,
            "pattern": r"^[0-9][0-9a-zA-Z.]{0,31}$",
        })
    }
}

/// Where results go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(inline)]
pub struct ResultsSpec {
    /// An object store for results. Kept for a later version: this one refuses it in a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^(s3|gs|az)://"))]
    pub destination: Option<String>,
    /// A Secret whose keys become the environment of the upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// Whether the report is kept in a ConfigMap beside the run.
    pub config_map: bool,
    /// Whether that ConfigMap stays when the run is deleted.
    pub retain: bool,
}

impl Default for ResultsSpec {
    fn default() -> Self {
        Self { destination: None, secret_name: None, config_map: true, retain: false }
    }
}

/// Ends a run early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct StopSpec {
    /// How.
    pub mode: StopMode,
    /// Why, for the events and the report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub reason: Option<String>,
}
