//! What goes wrong with pods: told with its reason and the next step soon after the API's first sign, with the right end, and
//! with nothing left over.

use crate::space::{Space, TELLS_WITHIN, becomes, condition, run, space, status};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerState, Pod, Secret};
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_testcluster::{AuditEntry, Fault, LIMIT, until_event};
use serde_json::{Value, json};
use std::time::Instant;

/// Whether the agent's container waits for one of these reasons.
fn waits(reasons: &'static [&'static str]) -> impl Fn(&Pod) -> bool {
    move |pod| {
        state(pod).and_then(|state| state.waiting?.reason).is_some_and(|why| reasons.contains(&why.as_str()))
    }
}

/// What the agent's container does.
fn state(pod: &Pod) -> Option<ContainerState> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == "agent")?.state.clone()
}

/// Whether the scheduler says so of a pod.
fn unplaced(reason: &'static str) -> impl Fn(&Pod) -> bool {
    move |pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one.type_ == "PodScheduled" && one.reason.as_deref() == Some(reason))
    }
}

/// A spec with this container `agent` in its template, and more.
fn agent(container: Value, more: Value) -> Value {
    let mut agent = json!({"name": "agent"});
    let mut spec = more;
    if let (Some(agent), Value::Object(members)) = (agent.as_object_mut(), container) {
        agent.extend(members);
    }
    spec["agents"]["template"]["spec"]["containers"] = json!([agent]);
    spec
}

/// No second try, and an end in four seconds.
fn impatient() -> Value {
    json!({"start": {"readyTimeout": "4s"}, "failurePolicy": {"retryAttempts": 0}})
}

/// Whether a status tells of this reason, with a next step.
fn tells(status: &BenchmarkRunStatus, reason: &str) -> bool {
    let problems =
        status.agent_problems.iter().any(|one| one.reason == reason && one.message.contains("next: "));
    let conditions =
        status.conditions.iter().any(|one| one.reason == reason && one.message.contains("next: "));
    (problems || conditions) && status.message.contains("next: ")
}

/// Makes a run and waits for the first sign of its trouble and for what its status tells; that is soon after.
async fn tell(
    space: &Space,
    name: &str,
    spec: &Value,
    reason: &str,
    sign: impl Fn(&Pod) -> bool,
) -> BenchmarkRun {
    let sign = async {
        space.pod(&format!("{name}-0-0"), "in trouble", sign).await;
        Instant::now()
    };
    told(space, name, spec, reason, sign).await
}

async fn told(
    space: &Space,
    name: &str,
    spec: &Value,
    reason: &str,
    sign: impl Future<Output = Instant>,
) -> BenchmarkRun {
    let told = async {
        space.create(run(name, 500, spec)).await;
        let run = space.until(name, &format!("told of {reason}"), |status| tells(status, reason)).await;
        (run, Instant::now())
    };
    let (sign, (run, told)) = Box::pin(async { tokio::join!(sign, told) }).await;
    let late = told.saturating_duration_since(sign);
    eprintln!("{name}: {reason} told after {late:?}: {}", status(&run).message);
    assert!(late <= TELLS_WITHIN, "{name} tells {late:?} after the first sign");
    run
}

/// Waits for the end of a run, which says so in one sentence, and leaves nothing over.
async fn ends(space: &Space, name: &str, phase: &str, reason: &str, says: &[&str]) -> BenchmarkRun {
    let run = space.finished(name).await;
    let said = space.said(&run);
    let (_, why) = condition(&run, ConditionType::Finished);
    eprintln!("{name}: {}: {}", status(&run).phase, status(&run).message);
    assert_eq!((status(&run).phase.as_str(), why.as_str()), (phase, reason), "{name}: {said}");
    for text in says {
        assert!(status(&run).message.contains(text), "{name} does not say `{text}`: {said}");
    }
    Box::pin(space.nothing_left(name)).await;
    run
}

#[tokio::test]
async fn what_keeps_a_pod_from_its_start_is_told_and_ends_as_it_should() {
    let space = &space("starts").await;
    let late = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "late"}});
    let pull = Box::pin(async {
        let spec = agent(json!({"image": "nobody/has:1"}), impatient());
        tell(space, "pull", &spec, "ImagePullFailed", waits(&["ErrImagePull", "ImagePullBackOff"])).await;
        let says = ["nobody/has:1", "no hello within readyTimeout", "next: check the image's name"];
        ends(space, "pull", "Failed", "ReadyTimeout", &says).await;
    });
    let name = Box::pin(async {
        let spec = agent(json!({"image": "Bad/Name:1"}), json!({"failurePolicy": {"retryAttempts": 5}}));
        tell(space, "name", &spec, "InvalidImageName", waits(&["InvalidImageName"])).await;
        let run =
            ends(space, "name", "Failed", "InvalidImageName", &["Bad/Name:1", "next: correct the image"])
                .await;
        assert_eq!(
            status(&run).agents.as_ref().map(|agents| agents.replaced),
            Some(0),
            "tried again for nothing"
        );
    });
    let nowhere = Box::pin(async {
        let mut spec = impatient();
        spec["agents"]["template"]["spec"]["nodeSelector"] = json!({"nowhere": "1"});
        tell(space, "nowhere", &spec, "Unschedulable", unplaced("Unschedulable")).await;
        ends(space, "nowhere", "Failed", "ReadyTimeout", &["0 of 2 agents found a node", "next: "]).await;
    });
    let gated = Box::pin(async {
        let gates =
            json!({"agents": {"template": {"spec": {"schedulingGates": [{"name": "example.com/queue"}]}}}});
        tell(space, "gated", &gates, "SchedulingGated", unplaced("SchedulingGated")).await;
        for index in 0..2 {
            let lift = json!([{"op": "remove", "path": "/spec/schedulingGates"}]);
            let lift: Patch<Value> = Patch::Json(serde_json::from_value(lift).expect("a patch"));
            let name = format!("gated-{index}-0");
            space.pods.patch(&name, &PatchParams::default(), &lift).await.expect("the gate is lifted");
        }
        ends(space, "gated", "Succeeded", "Completed", &[]).await;
    });
    let secret = Box::pin(async {
        let spec = agent(json!({"envFrom": [{"secretRef": {"name": "late"}}]}), json!({}));
        tell(space, "secret", &spec, "ConfigError", waits(&["CreateContainerConfigError"])).await;
        let secrets: Api<Secret> = Api::namespaced(space.client.clone(), &space.namespace);
        let secret: Secret = serde_json::from_value(late("Secret")).expect("a Secret");
        secrets.create(&PostParams::default(), &secret).await.expect("it is created");
        ends(space, "secret", "Succeeded", "Completed", &[]).await;
    });
    let claim = Box::pin(async {
        let mut spec = impatient();
        spec["target"] =
            json!({"uri": "file:///mnt/data", "volume": {"persistentVolumeClaim": {"claimName": "none"}}});
        tell(space, "claim", &spec, "ReferenceNotFound", unplaced("Unschedulable")).await;
        ends(
            space,
            "claim",
            "Failed",
            "ReadyTimeout",
            &["persistentvolumeclaim \"none\" not found", "next: "],
        )
        .await;
    });
    let mount = Box::pin(async {
        let mut spec = agent(json!({"volumeMounts": [{"name": "late", "mountPath": "/late"}]}), json!({}));
        spec["agents"]["template"]["spec"]["volumes"] =
            json!([{"name": "late", "configMap": {"name": "late"}}]);
        let sign = async {
            until_event(&space.client, &space.namespace, "FailedMount", "late").await;
            Instant::now()
        };
        told(space, "mount", &spec, "FailedMount", sign).await;
        let maps: Api<ConfigMap> = Api::namespaced(space.client.clone(), &space.namespace);
        let map: ConfigMap = serde_json::from_value(late("ConfigMap")).expect("a ConfigMap");
        maps.create(&PostParams::default(), &map).await.expect("it is created");
        ends(space, "mount", "Succeeded", "Completed", &[]).await;
    });
    let create = Box::pin(async {
        let pattern = format!("{}/create-*", space.namespace);
        space.served.node.order(&pattern, Fault::CreateContainer("no space left on device".to_owned()));
        tell(space, "create", &json!({}), "CreateContainerError", waits(&["CreateContainerError"])).await;
        space.served.node.heal(&pattern);
        ends(space, "create", "Succeeded", "Completed", &[]).await;
    });
    tokio::join!(pull, name, nowhere, gated, secret, claim, mount, create);
}

#[tokio::test]
async fn agents_that_say_nothing_or_fail_at_once_are_told_with_their_last_words() {
    let space = &space("mute").await;
    let mute = Box::pin(async {
        let mut more = impatient();
        more["start"]["readyTimeout"] = json!("9s");
        let runs = |pod: &Pod| state(pod).is_some_and(|state| state.running.is_some());
        tell(space, "mute", &agent(json!({"image": "mute:test"}), more), "NoHello", runs).await;
        ends(space, "mute", "Failed", "ReadyTimeout", &["has not said hello", "next: kubectl logs mute-0-0"])
            .await;
    });
    let broken = Box::pin(async {
        let more = json!({"failurePolicy": {"mode": "FailFast", "retryAttempts": 0}});
        let ended = |pod: &Pod| state(pod).is_some_and(|state| state.terminated.is_some());
        let spec = agent(json!({"image": "broken:test"}), more);
        tell(space, "broken", &spec, "Ended", ended).await;
        ends(space, "broken", "Failed", "AgentLost", &["the moon is full", "exit code 3", "next: "]).await;
    });
    tokio::join!(mute, broken);
}

/// Applies an object of the core API.
async fn apply(space: &Space, object: Value) {
    space.served.cluster.apply(&space.namespace, &object.to_string()).await;
}

#[tokio::test]
async fn what_admission_says_is_quoted_and_waited_for_only_where_that_helps() {
    let space = &space("admission").await;
    let quota = Box::pin(async {
        let space = &crate::space::space("quota").await;
        let quota = |pods: &str| {
            let hard = json!({ "pods": pods });
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}})
        };
        apply(space, quota("1")).await;
        // A quota holds once its controller has counted.
        let counted = ["wait", "--for=jsonpath={.status.hard.pods}=1", "quota/few", "-n", &space.namespace];
        space.served.cluster.kubectl(&counted).await.expect_code(0);
        told(space, "quota", &json!({}), "WaitingForQuota", async { Instant::now() }).await;
        apply(space, quota("4")).await;
        ends(space, "quota", "Succeeded", "Completed", &[]).await;
    });
    let security = Box::pin(async {
        let space = &crate::space::space_with("secure", lockstep_testcluster::PodSecurity::Restricted).await;
        let spec = agent(json!({"securityContext": {"allowPrivilegeEscalation": true}}), json!({}));
        told(space, "rights", &spec, "PodRejected", async { Instant::now() }).await;
        ends(space, "rights", "Failed", "PodRejected", &["violates PodSecurity", "allowPrivilegeEscalation"])
            .await;
        // It was asked about, and nothing was made for it.
        let rights = space.runs.get("rights").await.expect("it is there");
        assert_eq!(
            condition(&rights, ConditionType::Accepted),
            (Some(Truth::False), "PodRejected".to_owned())
        );
        let made = |run: &'static str| {
            move |entry: &AuditEntry| {
                entry.verb == "create" && entry.namespace == space.namespace && entry.name.starts_with(run)
            }
        };
        let is_dry = |entry: &AuditEntry| entry.uri.contains("dryRun=All");
        let asked = space.served.cluster.audited(LIMIT, made("rights-")).await;
        assert!(is_dry(&asked) && (asked.code, asked.right().as_str()) == (403, "create /pods"), "{asked:?}");
        space.create(run("plain", 300, &json!({}))).await;
        ends(space, "plain", "Succeeded", "Completed", &[]).await;
        let all = space.served.cluster.audit();
        assert_eq!(all.iter().filter(|entry| made("rights-")(entry)).count(), 1, "{asked:?}");
        // One that is taken is asked about once, and first.
        let plain: Vec<bool> = all.iter().filter(|entry| made("plain-")(entry)).map(is_dry).collect();
        assert!(plain[0] && plain.len() > 2 && !plain[1..].contains(&true), "{plain:?}");
    });
    let account = Box::pin(async {
        let spec = json!({"agents": {"template": {"spec": {"serviceAccountName": "late"}}}});
        told(space, "account", &spec, "ReferenceNotFound", async { Instant::now() }).await;
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "late"}});
        apply(space, account).await;
        ends(space, "account", "Succeeded", "Completed", &[]).await;
    });
    let priority = Box::pin(async {
        let spec = json!({"agents": {"template": {"spec": {"priorityClassName": "none"}}}});
        told(space, "priority", &spec, "PodRejected", async { Instant::now() }).await;
        ends(space, "priority", "Failed", "PodRejected", &["no PriorityClass with name none was found"])
            .await;
    });
    let ranged = Box::pin(async {
        let space = &crate::space::space("ranged").await;
        let limit = json!({"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "1m"}});
        apply(
            space,
            json!({
                "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "some"}, "spec": {"limits": [limit]},
            }),
        )
        .await;
        space.create(run("ranged", 300, &json!({"agents": {"cleanupPolicy": "Never"}}))).await;
        let run = space.finished("ranged").await;
        assert_eq!(status(&run).phase, "Succeeded", "{}", space.said(&run));
        let pod = space.pods.get("ranged-0-0").await.expect("cleanupPolicy keeps it");
        let limits =
            pod.spec.and_then(|spec| spec.containers[0].resources.clone()?.limits).unwrap_or_default();
        assert!(limits.contains_key("cpu"), "the API server has put nothing there: {limits:?}");
    });
    tokio::join!(quota, security, account, priority, ranged);
}

#[tokio::test]
async fn what_is_somebody_elses_stays_as_it_is_and_the_run_says_so() {
    let space = &space("foreign").await;
    let maps: Api<ConfigMap> = Api::namespaced(space.client.clone(), &space.namespace);
    let pod = Box::pin(async {
        let gates = json!([{"name": "example.com/never"}]);
        let spec = json!({"schedulingGates": gates, "containers": [{"name": "x", "image": "x"}]});
        apply(
            space,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-1-0"}, "spec": spec}),
        )
        .await;
        let before = space.pod("pod-1-0", "gated", unplaced("SchedulingGated")).await;
        space.create(run("pod", 300, &json!({}))).await;
        let says = ["name of its pod pod-1-0 is taken", "left as it is", "next: "];
        ends(space, "pod", "Failed", "NameConflict", &says).await;
        assert_eq!(space.pods.get("pod-1-0").await.expect("it is there"), before);
    });
    // The name of a ConfigMap has the uid of its run, so somebody has to aim.
    let taken = |name: &'static str, what: &'static str| {
        let maps = maps.clone();
        async move {
            space.create(run(name, 300, &json!({"suspend": true}))).await;
            let run = space.until(name, "held", |status| status.phase == "Suspended").await;
            let map = format!("{name}-{}-{what}", &run.uid().unwrap_or_default()[..8]);
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": map}, "data": {"mine": "1"},
            });
            let object: ConfigMap = serde_json::from_value(object).expect("a ConfigMap");
            let before = maps.create(&PostParams::default(), &object).await.expect("it is created");
            space.edit(name, json!({"suspend": false})).await;
            let run = space.finished(name).await;
            eprintln!("{name}: {}", status(&run).message);
            assert_eq!(maps.get(&map).await.expect("it is there"), before);
            run
        }
    };
    let (authority, report, ()) = tokio::join!(taken("authority", "ca"), taken("report", "results"), pod);
    assert_eq!(condition(&authority, ConditionType::Failed).1, "NameConflict", "{}", space.said(&authority));
    assert!(status(&authority).message.contains("name of its ConfigMap"), "{}", status(&authority).message);
    assert_eq!(status(&report).phase, "Succeeded");
    assert_eq!(
        condition(&report, ConditionType::ResultsPublished).1,
        "ResultsFailed",
        "{}",
        space.said(&report)
    );
    assert_eq!(condition(&report, ConditionType::Degraded).1, "ResultsFailed");
    let left = async || space.pods.list(&ListParams::default()).await.expect("pods").items;
    becomes("without pods of runs", async || left().await.iter().all(|pod| pod.name_any() == "pod-1-0"))
        .await;
}
