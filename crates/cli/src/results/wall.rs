//! When stages were to start, by the wall clock of this machine: for people who look for a run in other systems'
//! graphs. Nothing is computed with it; the run itself knows monotonic clocks only.

use jiff::Timestamp;
use lockstep_coordinator::monotonic_ns;
use lockstep_core::results::Report;
use lockstep_core::run::view::RunView;
use std::time::Duration;

/// Writes the planned start of every stage that had one into the report. To be called in the process that drove the
/// run, whose monotonic clock the view is in.
pub fn place_starts(report: &mut Report, view: &RunView) {
    let (now, now_ns) = (Timestamp::now(), monotonic_ns());
    for (stage, view) in report.stages.iter_mut().zip(&view.stages) {
        let ago = view.facts.planned_start_ns.map(|at_ns| Duration::from_nanos(now_ns.saturating_sub(at_ns)));
        let at = ago.and_then(|ago| now.checked_sub(ago).ok());
        stage.start.planned = at.map(|at| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
    }
}
