//! What was meant: typed arguments with terminals and environment looked at.

use super::typed::{self, Cli, Command, Document, Source, Telling};
use crate::cluster::access::Choice;
use crate::input::ManifestSource;
use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

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
    /// `lockstep get`
    Get(GetRequest),
    /// `lockstep watch`
    Watch(WatchRequest),
    /// `lockstep start`
    Start(StartRequest),
    /// `lockstep stop`
    Stop(StopRequest),
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
    /// Where the results are.
    pub source: ReportSource,
    /// Whether to print the document instead of tables.
    pub json: bool,
    /// Directory into which to write the document.
    pub output: Option<PathBuf>,
}

/// Where results are.
#[derive(Debug, PartialEq, Eq)]
pub enum ReportSource {
    /// In the results directory of a run of this machine.
    Directory(PathBuf),
    /// In a cluster.
    Run {
        /// Which cluster.
        cluster: Choice,
        /// The run.
        name: String,
    },
}

/// `lockstep get`
#[derive(Debug, PartialEq, Eq)]
pub struct GetRequest {
    /// Which cluster.
    pub cluster: Choice,
    /// The run; all without it.
    pub name: Option<String>,
    /// Whether of all namespaces.
    pub everywhere: bool,
    /// How to print them.
    pub format: Format,
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Words,
    /// The objects, as JSON.
    Json,
    /// The objects, as YAML.
    Yaml,
}

/// `lockstep watch`
#[derive(Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// Which cluster.
    pub cluster: Choice,
    /// The run.
    pub name: String,
    /// How to show what happens.
    pub style: Style,
}

/// `lockstep start`
#[derive(Debug, PartialEq, Eq)]
pub struct StartRequest {
    /// The manifest.
    pub input: Input,
    /// Which cluster.
    pub cluster: Choice,
    /// How to show what happens.
    pub style: Style,
}

/// `lockstep stop`
#[derive(Debug, PartialEq, Eq)]
pub struct StopRequest {
    /// Which cluster.
    pub cluster: Choice,
    /// The run.
    pub name: String,
    /// Whether without cleanup.
    pub immediate: bool,
    /// Why.
    pub reason: Option<String>,
    /// Whether to wait for its end.
    pub wait: bool,
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
    /// The program goes by the name of a plugin of kubectl.
    pub is_plugin: bool,
}

impl Surroundings {
    /// Those of this process, which was started as `program`.
    pub fn look(program: &OsStr) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            progress_is_terminal: std::io::stderr().is_terminal(),
            calm: is_set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
            is_plugin: Path::new(program).file_stem().is_some_and(|name| name == "kubectl-lockstep"),
        }
    }
}

impl Request {
    /// What these arguments mean here.
    pub fn of(typed: Cli, around: &Surroundings) -> Self {
        match typed.command {
            Command::Run(run) => {
                let style = Style::of(run.telling, around);
                let (results, agent_binary) = (run.results, run.agent_binary);
                Self::Run(RunRequest { input: Input::of(run.source), style, results, agent_binary })
            }
            Command::Validate(validate) => Self::Validate(ValidateRequest {
                input: Input::of(validate.source),
                connect: validate.connect,
                agent_binary: validate.agent_binary,
            }),
            Command::Plan(plan) => Self::Plan(PlanRequest { input: Input::of(plan.source) }),
            Command::Report(report) => Self::Report(ReportRequest::of(report, around)),
            Command::Get(get) => Self::Get(GetRequest {
                cluster: Choice::of(get.cluster),
                name: get.name,
                everywhere: get.everywhere,
                format: match get.output {
                    None => Format::Words,
                    Some(Document::Json) => Format::Json,
                    Some(Document::Yaml) => Format::Yaml,
                },
            }),
            Command::Watch(watch) => Self::Watch(WatchRequest {
                style: Style::of(watch.telling, around),
                cluster: Choice::of(watch.cluster),
                name: watch.name,
            }),
            Command::Start(start) => Self::Start(StartRequest {
                style: Style::of(start.telling, around),
                cluster: Choice::of(start.cluster),
                input: Input::of(start.source),
            }),
            Command::Stop(stop) => Self::Stop(StopRequest {
                cluster: Choice::of(stop.cluster),
                name: stop.name,
                immediate: stop.immediate,
                reason: stop.reason,
                wait: stop.wait,
            }),
        }
    }
}

impl Style {
    fn of(Telling { json, quiet }: Telling, around: &Surroundings) -> Self {
        match (json, quiet) {
            (true, _) => Self::Json,
            (_, true) => Self::Quiet,
            _ if around.progress_is_terminal && !around.calm => Self::Terminal,
            _ => Self::Plain,
        }
    }
}

impl Choice {
    fn of(typed: typed::Cluster) -> Self {
        let typed::Cluster { kubeconfig, context, namespace } = typed;
        Self { kubeconfig, context, namespace }
    }
}

impl ReportRequest {
    /// A directory, unless something says that a cluster is meant: never a guess out of what happens to be there.
    fn of(typed: typed::Report, around: &Surroundings) -> Self {
        let typed::Report { source, json, output, cluster } = typed;
        let cluster = Choice::of(cluster);
        let text = source.to_str().unwrap_or_default();
        let source = match typed::in_cluster(text) {
            Some(name) => ReportSource::Run { cluster, name: name.to_owned() },
            // No name of a run has a slash.
            None if (around.is_plugin || cluster.is_made()) && !text.contains('/') => {
                ReportSource::Run { cluster, name: text.to_owned() }
            }
            None => ReportSource::Directory(source),
        };
        Self { source, json, output }
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

    const TERMINAL: Surroundings = Surroundings { progress_is_terminal: true, calm: false, is_plugin: false };

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
        assert_eq!(style(run, &Surroundings { progress_is_terminal: false, ..TERMINAL }), Style::Plain);
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
    fn a_report_is_of_a_cluster_only_where_that_is_said() {
        let source = |line: &str, is_plugin| match request(line, &Surroundings { is_plugin, ..TERMINAL }) {
            Request::Report(report) => report.source,
            other => panic!("{other:?}"),
        };
        let of = |namespace: Option<&str>| ReportSource::Run {
            cluster: Choice { namespace: namespace.map(str::to_owned), ..Choice::default() },
            name: "nightly".to_owned(),
        };
        assert_eq!(source("lockstep report nightly", false), ReportSource::Directory("nightly".into()));
        assert_eq!(source("lockstep report nightly", true), of(None));
        assert_eq!(source("lockstep report brun/nightly", false), of(None));
        assert_eq!(source("lockstep report nightly -n perf", false), of(Some("perf")));
        assert_eq!(
            source("lockstep report results/nightly", true),
            ReportSource::Directory("results/nightly".into())
        );
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
            "lockstep get x -A",
            "lockstep get -A -n perf",
            "lockstep get x -o xml",
            "lockstep watch",
            "lockstep watch pod/x",
            "lockstep start nightly",
            "lockstep start -f x.yaml --results here",
            "lockstep stop x --immediate=maybe",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
