//! What a person sees of a run: `kubectl wait`, and `kubectl lockstep watch` on a terminal.

use crate::suite::{Found, Suite};
use lockstep_testcluster::runs::{run, status};
use serde_json::json;

/// Two people wait for the same run, one with `kubectl wait`, one before a terminal; both are told the truth.
pub async fn watched(suite: &Suite) -> Found {
    let runs = suite.runs("watched").await;
    let namespace = runs.namespace.as_str();
    let threshold = json!([{"name": "tail", "stage": "load", "op": "Get", "metric": "p99", "atMost": "30s"}]);
    runs.create(run("nightly", 8_000, &json!({"thresholds": threshold}))).await;
    let wait = ["wait", "--for=condition=Finished", "brun/nightly", "-n", namespace, "--timeout=120s"];
    let watch = ["watch", "nightly", "-n", namespace];
    let (waited, screen) = tokio::join!(suite.person.kubectl(&wait), suite.person.on_a_terminal(&watch));
    assert!(waited.expect_code(0).stdout.contains("condition met"), "{}", waited.stdout);
    let passed = ["wait", "--for=condition=Passed", "brun/nightly", "-n", namespace, "--timeout=1s"];
    suite.kubectl(&passed).await;
    assert_eq!(screen.code, 0, "{}", screen.raw);
    // While it lasts: a bar that moves.
    let bars: Vec<&str> =
        screen.frames.iter().flat_map(|frame| frame.lines()).filter(|line| line.contains("▶ load")).collect();
    let moves =
        |line: &str| ["█", "░", "/ 0:08", "2/2", "op/s", "p99"].into_iter().all(|part| line.contains(part));
    assert!(bars.iter().any(|line| moves(line)), "no bar that moves: {bars:#?}");
    // At the end: the tables of the report, line by line.
    let report = suite.person.lockstep(&["report", "nightly", "-n", namespace]).await;
    let on_screen: Vec<&str> = screen.last().lines().map(str::trim_end).collect();
    let told: Vec<&str> =
        report.expect_code(0).stdout.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let missing: Vec<&&str> = told.iter().filter(|line| !on_screen.contains(line)).collect();
    assert!(missing.is_empty(), "not on the screen: {missing:#?}\n{}", screen.last());
    assert!(
        screen.last().contains("Succeeded · Passed") && screen.raw.contains("\u{1b}[32m"),
        "{}",
        screen.last()
    );
    let done = runs.finished("nightly").await;
    assert_eq!(status(&done).verdict, "Passed");
    Found::Shown(format!(
        "{} frames, {} lines of the report as they stand on the screen",
        screen.frames.len(),
        told.len()
    ))
}
