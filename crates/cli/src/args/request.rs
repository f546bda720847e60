//! What was meant: typed arguments with terminals and environment looked at.

use super::typed::{Cli, Command, Source};
use crate::input::ManifestSource;
use std::io::IsTerminal as _;
use std::path::PathBuf;

/// A request with nothing left to find out.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// `lockstep run`
    Run(RunRequest),
    /// `lockstep validate`
    Validate(ValidateRequest),
    /// `lockstep plan`
    Plan(PlanRequest),
    /// `lockstep report`
    Report(ReportRequest),
}

/// A manifest and what was said about it on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Where it is.
    pub source: ManifestSource,
    /// Paths and values that replace parts of it, in order.
    pub overrides: Vec<(String, String)>,
    /// Number of agents instead of the manifest's.
    pub agents: Option<u32>,
}

/// `lockstep run`
#[derive(Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The manifest.
    pub input: Input,
    /// How to show what happens.
    pub style: Style,
    /// Directory in which the results directory is created.
    pub results: PathBuf,
    /// The agent's program, where it was named.
    pub agent_binary: Option<PathBuf>,
}

/// `lockstep validate`
#[derive(Debug, PartialEq, Eq)]
pub struct ValidateRequest {
    /// The manifest.
    pub input: Input,
    /// Whether to ask the target, too.
    pub connect: bool,
    /// The agent's program, where it was named.
    pub agent_binary: Option<PathBuf>,
}

/// `lockstep plan`
#[derive(Debug, PartialEq, Eq)]
pub struct PlanRequest {
    /// The manifest.
    pub input: Input,
}

/// `lockstep report`
#[derive(Debug, PartialEq, Eq)]
pub struct ReportRequest {
    /// Results directory.
    pub directory: PathBuf,
    /// Whether to print the document instead of tables.
    pub json: bool,
}

/// How to show what happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bars that move, on a terminal.
    Terminal,
    /// A line every 10 s, and at once on every change.
    Plain,
    /// One JSON object per line.
    Json,
    /// Nothing before the results.
    Quiet,
    /// Nothing but problems; no option asks for it.
    Silent,
}

/// What the process finds around itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Progress goes to a terminal.
    pub progress_is_terminal: bool,
    /// The user wants neither colour nor movement (`NO_COLOR`), or the terminal knows none (`TERM=dumb`).
    pub calm: bool,
}

impl Surroundings {
    /// Those of this process.
    pub fn look() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            progress_is_terminal: std::io::stderr().is_terminal(),
            calm: is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

impl Request {
    /// What these arguments mean here.
    pub fn of(typed: Cli, around: &Surroundings) -> Self {
        match typed.command {
            Command::Run(run) => {
                let style = match (run.json, run.quiet) {
                    (true, _) => Style::Json,
                    (_, true) => Style::Quiet,
                    _ if around.progress_is_terminal && !around.calm => Style::Terminal,
                    _ => Style::Plain,
                };
                let (results, agent_binary) = (run.results, run.agent_binary);
                Self::Run(RunRequest { input: Input::of(run.source), style, results, agent_binary })
            }
            Command::Validate(validate) => Self::Validate(ValidateRequest {
                input: Input::of(validate.source),
                connect: validate.connect,
                agent_binary: validate.agent_binary,
            }),
            Command::Plan(plan) => Self::Plan(PlanRequest { input: Input::of(plan.source) }),
            Command::Report(report) => {
                Self::Report(ReportRequest { directory: report.directory, json: report.json })
            }
        }
    }
}

impl Input {
    fn of(typed: Source) -> Self {
        let source = match typed.file {
            file if file.as_os_str() == "-" => ManifestSource::Stdin,
            file => ManifestSource::File(file),
        };
        Self { source, overrides: typed.set, agents: typed.agents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    const TERMINAL: Surroundings = Surroundings { progress_is_terminal: true, calm: false };

    fn request(line: &str, around: &Surroundings) -> Request {
        let typed = Cli::try_parse_from(line.split(' ')).expect("parses");
        Request::of(typed, around)
    }

    fn style(line: &str, around: &Surroundings) -> Style {
        match request(line, around) {
            Request::Run(run) => run.style,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bars_move_only_on_a_terminal_that_may() {
        let run = "lockstep run -f x.yaml";
        assert_eq!(style(run, &TERMINAL), Style::Terminal);
        assert_eq!(style(run, &Surroundings { calm: true, ..TERMINAL }), Style::Plain);
        assert_eq!(style(run, &Surroundings { progress_is_terminal: false, calm: false }), Style::Plain);
        assert_eq!(style("lockstep run -f x.yaml --json", &TERMINAL), Style::Json);
        assert_eq!(style("lockstep run -f x.yaml --quiet", &TERMINAL), Style::Quiet);
    }

    #[test]
    fn a_dash_is_standard_input() {
        let line = "lockstep plan -f - --set spec.seed=7 --agents 3 --set a=b";
        let overrides =
            [("spec.seed", "7"), ("a", "b")].map(|(path, value)| (path.to_owned(), value.to_owned()));
        let input = Input { source: ManifestSource::Stdin, overrides: overrides.to_vec(), agents: Some(3) };
        assert_eq!(request(line, &TERMINAL), Request::Plan(PlanRequest { input }));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "lockstep",
            "lockstep run",
            "lockstep run -f x.yaml --agents 0",
            "lockstep run -f x.yaml --set nonsense",
            "lockstep run -f x.yaml --json --quiet",
            "lockstep walk -f x.yaml",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
