//! What a person, or a machine, sees of a run: bars that move, lines, or JSON objects; and the tables at its end.
//!
//! Everything is drawn from [`Snapshot`]s, which are copies: looking decides nothing. What is shown is computed by pure
//! functions ([`picture`], [`layout`], [`story`], [`waiting`], [`summary`]); only [`terminal`], [`plain`] and [`json`] know how to print it.

pub mod json;
pub mod layout;
pub mod picture;
pub mod plain;
pub mod story;
pub mod summary;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod thresholds;
pub mod waiting;

use crate::args::Style;
use crate::output;
use lockstep_coordinator::Snapshot;
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use lockstep_core::run::message::Told;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often a display is offered a snapshot.
pub const REFRESH: Duration = Duration::from_millis(250);
/// Problems that are shown in full; all are in `results.json`.
pub const PROBLEMS_SHOWN: usize = 4;

/// What every display knows of the run.
#[derive(Clone, Debug)]
pub struct Scene {
    /// What is run.
    pub plan: Arc<Plan>,
    /// Where its results go.
    pub results: PathBuf,
}

/// A display of the chosen style.
#[derive(Debug)]
pub enum Display {
    /// Bars that move.
    Terminal(terminal::Terminal),
    /// Lines.
    Plain(plain::Plain),
    /// JSON objects.
    Json(json::Json),
    /// Nothing before the tables.
    Quiet,
    /// Not even tables.
    Silent,
}

impl Display {
    /// Begins to show a run.
    pub fn begin(style: Style, scene: Scene, notes: &[String]) -> Self {
        if matches!(style, Style::Terminal | Style::Plain) {
            output::note(&header(&scene));
            for note in notes {
                output::note(&format!("  note: {note}"));
            }
        }
        match style {
            Style::Terminal => Self::Terminal(terminal::Terminal::new(scene)),
            Style::Plain => Self::Plain(plain::Plain::new(scene)),
            Style::Json => Self::Json(json::Json::begin(scene, notes)),
            Style::Quiet => Self::Quiet,
            Style::Silent => Self::Silent,
        }
    }

    /// The run as it stands; called every [`REFRESH`], whether it changed or not.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        match self {
            Self::Terminal(terminal) => terminal.refresh(snapshot),
            Self::Plain(plain) => plain.refresh(snapshot),
            Self::Json(json) => json.refresh(snapshot),
            Self::Quiet | Self::Silent => {}
        }
    }

    /// Something happened.
    pub fn told(&mut self, told: &Told, snapshot: &Snapshot) {
        match self {
            Self::Terminal(terminal) => terminal.told(told, snapshot),
            Self::Plain(plain) => plain.told(told, snapshot),
            Self::Json(json) => json.told(told, snapshot),
            Self::Quiet | Self::Silent => {}
        }
    }

    /// The runner itself has something to say, e.g. what a signal does.
    pub fn announce(&mut self, text: &str) {
        match self {
            Self::Terminal(terminal) => terminal.announce(text),
            Self::Json(json) => json.announce(text),
            Self::Plain(_) | Self::Quiet | Self::Silent => output::note(text),
        }
    }

    /// The run is over: the last picture, the tables, the problems; what ended the run comes first.
    pub fn end(self, last: &Snapshot, report: &Report, results: &Path) {
        let has_tables = !matches!(self, Self::Json(_) | Self::Silent);
        match self {
            Self::Terminal(terminal) => terminal.end(last),
            Self::Plain(plain) => plain.end(last),
            Self::Json(json) => json.end(report, results),
            Self::Quiet | Self::Silent => {}
        }
        if has_tables {
            output::say(&format!("\n{}", summary::render(report, results, true)));
        }
        complain(&report.problems);
    }
}

/// Prints problems in full, each once however many agents met it. The one that ended the run comes first, and says
/// where it happened in front of what the others say too.
pub fn complain(problems: &[Problem]) {
    let mut shown: Vec<&Problem> = Vec::new();
    for problem in problems {
        if shown.len() < PROBLEMS_SHOWN && !shown.iter().any(|other| other.what.ends_with(&problem.what)) {
            output::complain(problem);
            shown.push(problem);
        }
    }
}

/// The first line: what is run, with what, where to.
#[must_use]
pub fn header(scene: &Scene) -> String {
    let plan = &scene.plan;
    format!(
        "lockstep {} · run {} · {} · {} · seed {} · results in {}",
        env!("CARGO_PKG_VERSION"),
        plan.run.name,
        crate::preview::agents(plan.replicas),
        plan.target.uri,
        plan.dataset.seed,
        scene.results.display()
    )
}
