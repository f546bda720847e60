//! The resource on a real API server: every rule accepts and refuses, what a template may not set is refused by its path,
//! and the merge is kubectl's.

#[path = "../../../api/tests/cases/mod.rs"]
mod cases;

use crate::space::{run, space};
use crate::{finished, served};
use cases::{broken_at_creation, broken_by_edit, stops, taken_edits, with};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, PostParams};
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, rules};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Nobody's: no operator touches it.
const NOBODY: &str = "nobody.dev/operator";

/// Runs as JSON, so that what our types do not have is sent as well.
fn untyped(client: Client, namespace: &str) -> Api<DynamicObject> {
    Api::namespaced_with(client, namespace, &ApiResource::erase::<BenchmarkRun>(&()))
}

/// The good object with changes, as somebody's whom no operator knows.
fn object(changes: &[(&str, Value)]) -> Value {
    let mut object = with(changes);
    if object["spec"]["managedBy"] == "lockstep.dev/operator" {
        object["spec"]["managedBy"] = json!(NOBODY);
    }
    object
}

/// What is sent is answered, and nothing is kept.
fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// The good object on the API server, and which rules were seen to refuse.
struct Judge {
    runs: Api<DynamicObject>,
    refused: BTreeSet<usize>,
}

impl Judge {
    fn note(&mut self, answer: Result<DynamicObject, kube::Error>, starts: &str, what: &str) {
        let Err(kube::Error::Api(refusal)) = answer else { panic!("{what} is taken") };
        // A member that must be there is missed before any rule is looked at.
        let missed = refusal.message.contains("Required value");
        assert!(
            refusal.code == 422 && (missed || refusal.message.contains(starts)),
            "{what}: {}",
            refusal.message
        );
        let said = (0..).zip(rules::all()).filter(|(_, rule)| refusal.message.contains(&rule.message));
        self.refused.extend(said.map(|(index, _)| index));
    }

    async fn create(&self, object: Value) -> Result<DynamicObject, kube::Error> {
        self.runs.create(&dry(), &serde_json::from_value(object).expect("an object")).await
    }

    /// Writes `object` over what stands there; its status by the way that status is written.
    async fn replace(
        &self,
        object: Value,
        status: bool,
        how: &PostParams,
    ) -> Result<DynamicObject, kube::Error> {
        let mut object: DynamicObject = serde_json::from_value(object).expect("an object");
        let there = self.runs.get(&object.name_any()).await?;
        object.metadata.resource_version = there.resource_version();
        object.metadata.uid = there.uid();
        match status {
            true => self.runs.replace_status(&object.name_any(), how, &object).await,
            false => self.runs.replace(&object.name_any(), how, &object).await,
        }
    }
}

#[tokio::test]
async fn every_rule_accepts_and_refuses_through_the_api_server() {
    let served = served().await;
    let namespace = served.cluster.namespace("rules").await;
    let runs = untyped(served.cluster.client().await, &namespace);
    let mut judge = Judge { runs, refused: BTreeSet::new() };

    judge.create(object(&[])).await.expect("the good object is taken");
    for (changes, message) in broken_at_creation() {
        let answer = judge.create(object(&changes)).await;
        judge.note(answer, message, &format!("{changes:?}"));
    }
    let good: DynamicObject = serde_json::from_value(object(&[])).expect("an object");
    judge.runs.create(&PostParams::default(), &good).await.expect("the good object is taken");
    judge.replace(object(&[]), true, &PostParams::default()).await.expect("its status is taken");
    for (pointer, value, message) in broken_by_edit() {
        let is_status = pointer.starts_with("/status");
        let answer = judge.replace(object(&[(pointer, value)]), is_status, &dry()).await;
        if message.contains("immutable") {
            let Err(kube::Error::Api(refusal)) = &answer else { panic!("{pointer} is taken") };
            let missed = refusal.message.contains("Required value");
            assert!(missed || refusal.message.contains(rules::WAY_OUT), "{}", refusal.message);
        }
        judge.note(answer, &message, pointer);
    }
    for (pointer, value) in taken_edits() {
        let is_status = pointer.starts_with("/status");
        let answer = judge.replace(object(&[(pointer, value)]), is_status, &dry()).await;
        answer.unwrap_or_else(|error| panic!("{pointer}: {error}"));
    }
    for (index, (old, new, is_fine)) in stops().into_iter().enumerate() {
        let name = ("/metadata/name", json!(format!("stop-{index}")));
        let before = object(&[name.clone(), ("/spec/stop", old)]);
        let before: DynamicObject = serde_json::from_value(before).expect("an object");
        judge.runs.create(&PostParams::default(), &before).await.expect("it is taken");
        let answer = judge.replace(object(&[name, ("/spec/stop", new.clone())]), false, &dry()).await;
        match is_fine {
            true => _ = answer.unwrap_or_else(|error| panic!("{new}: {error}")),
            false => judge.note(answer, cases::STOP, &new.to_string()),
        }
    }
    let all = rules::all();
    let unseen: Vec<&str> = (0..)
        .zip(&all)
        .filter(|(index, _)| !judge.refused.contains(index))
        .map(|(_, rule)| rule.message.as_str())
        .collect();
    assert!(unseen.is_empty(), "{} of {} rules have no case: {unseen:?}", unseen.len(), all.len());
}

/// One case of `testdata/merge.yaml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Case {
    name: String,
    base: Map<String, Value>,
    patch: Map<String, Value>,
    expected: Option<Map<String, Value>>,
    refused: Option<String>,
    #[serde(default)]
    kubectl_accepts: bool,
}

/// Without members that are null, as typed decoding has it.
fn settled(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, member)| !member.is_null());
            kept.map(|(key, member)| (key, settled(member))).collect()
        }
        Value::Array(items) => items.into_iter().map(settled).collect(),
        scalar => scalar,
    }
}

/// The table that our own merge is held against says what kubectl's library does.
#[tokio::test]
async fn the_merge_of_templates_is_that_of_kubectl() {
    let served = served().await;
    let text = include_str!("../../testdata/merge.yaml");
    let cases: Vec<Case> = serde_yaml::from_str(text).expect("the table reads");
    let judge = |case: Case| async move {
        let Case { name, base, patch, expected, refused, kubectl_accepts } = case;
        let object = |template: &Map<String, Value>| json!({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template});
        let patch = json!({ "template": patch }).to_string();
        let args = ["patch", "--local", "-f", "-", "--type=strategic", "-o", "json", "-p", &patch];
        let ended = served.cluster.kubectl_with(&object(&base).to_string(), &args).await;
        match (expected, refused) {
            (Some(expected), None) => {
                ended.expect_code(0);
                let out: Value = serde_json::from_str(&ended.stdout).expect("JSON");
                assert_eq!(settled(out["template"].clone()), Value::Object(expected), "{name}");
            }
            (None, Some(_)) => assert_eq!(ended.code == 0, kubectl_accepts, "{name}: {}", ended.stderr),
            other => panic!("{name}: {other:?}"),
        }
    };
    assert!(cases.len() >= 40, "{} cases", cases.len());
    futures::stream::iter(cases).map(judge).buffer_unordered(4).collect::<()>().await;
}

/// What docs/manifest.md says of `null` in a template: who keeps it, and who drops it before the API server sees it.
#[tokio::test]
async fn null_in_a_template_removes_unless_kubectl_drops_it() {
    let space = space("null").await;
    let (served, namespace, pods) = (space.served, &space.namespace, &space.pods);
    let agent =
        json!({"name": "agent", "env": [{"name": "LOCKSTEP_LOG", "value": null}], "securityContext": null});
    let template =
        json!({"spec": {"priorityClassName": null, "securityContext": null, "containers": [agent]}});
    for (name, how, keeps) in [
        ("created", &["create"][..], true),
        ("applied", &["apply", "--server-side"], true),
        ("dropped", &["apply"], false),
    ] {
        let mut object = run(name, 500, &json!({"agents": {"replicas": 1}}));
        object["spec"]["agents"] = json!({"replicas": 1, "template": template, "cleanupPolicy": "Never"});
        let args = [how, &["-n", namespace, "-f", "-"]].concat();
        served.cluster.kubectl_with(&object.to_string(), &args).await.expect_code(0);
        let stored = served.cluster.kubectl(&["get", "brun", name, "-n", namespace, "-o", "json"]).await;
        let stored: Value = serde_json::from_str(&stored.stdout).expect("JSON");
        let stored = &stored["spec"]["agents"]["template"];
        assert_eq!(*stored == template, keeps, "{how:?}: {stored}");
        assert!(keeps || !stored.to_string().contains("null"), "{how:?}: {stored}");
        let is_there = |pod: Option<&Pod>| pod.is_some();
        let pod = lockstep_testcluster::until(pods, &format!("{name}-0-0"), "there", is_there).await;
        let container = &pod.spec.expect("a spec").containers[0];
        let is_ours = container.security_context.as_ref().is_some_and(|ours| ours.capabilities.is_some());
        assert_eq!(is_ours, !keeps, "{how:?}: {container:?}");
    }
}

/// Everything that a template may not set ends the run at once, and the status names its path.
#[tokio::test]
async fn what_a_template_may_not_set_is_refused_by_path() {
    let space = space("refused").await;
    let (served, namespace, runs) = (space.served, &space.namespace, &space.runs);
    let agent = |field: &str, value: Value| {
        let mut container = json!({"name": "agent"});
        container[field] = value;
        json!({"spec": {"containers": [container]}})
    };
    let sidecar = |field: &str, value: Value| {
        let mut container = json!({"name": "beside", "image": "x"});
        container[field] = value;
        json!({"spec": {"initContainers": [container]}})
    };
    let own = |name: &str| json!([{"name": name, "value": "x"}]);
    let cases = [
        (json!({"metadata": {"name": "a"}}), "metadata.name"),
        (json!({"metadata": {"namespace": "a"}}), "metadata.namespace"),
        (json!({"metadata": {"finalizers": ["a/b"]}}), "metadata.finalizers"),
        (
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u"}]}}),
            "metadata.ownerReferences",
        ),
        (json!({"metadata": {"labels": {"lockstep.dev/run": "a"}}}), "metadata.labels[\"lockstep.dev/run\"]"),
        (
            json!({"metadata": {"labels": {"lockstep.dev/run": null}}}),
            "metadata.labels[\"lockstep.dev/run\"]",
        ),
        (
            json!({"metadata": {"annotations": {"lockstep.dev/a": "a"}}}),
            "metadata.annotations[\"lockstep.dev/a\"]",
        ),
        (
            json!({"metadata": {"labels": {"app.kubernetes.io/component": "operator"}}}),
            "metadata.labels[\"app.kubernetes.io/component\"]",
        ),
        (json!({"spec": {"restartPolicy": "Always"}}), "spec.restartPolicy"),
        (json!({"spec": {"activeDeadlineSeconds": 5}}), "spec.activeDeadlineSeconds"),
        (json!({"spec": {"volumes": [{"name": "lockstep-x", "emptyDir": {}}]}}), "spec.volumes[0]"),
        (agent("command", json!(["x"])), "spec.containers[0].command"),
        (agent("args", json!(["x"])), "spec.containers[0].args"),
        (agent("terminationMessagePath", json!("/x")), "spec.containers[0].terminationMessagePath"),
        (agent("terminationMessagePolicy", json!("File")), "spec.containers[0].terminationMessagePolicy"),
        (agent("stdin", json!(true)), "spec.containers[0].stdin"),
        (agent("stdinOnce", json!(true)), "spec.containers[0].stdinOnce"),
        (agent("env", own("LOCKSTEP_INDEX")), "spec.containers[0].env[0]"),
        (agent("env", own("AWS_SECRET_ACCESS_KEY")), "spec.containers[0].env[0].value"),
        (sidecar("env", own("DB_PASSWORD")), "spec.initContainers[0].env[0].value"),
        (
            agent("volumeMounts", json!([{"name": "x", "mountPath": "/var/run/lockstep"}])),
            "spec.containers[0].volumeMounts[0]",
        ),
    ];
    let judge = |(index, (template, path)): (usize, (Value, &'static str))| async move {
        let name = format!("run-{index}");
        let object = json!({
            "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun", "metadata": {"name": name},
            "spec": {
                "agents": {"template": template}, "target": {"uri": "null://"},
                "dataset": {"objects": 10, "size": {"fixed": "4Ki"}},
            },
        });
        let object: BenchmarkRun = serde_json::from_value(object).expect("a run");
        runs.create(&PostParams::default(), &object).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let run = served.until(runs, &name, "finished", finished).await;
        let status = run.status.clone().expect("a status");
        let said = status.conditions.iter().find(|one| one.type_ == "Accepted").expect("a condition");
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "SpecRejected"), "{path}");
        assert!(
            status.message.contains(&format!("spec.agents.template.{path}: ")),
            "{path}: {}",
            status.message
        );
        assert!(status.agent_attempts.is_empty(), "{path}: a pod was named");
    };
    futures::stream::iter(cases.into_iter().enumerate()).map(judge).buffer_unordered(8).collect::<()>().await;

    // The operator's account is refused where it lives, and nowhere else.
    let account = json!({"spec": {"serviceAccountName": "lockstep"}});
    let object = json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun", "metadata": {"name": "account"},
        "spec": {
            "agents": {"template": account}, "target": {"uri": "null://"},
            "dataset": {"objects": 10, "size": {"fixed": "4Ki"}},
        },
    });
    let object: BenchmarkRun = serde_json::from_value(object).expect("a run");
    let at_home: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &served.home);
    at_home.create(&PostParams::default(), &object).await.expect("it is stored");
    let run = served.until(&at_home, "account", "finished", finished).await;
    let message = run.status.map(|status| status.message).unwrap_or_default();
    assert!(message.contains("spec.agents.template.spec.serviceAccountName: "), "{message}");
    at_home.delete("account", &kube::api::DeleteParams::default()).await.expect("it goes");

    // What the schema does not know, kubectl refuses by name.
    for (template, says) in [
        (json!({"kind": "Pod"}), "unknown field \"spec.agents.template.kind\""),
        (
            json!({"spec": {"containers": [{"name": "agent", "$patch": "delete"}]}}),
            "unknown field \"spec.agents.template.spec.containers[0].$patch\"",
        ),
        (json!({"spec": {"newerThanUs": 1}}), "unknown field \"spec.agents.template.spec.newerThanUs\""),
    ] {
        let object = json!({
            "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun", "metadata": {"name": "unknown"},
            "spec": {
                "agents": {"template": template}, "target": {"uri": "null://"},
                "dataset": {"objects": 10, "size": {"fixed": "4Ki"}},
            },
        });
        let args = ["create", "-n", namespace, "-f", "-"];
        let ended = served.cluster.kubectl_with(&object.to_string(), &args).await;
        assert!(ended.code != 0 && ended.stderr.contains(says), "{}{}", ended.stdout, ended.stderr);
    }
}
