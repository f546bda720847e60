//! The pod of one attempt of one agent.
//!
//! Ours first, then the template over it ([`super::merge`]), then the check that what is ours survived
//! ([`super::refuse`]). Pods are created by POST and never patched, so everything about an attempt stands in here.
//!
//! Architecture invariant: the operator never reads a user's secret. Credentials go from a Secret to the container by
//! `envFrom`, and the pod's only token is a projected one for this run's audience.

use super::agent_start::{AgentStart, CLUSTER_FLAG, TERMINATION_LOG};
use super::config::Installation;
use super::{merge, placement, refuse};
use lockstep_api::spec::BenchmarkRun;
use lockstep_api::spec::target::VolumeSpec;
use lockstep_api::{Fault, labels};
use lockstep_core::plan::{Plan, Scheme};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

/// Where the agent's token and CA bundle are mounted.
pub const IDENTITY_PATH: &str = "/var/run/lockstep";
/// How names of our volumes begin.
pub const OWN_VOLUMES: &str = "lockstep-";
/// Where faults of a template are.
const TEMPLATE: &str = "spec.agents.template";
/// User and group of the agent: the unprivileged one of distroless images.
const USER: i64 = 65_532;
/// Validity of a token, seconds, where the installation says nothing; the kubelet renews it after four fifths. The least that the API
/// server takes is 600.
const TOKEN_SECONDS: u32 = 3_600;
/// What the kubelet waits between asking an agent to end and killing it, seconds: a second to stop I/O, two to hand in
/// what it has, and some for a busy node.
const GRACE_SECONDS: i64 = 10;
/// Dead-man's switch of a run that has no deadline of its own, seconds: 30 days.
const DEADMAN_SECONDS: u64 = 30 * 24 * 3_600;
/// What the dead-man's switch leaves beyond all that may still be going on, seconds.
const DEADMAN_MARGIN_SECONDS: u64 = 3_600;

/// A `PodTemplateSpec` as JSON.
type Template = Map<String, Value>;

/// Which run a pod is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunIdentity {
    /// Namespace.
    pub namespace: String,
    /// Name, at most 52 characters.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl RunIdentity {
    /// The identity of a run that the API server has stored; `None` when it is not one.
    #[must_use]
    pub fn of(run: &BenchmarkRun) -> Option<Self> {
        let metadata = &run.metadata;
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
        })
    }

    /// Name of the pod of an attempt.
    #[must_use]
    pub fn pod_name(&self, index: u32, attempt: u32) -> String {
        format!("{}-{index}-{attempt}", self.name)
    }

    /// Name of a ConfigMap of this run: `<run>-<uid8>-<what>`. The uid keeps it apart from one of an earlier run.
    #[must_use]
    pub fn config_map_name(&self, what: &str) -> String {
        let uid8: String = self.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        format!("{}-{uid8}-{what}", self.name)
    }

    /// Name of the ConfigMap with the CA bundle, key `ca.crt`.
    #[must_use]
    pub fn ca_config_map(&self) -> String {
        self.config_map_name("ca")
    }

    /// Name of the ConfigMap with the report of an attempt of the whole run, from 1: what an attempt that was suspended has
    /// measured is not written over by the next one.
    #[must_use]
    pub fn results_config_map(&self, attempt: u32) -> String {
        match attempt {
            0 | 1 => self.config_map_name("results"),
            attempt => self.config_map_name(&format!("results-{attempt}")),
        }
    }

    /// Name of the ConfigMap with what a later leader needs to go on.
    #[must_use]
    pub fn state_config_map(&self) -> String {
        self.config_map_name("state")
    }

    /// Name of the ConfigMap that says which results were handed in.
    #[must_use]
    pub fn parts_config_map(&self) -> String {
        self.config_map_name("parts")
    }

    /// Name of the `number`th ConfigMap with results that the first one does not hold.
    #[must_use]
    pub fn more_parts_config_map(&self, number: u32) -> String {
        self.config_map_name(&format!("parts-{number}"))
    }

    /// Audience of the tokens of this run's agents.
    #[must_use]
    pub fn audience(&self) -> String {
        format!("{}{}/{}/{}", labels::PREFIX, self.namespace, self.name, self.uid)
    }

    /// The reference by which everything of this run is owned. It does not block the run's deletion, the finalizer does: what
    /// blocks takes a right on the run, and an admission that knows its kind, which may be half a minute after that was
    /// installed (OwnerReferencesPermissionEnforcement).
    #[must_use]
    pub fn owner_reference(&self) -> Value {
        json!({
            "apiVersion": labels::API_VERSION, "kind": labels::KIND, "name": self.name, "uid": self.uid,
            "controller": true,
        })
    }
}

/// A pod that may be created.
#[derive(Clone, Debug, PartialEq)]
pub struct PodManifest {
    /// Its name.
    pub name: String,
    /// The whole object.
    pub json: Value,
}

/// Everything that pods of a run are made from, checked.
#[derive(Clone, Debug)]
pub struct Recipe {
    identity: RunIdentity,
    run: BenchmarkRun,
    plan: Plan,
    installation: Installation,
}

impl Recipe {
    /// Checks the template of `run` by making the first pod.
    ///
    /// # Errors
    ///
    /// Everything that the template may not set, and every place at which it cannot be merged.
    pub fn new(
        identity: RunIdentity,
        run: BenchmarkRun,
        plan: Plan,
        installation: Installation,
    ) -> Result<Self, Vec<Fault>> {
        let recipe = Self { identity, run, plan, installation };
        let Self { identity, run, plan, installation } = &recipe;
        let mut faults = Vec::new();
        if plan.replicas > installation.agents_per_run_max {
            let message = format!("{} is more than this installation allows", plan.replicas);
            let fault = Fault::new("spec.agents.replicas", message);
            faults.push(fault.allowed(format!("1 to {}", installation.agents_per_run_max)));
        }
        if let Some(template) = &run.spec.agents.template {
            faults.extend(refuse::template(&template.0, TEMPLATE, &identity.namespace, installation));
        }
        match recipe.merged(0, 0) {
            // A fault that was said of the template is not said again of what came of it.
            Ok((ours, merged)) if faults.is_empty() => {
                faults.extend(refuse::merged(&ours, &merged, TEMPLATE, installation));
            }
            Ok(_) => {}
            Err(more) => faults.extend(more),
        }
        if faults.is_empty() { Ok(recipe) } else { Err(faults) }
    }

    /// Which run the pods are of.
    #[must_use]
    pub fn identity(&self) -> &RunIdentity {
        &self.identity
    }

    /// The pod of an attempt.
    ///
    /// # Errors
    ///
    /// None once [`Recipe::new`] has accepted the template: attempts differ only in what a template may not set.
    pub fn pod(&self, index: u32, attempt: u32) -> Result<PodManifest, Vec<Fault>> {
        let (_, mut pod) = self.merged(index, attempt)?;
        let name = self.identity.pod_name(index, attempt);
        pod.insert("apiVersion".to_owned(), json!("v1"));
        pod.insert("kind".to_owned(), json!("Pod"));
        let mut pod = Value::Object(pod);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!(self.identity.namespace);
        pod["metadata"]["ownerReferences"] = json!([self.identity.owner_reference()]);
        Ok(PodManifest { name, json: pod })
    }

    /// Ours, and ours with the template merged over it.
    fn merged(&self, index: u32, attempt: u32) -> Result<(Template, Template), Vec<Fault>> {
        let ours = self.ours(index, attempt);
        let empty = Map::new();
        let template = self.run.spec.agents.template.as_ref().map_or(&empty, |template| &template.0);
        let merged = merge::merge(&ours, template, TEMPLATE)?;
        Ok((ours, merged))
    }

    /// The pod template that the user's is merged over.
    fn ours(&self, index: u32, attempt: u32) -> Map<String, Value> {
        let agent = &self.installation.agent;
        let mut metadata = Map::new();
        metadata.insert("labels".to_owned(), self.labels(index, attempt));
        if !agent.annotations.is_empty() {
            metadata.insert("annotations".to_owned(), json!(agent.annotations));
        }
        let mut spec = Map::new();
        let mut set = |field: &str, value: Value| spec.insert(field.to_owned(), value);
        set("restartPolicy", json!("Never"));
        set("activeDeadlineSeconds", json!(deadman_seconds(&self.plan)));
        set("terminationGracePeriodSeconds", json!(GRACE_SECONDS));
        set("automountServiceAccountToken", json!(false));
        set("enableServiceLinks", json!(false));
        set(
            "securityContext",
            json!({
                "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
                "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"},
            }),
        );
        if !agent.image_pull_secrets.is_empty() {
            set("imagePullSecrets", json!(agent.image_pull_secrets));
        }
        if !agent.tolerations.is_empty() {
            set("tolerations", json!(agent.tolerations));
        }
        if !agent.node_selector.is_empty() {
            set("nodeSelector", json!(agent.node_selector));
        }
        if !agent.priority_class_name.is_empty() {
            set("priorityClassName", json!(agent.priority_class_name));
        }
        let (mut volumes, mut mounts) = (vec![self.identity_volume()], vec![identity_mount()]);
        if let Some((volume, mount)) = self.target_volume() {
            volumes.push(volume);
            mounts.push(mount);
        }
        set("volumes", json!(volumes));
        set("containers", json!([self.container(index, attempt, &mounts)]));
        placement::place(&mut spec, self.run.spec.agents.placement, &self.identity.uid);
        let mut template = Map::new();
        template.insert("metadata".to_owned(), Value::Object(metadata));
        template.insert("spec".to_owned(), Value::Object(spec));
        template
    }

    fn labels(&self, index: u32, attempt: u32) -> Value {
        let mut labels = json!({
            labels::APP_NAME: labels::APP,
            labels::APP_PART_OF: labels::APP,
            labels::APP_INSTANCE: self.identity.name,
            labels::APP_COMPONENT: labels::COMPONENT_AGENT,
            labels::RUN: self.identity.name,
            labels::RUN_UID: self.identity.uid,
            labels::RUN_ATTEMPT: self.plan.run.attempt.to_string(),
            labels::AGENT_INDEX: index.to_string(),
            labels::AGENT_ATTEMPT: attempt.to_string(),
        });
        for (key, value) in &self.installation.agent.labels {
            if labels.get(key).is_none() {
                labels[key] = json!(value);
            }
        }
        labels
    }

    fn container(&self, index: u32, attempt: u32, mounts: &[Value]) -> Value {
        let agent = &self.installation.agent;
        let start = AgentStart {
            coordinator: &self.installation.coordinator,
            namespace: &self.identity.namespace,
            run: &self.identity.name,
            run_uid: &self.identity.uid,
            run_attempt: self.plan.run.attempt,
            index,
            attempt,
            token_file: &format!("{IDENTITY_PATH}/token"),
            ca_file: &format!("{IDENTITY_PATH}/ca.crt"),
            orphan_grace: self.plan.failure.orphan_grace,
            log: &agent.log,
            log_format: &agent.log_format,
        };
        let mut container = json!({
            "name": labels::AGENT_CONTAINER,
            "image": agent.image,
            "imagePullPolicy": agent.image_pull_policy,
            "command": agent.command,
            "args": [CLUSTER_FLAG],
            "env": start.env(),
            "volumeMounts": mounts,
            "terminationMessagePath": TERMINATION_LOG,
            // The agent writes it; the log may hold what is nobody's business.
            "terminationMessagePolicy": "File",
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": true,
            },
        });
        if !agent.resources.is_empty() {
            container["resources"] = json!(agent.resources);
        }
        if let Some(credentials) = &self.run.spec.target.credentials {
            container["envFrom"] = json!([{"secretRef": {"name": credentials.secret_name}}]);
        }
        container
    }

    /// Token and CA bundle in one volume.
    fn identity_volume(&self) -> Value {
        let seconds = self.installation.agent.token_seconds.unwrap_or(TOKEN_SECONDS);
        json!({"name": "lockstep-identity", "projected": {"sources": [
            {"serviceAccountToken": {
                "audience": self.identity.audience(), "expirationSeconds": seconds, "path": "token",
            }},
            {"configMap": {
                "name": self.identity.ca_config_map(), "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }},
        ]}})
    }

    /// `spec.target.volume`, mounted at the path of the target. Where neither it nor the template says what is there, a
    /// directory of the node: the agent's own root is read-only.
    fn target_volume(&self) -> Option<(Value, Value)> {
        if self.plan.target.scheme != Scheme::File {
            return None;
        }
        let name = "lockstep-target";
        let mount = json!({"name": name, "mountPath": self.plan.target.path});
        let Some(spec) = &self.run.spec.target.volume else {
            return (!self.is_mounted()).then(|| (json!({"name": name, "emptyDir": {}}), mount));
        };
        let VolumeSpec { persistent_volume_claim, ephemeral, empty_dir } = spec;
        let (kind, source) = match (persistent_volume_claim, ephemeral, empty_dir) {
            (Some(claim), ..) => ("persistentVolumeClaim", json!({"claimName": claim.claim_name})),
            (None, Some(ephemeral), _) => ("ephemeral", json!(ephemeral)),
            (None, None, Some(directory)) => ("emptyDir", json!(directory)),
            (None, None, None) => return None,
        };
        Some((json!({"name": name, kind: source}), mount))
    }

    /// Whether the template mounts something at the path of the target, or above it.
    fn is_mounted(&self) -> bool {
        let template = self.run.spec.agents.template.as_ref().and_then(|template| template.0.get("spec"));
        let containers = template.and_then(|spec| spec["containers"].as_array()).into_iter().flatten();
        let agent = containers.filter(|container| container["name"] == labels::AGENT_CONTAINER);
        let mut mounts = agent.flat_map(|agent| agent["volumeMounts"].as_array().into_iter().flatten());
        let path = Path::new(&self.plan.target.path);
        mounts.any(|mount| mount["mountPath"].as_str().is_some_and(|at| path.starts_with(at)))
    }
}

fn identity_mount() -> Value {
    json!({"name": "lockstep-identity", "mountPath": IDENTITY_PATH, "readOnly": true})
}

/// How long a pod may live at most, seconds. It stands behind `orphanGrace` and the run's own deadline, and is never what
/// ends a run that is cared for: a cleanup after the deadline may take as long as the run did.
fn deadman_seconds(plan: &Plan) -> u64 {
    let seconds = |span: Duration| span.as_secs() + 1;
    plan.active_deadline.map_or(DEADMAN_SECONDS, |deadline| {
        2 * seconds(deadline) + seconds(plan.start.ready_timeout) + DEADMAN_MARGIN_SECONDS
    })
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
