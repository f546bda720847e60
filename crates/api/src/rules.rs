//! Every CEL rule of the resource, in one table: where it hangs in the schema, what it demands, what it says.
//!
//! Kept apart from the types so that they can be read, counted and tested as a list. Each rule on a spec is said again
//! by [`crate::resolve`], for readers that have no API server; a test keeps the two in agreement. Presence matters
//! in rules on changes: an optional field can be added or removed past `self == oldSelf` on the field itself, so these
//! rules stand on the parent.

use serde_json::{Value, json};

/// Where a rule hangs: names of properties from the root of the object; `[]` steps into a list's items.
pub type Place = &'static [&'static str];

/// One CEL rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it hangs.
    pub place: Place,
    /// The expression.
    pub rule: String,
    /// What the API server says when it is broken.
    pub message: String,
}

impl Rule {
    fn new(place: Place, rule: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place, rule: rule.into(), message: message.into() }
    }

    /// The rule as a member of `x-kubernetes-validations`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "rule": self.rule, "message": self.message })
    }
}

/// The way out of immutability, said with every refused edit.
pub const WAY_OUT: &str = "a BenchmarkRun is one execution: create a new one (metadata.generateName), or in Argo CD sync with \
     Replace=true,Force=true or a hook with BeforeHookCreation, or in Flux set the annotation \
     kustomize.toolkit.fluxcd.io/force: enabled";

/// Members of `spec` that never change.
pub const IMMUTABLE: [&str; 11] = [
    "seed",
    "target",
    "dataset",
    "stages",
    "start",
    "failurePolicy",
    "thresholds",
    "results",
    "activeDeadline",
    "exclusive",
    "managedBy",
];

/// Members of `spec.agents` that never change.
pub const IMMUTABLE_AGENTS: [&str; 4] = ["replicas", "minAvailable", "placement", "template"];

/// Every rule.
#[must_use]
pub fn all() -> Vec<Rule> {
    let spec: Place = &["spec"];
    let agents: Place = &["spec", "agents"];
    let mut rules = vec![
        Rule::new(
            &[],
            "self.metadata.name.size() <= 52",
            "metadata.name is at most 52 characters: the names of pods and ConfigMaps are made from it",
        ),
        Rule::new(
            &[],
            "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name is a lower-case letter, then letters, digits and dashes, without a dash at the end",
        ),
        Rule::new(
            &[],
            "!has(oldSelf.status) || !has(oldSelf.status.epoch) || (has(self.status) && has(self.status.epoch) && \
             self.status.epoch >= oldSelf.status.epoch)",
            "status.epoch may not decrease: a newer coordinator has taken over",
        ),
    ];
    rules.extend(IMMUTABLE.map(|field| unchanged(spec, "spec", field)));
    rules.extend(IMMUTABLE_AGENTS.map(|field| unchanged(agents, "spec.agents", field)));
    rules.extend([
        Rule::new(
            spec,
            "!has(oldSelf.stop) || (has(self.stop) && (self.stop.mode == 'Immediate' || \
             oldSelf.stop.mode == 'Graceful'))",
            "spec.stop may be set once and then only harden, from Graceful to Immediate",
        ),
        Rule::new(
            agents,
            "!has(self.minAvailable) || self.minAvailable <= (has(self.replicas) ? self.replicas : 1)",
            "minAvailable is at most replicas",
        ),
        Rule::new(
            spec,
            "!has(self.stages) || self.stages.all(a, self.stages.exists_one(b, b.name == a.name))",
            "names of stages are unique",
        ),
        Rule::new(
            spec,
            "!has(self.stages) || self.stages.size() == 0 || !has(self.thresholds) || self.thresholds.all(t, \
             self.stages.exists(s, s.name == t.stage && has(s.execute)))",
            "each threshold names an execute stage of this run",
        ),
        Rule::new(
            &["spec", "failurePolicy"],
            "!has(self.orphanGrace) || !has(self.reconnectGrace) || duration(self.orphanGrace) >= \
             duration(self.reconnectGrace)",
            "orphanGrace is at least reconnectGrace",
        ),
        exactly_one(&["spec", "dataset"], &["objects", "tree"]),
        exactly_one(&["spec", "dataset", "size"], SIZES),
        exactly_one(&["spec", "stages", "[]"], &["prepare", "execute", "cleanup"]),
        Rule::new(
            &["spec", "stages", "[]"],
            "!has(self.discard) || !self.discard || has(self.execute)",
            "only an execute stage can be discarded",
        ),
        Rule::new(
            &["spec", "stages", "[]", "execute"],
            "has(self.duration) || has(self.operationCount) || has(self.like)",
            "set duration, operationCount or both",
        ),
        exactly_one(&["spec", "stages", "[]", "execute", "rate"], &["operationsPerSecond", "search"]),
        exactly_one(&["spec", "stages", "[]", "execute", "operations", "[]", "keys"], KEYS),
        exactly_one(&["spec", "stages", "[]", "execute", "operations", "[]", "size"], SIZES),
        exactly_one(&["spec", "thresholds", "[]"], &["atMost", "atLeast"]),
        exactly_one(&["spec", "target", "volume"], &["persistentVolumeClaim", "ephemeral", "emptyDir"]),
    ]);
    rules
}

/// Members of a size, of which exactly one is set.
pub const SIZES: &[&str] = &["fixed", "uniform", "lognormal", "buckets"];

/// Members of a choice of keys, of which exactly one is set.
pub const KEYS: &[&str] = &["uniform", "zipf", "hotSet", "sequential", "once"];

fn exactly_one(place: Place, members: &[&str]) -> Rule {
    let present: Vec<String> = members.iter().map(|member| format!("has(self.{member})")).collect();
    Rule::new(
        place,
        format!("[{}].filter(x, x).size() == 1", present.join(", ")),
        format!("set exactly one of {}", members.join(", ")),
    )
}

fn unchanged(place: Place, parent: &str, field: &str) -> Rule {
    Rule::new(
        place,
        format!(
            "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
        ),
        format!("{parent}.{field} is immutable: {WAY_OUT}"),
    )
}
