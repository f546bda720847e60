//! Reads a results directory back: a finished run from its report, one that was interrupted from the parts that its
//! agents had handed in.
//!
//! The same report is written while the run lasts, whenever a stage is over, so that a crash costs at most what no
//! agent had handed in. Such a report is told from a final one by its verdict, `Pending`, and its empty end.

use super::directory::{PARTS, PLAN, RESULTS};
use super::{memory, wall};
use crate::preview;
use anyhow::{Context as _, bail};
use lockstep_coordinator::RunEnd;
use lockstep_coordinator::report::{WallTimes, build};
use lockstep_core::plan::Plan;
use lockstep_core::problem::exit;
use lockstep_core::results::part::MAX_PART_BYTES;
use lockstep_core::results::{Report, StagePart};
use lockstep_core::run::Run;
use lockstep_core::run::view::RunView;
use lockstep_core::thresholds::{Outcome, Verdict};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

/// Largest report or plan that is read, bytes.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;
/// Said of a run whose end was not recorded.
const NO_END: &str = "interrupted, or still under way: no end of the run was recorded";

/// What a directory holds.
#[derive(Debug)]
pub struct Found {
    /// The report, as complete as the directory allows.
    pub report: Report,
    /// Whether the run's end was recorded.
    pub ended: bool,
    /// What could not be read, for people.
    pub notes: Vec<String>,
}

/// Reads a results directory.
///
/// # Errors
///
/// When it holds neither a final report nor a plan that can be read.
pub fn read(directory: &Path) -> anyhow::Result<Found> {
    let last = read_report(&directory.join(RESULTS));
    if let Ok(report) = &last
        && is_final(report)
    {
        return Ok(Found { report: report.clone(), ended: true, notes: Vec::new() });
    }
    let plan: Plan =
        serde_json::from_slice(&bounded(&directory.join(PLAN), DOCUMENT_BYTES_MAX)?).context(PLAN)?;
    let (parts, notes) = read_parts(&directory.join(PARTS))?;
    let started = last.as_ref().map(|report| report.run.started.clone()).unwrap_or_default();
    let mut report = interim(&Arc::new(plan), None, parts, &started);
    if let Ok(last) = last {
        adopt_facts(&mut report, last);
    }
    report.degraded.insert(0, NO_END.to_owned());
    Ok(Found { report, ended: false, notes })
}

/// Whether a report is of a run that is over.
#[must_use]
pub fn is_final(report: &Report) -> bool {
    report.verdict != Verdict::Pending && !report.run.finished.is_empty()
}

/// The report of a run that is not over: what its parts say, and what `view` knows of its stages.
#[must_use]
pub fn interim(plan: &Arc<Plan>, view: Option<RunView>, parts: Vec<StagePart>, started: &str) -> Report {
    // A run that was never driven tells an empty story in the right shape.
    let empty = Run::new(Arc::clone(plan), false, 0);
    let mut story = empty.story();
    let live = view.clone();
    let view = view.unwrap_or_else(|| empty.view());
    story.degraded.clone_from(&view.degraded);
    story.failure.clone_from(&view.failure);
    let end = RunEnd {
        plan: Arc::clone(plan),
        outcome: Outcome::Partial,
        view,
        story,
        parts,
        series: BTreeMap::new(),
    };
    let times = WallTimes { started: started.to_owned(), finished: String::new() };
    let mut report = build(&end, &times, env!("CARGO_PKG_VERSION"));
    if let Some(view) = &live {
        wall::place_starts(&mut report, view);
    }
    report.verdict = Verdict::Pending;
    report.exit_code = exit::STAGE_FAILED;
    for stage in &mut report.stages {
        let complete = !stage.agents.is_empty() && stage.agents_complete >= stage.agents_planned;
        let state = match stage.state.as_str() {
            // A view may be a moment older than the last part.
            "Waiting" | "Starting" | "Working" if complete => "Done",
            _ if live.is_some() => continue,
            _ if stage.agents.is_empty() => "Unknown",
            _ => "Interrupted",
        };
        state.clone_into(&mut stage.state);
    }
    memory::annotate(&mut report, plan, &preview::bytes(plan), memory::total_bytes());
    report
}

/// All parts of a directory, sorted, and what could not be read of it.
///
/// # Errors
///
/// When the directory cannot be listed.
pub fn read_parts(directory: &Path) -> anyhow::Result<(Vec<StagePart>, Vec<String>)> {
    let (mut parts, mut notes) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        // Anything else was on its way when the run ended.
        if path.extension().is_none_or(|extension| extension != "part") {
            continue;
        }
        let part = bounded(&path, MAX_PART_BYTES as u64).and_then(|bytes| Ok(StagePart::from_bytes(&bytes)?));
        match part {
            Ok(part) => parts.push(part),
            Err(error) => notes.push(format!("{} was left out: {error:#}", path.display())),
        }
    }
    parts.sort_by_key(|part| (part.stage, part.agent, part.attempt));
    Ok((parts, notes))
}

/// What only the coordinator knew, from the report that it wrote last.
fn adopt_facts(report: &mut Report, last: Report) {
    report.timeline = last.timeline;
    report.degraded = last.degraded;
    report.problems = last.problems;
    for (stage, known) in report.stages.iter_mut().zip(last.stages) {
        if known.agents.len() == stage.agents.len()
            && matches!(known.state.as_str(), "Done" | "Failed" | "Skipped")
        {
            stage.state = known.state;
        }
        // Of a stage whose parts all came later, that report knew less than they do.
        if !known.agents.is_empty() {
            stage.start = known.start;
        }
        stage.degraded = known.degraded;
    }
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    Ok(serde_json::from_slice(&bounded(path, DOCUMENT_BYTES_MAX)?)?)
}

fn bounded(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(limit + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > limit {
        bail!("{} is larger than {limit} bytes", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{ResultsDirectory, artefacts, store::PartStore};

    const YAML: &str = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: x}
spec:
  agents: {replicas: 2}
  target: {uri: 'file:///tmp/x'}
  dataset: {objects: 10, size: {fixed: 4Ki}}
";

    #[test]
    fn what_was_handed_in_before_a_crash_is_read_back() {
        let parent = tempfile::tempdir().expect("temporary directory");
        let directory = ResultsDirectory::create(parent.path(), "x", "t", "uid0").expect("creates");
        let manifest = lockstep_api::load(YAML.as_bytes(), &[]).expect("loads");
        let options = lockstep_api::ResolveOptions { local: true, ..Default::default() };
        let plan = Arc::new(manifest.resolve(&options).expect("makes sense").plan);
        artefacts::begin(&directory, &plan, YAML, "2026-01-01T00:00:00Z").expect("writes");
        let store = PartStore::new(directory.clone(), Arc::clone(&plan));
        let hand_in = |stage, agent| {
            let mut part = StagePart::new(stage, agent, 0);
            part.ranges_done = vec![(u64::from(agent) * 5, u64::from(agent) * 5 + 5)];
            store.write(&part).expect("writes");
        };
        hand_in(1, 0);
        hand_in(1, 1);
        let view = Run::new(Arc::clone(&plan), false, 0).view();
        artefacts::stage_over(&directory, &plan, view, "2026-01-01T00:00:00Z").expect("writes");
        hand_in(2, 1);
        std::fs::write(directory.path().join(PARTS).join("torn.part"), b"{").expect("writes");

        let found = read(directory.path()).expect("reads");
        assert!(!found.ended && found.report.degraded.contains(&NO_END.to_owned()));
        let states: Vec<&str> = found.report.stages.iter().map(|stage| stage.state.as_str()).collect();
        assert_eq!(states, ["Unknown", "Done", "Interrupted", "Unknown"]);
        assert_eq!(found.report.dataset.as_ref().map(|ledger| ledger.done), Some(10));
        assert_eq!(found.report.run.started, "2026-01-01T00:00:00Z");
        assert!(found.notes.len() == 1 && found.notes[0].contains("torn.part"), "{:?}", found.notes);
    }

    #[test]
    fn a_directory_of_something_else_is_no_result() {
        let parent = tempfile::tempdir().expect("temporary directory");
        assert!(read(parent.path()).is_err());
    }
}
