//! A cluster without Lockstep, and an API server that goes away while somebody watches: on a control plane of its own, where
//! the test writes the status that an operator would.

use super::{objects, of_type};
use crate::runs::manifest;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::wait::conditions::is_crd_established;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{ControlPlane, Tool, eventually, until};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

/// What an operator writes of a run that measures.
fn running() -> Value {
    json!({"status": {
        "observedGeneration": 1, "phase": "Running", "verdict": "Pending", "attempt": 1, "epoch": 1,
        "message": "stage mixed (3 of 4), 1 of 1 agents ready", "startTime": "2026-11-21T23:15:00Z",
        "agents": {"desired": 1, "joined": 1, "ready": 1, "heard": 1, "running": 1, "summary": "1/1"},
        "progress": {"stage": "mixed", "what": "measuring", "done": 1000, "total": 300_000, "unit": "milliseconds",
                     "percent": 0, "summary": "0%", "operationsPerSecond": 100, "lastUpdateTime": "2026-11-21T23:15:05Z"},
        "stages": [{"name": "mixed", "kind": "execute", "state": "Working", "agents": 1}],
    }})
}

fn over() -> Value {
    let condition = |type_: &str, status: &str, reason: &str| json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-11-21T23:20:00Z"});
    json!({"status": {
        "phase": "Failed", "verdict": "None", "message": "the target cannot be reached; next: look at the network",
        "conditions": [condition("Failed", "True", "TargetUnreachable"), condition("Finished", "True", "TargetUnreachable")],
    }})
}

#[tokio::test]
async fn watch_lives_through_an_api_server_that_goes_away() {
    let cluster = ControlPlane::start().await;
    let person = cluster.admin();
    let none = person.lockstep(&["get"]).await;
    for part in [
        "has no BenchmarkRuns",
        "Lockstep is not installed there",
        "kubectl get crd benchmarkruns.lockstep.dev",
    ] {
        assert!(none.code == 5 && none.stderr.contains(part), "{part}: {}", none.stderr);
    }
    let named = person.lockstep(&["watch", "x"]).await;
    assert!(named.code == 5 && named.stderr.contains("has no BenchmarkRuns"), "{}", named.stderr);

    let crd = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/crds/lockstep.dev_benchmarkruns.yaml");
    cluster.kubectl(&["apply", "-f", crd]).await.expect_code(0);
    // Not by `kubectl wait`, to which a definition without any condition yet is an error.
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await);
    until(&definitions, "benchmarkruns.lockstep.dev", "served", is_crd_established()).await;
    cluster.apply("default", &manifest("nightly", 300, "")).await;
    let runs: Api<BenchmarkRun> = Api::namespaced(cluster.client().await, "default");
    let patch = async |status: &Value| {
        runs.patch_status("nightly", &PatchParams::default(), &Patch::Merge(status)).await.expect("a status");
    };
    patch(&running()).await;
    until(&runs, "nightly", "running", |run: Option<&BenchmarkRun>| {
        run.is_some_and(|run| run.status.is_some())
    })
    .await;

    let mut watching = person.command(Tool::Kubectl, &["lockstep", "watch", "nightly", "--json"]);
    let mut watching = watching.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let said: Arc<Mutex<String>> = Arc::default();
    let (heard, stdout) = (Arc::clone(&said), watching.stdout.take().expect("a pipe"));
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            heard.lock().expect("not poisoned").push_str(&format!("{line}\n"));
        }
    });
    let has = |text: &str| said.lock().expect("not poisoned").contains(text);
    eventually("the stage is shown", || has(r#""stage":"mixed""#)).await;
    cluster.stop_api_server();
    eventually("its silence is told", || has("the API server does not answer")).await;
    eventually("the wait has a name", || has(r#""waitingFor":"the API server has not answered for"#)).await;
    cluster.start_api_server().await;
    eventually("its return is told", || has("the API server answers again")).await;
    patch(&over()).await;
    let ended =
        tokio::task::spawn_blocking(move || watching.wait()).await.expect("it is joined").expect("it ends");
    reader.join().expect("it is joined");
    assert_eq!(ended.code(), Some(4), "{}", said.lock().expect("not poisoned"));
    let stdout = said.lock().expect("not poisoned").clone();
    let objects = objects(&lockstep_testcluster::Ended {
        code: 4,
        stdout,
        stderr: String::new(),
        took: std::time::Duration::ZERO,
    });
    let end = of_type(&objects, "end")[0];
    assert_eq!((&end["outcome"], &end["exitCode"]), (&"Failed".into(), &4.into()), "{end}");
    assert!(end["problems"][0]["next"][0] == "look at the network", "{end}");
}
