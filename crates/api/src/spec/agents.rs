//! `spec.agents`: how many, where, and what their pods look like.

use super::words::{CleanupPolicy, Placement};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The agents that make the load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct AgentsSpec {
    /// How many agents.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5000))]
    pub replicas: u32,
    /// How many must be ready to start; default replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub min_available: Option<u32>,
    /// How agents are spread over nodes.
    #[serde(default)]
    pub placement: Placement,
    /// When the pods of finished agents are deleted.
    #[serde(default)]
    pub cleanup_policy: CleanupPolicy,
    /// A partial pod template, merged over ours as `kubectl patch` would; our container is named `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<PodTemplate>,
}

const fn one() -> u32 {
    1
}

impl Default for AgentsSpec {
    fn default() -> Self {
        Self {
            replicas: 1,
            min_available: None,
            placement: Placement::default(),
            cleanup_policy: CleanupPolicy::default(),
            template: None,
        }
    }
}

/// A partial `PodTemplateSpec`. Kept as it was written, so that a field newer than our types is never lost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodTemplate(pub Map<String, Value>);

impl JsonSchema for PodTemplate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PodTemplate".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<k8s_openapi::api::core::v1::PodTemplateSpec>();
        crate::crd::make_partial(&mut schema);
        schema
    }
}
