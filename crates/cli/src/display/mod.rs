//! What a person, or a machine, sees of a run: bars that move, lines, or JSON objects; and the tables at its end.
//!
//! Everything is drawn from [`Picture`]s, which are copies: looking decides nothing. What is shown is computed by pure
//! functions ([`lines`], [`layout`], [`story`], [`summary`]); only [`terminal`], [`plain`] and [`json`] know how to print it.

pub mod json;
pub mod layout;
pub mod lines;
pub mod picture;
pub mod plain;
pub mod story;
pub mod summary;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod thresholds;

use crate::args::Style;
use crate::output;
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use lockstep_core::thresholds::ThresholdResult;
use picture::Picture;
use std::path::Path;
use std::time::Duration;
use story::Event;

/// How often a display is offered a picture.
pub const REFRESH: Duration = Duration::from_millis(250);
/// Problems that are shown in full; all are in `results.json`.
pub const PROBLEMS_SHOWN: usize = 4;

/// What is known of a run before it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Its namespace, on a cluster.
    pub namespace: Option<String>,
    /// Its name.
    pub run: String,
    /// What tells it from every other run.
    pub uid: String,
    /// Its seed.
    pub seed: u64,
    /// Where its load goes.
    pub target_uri: String,
    /// How many agents it has.
    pub agents: u64,
    /// Names of its stages.
    pub stages: Vec<String>,
    /// Where its results go, if that is known already.
    pub results: Option<String>,
}

impl Scene {
    /// Of a plan that is run on this machine.
    #[must_use]
    pub fn of(plan: &Plan, results: &Path) -> Self {
        Self {
            namespace: None,
            run: plan.run.name.clone(),
            uid: plan.run.uid.clone(),
            seed: plan.dataset.seed,
            target_uri: plan.target.uri.clone(),
            agents: plan.replicas.into(),
            stages: plan.stages.iter().map(|stage| stage.name.clone()).collect(),
            results: Some(results.display().to_string()),
        }
    }
}

/// What a run came to, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// `Succeeded`, `Partial`, `Failed` or `Aborted`.
    pub outcome: &'a str,
    /// `Passed`, `Failed`, `Inconclusive` or `None`.
    pub verdict: &'a str,
    /// The exit code.
    pub exit_code: u8,
    /// Why results are not what they would be on a quiet day.
    pub degraded: &'a [String],
    /// What was held against the results.
    pub thresholds: &'a [ThresholdResult],
    /// What went wrong; what ended the run comes first.
    pub problems: &'a [Problem],
    /// Where its results are.
    pub results: &'a str,
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
    pub fn begin(style: Style, scene: &Scene, notes: &[String]) -> Self {
        if matches!(style, Style::Terminal | Style::Plain) {
            output::note(&header(scene));
            for note in notes {
                output::note(&format!("  note: {note}"));
            }
        }
        match style {
            Style::Terminal => Self::Terminal(terminal::Terminal::new()),
            Style::Plain => Self::Plain(plain::Plain::default()),
            Style::Json => Self::Json(json::Json::begin(scene, notes)),
            Style::Quiet => Self::Quiet,
            Style::Silent => Self::Silent,
        }
    }

    /// The run as it stands; called every [`REFRESH`], whether it changed or not.
    pub fn refresh(&mut self, picture: &Picture) {
        match self {
            Self::Terminal(terminal) => terminal.refresh(picture),
            Self::Plain(plain) => plain.refresh(picture),
            Self::Json(json) => json.refresh(picture),
            Self::Quiet | Self::Silent => {}
        }
    }

    /// Something happened.
    pub fn told(&mut self, event: &Event<'_>, picture: &Picture) {
        match self {
            Self::Terminal(terminal) => terminal.told(event.line.as_deref(), picture),
            Self::Plain(plain) => plain.told(event.elapsed_ns, event.line.as_deref(), picture),
            Self::Json(json) => json.told(event, picture),
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

    /// The run is over: the last picture, what it came to in whole, `tables`, and its problems; what ended the run comes
    /// first.
    pub fn end(self, last: &Picture, ending: &Ending<'_>, tables: &str) {
        let has_tables = !matches!(self, Self::Json(_) | Self::Silent);
        match self {
            Self::Terminal(terminal) => terminal.end(last),
            Self::Plain(plain) => plain.end(last),
            Self::Json(json) => json.end(ending),
            Self::Quiet | Self::Silent => {}
        }
        if has_tables {
            output::say(&format!("\n{tables}"));
        }
        complain(ending.problems);
    }

    /// The run is over, and this is its report; `results`: where that is.
    pub fn end_with(self, last: &Picture, report: &Report, results: &str) {
        let ending = Ending {
            outcome: report.outcome.name(),
            verdict: report.verdict.name(),
            exit_code: report.exit_code,
            degraded: &report.degraded,
            thresholds: &report.thresholds,
            problems: &report.problems,
            results: results.trim_end_matches('/'),
        };
        self.end(last, &ending, &summary::render(report, results, true));
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
    let place = scene.namespace.as_deref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let results =
        scene.results.as_deref().map(|results| format!(" · results in {results}")).unwrap_or_default();
    format!(
        "lockstep {} · run {place}{} · {} · {} · seed {}{results}",
        env!("CARGO_PKG_VERSION"),
        scene.run,
        crate::preview::agents(scene.agents),
        scene.target_uri,
        scene.seed,
    )
}
