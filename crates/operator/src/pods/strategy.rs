//! Which lists of a pod template a strategic merge patch merges, and by which key.
//!
//! Kubernetes publishes these facts twice: as `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key` in its
//! OpenAPI document, and as the struct tags `patchStrategy` and `patchMergeKey` of `k8s.io/api/core/v1` (types.go) and
//! `k8s.io/apimachinery/pkg/apis/meta/v1`, from which the API server itself reads them. This table is the tags of
//! v0.36.3, followed from `PodTemplateSpec` down. A list that is not in it is replaced as a whole: tolerations, command,
//! args, envFrom, items of projected volumes. A port's key is `containerPort` alone here, though server-side apply
//! also looks at the protocol: two ports of one number cannot be told apart by a patch.

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Elements are scalars: a union.
    Union,
    /// Elements are objects, told apart by this member.
    ByKey(&'static str),
}

/// Dotted path below the template, without indexes.
const TABLE: [(&str, Strategy); 25] = [
    ("metadata.finalizers", Strategy::Union),
    ("metadata.ownerReferences", Strategy::ByKey("uid")),
    ("spec.containers", Strategy::ByKey("name")),
    ("spec.containers.env", Strategy::ByKey("name")),
    ("spec.containers.ports", Strategy::ByKey("containerPort")),
    ("spec.containers.volumeDevices", Strategy::ByKey("devicePath")),
    ("spec.containers.volumeMounts", Strategy::ByKey("mountPath")),
    ("spec.ephemeralContainers", Strategy::ByKey("name")),
    ("spec.ephemeralContainers.env", Strategy::ByKey("name")),
    ("spec.ephemeralContainers.ports", Strategy::ByKey("containerPort")),
    ("spec.ephemeralContainers.volumeDevices", Strategy::ByKey("devicePath")),
    ("spec.ephemeralContainers.volumeMounts", Strategy::ByKey("mountPath")),
    ("spec.hostAliases", Strategy::ByKey("ip")),
    ("spec.imagePullSecrets", Strategy::ByKey("name")),
    ("spec.initContainers", Strategy::ByKey("name")),
    ("spec.initContainers.env", Strategy::ByKey("name")),
    ("spec.initContainers.ports", Strategy::ByKey("containerPort")),
    ("spec.initContainers.volumeDevices", Strategy::ByKey("devicePath")),
    ("spec.initContainers.volumeMounts", Strategy::ByKey("mountPath")),
    ("spec.resourceClaims", Strategy::ByKey("name")),
    ("spec.schedulingGates", Strategy::ByKey("name")),
    ("spec.topologySpreadConstraints", Strategy::ByKey("topologyKey")),
    ("spec.volumes", Strategy::ByKey("name")),
    ("spec.volumes.ephemeral.volumeClaimTemplate.metadata.finalizers", Strategy::Union),
    ("spec.volumes.ephemeral.volumeClaimTemplate.metadata.ownerReferences", Strategy::ByKey("uid")),
];

/// How the list at `path` is merged; `None` when it is replaced. `path` is dotted and has no indexes.
#[must_use]
pub fn of(path: &str) -> Option<Strategy> {
    TABLE.iter().find(|(listed, _)| *listed == path).map(|(_, strategy)| *strategy)
}
