//! What befalls a run from around it: its operator's Lease is deleted, every replica goes at once while mounted files are
//! stale, a node falls silent.

use crate::space::{run, status};
use crate::takeover::{Installed, at, epoch, heard};
use crate::{finished, image, report, served};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use lockstep_api::BenchmarkRun;
use lockstep_core::results::part::PartState;
use lockstep_testcluster::{ControlPlane, Image, LIMIT, Node, NodeOptions, Options, until_gone};
use serde_json::json;
use std::time::{Duration, Instant};

/// Its own leader makes the Lease anew; nobody else leads meanwhile, and the run does not notice.
#[tokio::test]
async fn a_run_goes_on_when_the_lease_is_deleted_under_it() {
    let installed = Installed::with(2).await;
    let runs = installed.apply("a", 300, 8).await;
    let run = installed.until(&runs, "a", "measuring", |run| at(run, "mixed")).await;
    let (leader, before) = (installed.leader().await, epoch(&run));
    let leases: Api<Lease> = Api::namespaced(installed.cluster.client().await, &installed.home);
    let (deleted, old) = (Instant::now(), installed.lease().await.uid());
    leases.delete("lockstep", &DeleteParams::default()).await.expect("it is deleted");
    // It is gone for a moment, and then there and nobody's.
    let held = move |lease: Option<&Lease>| {
        let new = lease.filter(|lease| lease.uid() != old);
        let holder = new.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        holder.is_some_and(|holder| !holder.is_empty())
    };
    let awaited = kube::runtime::wait::await_condition(leases.clone(), "lockstep", held);
    tokio::time::timeout(LIMIT, awaited).await.expect("it is made anew, and held").expect("a watch");
    eprintln!("the Lease is held again after {:?}", deleted.elapsed());
    assert_eq!(installed.leader().await, leader, "{}", installed.logs().await);
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    assert_eq!(epoch(&run), before, "{}", installed.logs().await);
    let report = installed.checked_report(&run).await;
    assert!(report.timeline.iter().all(|event| event.what != "CoordinatorChanged"), "{:?}", report.timeline);
    assert_eq!(installed.leader().await, leader);
    installed.remove().await;
}

/// How late a change of a ConfigMap may reach a pod, by a kubelet's defaults.
const LATE: Duration = Duration::from_secs(90);

/// Both replicas are killed while nothing that changes in a ConfigMap or Secret reaches a pod: agents find the next ones all
/// the same, and trust them.
#[tokio::test]
async fn a_run_finds_its_next_operators_though_mounted_files_are_stale() {
    let served = served().await;
    let options = NodeOptions::named("late").label("pool", "late").tainted("late").refresh_every(LATE);
    let late = served.cluster.node(options.image("lockstep:test", image())).await;
    let values = [
        "operator.nodeSelector.pool=late",
        "operator.tolerations[0].key=late",
        "operator.tolerations[0].operator=Exists",
    ];
    let values = [&["crds.install=false"], &values[..]].concat();
    let installed = Installed::on(served.cluster, &late, 2, &values).await;
    let spec =
        json!({"nodeSelector": {"pool": "late"}, "tolerations": [{"key": "late", "operator": "Exists"}]});
    let began = Instant::now();
    let managed_by = format!("lockstep.dev/{}", installed.home);
    let get_and_put = json!([{"op": "Get", "weight": 3}, {"op": "Put", "size": {"fixed": "1Ki"}}]);
    let stages = json!([
        {"name": "prepare", "prepare": {"concurrency": 1}},
        {"name": "mixed", "execute": {
            "duration": "16s", "concurrency": 2, "rate": {"operationsPerSecond": 150}, "operations": get_and_put,
        }},
        {"name": "cleanup", "cleanup": {"concurrency": 1}, "runOn": "Always"},
    ]);
    let target = json!({
        "uri": "s3://bench/a", "endpoints": [installed.server.endpoint()], "credentials": {"secretName": "keys"},
    });
    let object = json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun", "metadata": {"name": "a"},
        "spec": {
            "managedBy": managed_by, "agents": {"replicas": 3, "template": {"spec": spec}},
            "target": target, "dataset": {"objects": 300, "size": {"fixed": "1Ki"}},
            "start": {"maxSkew": "10s"}, "stages": stages,
        },
    });
    installed.cluster.apply(&installed.namespace, &object.to_string()).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(served.cluster.client().await, &installed.namespace);
    let run = installed.until(&runs, "a", "measuring", |run| at(run, "mixed")).await;
    let before = epoch(&run);
    installed.kill_all().await;
    let killed = Instant::now();
    installed.until(&runs, "a", "in hand", move |run| epoch(run) > before && heard(run) == 3).await;
    eprintln!(
        "in hand {:?} after both were killed, new pods and the Lease's time included",
        killed.elapsed()
    );
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    installed.checked_report(&run).await;
    // So nothing was refreshed.
    assert!(began.elapsed() < LATE, "{:?}", began.elapsed());
    installed.remove().await;
}

/// Runs that lose a machine each, with how often they try again.
const POLICIES: [(&str, u32); 2] = [("partial", 0), ("whole", 1)];

/// A machine burns down under agents of two runs. One goes on without, one replaces what it lost, as each has asked; both say
/// who was lost, when, and what that cost.
#[tokio::test]
async fn a_node_that_falls_silent_costs_its_agents_and_is_told() {
    let cluster = &ControlPlane::start_with(Options {
        node_monitor_grace: Duration::from_secs(5),
        unreachable_toleration: Duration::from_secs(1),
    })
    .await;
    let beating = |name: &str| NodeOptions::named(name).lease_every(Duration::from_secs(1));
    let stays = cluster.node(beating("stays").image("lockstep:test", image())).await;
    let installed = Installed::on(cluster, &stays, 1, &["crds.install=true"]).await;
    let client = cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &installed.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &installed.namespace);
    // Each run has one agent on a machine of its own, and the others beside the operator.
    let mut doomed = Vec::new();
    for (name, retries) in POLICIES {
        let agent = Image::host().workspace_binary("lockstep-agent");
        let options = beating(name).label("only", name).tainted(name).pods(1);
        doomed.push(cluster.node(options.image("lockstep:test", agent)).await);
        let preferred = json!({"weight": 100, "preference": {"matchExpressions": [
            {"key": "only", "operator": "In", "values": [name]},
        ]}});
        let spec = json!({
            "managedBy": format!("lockstep.dev/{}", installed.home),
            "failurePolicy": {
                "mode": "BestEffort", "retryAttempts": retries, "retryDelay": "0s",
                "reconnectGrace": "2s", "orphanGrace": "3s",
            },
            "agents": {"replicas": 3, "placement": "Any", "template": {"spec": {
                "tolerations": [{"key": name, "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}},
            }}},
        });
        let object: BenchmarkRun = serde_json::from_value(run(name, 20_000, &spec)).expect("a run");
        runs.create(&PostParams::default(), &object).await.expect("it is created");
    }
    for (name, _) in POLICIES {
        let measured = |run: &BenchmarkRun| {
            at(run, "load") && status(run).progress.as_ref().is_some_and(|progress| progress.done > 2_000)
        };
        installed.until(&runs, name, "measuring for seconds", measured).await;
    }
    let mut lost = Vec::new();
    for (name, _) in POLICIES {
        let there = ListParams::default().fields(&format!("spec.nodeName={name}"));
        let [pod] = &pods.list(&there).await.expect("pods").items[..] else { panic!("one agent on {name}") };
        let index = &pod.labels()["lockstep.dev/agent-index"];
        lost.push((pod.name_any(), index.parse().expect("an index")));
    }
    doomed.into_iter().for_each(Node::lose);
    for ((name, retries), (pod, agent)) in POLICIES.into_iter().zip(lost) {
        let run = installed.until(&runs, name, "finished", |run| finished(Some(run))).await;
        costs(&installed, &run, retries, agent).await;
        // Whether it lives nobody can tell, so nobody says that it is gone.
        assert!(pods.get(&pod).await.is_ok() && !run.finalizers().is_empty(), "{pod}");
        let gone = DeleteParams::default().grace_period(0);
        pods.delete(&pod, &gone).await.expect("somebody who knows says that it is gone");
        until_gone(&pods, &pod).await;
        installed.until(&runs, name, "let go", |run| run.finalizers().is_empty()).await;
    }
}

/// What the end of a run says of an agent that was lost.
async fn costs(installed: &Installed<'_>, run: &BenchmarkRun, retries: u32, agent: u32) {
    let (name, said) = (run.name_any(), format!("{:#?}", status(run)));
    eprintln!("{name}: {} | {:?}", status(run).message, status(run).agent_problems);
    assert_eq!(status(run).phase, "Partial", "{said}");
    let counts = status(run).agents.as_ref().map(|agents| (agents.replaced, agents.lost));
    assert_eq!(counts, Some((i64::from(retries), i64::from(1 - retries))), "{said}");
    assert!(status(run).message.contains(&format!("agent {agent} was lost")), "{said}");
    let report = report(&installed.cluster.client().await, run).await;
    let lost = report.timeline.iter().find(|event| event.what == "Lost").expect("an event of its loss");
    assert_eq!(lost.agent, Some(agent), "{lost:?}");
    let load = report.stages.iter().find(|stage| stage.name == "load").expect("a stage");
    let row = load.agents.iter().find(|row| (row.agent, row.attempt) == (agent, 0)).expect("its row");
    assert!(row.state != PartState::Complete && row.window_ns < load.window_ns, "{row:?}");
    // Until it fell silent it counts, and no longer.
    let silent_ms = lost.since_ms.expect("since when it was not heard");
    assert!(row.count > 0 && silent_ms < lost.at_ms, "{row:?} {lost:?}");
    let lacks = format!("load lacks part of agent {agent}'s window");
    assert!(report.degraded.iter().any(|why| why.starts_with(&lacks)), "{:?}", report.degraded);
    eprintln!(
        "{name}: agent {agent} was silent from {silent_ms} ms, {} of {} ms of it count: {:?}",
        row.window_ns / 1_000_000,
        load.window_ns / 1_000_000,
        report.degraded
    );
}
