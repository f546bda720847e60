//! Labels, annotations and names that Lockstep puts on what it owns. Deliberately constants only: who sets them,
//! and when, is the operator's business.

/// API group of the resource.
pub const GROUP: &str = "lockstep.dev";
/// Version of the resource.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` as it stands in manifests.
pub const API_VERSION: &str = "lockstep.dev/v1alpha1";
/// Kind of the resource.
pub const KIND: &str = "BenchmarkRun";
/// Keys under this prefix belong to Lockstep; a pod template may not set them.
pub const PREFIX: &str = "lockstep.dev/";

/// Label: name of the run.
pub const RUN: &str = "lockstep.dev/run";
/// Label: uid of the run, which outlives the reuse of a name.
pub const RUN_UID: &str = "lockstep.dev/run-uid";
/// Label: index of the agent, from 0.
pub const AGENT_INDEX: &str = "lockstep.dev/agent-index";
/// Label: attempt of the agent under its index, from 0.
pub const AGENT_ATTEMPT: &str = "lockstep.dev/agent-attempt";
/// Label: attempt of the whole run, from 1.
pub const RUN_ATTEMPT: &str = "lockstep.dev/run-attempt";
/// Annotation: hash of the plan that a pod was created for.
pub const PLAN_HASH: &str = "lockstep.dev/plan-hash";
/// Annotation: seal of a pod that the operator has made.
pub const SEAL: &str = "lockstep.dev/seal";
/// Annotation: authorities that a pod was told to trust, by their marks.
pub const TRUSTS: &str = "lockstep.dev/trusts";
/// Finalizer of a run; stands only while agents may live.
pub const FINALIZER: &str = "lockstep.dev/agents";

/// Well-known label: name of the application.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Well-known label: instance of the application, the run's name.
pub const APP_INSTANCE: &str = "app.kubernetes.io/instance";
/// Well-known label: component, `agent` or `operator`.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Well-known label: what it is part of.
pub const APP_PART_OF: &str = "app.kubernetes.io/part-of";
/// Well-known label: who manages it.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`APP_NAME`] and [`APP_PART_OF`].
pub const APP: &str = "lockstep";
/// Value of [`APP_COMPONENT`] on agents.
pub const COMPONENT_AGENT: &str = "agent";

/// Default of `spec.managedBy`.
pub const MANAGED_BY: &str = "lockstep.dev/operator";
/// Field manager of lifecycle: conditions, phase, verdict.
pub const MANAGER_LIFECYCLE: &str = "lockstep.dev/lifecycle";
/// Field manager of progress: agents, progress, stages.
pub const MANAGER_PROGRESS: &str = "lockstep.dev/progress";
/// Key of the report in its ConfigMap.
pub const REPORT_KEY: &str = "results.json";
/// Name of the container whose end is the agent's end.
pub const AGENT_CONTAINER: &str = "agent";
/// The longest name of a run, in characters: room for `-<index>-<attempt>` and for `-<uid8>-<what>`.
pub const NAME_MAX: usize = 52;
