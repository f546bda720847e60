//! A run that succeeds, looked at in every way while it lasts and after.

use super::{objects, of_type};
use crate::runs::manifest;
use crate::{Served, finished, served};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{Ended, Person};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

const NAME: &str = "nightly";

/// A run of a few seconds that has passed a threshold, in a namespace of its own, and `watch` of it in three ways.
struct Watched {
    served: &'static Served,
    person: Person,
    namespace: String,
}

impl Watched {
    async fn apply() -> Self {
        let served = served().await;
        let namespace = served.cluster.namespace("perf").await;
        let more = "agents: {replicas: 2}\n  thresholds: [{name: tail, stage: mixed, op: Get, metric: p99, atMost: 30s}]";
        served.cluster.apply(&namespace, &manifest(NAME, 10, more)).await;
        Self { served, person: served.cluster.admin(), namespace }
    }

    async fn lockstep(&self, args: &[&str]) -> Ended {
        self.person.lockstep(&[args, &["-n", &self.namespace]].concat()).await
    }

    fn runs(&self, client: &kube::Client) -> Api<BenchmarkRun> {
        Api::namespaced(client.clone(), &self.namespace)
    }
}

#[tokio::test]
async fn a_person_follows_a_run_and_reads_its_report() {
    let watched = Watched::apply().await;
    let namespace = watched.namespace.as_str();
    let client = watched.served.cluster.client().await;
    let runs = watched.runs(&client);
    let on_a_terminal = ["watch", NAME, "-n", namespace];
    let (screen, piped, json, ()) = tokio::join!(
        watched.person.on_a_terminal(&on_a_terminal),
        watched.lockstep(&["watch", NAME]),
        watched.lockstep(&["watch", "brun/nightly", "--json"]),
        looked_at(&watched, &runs),
    );
    let run = watched.served.until(&runs, NAME, "finished", finished).await;
    let said = watched.served.said(&run);

    // Bars that move, the same tables as on one machine, and the exit code.
    assert_eq!(
        (screen.code, piped.code, json.code),
        (0, 0, 0),
        "{}\n{}\n{}\n{said}",
        screen.raw,
        piped.stderr,
        json.stderr
    );
    let bar = |frame: &String| frame.lines().any(|line| line.contains("mixed") && line.contains('░'));
    let frame = screen
        .frames
        .iter()
        .rev()
        .find(|frame| bar(frame))
        .unwrap_or_else(|| panic!("no bar: {}", screen.raw));
    let line = frame.lines().find(|line| line.contains("▶ mixed")).unwrap_or_else(|| panic!("{frame}"));
    for part in ["█", "/ 0:10", "2/2", "op/s", "p99", "0 err"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(frame.contains("✔ prepare"), "{frame}");
    assert!(
        screen.raw.contains("\u{1b}[32m") && screen.last().contains("Succeeded · Passed"),
        "{}",
        screen.last()
    );

    // Lines, without a colour or a cursor that moves.
    assert!(!piped.stderr.contains('\u{1b}') && !piped.stdout.contains('\u{1b}'), "{}", piped.stderr);
    assert!(
        piped.stderr.contains(&format!("run {namespace}/{NAME} · 2 agents · mem://")),
        "{}",
        piped.stderr
    );
    for part in ["✔ prepare  2,000 objects", "✔ mixed  ", "✔ cleanup  "] {
        assert!(piped.stderr.contains(part), "{part}: {}", piped.stderr);
    }
    assert!(piped.stdout.contains("threshold: tail p99 ≤ 30 s ✔"), "{}", piped.stdout);
    in_json(&json);

    the_report_is_what_was_stored(&watched, &run, &client, &piped).await;
    documented_commands_work(&watched).await;
}

/// While the run lasts: every form of `get`.
async fn looked_at(watched: &Watched, runs: &Api<BenchmarkRun>) {
    let measuring = |run: Option<&BenchmarkRun>| {
        let progress = run.and_then(|run| run.status.as_ref()?.progress.as_ref());
        progress.is_some_and(|progress| progress.stage == "mixed")
    };
    watched.served.until(runs, NAME, "measuring", measuring).await;
    let (table, all, one, json, yaml) = tokio::join!(
        watched.lockstep(&["get"]),
        watched.person.lockstep(&["get", "-A"]),
        watched.lockstep(&["get", NAME]),
        watched.lockstep(&["get", NAME, "-o", "json"]),
        watched.lockstep(&["get", "-o", "yaml"]),
    );
    let row = |ended: &Ended, first: &str| {
        let line =
            ended.expect_code(0).stdout.lines().find(|line| line.split_whitespace().next() == Some(first));
        line.unwrap_or_else(|| panic!("{}", ended.stdout))
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        row(&table, "NAME"),
        ["NAME", "PHASE", "STAGE", "AGENTS", "PROGRESS", "RATE", "VERDICT", "AGE"]
    );
    let run = row(&table, NAME);
    assert_eq!(
        (&run[1..4], run[4].ends_with('%')),
        (&["Running", "mixed", "2/2"].map(str::to_owned)[..], true),
        "{run:?}"
    );
    assert_eq!(row(&all, &watched.namespace)[1], NAME);
    for part in ["Running · verdict Pending", "mem:// · seed 0", "2 of 2 ready", "▶ mixed", "✔ prepare"]
    {
        assert!(one.expect_code(0).stdout.contains(part), "{part}: {}", one.stdout);
    }
    let object: Value = serde_json::from_str(&json.expect_code(0).stdout).expect("JSON");
    assert_eq!((&object["kind"], &object["metadata"]["name"]), (&"BenchmarkRun".into(), &NAME.into()));
    assert!(object["metadata"]["managedFields"].is_null() && object["status"]["phase"] == "Running");
    let list: Value = serde_yaml::from_str(&yaml.expect_code(0).stdout).expect("YAML");
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&"List".into(), &NAME.into()));
}

/// `--json`: begin, progress at most 2 s apart (here with what a loaded machine adds), end.
fn in_json(json: &Ended) {
    let objects = objects(json);
    let begin = &objects[0];
    assert_eq!(
        (&begin["type"], &begin["run"], &begin["agents"]),
        (&"begin".into(), &NAME.into(), &2.into()),
        "{begin}"
    );
    let progress = of_type(&objects, "progress");
    let mixed = progress.iter().filter(|object| object["stage"] == "mixed").count();
    assert!(mixed >= 3, "{mixed} of {} objects are of the stage", progress.len());
    let rate = |object: &&Value| object["stages"][2]["operationsPerSecond"].as_u64().unwrap_or_default();
    assert!(progress.iter().map(rate).max() > Some(0), "{progress:?}");
    let time = |object: &Value| object["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let times: Vec<Timestamp> = objects.iter().filter_map(time).collect();
    assert_eq!(times.len(), objects.len());
    let gap =
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).max().unwrap_or_default();
    assert!(gap <= 4_000, "{gap} ms between two objects");
    let end = objects.last().expect("an end");
    assert_eq!(
        (&end["type"], &end["outcome"], &end["verdict"], &end["exitCode"]),
        (&"end".into(), &"Succeeded".into(), &"Passed".into(), &0.into()),
        "{end}"
    );
    assert_eq!(end["thresholds"][0]["name"], "tail");
}

async fn the_report_is_what_was_stored(
    watched: &Watched,
    run: &BenchmarkRun,
    client: &kube::Client,
    piped: &Ended,
) {
    let results = run.status.as_ref().and_then(|status| status.results.clone()).expect("results");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &watched.namespace);
    let map = results.config_map.expect("a ConfigMap");
    let stored = maps
        .get(&map)
        .await
        .expect("the ConfigMap")
        .data
        .expect("data")
        .remove("results.json")
        .expect("a report");
    let directory = tempfile::tempdir().expect("a directory");
    let into = directory.path().join("new");
    let written = watched.lockstep(&["report", NAME, "--json", "-o", into.to_str().expect("a path")]).await;
    assert_eq!(written.expect_code(0).stdout.trim_end(), stored.trim_end());
    let bytes = std::fs::read(into.join("results.json")).expect("the file");
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(Some(hash), results.sha256, "what was written is what status speaks of");
    // The same tables as `watch` ended with, and as the file gives on one machine.
    let tables = watched.lockstep(&["report", NAME]).await;
    assert!(
        piped.stdout.trim().ends_with(tables.expect_code(0).stdout.trim()),
        "{}\n{}",
        piped.stdout,
        tables.stdout
    );
    let here = std::process::Command::new(lockstep_testcluster::workspace_binary("lockstep"))
        .args(["report".as_ref(), into.as_os_str()])
        .output()
        .expect("it runs");
    let here = String::from_utf8_lossy(&here.stdout).into_owned();
    let but_place = |text: &str| text.rsplit_once(" · results: ").map(|(text, _)| text.to_owned());
    assert_eq!(but_place(&here), but_place(&tables.stdout), "the report is the same wherever it is read");

    // A report that somebody changed is refused.
    let change = serde_json::json!({"data": {"results.json": stored.replace("Succeeded", "Partial")}});
    let patch = kube::api::Patch::Merge(&change);
    maps.patch(&map, &kube::api::PatchParams::default(), &patch).await.expect("it is patched");
    let changed = watched.lockstep(&["report", NAME]).await;
    assert!(
        changed.code == 5 && changed.stderr.contains("is not what the operator wrote"),
        "{}",
        changed.stderr
    );
    let back = serde_json::json!({"data": {"results.json": stored}});
    let patch = kube::api::Patch::Merge(&back);
    maps.patch(&map, &kube::api::PatchParams::default(), &patch).await.expect("it is patched");
}

/// Every `kubectl lockstep` command of the documentation, on the run that is over now.
async fn documented_commands_work(watched: &Watched) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut commands = Vec::new();
    for page in ["README.md", "docs/cli.md", "docs/kubernetes.md", "docs/status.md"] {
        let text = std::fs::read_to_string(format!("{root}/{page}")).expect(page);
        let lines = text.lines().filter_map(|line| line.strip_prefix("    kubectl lockstep "));
        commands.extend(lines.map(|line| (page, line.to_owned())));
    }
    assert!(commands.len() >= 6, "{commands:?}");
    for (page, line) in commands {
        let line = line.replace(" -n perf", "").replace("NAME", NAME);
        let mut args: Vec<String> = Vec::new();
        // Words, and texts between quotes.
        for (index, part) in line.split('"').enumerate() {
            if index % 2 == 1 {
                args.push(part.to_owned());
            } else {
                args.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ended = watched.lockstep(&args).await;
        assert_eq!(ended.code, 0, "{page}: kubectl lockstep {line}: {}", ended.stderr);
    }
}
