//! Runs that do not succeed: what `watch` tells, its exit codes, and `stop`.

use super::{objects, of_type};
use crate::runs::{in_stage, manifest};
use crate::served;
use kube::api::Api;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::until_event;

#[tokio::test]
async fn a_run_is_stopped_gracefully_then_at_once_and_watch_ends_as_aborted() {
    let served = served().await;
    let person = served.cluster.admin();
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    // A cleanup that lasts, 20 s an agent: each call of the target takes 20 ms, one after the other.
    let text = manifest("long", 300, "agents: {replicas: 2}")
        .replace("{uri: 'mem://'}", "{uri: 'mem://', options: {latency: 20ms}}")
        .replace("prepare: {concurrency: 2}", "prepare: {concurrency: 100}")
        .replace("cleanup: {concurrency: 2}", "cleanup: {concurrency: 1}");
    served.cluster.apply(&namespace, &text).await;
    served.until(&runs, "long", "measuring", in_stage("mixed")).await;
    let in_namespace = ["-n", &namespace];
    let lockstep = async |args: &[&str]| person.lockstep(&[args, &in_namespace].concat()).await;
    let story = async {
        let none = lockstep(&["report", "long"]).await;
        assert!(none.code == 5 && none.stderr.contains("it is not over"), "{}", none.stderr);
        let graceful = lockstep(&["stop", "long", "--reason", "lunch"]).await;
        assert!(graceful.expect_code(0).stdout.contains("then cleanup runs"), "{}", graceful.stdout);
        let run = runs.get("long").await.expect("the run");
        let stop = run.spec.stop.expect("a stop");
        assert_eq!(
            (format!("{:?}", stop.mode), stop.reason.as_deref()),
            ("Graceful".to_owned(), Some("lunch"))
        );
        let again = lockstep(&["stop", "long"]).await;
        assert!(again.expect_code(0).stdout.contains("already"), "{}", again.stdout);
        let harder = lockstep(&["stop", "long", "--immediate", "--wait"]).await;
        assert!(
            harder.expect_code(0).stdout.contains("it is over: Aborted"),
            "{}{}",
            harder.stdout,
            harder.stderr
        );
        let run = runs.get("long").await.expect("the run");
        let stop = run.spec.stop.expect("a stop");
        assert_eq!(format!("{:?}", stop.mode), "Immediate");
        assert_eq!(stop.reason.as_deref(), Some("lunch"), "the reason stays");
        let over = lockstep(&["stop", "long"]).await;
        assert!(over.expect_code(0).stdout.contains("is over already: Aborted"), "{}", over.stdout);
    };
    let (piped, json, ()) =
        tokio::join!(lockstep(&["watch", "long"]), lockstep(&["watch", "long", "--json"]), story);
    assert_eq!((piped.code, json.code), (3, 3), "{}{}", piped.stderr, json.stderr);
    assert!(
        piped.stderr.contains("somebody stops the run (I/O ends, results are kept): lunch"),
        "{}",
        piped.stderr
    );
    let events = objects(&json);
    let stops = of_type(&events, "event").into_iter().filter(|event| event["what"] == "Aborting").count();
    assert_eq!(stops, 2, "{events:?}");
    assert_eq!(of_type(&events, "end")[0]["outcome"], "Aborted");
}

#[tokio::test]
async fn watch_tells_of_a_lost_agent_and_ends_with_the_code_of_a_partial_run() {
    let served = served().await;
    let person = served.cluster.admin();
    let namespace = served.cluster.namespace("perf").await;
    let client = served.cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let policy =
        "agents: {replicas: 3}\n  failurePolicy: {mode: BestEffort, retryAttempts: 0, retryDelay: 1s}";
    let text = manifest("lossy", 8, policy)
        .replace("mem://", "null://")
        .replace("sharing: PerAgent", "sharing: Shared");
    served.cluster.apply(&namespace, &text).await;
    let kill = async {
        served.until(&runs, "lossy", "measuring", in_stage("mixed")).await;
        assert_eq!(served.node.kill_out_of_memory(&format!("{namespace}/lossy-1-0"), "agent"), 1);
    };
    let on_a_terminal = ["watch", "lossy", "-n", &namespace];
    let (piped, screen, ()) =
        tokio::join!(person.lockstep(&on_a_terminal), person.on_a_terminal(&on_a_terminal), kill);
    assert_eq!((piped.code, screen.code), (2, 2), "{}\n{}", piped.stderr, screen.raw);
    for part in ["agent 1 OOMKilled: ", "pod lossy-1-0 on node-0", "degraded: "] {
        assert!(piped.stderr.contains(part), "{part}: {}", piped.stderr);
    }
    assert!(screen.last().contains("Partial, Degraded"), "{}", screen.last());
    let one = person.lockstep(&["get", "lossy", "-n", &namespace]).await;
    for part in ["Partial", "agents in trouble", "OOMKilled", "lost"] {
        assert!(one.expect_code(0).stdout.contains(part), "{part}: {}", one.stdout);
    }
    until_event(&client, &namespace, "AgentLost", "lossy-1-0").await;
}

#[tokio::test]
async fn watch_ends_with_the_code_of_a_refused_run_and_of_a_breached_threshold() {
    let served = served().await;
    let person = served.cluster.admin();
    let namespace = served.cluster.namespace("perf").await;
    let refused = manifest("refused", 2, "").replace("mem://", "s3://bench/x?X-Amz-Signature=0");
    let breach =
        "thresholds: [{name: dreams, stage: mixed, metric: operationsPerSecond, atLeast: 900000000}]";
    served.cluster.apply(&namespace, &refused).await;
    served.cluster.apply(&namespace, &manifest("breached", 2, breach)).await;
    let in_namespace = ["-n", &namespace];
    let lockstep = async |args: &[&str]| person.lockstep(&[args, &in_namespace].concat()).await;
    let (refused, breached) = tokio::join!(lockstep(&["watch", "refused"]), lockstep(&["watch", "breached"]));
    assert_eq!((refused.code, breached.code), (5, 7), "{}\n{}", refused.stderr, breached.stderr);
    // Four parts: what, cause, likely, next.
    for part in [
        "✖ run perf",
        "failed: SpecRejected",
        "cause ",
        "spec.target.uri",
        "likely ",
        "next ",
        "lockstep validate",
    ] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert!(
        breached.stdout.contains("threshold: dreams") && breached.stdout.contains('✖'),
        "{}",
        breached.stdout
    );
    let one = lockstep(&["get", "breached"]).await;
    for part in ["✖ dreams: ", "did not pass: ThresholdBreached", "docs/status.md"] {
        assert!(one.expect_code(0).stdout.contains(part), "{part}: {}", one.stdout);
    }
}
