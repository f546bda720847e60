//! Every cell of the table outcome × verdict on a live object, with what tools make of it.

use crate::space::{Space, condition, run, space, status};
use jiff::Timestamp;
use kube::api::ListParams;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use serde_json::{Value, json};
use std::time::Duration;

/// One row of the table, and the run that ends in it.
struct Cell {
    name: &'static str,
    spec: Value,
    phase: &'static str,
    verdict: &'static str,
    complete: Truth,
    /// Of `Failed` and `Complete`.
    reason: &'static str,
    passed: Truth,
    passed_reason: &'static str,
}

fn cells() -> Vec<Cell> {
    let threshold = |limit: &str, value: Value, breach: &str| {
        let mut threshold = json!({"stage": "load", "metric": "operationsPerSecond", "onBreach": breach});
        threshold[limit] = value;
        json!({ "thresholds": [threshold] })
    };
    let holds = || threshold("atLeast", json!(1), "Fail");
    let breach = |what: &str| threshold("atLeast", json!(1_000_000_000), what);
    let with = |mut spec: Value, more: Value| {
        spec.as_object_mut()
            .into_iter()
            .for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
        spec
    };
    let lossy = || json!({"failurePolicy": {"mode": "BestEffort", "retryAttempts": 0}});
    let cell = |name, spec, phase, verdict, complete, reason, passed, passed_reason| Cell {
        name,
        spec,
        phase,
        verdict,
        complete,
        reason,
        passed,
        passed_reason,
    };
    use Truth::{False, True, Unknown};
    vec![
        cell("passed", holds(), "Succeeded", "Passed", True, "Completed", True, "Passed"),
        cell("none", json!({}), "Succeeded", "None", True, "Completed", True, "NoThresholds"),
        cell(
            "breach",
            breach("Fail"),
            "Succeeded",
            "Failed",
            False,
            "ThresholdBreached",
            False,
            "ThresholdBreached",
        ),
        cell("report", breach("Report"), "Succeeded", "Passed", True, "Completed", True, "Passed"),
        cell(
            "skewed",
            with(holds(), json!({"start": {"maxSkew": "50ms", "leadTime": "5s"}})),
            "Succeeded",
            "Inconclusive",
            True,
            "Completed",
            Unknown,
            "Inconclusive",
        ),
        cell("lossy", with(holds(), lossy()), "Partial", "Inconclusive", True, "Partial", Unknown, "Partial"),
        cell(
            "lossy-breach",
            with(breach("Fail"), lossy()),
            "Partial",
            "Failed",
            False,
            "ThresholdBreached",
            False,
            "ThresholdBreached",
        ),
        cell(
            "failed",
            with(holds(), json!({"failurePolicy": {"mode": "FailFast", "retryAttempts": 0}})),
            "Failed",
            "None",
            False,
            "AgentLost",
            Unknown,
            "AgentLost",
        ),
        cell("aborted", holds(), "Aborted", "None", False, "Aborted", Unknown, "Aborted"),
    ]
}

/// Brings a run to its end, harmed where its cell needs that.
async fn play(space: &Space, cell: &Cell) {
    if cell.name == "skewed" {
        space.create(run(cell.name, 1_000, &cell.spec)).await;
        return oversleep(space, cell.name).await;
    }
    let is_harmed = matches!(cell.name, "lossy" | "lossy-breach" | "failed" | "aborted");
    space.create(run(cell.name, if is_harmed { 8_000 } else { 500 }, &cell.spec)).await;
    if !is_harmed {
        return;
    }
    space.measuring(cell.name).await;
    if cell.name == "aborted" {
        space.edit(cell.name, json!({"stop": {"mode": "Immediate", "reason": "lunch"}})).await;
    } else {
        let pod = format!("{}/{}-1-0", space.namespace, cell.name);
        assert_eq!(space.served.node.kill_out_of_memory(&pod, "agent"), 1, "{pod}");
    }
}

/// Stops the process of agent 1 before the planned start, and lets it go on well after it.
async fn oversleep(space: &Space, name: &str) {
    let planned = |status: &BenchmarkRunStatus| {
        status.stages.iter().find_map(|stage| stage.start.as_ref()?.planned_time.clone())
    };
    let run = space.until(name, "armed", |status| planned(status).is_some()).await;
    let at = planned(status(&run)).expect("a planned time").0;
    let pids = space.served.node.processes(&format!("{}/{name}-1-0", space.namespace), "agent");
    assert!(!pids.is_empty(), "{name}-1-0 does not run");
    let left = || at.as_millisecond() - Timestamp::now().as_millisecond();
    assert!(left() > 300, "the planned time was told {} ms late", 300 - left());
    let signal = |signal: &str| {
        for pid in &pids {
            let sent = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
            assert!(sent.is_ok_and(|sent| sent.success()), "no such process");
        }
    };
    let until = async |millis: i64| {
        tokio::time::sleep(Duration::from_millis(u64::try_from(left() + millis).unwrap_or(0))).await;
    };
    // Times of a status are whole seconds: the start is within the one that begins at `at`.
    until(-300).await;
    signal("-STOP");
    until(1_400).await;
    signal("-CONT");
}

#[tokio::test]
async fn every_cell_of_the_table_stands_on_a_live_object() {
    let space = &space("outcomes").await;
    let cells = cells();
    // One command waits for either outcome, as CI does.
    let wait = |name: &'static str| {
        let args = ["wait", "--for=condition=Finished", "--timeout=60s", "-n", &space.namespace, name];
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        async move {
            space.until(name.trim_start_matches("brun/"), "seen", |_| true).await;
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            space.served.cluster.kubectl(&args).await.expect_code(0);
        }
    };
    let all = futures::future::join_all(cells.iter().map(|cell| Box::pin(play(space, cell))));
    tokio::join!(all, async {
        tokio::join!(wait("brun/passed"), wait("brun/failed"));
    });
    let mut runs = Vec::new();
    for Cell { name, phase, verdict, complete, reason, passed, passed_reason, .. } in &cells {
        let run = space.finished(name).await;
        let said = space.said(&run);
        assert_eq!(
            (status(&run).phase.as_str(), status(&run).verdict.as_str()),
            (*phase, *verdict),
            "{name} {said}"
        );
        let failed = if *complete == Truth::True { Truth::False } else { Truth::True };
        for (type_, truth, reason) in [
            (ConditionType::Complete, *complete, *reason),
            (ConditionType::Failed, failed, *reason),
            (ConditionType::Finished, Truth::True, *reason),
            (ConditionType::Passed, *passed, *passed_reason),
            (ConditionType::Ready, *complete, *reason),
            (ConditionType::Stalled, failed, *reason),
            (ConditionType::Reconciling, Truth::False, *reason),
            (ConditionType::ResultsPublished, Truth::True, "ResultsPublished"),
        ] {
            // Of trouble and of work under way, kstatus wants a word only while there is some.
            let gone = type_.is_abnormal_true() && truth != Truth::True;
            let expected = if gone { (None, String::new()) } else { (Some(truth), reason.to_owned()) };
            assert_eq!(condition(&run, type_), expected, "{name} {type_:?} {said}");
        }
        let degraded = condition(&run, ConditionType::Degraded).0 == Some(Truth::True);
        assert_eq!(
            degraded,
            matches!(*name, "lossy" | "lossy-breach" | "skewed" | "failed"),
            "{name} {said}"
        );
        // A person reads one sentence, and what to do where something went wrong.
        let message = &status(&run).message;
        assert!(*name != "failed" || message.contains("next: "), "{name}: {message}");
        eprintln!("{name}: {}", status(&run).message);
        runs.push(run);
    }
    let listed = space.runs.list(&ListParams::default()).await.expect("runs");
    assert_eq!(listed.items.len(), cells.len());
    for (kstatus, cell) in space.served.cluster.kstatus(&runs).await.into_iter().zip(&cells) {
        let expected = if cell.complete == Truth::True { "Current" } else { "Failed" };
        assert_eq!(kstatus.status, expected, "{}: {}", cell.name, kstatus.message);
    }
    // The samples for GitOps controllers say the same.
    for (said, cell) in space.served.cluster.gitops(&runs).await.into_iter().zip(&cells) {
        let (argocd, flux) =
            if cell.complete == Truth::True { ("Healthy", "Current") } else { ("Degraded", "Failed") };
        assert_eq!(
            (said.argocd.status.as_str(), said.flux.as_str()),
            (argocd, flux),
            "{}: {said:?}",
            cell.name
        );
    }
    for cell in &cells {
        space.nothing_left(cell.name).await;
    }
}
