//! What a template may not set: each with its path and the reason, all of them at once.
//!
//! | refused | because |
//! |---|---|
//! | `metadata` but for labels and annotations | the operator names, owns and removes its pods |
//! | keys under `lockstep.dev/`, keys of the operator's own selectors | pods are found and told apart by them, and no agent may be taken for an operator |
//! | `restartPolicy`, `activeDeadlineSeconds` | replacing an agent is the failure policy's, and the dead-man's switch the operator's |
//! | of container `agent`: command, args, `LOCKSTEP_*`, our mounts, the termination message | the agent must be ours, know who it is, and be able to say why it ends |
//! | our volumes | they hold its identity and its target |
//! | the operator's ServiceAccount, in its namespace | whoever may create runs must not get its rights |
//! | literal secrets in any environment | everybody who may read the run could read them; see [`super::secrets`] |
//!
//! [`template`] looks at what was written. [`merged`] looks at what came out of the merge, for what a directive can do
//! without naming it (`$patch: replace`). Everything else is the API server's to judge, by a dry run before `Accepted`.

use super::config::Installation;
use super::secrets;
use lockstep_api::manifest::path::{item, member};
use lockstep_api::{Fault, labels};
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Everything that `template` may not set. `root`: its path, e.g. `spec.agents.template`; `namespace`: the run's.
#[must_use]
pub fn template(template: &Object, root: &str, namespace: &str, installation: &Installation) -> Vec<Fault> {
    let mut faults = Vec::new();
    for key in template.keys().filter(|key| !matches!(key.as_str(), "metadata" | "spec")) {
        faults.push(Fault::new(member(root, key), "is no part of a pod template").allowed("metadata, spec"));
    }
    if let Some(metadata) = template.get("metadata").and_then(Value::as_object) {
        refuse_metadata(metadata, &member(root, "metadata"), installation, &mut faults);
    }
    if let Some(spec) = template.get("spec").and_then(Value::as_object) {
        let at = member(root, "spec");
        refuse_pod(spec, &at, namespace, installation, &mut faults);
        refuse_containers(spec, &at, &mut faults);
    }
    faults
}

/// What of ours did not survive the merge.
#[must_use]
pub fn merged(ours: &Object, merged: &Object, root: &str, installation: &Installation) -> Vec<Fault> {
    let mut faults = Vec::new();
    let ours = Value::Object(ours.clone());
    let empty = Value::Null;
    let theirs = merged.get("metadata").and_then(|metadata| metadata.get("labels")).unwrap_or(&empty);
    for (key, value) in ours["metadata"]["labels"].as_object().into_iter().flatten() {
        // Labels that the chart adds for its own reasons may be changed.
        if (is_our_key(key) || installation.is_reserved_label(key)) && theirs.get(key) != Some(value) {
            let at = member(&format!("{root}.metadata.labels"), key);
            faults.push(Fault::new(at, "is the operator's, and is gone after the merge"));
        }
    }
    let spec = merged.get("spec").unwrap_or(&empty);
    for field in ["restartPolicy", "activeDeadlineSeconds"] {
        if spec.get(field) != ours["spec"].get(field) {
            faults.push(Fault::new(
                format!("{root}.spec.{field}"),
                "is the operator's, and differs after the merge",
            ));
        }
    }
    kept(&ours["spec"], spec, "volumes", "name", &format!("{root}.spec"), &mut faults);
    let (mine, theirs) = (agent_of(&ours["spec"]), agent_of(spec));
    let at = format!("{root}.spec.containers");
    let (Some(mine), Some(theirs)) = (mine, theirs) else {
        faults.push(Fault::new(at, "container agent is gone after the merge"));
        return faults;
    };
    for field in ["command", "args", "terminationMessagePath", "terminationMessagePolicy"] {
        if theirs.get(field) != mine.get(field) {
            let message = format!("{field} of container agent differs after the merge");
            faults.push(Fault::new(&at, message));
        }
    }
    let own = |env: &&Value| env["name"].as_str().is_some_and(is_own_env);
    let own_env: Vec<&Value> = mine["env"].as_array().into_iter().flatten().filter(own).collect();
    if !own_env.iter().all(|env| theirs["env"].as_array().is_some_and(|list| list.contains(env))) {
        faults.push(Fault::new(&at, "the agent's own environment differs after the merge"));
    }
    kept(mine, theirs, "volumeMounts", "mountPath", &at, &mut faults);
    faults
}

/// Whether each element of ours in the list `field` is as it was.
fn kept(ours: &Value, theirs: &Value, field: &str, key: &str, at: &str, faults: &mut Vec<Fault>) {
    for element in ours[field].as_array().into_iter().flatten() {
        if !theirs[field].as_array().is_some_and(|list| list.contains(element)) {
            let name = element[key].as_str().unwrap_or_default();
            let message = format!("{name} is the operator's, and differs after the merge");
            faults.push(Fault::new(member(at, field), message));
        }
    }
}

fn agent_of(spec: &Value) -> Option<&Value> {
    spec["containers"].as_array()?.iter().find(|container| container["name"] == labels::AGENT_CONTAINER)
}

fn refuse_metadata(metadata: &Object, at: &str, installation: &Installation, faults: &mut Vec<Fault>) {
    for (key, value) in metadata {
        let here = member(at, key);
        match (key.as_str(), value) {
            ("labels" | "annotations", Value::Object(members)) => {
                for name in members.keys() {
                    refuse_key(name, &member(&here, name), key == "labels", installation, faults);
                }
            }
            ("labels" | "annotations", _) => {}
            ("ownerReferences", _) => {
                faults.push(Fault::new(here, "cannot be set: a pod is owned by its run, and goes with it"));
            }
            ("finalizers", _) => {
                let fault = Fault::new(here, "cannot be set: nobody would be left to take it away");
                faults.push(fault);
            }
            // Directives are the merge's to judge.
            (directive, _) if directive.starts_with('$') => {}
            _ => faults.push(
                Fault::new(here, "cannot be set: pods are named by the operator")
                    .allowed("labels, annotations"),
            ),
        }
    }
}

fn refuse_key(name: &str, at: &str, is_label: bool, installation: &Installation, faults: &mut Vec<Fault>) {
    if is_our_key(name) {
        let fault =
            Fault::new(at, format!("cannot be set: keys under {} are the operator's", labels::PREFIX));
        faults.push(fault.hint("use a prefix of your own"));
    } else if is_label && installation.is_reserved_label(name) {
        let fault = Fault::new(at, "cannot be set: the operator's own Service and Deployment select by it");
        faults.push(fault.hint("use a key of your own"));
    }
}

fn refuse_pod(
    spec: &Object,
    at: &str,
    namespace: &str,
    installation: &Installation,
    faults: &mut Vec<Fault>,
) {
    if spec.contains_key("restartPolicy") {
        let fault = Fault::new(member(at, "restartPolicy"), "cannot be set: it is Never");
        faults.push(fault.hint("spec.failurePolicy says when an agent is replaced"));
    }
    if spec.contains_key("activeDeadlineSeconds") {
        let fault =
            Fault::new(member(at, "activeDeadlineSeconds"), "cannot be set: it is the dead-man's switch");
        faults.push(fault.hint("spec.activeDeadline limits the run"));
    }
    for field in ["serviceAccountName", "serviceAccount"] {
        let is_operators = namespace == installation.namespace
            && spec.get(field).and_then(Value::as_str) == Some(installation.service_account.as_str());
        if is_operators {
            let message = "cannot be the operator's ServiceAccount: its rights are not for runs";
            faults.push(Fault::new(member(at, field), message).allowed("a ServiceAccount of your own"));
        }
    }
    for (index, volume) in spec.get("volumes").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if volume["name"].as_str().is_some_and(|name| name.starts_with(super::build::OWN_VOLUMES)) {
            let here = item(&member(at, "volumes"), index);
            let message =
                format!("cannot be set: names with {} are the operator's", super::build::OWN_VOLUMES);
            faults.push(Fault::new(here, message).hint("name it differently"));
        }
    }
}

fn refuse_containers(spec: &Object, at: &str, faults: &mut Vec<Fault>) {
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for (index, container) in spec.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
            let here = item(&member(at, list), index);
            if list == "containers" && container["name"] == labels::AGENT_CONTAINER {
                refuse_agent(container, &here, faults);
            }
            refuse_secrets(container, &here, faults);
        }
    }
}

fn refuse_agent(container: &Value, at: &str, faults: &mut Vec<Fault>) {
    for field in
        ["command", "args", "terminationMessagePath", "terminationMessagePolicy", "stdin", "stdinOnce"]
    {
        if container.get(field).is_some() {
            faults.push(Fault::new(
                member(at, field),
                "cannot be set: the operator says how the agent is started",
            ));
        }
    }
    for (index, env) in container["env"].as_array().into_iter().flatten().enumerate() {
        if let Some(name) = env["name"].as_str().filter(|name| is_own_env(name)) {
            let here = item(&member(at, "env"), index);
            let fault = Fault::new(here, format!("{name} cannot be set: the agent learns from it who it is"));
            faults.push(fault.allowed("LOCKSTEP_LOG, LOCKSTEP_LOG_FORMAT, and names without LOCKSTEP_"));
        }
    }
    for (index, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let path = mount["mountPath"].as_str().unwrap_or_default().trim_end_matches('/');
        let inside = path.strip_prefix(super::build::IDENTITY_PATH);
        if inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let here = item(&member(at, "volumeMounts"), index);
            faults.push(Fault::new(here, "cannot be set: the agent's token and CA are mounted there"));
        }
    }
}

fn refuse_secrets(container: &Value, at: &str, faults: &mut Vec<Fault>) {
    for (index, env) in container["env"].as_array().into_iter().flatten().enumerate() {
        let (name, value) =
            (env["name"].as_str().unwrap_or_default(), env["value"].as_str().unwrap_or_default());
        if let Some(why) = secrets::suspicion(name, value) {
            // The value itself is never said: faults are shown in status and logs.
            let here = member(&item(&member(at, "env"), index), "value");
            let message = format!("{name}: {why}, and everybody who may read the run could read it");
            faults.push(
                Fault::new(here, message)
                    .hint("put it into a Secret and use valueFrom.secretKeyRef, or envFrom"),
            );
        }
    }
}

/// Whether a label or annotation is under our domain.
fn is_our_key(name: &str) -> bool {
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    domain == labels::GROUP || domain.ends_with(&format!(".{}", labels::GROUP))
}

/// Whether an environment variable tells the agent who it is; how much it logs is everybody's.
fn is_own_env(name: &str) -> bool {
    name.starts_with("LOCKSTEP_") && !["LOCKSTEP_LOG", "LOCKSTEP_LOG_FORMAT"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(template: &Value, want: &[&str]) {
        let installation = Installation::example();
        let faults = super::template(template.as_object().unwrap(), "t", "perf", &installation);
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, want, "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.message.is_empty()));
    }

    #[test]
    fn what_is_ours_is_refused_by_path() {
        check(&json!({"kind": "Pod"}), &["t.kind"]);
        check(
            &json!({"metadata": {"name": "a", "namespace": "b"}}),
            &["t.metadata.name", "t.metadata.namespace"],
        );
        check(&json!({"metadata": {"ownerReferences": []}}), &["t.metadata.ownerReferences"]);
        check(&json!({"metadata": {"finalizers": ["a/b"]}}), &["t.metadata.finalizers"]);
        check(
            &json!({"metadata": {"labels": {"lockstep.dev/run": null}}}),
            &["t.metadata.labels[\"lockstep.dev/run\"]"],
        );
        check(
            &json!({"metadata": {"annotations": {"x.lockstep.dev/run": "a"}}}),
            &["t.metadata.annotations[\"x.lockstep.dev/run\"]"],
        );
        check(
            &json!({"metadata": {"labels": {"app.kubernetes.io/component": "operator"}}}),
            &["t.metadata.labels[\"app.kubernetes.io/component\"]"],
        );
        check(&json!({"spec": {"restartPolicy": "Always"}}), &["t.spec.restartPolicy"]);
        check(&json!({"spec": {"activeDeadlineSeconds": 5}}), &["t.spec.activeDeadlineSeconds"]);
        check(&json!({"spec": {"volumes": [{"name": "lockstep-identity"}]}}), &["t.spec.volumes[0]"]);
    }

    #[test]
    fn the_agents_container_is_ours_and_others_are_not() {
        let container = |name: &str| {
            json!({"spec": {"containers": [{
                "name": name, "command": ["x"], "args": [],
                "env": [{"name": "LOCKSTEP_LOG", "value": "debug"}, {"name": "LOCKSTEP_INDEX", "value": "0"}],
                "volumeMounts": [{"name": "a", "mountPath": "/var/run/lockstep/"}, {"name": "b", "mountPath": "/data"}],
            }]}})
        };
        check(
            &container("agent"),
            &[
                "t.spec.containers[0].command",
                "t.spec.containers[0].args",
                "t.spec.containers[0].env[1]",
                "t.spec.containers[0].volumeMounts[0]",
            ],
        );
        check(&container("sidecar"), &[]);
    }

    #[test]
    fn the_operators_account_is_refused_in_its_own_namespace_only() {
        let mut installation = Installation::example();
        let template = json!({"spec": {"serviceAccountName": installation.service_account}});
        let refused = |installation: &Installation, namespace| {
            super::template(template.as_object().unwrap(), "t", namespace, installation).len()
        };
        assert_eq!((refused(&installation, "lockstep-system"), refused(&installation, "perf")), (1, 0));
        installation.service_account = "another".to_owned();
        assert_eq!(refused(&installation, "lockstep-system"), 0);
    }

    #[test]
    fn secrets_are_found_in_every_container_and_never_repeated() {
        let template = json!({"spec": {
            "initContainers": [{"name": "i", "env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}],
            "containers": [{"name": "s", "env": [
                {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "URL", "value": "https://me:hunter2@host/"},
            ]}],
        }});
        let faults = super::template(template.as_object().unwrap(), "t", "perf", &Installation::example());
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["t.spec.containers[0].env[1].value", "t.spec.initContainers[0].env[0].value"]);
        assert!(!format!("{faults:?}").contains("hunter2"));
    }

    #[test]
    fn what_a_template_may_set_passes() {
        check(
            &json!({
                "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "q", "team": "a"}, "annotations": {"a/b": "c"}},
                "spec": {
                    "serviceAccountName": "bench", "nodeSelector": {"disk": "nvme"}, "tolerations": [],
                    "containers": [{"name": "agent", "image": "mirror/agent:1", "resources": {"limits": {"cpu": "4"}}}],
                    "newerThanUs": {"x": 1},
                },
            }),
            &[],
        );
    }
}
