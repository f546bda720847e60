//! The log as JSON: each line of an operator and of its agents is an object that a collector can read, and says whose it is.

use crate::chart::{Release, run};
use crate::{finished, served};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::Caller;
use serde_json::Value;

/// Each line of a log.
fn objects(whose: &str, text: &str) -> Vec<Value> {
    let line = |line: &str| match serde_json::from_str(line) {
        Ok(object @ Value::Object(_)) => object,
        other => panic!("a line of {whose} is no object: {line}: {other:?}"),
    };
    text.lines().map(line).collect()
}

#[tokio::test]
async fn each_line_is_an_object_that_names_run_stage_and_agent() {
    let served = served().await;
    let (home, perf) = (served.cluster.namespace("lines").await, served.cluster.namespace("perf").await);
    let values = ["replicas=1", "operator.logFormat=json", "agent.logFormat=json"];
    let release = Release::install(served, &Caller::Admin, &home, "lab.example/lines", &values).await;
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &perf);
    let agents = "agents: {replicas: 2, cleanupPolicy: Never}";
    served.cluster.apply(&perf, &run("told", &release.managed_by, 1, agents)).await;
    let told = served.until(&runs, "told", "finished", finished).await;
    let uid = told.uid().expect("a uid");

    let replicas: Api<Pod> = Api::namespaced(client, &home);
    let replica = replicas.list(&ListParams::default()).await.expect("pods").items.remove(0).name_any();
    let log = served.node.logs(&home, &replica, "operator");
    let lines = objects("the operator", &log);
    for line in &lines {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["message"].is_string() && line["target"].is_string(), "{line}");
    }
    let of_run = |line: &&Value| line["span"]["run"] == "told" && line["span"]["uid"] == *uid;
    let steps = lines.iter().filter(of_run).filter(|line| line["message"] == "step");
    assert!(steps.clone().count() > 3, "{log}");
    assert!(steps.clone().all(|line| line["span"]["namespace"] == *perf), "{log}");
    let of_agents = lines.iter().filter(of_run).filter(|line| line["message"] == "agent");
    assert!(of_agents.clone().count() > 3, "{log}");
    for line in of_agents.clone() {
        assert!(line["agent"].is_u64() && line["attempt"].is_u64(), "{line}");
    }
    // Between stages, and after the last one, there is none to name.
    assert!(of_agents.filter(|line| line["stage"] == "mixed").count() > 1, "{log}");

    for index in 0..2 {
        let pod = format!("told-{index}-0");
        let log = served.node.logs(&perf, &pod, "agent");
        let lines = objects(&pod, &log);
        for line in &lines {
            let Value::Object(span) = &line["span"] else { panic!("{pod}: {line}") };
            assert_eq!((&span["run"], &span["uid"]), (&"told".into(), &uid.clone().into()), "{line}");
            assert_eq!((&span["agent"], &span["attempt"]), (&index.into(), &0.into()), "{line}");
        }
        for message in ["told", "said"] {
            let of_stage = |line: &&Value| line["message"] == message && line["stage"] == "mixed";
            assert!(lines.iter().any(|line| of_stage(&line)), "{pod} never {message} of a stage: {log}");
        }
    }
    release.uninstall(served).await;
}
