//! The examples that need nothing but this machine do run, each with a shorter window and in a place of the test's own.

mod common;

use lockstep_core::thresholds::Outcome;
use std::path::Path;

/// Runs an example with some of its values replaced.
#[track_caller]
fn runs(example: &str, replaced: &[&str]) {
    let dir = common::dir();
    let place = dir.path().join("place");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
    let command = dir.command().args(["run", "--quiet", "-f"]).arg(path);
    let command = command.arg("--set").arg(format!("spec.target.uri=file://{}", place.display()));
    // A busy machine is no fault of the example.
    let calm = ["spec.start.maxSkew=10s", "spec.thresholds=[]"];
    let command =
        replaced.iter().chain(&calm).fold(command, |command, replaced| command.args(["--set", *replaced]));
    let ended = command.run(common::LONG);
    ended.expect_code(0);
    let report = common::report(&dir);
    assert_eq!(report.outcome, Outcome::Succeeded);
    let counted = report.stages.iter().filter(|stage| stage.kind == "execute" && !stage.discard);
    let errors: u64 = report.stages.iter().map(|stage| stage.total.error_count).sum();
    assert!(counted.clone().count() > 0 && errors == 0, "{}", ended.stdout);
    assert!(counted.map(|stage| stage.total.count).min() > Some(0), "{}", ended.stdout);
    let mut warm_up: Option<&str> = None;
    for stage in &report.stages {
        // Only who starts together can fail to: an example is not degraded by its cleanup.
        let together = matches!(stage.kind.as_str(), "prepare" | "execute");
        assert_eq!(stage.start.skew_micros.is_some(), together, "skew of {}", stage.name);
        // Out of a warm-up, workers flow into the next stage: its start is that of the warm-up.
        assert_eq!(stage.start.inherited_from.as_deref(), warm_up, "start of {}", stage.name);
        warm_up = stage.discard.then_some(stage.name.as_str());
        assert!(stage.start.planned.is_some() || !together, "planned start of {}", stage.name);
    }
    assert!(!place.exists(), "cleanup removes what the run made");
}

#[test]
fn twelve_lines_run() {
    // The default stages, written out for their length only.
    let stages = "spec.stages=[{name: prepare, prepare: {}}, {name: mixed, execute: {duration: 2s}}, {name: cleanup, cleanup: {}}]";
    runs("twelve-lines.yaml", &["spec.dataset.objects=500", stages]);
}

#[test]
fn the_quickstart_runs() {
    let warmup = "spec.stages[warmup].execute.duration=1s";
    runs("quickstart.yaml", &["spec.dataset.objects=1000", warmup, "spec.stages[mixed].execute.duration=2s"]);
}

#[test]
fn the_open_loop_runs() {
    let warmup = "spec.stages[warmup].execute.duration=1s";
    runs("open-loop.yaml", &["spec.dataset.objects=1000", warmup, "spec.stages[steady].execute.duration=2s"]);
}
