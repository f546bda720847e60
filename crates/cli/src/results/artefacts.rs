//! What is written while the run lasts, and what is written when it is over.

use super::directory::{AGENTS, PARTS, PLAN, RESULTS, ResultsDirectory};
use super::{agents, histograms, salvage, series};
use lockstep_coordinator::RunEnd;
use lockstep_core::op::Op;
use lockstep_core::plan::Plan;
use lockstep_core::results::{Report, merge_totals, tsv};
use lockstep_core::run::view::RunView;
use std::io;
use std::sync::Arc;

/// Before the first agent: the plan, the manifest, the status.
///
/// # Errors
///
/// When something cannot be written.
pub fn begin(directory: &ResultsDirectory, plan: &Plan, manifest: &str, started: &str) -> io::Result<()> {
    directory.write(super::directory::MANIFEST, manifest.as_bytes())?;
    directory.write(PLAN, &[serde_json::to_vec_pretty(plan)?, b"\n".to_vec()].concat())?;
    directory.write_status(&format!("Running since {started}, uid {}", plan.run.uid))
}

/// A stage is over: the report so far.
///
/// # Errors
///
/// When it cannot be written.
pub fn stage_over(
    directory: &ResultsDirectory,
    plan: &Arc<Plan>,
    view: RunView,
    started: &str,
) -> anyhow::Result<()> {
    let (parts, _) = salvage::read_parts(&directory.path().join(PARTS))?;
    let report = salvage::interim(plan, Some(view), parts, started);
    directory.write(RESULTS, report.to_json()?.as_bytes())?;
    Ok(())
}

/// The run is over: the report, the tables and histograms beside it, the status. The report comes first: it holds
/// everything, and the rest can be made from it and the parts.
///
/// # Errors
///
/// When something cannot be written.
pub fn end(directory: &ResultsDirectory, end: &RunEnd, report: &Report) -> anyhow::Result<()> {
    directory.write(RESULTS, report.to_json()?.as_bytes())?;
    directory.write_status(&status_line(report))?;
    directory.write("agents.tsv", agents::render(report).as_bytes())?;
    for (index, stage) in (0u32..).zip(&report.stages) {
        if stage.agents.is_empty() {
            continue;
        }
        let name = format!("{index:02}-{}", stage.name);
        let parts = || end.parts.iter().filter(|part| part.stage == index);
        let totals = merge_totals(index, parts());
        if totals.is_empty() {
            continue;
        }
        directory.write(format!("{name}.results.tsv"), tsv::render(&totals, stage.window_ns).as_bytes())?;
        for part in parts() {
            let file = format!("{AGENTS}/agent-{}-{}.{name}.results.tsv", part.agent, part.attempt);
            directory.write(file, tsv::render(&part.totals, part.window_ns).as_bytes())?;
        }
        directory.write(format!("{name}.series.tsv"), series::render(&stage.series).as_bytes())?;
        for op in Op::ALL {
            let cell = totals.by_op(op);
            if cell.count() > 0 {
                let live = end.series.get(&index);
                let log = histograms::render(&stage.name, op, &cell, stage.window_ns, live)?;
                directory.write(format!("{name}.{}.hlog", op.name().to_lowercase()), &log)?;
            }
        }
    }
    Ok(())
}

/// One line that a script can split at spaces.
#[must_use]
pub fn status_line(report: &Report) -> String {
    format!(
        "{} verdict={} exit={} finished={} uid={}",
        report.outcome.name(),
        report.verdict.name(),
        report.exit_code,
        report.run.finished,
        report.run.uid
    )
}
