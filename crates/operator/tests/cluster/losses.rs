//! Agents that are taken away while they work, by whoever takes agents away: told by their own reason, with the next step.

use crate::space::{Space, condition, run, space, status};
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams};
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::ConditionType;
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_testcluster::{Image, Node, NodeOptions, until_event};
use serde_json::{Value, json};

/// Whoever is lost is not replaced, and the others go on.
fn lossy() -> Value {
    json!({"failurePolicy": {"mode": "BestEffort", "retryAttempts": 0}})
}

/// A node that only pods which tolerate it run on, and what makes a run's pods run there and nowhere else.
async fn reserved(space: &Space, name: &str, pods: u32) -> (Node<'static>, Value) {
    let image = Image::host().workspace_binary("lockstep-agent");
    let options = NodeOptions::named(name).label("only", name).tainted(name).pods(pods);
    let node = space.served.cluster.node(options.image("lockstep:test", image)).await;
    let tolerations = json!([{"key": name, "operator": "Exists", "effect": "NoSchedule"}]);
    let spec = json!({"nodeSelector": {"only": name}, "tolerations": tolerations});
    (node, json!({"agents": {"placement": "Any", "template": {"spec": spec}}}))
}

/// The run ends in part, and says of agent 1 why it was lost and what to do.
async fn ends(space: &Space, name: &str, reason: &str, says: &str) -> BenchmarkRun {
    let lost = until_event(&space.client, &space.namespace, "AgentLost", &format!("pod {name}-")).await;
    let run = space.finished(name).await;
    let said = space.said(&run);
    eprintln!(
        "{name}: {} | {:?} | {}",
        status(&run).message,
        status(&run).agent_problems,
        lost.message.unwrap_or_default()
    );
    assert_eq!(status(&run).phase, "Partial", "{name}: {said}");
    let [problem] = &status(&run).agent_problems[..] else { panic!("{name}: {said}") };
    assert_eq!(problem.reason, reason, "{name}: {said}");
    assert!(problem.message.contains(says) && problem.message.contains("next: "), "{name}: {said}");
    assert_eq!(condition(&run, ConditionType::Degraded).1, "Degraded");
    space.nothing_left(name).await;
    run
}

#[tokio::test]
async fn agents_that_are_taken_away_are_told_by_whom() {
    let space = &space("losses").await;
    let begin = async |name: &str, spec: Value| {
        space.create(run(name, 8_000, &spec)).await;
        space.measuring(name).await;
    };
    let pod = |name: &str| format!("{}/{name}-1-0", space.namespace);
    let node = &space.served.node;
    let memory = Box::pin(async {
        begin("memory", lossy()).await;
        assert_eq!(node.kill_out_of_memory(&pod("memory"), "agent"), 1);
        ends(space, "memory", "OOMKilled", "next: raise resources.limits.memory").await;
    });
    let pressure = Box::pin(async {
        begin("pressure", lossy()).await;
        assert_eq!(node.evict(&pod("pressure"), "The node was low on resource: memory."), 1);
        ends(space, "pressure", "Evicted", "The node was low on resource: memory.").await;
    });
    let drained = Box::pin(async {
        begin("drained", lossy()).await;
        space.pods.evict("drained-1-0", &EvictParams::default()).await.expect("the API evicts it");
        ends(space, "drained", "Evicted", "EvictionByEvictionAPI").await;
    });
    let deleted = Box::pin(async {
        begin("deleted", lossy()).await;
        space.pods.delete("deleted-1-0", &DeleteParams::default()).await.expect("it is deleted");
        ends(space, "deleted", "PodDeleted", "its pod was deleted").await;
    });
    let overdue = Box::pin(async {
        begin("overdue", lossy()).await;
        let lower = Patch::Merge(json!({"spec": {"activeDeadlineSeconds": 1}}));
        space.pods.patch("overdue-1-0", &PatchParams::default(), &lower).await.expect("it is lowered");
        ends(space, "overdue", "DeadlineExceeded", "next: raise activeDeadline").await;
    });
    tokio::join!(memory, pressure, drained, deleted, overdue);
}

#[tokio::test]
async fn the_scheduler_and_the_taint_manager_take_agents_away() {
    let space = &space("taken").await;
    let preempted = Box::pin(async {
        let (_small, mut spec) = reserved(space, "small", 2).await;
        spec["failurePolicy"] = lossy()["failurePolicy"].clone();
        let classes: Api<PriorityClass> = Api::all(space.client.clone());
        let class = json!({"metadata": {"name": "urgent"}, "value": 1000});
        let class: PriorityClass = serde_json::from_value(class).expect("a class");
        classes.create(&PostParams::default(), &class).await.expect("it is created");
        space.create(run("preempted", 8_000, &spec)).await;
        space.measuring("preempted").await;
        let mut urgent = spec["agents"]["template"]["spec"].clone();
        urgent["priorityClassName"] = json!("urgent");
        urgent["containers"] = json!([{"name": "x", "image": "lockstep:test", "command": ["sleep", "1000"]}]);
        let urgent =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "urgent"}, "spec": urgent});
        let urgent: Pod = serde_json::from_value(urgent).expect("a pod");
        space.pods.create(&PostParams::default(), &urgent).await.expect("it is created");
        ends(space, "preempted", "Preempted", "PreemptionByScheduler").await;
    });
    let tainted = Box::pin(async {
        let (_doomed, mut spec) = reserved(space, "doomed", 1).await;
        // The other agent runs elsewhere.
        spec["agents"]["template"]["spec"]
            .as_object_mut()
            .into_iter()
            .for_each(|spec| _ = spec.remove("nodeSelector"));
        let preferred = json!({"weight": 100, "preference": {"matchExpressions": [
            {"key": "only", "operator": "In", "values": ["doomed"]},
        ]}});
        spec["agents"]["template"]["spec"]["affinity"] =
            json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}});
        spec["failurePolicy"] = lossy()["failurePolicy"].clone();
        space.create(run("tainted", 8_000, &spec)).await;
        space.measuring("tainted").await;
        let nodes: Api<NodeObject> = Api::all(space.client.clone());
        let taints =
            json!([{"key": "doomed", "effect": "NoSchedule"}, {"key": "gone", "effect": "NoExecute"}]);
        let taint = Patch::Merge(json!({"spec": {"taints": taints}}));
        nodes.patch("doomed", &PatchParams::default(), &taint).await.expect("it is tainted");
        ends(space, "tainted", "NodeLost", "DeletionByTaintManager").await;
    });
    tokio::join!(preempted, tainted);
}

/// What denies a replacement denies each of them: the run goes on without, instead of trying again and again.
#[tokio::test]
async fn a_replacement_that_is_denied_is_not_tried_again() {
    let space = &space("denied").await;
    let spec = json!({
        "failurePolicy": {"mode": "BestEffort", "retryAttempts": 5, "retryDelay": "0s"},
        "agents": {"template": {"spec": {"containers": [{"name": "agent", "securityContext": {"allowPrivilegeEscalation": true}}]}}},
    });
    space.create(run("denied", 300_000, &spec)).await;
    space.measuring("denied").await;
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let label = ["label", "namespace", &space.namespace, "--overwrite", label];
    space.served.cluster.kubectl(&label).await.expect_code(0);
    let pod = format!("{}/denied-1-0", space.namespace);
    assert_eq!(space.served.node.kill_out_of_memory(&pod, "agent"), 1);
    // No replacement of it lives, and none is tried again.
    let rejected =
        |status: &BenchmarkRunStatus| status.agent_problems.iter().any(|one| one.reason == "PodRejected");
    let told = space.until("denied", "told of the denial", rejected).await;
    let [problem] = &status(&told).agent_problems[..] else { panic!("{}", space.said(&told)) };
    eprintln!("denied: {} | {problem:?}", status(&told).message);
    assert_eq!((problem.state.as_str(), problem.attempt), ("Lost", 1), "{}", space.said(&told));
    assert!(problem.message.contains("violates PodSecurity"), "{}", space.said(&told));
    space.edit("denied", json!({"stop": {"mode": "Immediate"}})).await;
    let run = space.finished("denied").await;
    assert_eq!(status(&run).agents.as_ref().map(|agents| agents.replaced), Some(1), "{}", space.said(&run));
    space.nothing_left("denied").await;
}
