//! The spec of a `BenchmarkRun`: one execution, with every default, unit and limit in its schema.
//!
//! Field docs become the schema's descriptions, so they are written for people who write manifests. Limits stand
//! on every list, map and string, because the API server prices CEL rules by the largest object that the schema
//! admits. Deliberately no logic: checks across fields are in [`crate::rules`] (API server) and
//! [`crate::resolve`] (everywhere).

// Each printer column repeats its words, which is no mistake.
#![allow(clippy::duplicated_attributes)]

pub mod agents;
pub mod dataset;
pub mod policy;
pub mod stages;
pub mod target;
pub mod words;

use crate::labels;
use crate::span::Span;
use crate::status::BenchmarkRunStatus;
use agents::AgentsSpec;
use dataset::DatasetSpec;
use kube::CustomResource;
use policy::{FailurePolicySpec, ResultsSpec, StartSpec, StopSpec, ThresholdSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stages::StageSpec;
use target::TargetSpec;

/// Largest integer that JSON carries exactly.
pub const SEED_MAX: u64 = (1 << 53) - 1;

/// One coordinated storage benchmark. It runs once: the spec is immutable but for suspend, stop, ttlAfterFinished and
/// agents.cleanupPolicy.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "lockstep.dev",
    version = "v1alpha1",
    kind = "BenchmarkRun",
    plural = "benchmarkruns",
    shortname = "brun",
    category = "lockstep",
    namespaced,
    status = "BenchmarkRunStatus",
    derive = "PartialEq",
    doc = "One coordinated storage benchmark: what to measure, with how many agents, and what came of it.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.progress.stage"),
    printcolumn(name = "Agents", type_ = "string", json_path = ".status.agents.summary"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.summary"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Throughput", type_ = "string", json_path = ".status.throughput", priority = 1),
    printcolumn(name = "Skew", type_ = "string", json_path = ".status.skew", priority = 1),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Finished\")].reason",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BenchmarkRunSpec {
    /// Seed of names, sizes, contents and choices: the same seed makes the same data on any number of agents.
    #[serde(default)]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub seed: u64,
    /// The agents that make the load.
    #[serde(default)]
    pub agents: AgentsSpec,
    /// Where the load goes.
    pub target: TargetSpec,
    /// What lies there.
    pub dataset: DatasetSpec,
    /// What happens, in order. Without it: prepare, 30 seconds of `mixed`, cleanup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub stages: Vec<StageSpec>,
    /// How the start is coordinated.
    #[serde(default)]
    pub start: StartSpec,
    /// What to do when agents or operations fail.
    #[serde(default)]
    pub failure_policy: FailurePolicySpec,
    /// What decides the verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub thresholds: Vec<ThresholdSpec>,
    /// Where results go.
    #[serde(default)]
    pub results: ResultsSpec,
    /// Limit on the whole run, from its start on; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_deadline: Option<Span>,
    /// Deletes the run this long after it finished. No default: a GitOps controller would create the run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::span::zero_allowed")]
    pub ttl_after_finished: Option<Span>,
    /// Runs of one group wait for each other, so that two do not spoil each other's measurement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub exclusive: Option<String>,
    /// Which installation owns the run; another value is left alone. Immutable.
    #[serde(default = "managed_by")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9.-]+/[a-zA-Z0-9._-]+$"))]
    pub managed_by: String,
    /// Holds the run, or aborts a live one and keeps what it has; resuming begins a new attempt.
    #[serde(default)]
    pub suspend: bool,
    /// Ends the run early; may be set once and then only harden, from Graceful to Immediate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopSpec>,
}

fn managed_by() -> String {
    labels::MANAGED_BY.to_owned()
}
