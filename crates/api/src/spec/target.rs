//! `spec.target`: where the load goes. Holds no secret, ever: credentials are a Secret's name.

use super::words::{EndpointSelection, PageCache};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where the load goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct TargetSpec {
    /// `s3://bucket/prefix`, `file:///absolute/path`, `mem://` or `null://`; `gs`, `az` and `direct` are reserved.
    #[schemars(length(max = 1024), regex(pattern = r"^(s3|gs|az|file|direct|mem|null)://"))]
    pub uri: String,
    /// Endpoint URLs of an object store; without them the provider's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 512), regex(pattern = r"^https?://[^/?#]+/?$")))]
    pub endpoints: Vec<String>,
    /// Which endpoint an operation uses.
    #[serde(default = "round_robin")]
    pub endpoint_selection: EndpointSelection,
    /// Documented options, e.g. `region`; nothing secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub options: BTreeMap<String, String>,
    /// A Secret whose keys become the agents' environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
    /// A volume that is mounted at the path of a `file://` target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSpec>,
    /// What a file target does with the page cache.
    #[serde(default = "keep")]
    pub page_cache: PageCache,
}

const fn round_robin() -> EndpointSelection {
    EndpointSelection::RoundRobin
}

const fn keep() -> PageCache {
    PageCache::Keep
}

/// A Secret by name, in the run's namespace. The operator never reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct CredentialsSpec {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// One volume; exactly one member is set. Members are Kubernetes' own volume sources.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct VolumeSpec {
    /// A claim in the run's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<ClaimSource>,
    /// A claim that is made for each agent and goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<EphemeralSource>,
    /// A directory of the node, or memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirSource>,
}

/// A claim in the run's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ClaimSource {
    /// Name of the claim.
    #[schemars(length(min = 1, max = 253))]
    pub claim_name: String,
}

/// Declares a volume source that is kept as it was written, with the schema of Kubernetes' own type, made partial.
macro_rules! volume_source {
    ($(#[$meta:meta])* $name:ident, $kubernetes:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Map<String, Value>);

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let mut schema = generator.subschema_for::<k8s_openapi::api::core::v1::$kubernetes>();
                crate::crd::make_partial(&mut schema);
                schema
            }
        }
    };
}

volume_source!(
    /// Kubernetes' `EphemeralVolumeSource`.
    EphemeralSource,
    EphemeralVolumeSource
);
volume_source!(
    /// Kubernetes' `EmptyDirVolumeSource`.
    EmptyDirSource,
    EmptyDirVolumeSource
);
