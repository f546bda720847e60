//! The shortest manifest, as a newcomer applies it.

use crate::space::{space, status};
use crate::{finished, report_text};
use lockstep_core::results::Report;
use lockstep_core::thresholds::Outcome;
use serde_json::{Value, json};

const EXAMPLE: &str = include_str!("../../../../examples/twelve-lines.yaml");

#[tokio::test]
async fn the_twelve_lines_run_and_kubectl_shows_them() {
    let space = &space("example").await;
    let mut run: Value = serde_yaml::from_str(EXAMPLE).expect("the example reads");
    // The default stages, written out for their length only.
    run["spec"]["dataset"]["objects"] = json!(200);
    // Agents of a machine that is too busy start more than the default apart, and the verdict would say so.
    run["spec"]["start"] = json!({"maxSkew": "10s"});
    run["spec"]["stages"] = json!([
        {"name": "prepare", "prepare": {}},
        {"name": "mixed", "execute": {"duration": "1s"}},
        {"name": "cleanup", "cleanup": {}},
    ]);
    let kubectl = async |args: &[&str]| {
        let ended = space.served.cluster.kubectl(&[args, &["-n", &space.namespace]].concat()).await;
        ended.expect_code(0);
        ended.stdout
    };
    space.served.cluster.apply(&space.namespace, &run.to_string()).await;
    let (_, run) = tokio::join!(
        kubectl(&["wait", "--for=condition=Finished", "--timeout=90s", "brun/twelve-lines"]),
        space.served.until(&space.runs, "twelve-lines", "finished", finished),
    );
    kubectl(&["wait", "--for=condition=Complete", "--timeout=30s", "brun/twelve-lines"]).await;
    let said = space.said(&run);
    let status = status(&run);
    assert_eq!(status.phase, "Succeeded", "{said}");
    let mixed = status.stages.iter().find(|stage| stage.name == "mixed").expect("a stage");
    assert!(mixed.operations > 0 && mixed.bytes > 0, "{said}");
    let get = mixed.latency.iter().find(|latency| latency.op == "Get").expect("latencies of Get");
    assert!(get.count > 0 && get.p99_micros >= get.p50_micros && get.max_micros > 0, "{said}");

    let text = report_text(&space.client, &run).await;
    let report: Report = serde_json::from_str(&text).expect("a report");
    assert_eq!((report.outcome, report.stages.len()), (Outcome::Succeeded, 4));
    use sha2::Digest;
    let hash: String =
        sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(status.results.as_ref().and_then(|results| results.sha256.clone()), Some(hash));

    let table = kubectl(&["get", "brun"]).await;
    let wide = kubectl(&["get", "brun", "-o", "wide"]).await;
    eprintln!("{table}{wide}");
    let heads: Vec<&str> = wide.lines().next().unwrap_or_default().split_whitespace().collect();
    let expected =
        ["NAME", "PHASE", "STAGE", "AGENTS", "PROGRESS", "VERDICT", "AGE", "THROUGHPUT", "SKEW", "REASON"];
    assert_eq!(heads, expected);
    assert!(
        table.starts_with(&wide[..wide.find("THROUGHPUT").unwrap_or(0)].trim_end().to_owned()),
        "{table}"
    );
    for shown in ["twelve-lines", "Succeeded", "2/2", "100%", "None"] {
        assert!(table.contains(shown), "{shown} is not in {table}");
    }
    for shown in ["op/s", "Completed"] {
        assert!(wide.contains(shown), "{shown} is not in {wide}");
    }
    let category = kubectl(&["get", "lockstep", "-o", "name"]).await;
    assert_eq!(category.trim(), "benchmarkrun.lockstep.dev/twelve-lines");
    space.nothing_left("twelve-lines").await;
}
