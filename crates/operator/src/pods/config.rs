//! What an installation of the operator brings to every pod: made from the chart's values, the same for all runs.

use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An installation of the operator.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Installation {
    /// What `spec.managedBy` must be for a run to be ours.
    pub managed_by: String,
    /// Namespace of the operator.
    pub namespace: String,
    /// Namespaces whose runs it serves; empty is all.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Name of the operator's ServiceAccount there.
    pub service_account: String,
    /// Where agents reach the coordinators, `host:port`: the headless Service.
    pub coordinator: String,
    /// Labels by which the operator's own Service, Deployment and PodDisruptionBudget select.
    pub selector_labels: BTreeMap<String, String>,
    /// What agents are made of.
    pub agent: AgentDefaults,
    /// Most agents of one run.
    pub agents_per_run_max: u32,
    /// Most runs at once in one namespace; 0 is no limit.
    pub runs_per_namespace_max: u32,
    /// How agents prove who they are.
    #[serde(default)]
    pub tokens: Tokens,
    /// How long the operator's certificates hold.
    #[serde(default)]
    pub certificates: Certificates,
}

/// How long the operator's certificates hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Certificates {
    /// That of its authority, seconds. A pod that lives for more than half of it holds a change of the authority up.
    pub authority_seconds: u32,
    /// That which agents see, seconds.
    pub serving_seconds: u32,
}

impl Default for Certificates {
    /// Two years, and 90 days.
    fn default() -> Self {
        const DAY_S: u32 = 24 * 3_600;
        Self { authority_seconds: 730 * DAY_S, serving_seconds: 90 * DAY_S }
    }
}

/// Who vouches for the token of an agent's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Tokens {
    /// The API server is asked for each (TokenReview); takes a right for the whole cluster.
    #[default]
    Review,
    /// The cluster's public keys (JWKS), which every ServiceAccount may be allowed to read.
    Jwks,
}

/// Defaults of the chart for agent pods. Templates merge over them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentDefaults {
    /// Image with the agent.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// Program in the image with its path.
    pub command: Vec<String>,
    /// What it logs, as `LOCKSTEP_LOG` takes it.
    pub log: String,
    /// How the lines of its log look, as `LOCKSTEP_LOG_FORMAT` takes it: `text` or `json`; empty is `text`.
    pub log_format: String,
    /// Validity of the token of each pod, seconds; an hour if nothing is said.
    pub token_seconds: Option<u32>,
    /// `ResourceRequirements`.
    pub resources: Map<String, Value>,
    /// `LocalObjectReference`s.
    pub image_pull_secrets: Vec<Value>,
    /// `Toleration`s.
    pub tolerations: Vec<Value>,
    /// Node labels that a node must bear.
    pub node_selector: BTreeMap<String, String>,
    /// Name of a PriorityClass; empty is none.
    pub priority_class_name: String,
    /// Labels of every agent pod.
    pub labels: BTreeMap<String, String>,
    /// Annotations of every agent pod.
    pub annotations: BTreeMap<String, String>,
}

impl Installation {
    /// Whether the operator's own objects select by this label key.
    #[must_use]
    pub fn is_reserved_label(&self, key: &str) -> bool {
        self.selector_labels.contains_key(key)
    }

    /// What stands in `status.controller` of our runs: two installations may share `managedBy` by mistake, and the first
    /// to write its claim has the run.
    #[must_use]
    pub fn claim(&self) -> String {
        format!("{}/{}", self.namespace, self.service_account)
    }
}

#[cfg(test)]
impl Installation {
    /// An installation as the chart makes it.
    pub(crate) fn example() -> Self {
        serde_json::from_value(serde_json::json!({
            "managedBy": "lockstep.dev/operator",
            "namespace": "lockstep-system",
            "serviceAccount": "lockstep-operator",
            "coordinator": "lockstep-coordinator.lockstep-system.svc:7443",
            "selectorLabels": {
                "app.kubernetes.io/name": "lockstep",
                "app.kubernetes.io/instance": "release",
                "app.kubernetes.io/component": "operator",
            },
            "agent": {
                "image": "lockstep/agent:0.1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["/usr/local/bin/lockstep-agent"],
                "log": "info",
                "logFormat": "json",
                "resources": {"requests": {"cpu": "1", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
                "imagePullSecrets": [{"name": "mirror"}],
                "tolerations": [{"key": "bench", "operator": "Exists"}],
                "priorityClassName": "bench",
                "labels": {"team": "storage"},
            },
            "agentsPerRunMax": 1000,
            "runsPerNamespaceMax": 0,
        }))
        .expect("an installation")
    }
}
