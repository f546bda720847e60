//! The command line as it is typed. Every option says what it does, in which unit, and what it defaults to.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Coordinated storage benchmarks.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, about, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes of `run`, `start` and `watch`: 0 succeeded, 1 a stage failed, 2 partial, 3 aborted, \
4 unreachable, 5 refused,\n6 deadline, 7 a threshold was breached or the verdict is inconclusive. See docs/cli.md."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a benchmark on this machine, with agents as processes.
    Run(Run),
    /// Check a manifest and say everything that is wrong with it.
    Validate(Validate),
    /// Show what a run would do, without doing it.
    Plan(Plan),
    /// Print the results of a run again, also of one that was interrupted, or of one in a cluster.
    Report(Report),
    /// Show the runs of a cluster, or everything about one.
    Get(Get),
    /// Follow a run of a cluster until it is over; ends with its exit code.
    Watch(Watch),
    /// Create a run of a cluster and follow it until it is over; ends with its exit code.
    Start(Start),
    /// End a run of a cluster early.
    Stop(Stop),
}

/// Where the manifest is, and what replaces parts of it.
#[derive(Debug, Args)]
pub struct Source {
    /// Manifest of a BenchmarkRun, at most 1 MiB; `-` reads standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: PathBuf,
    /// Replaces one value of the manifest, e.g. `spec.stages[mixed].execute.duration=10s`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = path_and_value)]
    pub set: Vec<(String, String)>,
    /// Number of agents instead of `spec.agents.replicas`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub agents: Option<u32>,
}

/// How a command shows what happens in a run that it follows.
#[derive(Clone, Copy, Debug, Args)]
pub struct Telling {
    /// Print one JSON object per line instead of text, at most 2 s apart; see docs/cli.md.
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Print nothing before the results.
    #[arg(short, long)]
    pub quiet: bool,
}

/// `lockstep run`
#[derive(Debug, Args)]
pub struct Run {
    /// The manifest.
    #[command(flatten)]
    pub source: Source,
    /// How to show what happens.
    #[command(flatten)]
    pub telling: Telling,
    /// Directory in which the results directory of the run is created.
    #[arg(long, value_name = "DIR", default_value = "lockstep-results")]
    pub results: PathBuf,
    /// The agent's program; without it `lockstep-agent` beside this one.
    #[arg(long = "agent-binary", value_name = "FILE", env = "LOCKSTEP_AGENT", hide_env_values = true)]
    pub agent_binary: Option<PathBuf>,
}

/// `lockstep validate`
#[derive(Debug, Args)]
pub struct Validate {
    /// The manifest.
    #[command(flatten)]
    pub source: Source,
    /// Also run the preflight checks of one agent against the target; nothing is measured.
    #[arg(long)]
    pub connect: bool,
    /// The agent's program, for --connect; without it `lockstep-agent` beside this one.
    #[arg(long = "agent-binary", value_name = "FILE", env = "LOCKSTEP_AGENT", hide_env_values = true)]
    pub agent_binary: Option<PathBuf>,
}

/// `lockstep plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// The manifest.
    #[command(flatten)]
    pub source: Source,
}

/// `lockstep report`
#[derive(Debug, Args)]
pub struct Report {
    /// Results directory of a run; or `brun/NAME`, the run of a cluster (with -n, --context or --kubeconfig, and as
    /// `kubectl lockstep`, NAME does).
    #[arg(value_name = "DIR|NAME")]
    pub source: PathBuf,
    /// Print results.json instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Also write results.json into this directory, which is created; a file that is there already is kept.
    #[arg(short, long = "output", value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Which cluster, and which namespace of it.
#[derive(Debug, Args)]
pub struct Cluster {
    /// The kubeconfig; without it `KUBECONFIG`, then `~/.kube/config`.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig; without it the current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// The namespace; without it the context's.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// `lockstep get`
#[derive(Debug, Args)]
pub struct Get {
    /// The run; without it a table of all.
    #[arg(value_name = "NAME", value_parser = run_name)]
    pub name: Option<String>,
    /// Runs of all namespaces.
    #[arg(short = 'A', long = "all-namespaces", conflicts_with_all = ["name", "namespace"])]
    pub everywhere: bool,
    /// Print the objects instead.
    #[arg(short, long = "output", value_name = "json|yaml")]
    pub output: Option<Document>,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// How to print an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
}

/// `lockstep watch`
#[derive(Debug, Args)]
pub struct Watch {
    /// The run.
    #[arg(value_name = "NAME", value_parser = run_name)]
    pub name: String,
    /// How to show what happens.
    #[command(flatten)]
    pub telling: Telling,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `lockstep start`
#[derive(Debug, Args)]
pub struct Start {
    /// The manifest.
    #[command(flatten)]
    pub source: Source,
    /// How to show what happens.
    #[command(flatten)]
    pub telling: Telling,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// `lockstep stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// The run.
    #[arg(value_name = "NAME", value_parser = run_name)]
    pub name: String,
    /// Skip cleanup; also after a stop that was not immediate.
    #[arg(long)]
    pub immediate: bool,
    /// Why, for its Events and its report; at most 256 characters.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Wait until it is over.
    #[arg(long)]
    pub wait: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// The name of a run as kubectl's users write it, with or without its kind in front.
fn run_name(text: &str) -> Result<String, String> {
    let name = in_cluster(text).unwrap_or(text);
    if name.is_empty() || name.contains('/') {
        return Err("expected the name of a run, e.g. nightly or brun/nightly".to_owned());
    }
    Ok(name.to_owned())
}

/// The name behind a kind and a slash.
pub fn in_cluster(text: &str) -> Option<&str> {
    let (kind, name) = text.split_once('/')?;
    let kinds = ["brun", "benchmarkrun", "benchmarkruns", "benchmarkruns.lockstep.dev"];
    kinds.contains(&kind).then_some(name)
}

/// Splits at the first `=`; a path has none.
fn path_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.trim().is_empty() => Ok((path.trim().to_owned(), value.to_owned())),
        _ => Err("expected PATH=VALUE, e.g. spec.agents.replicas=2".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn overrides_split_at_the_first_equals_sign() {
        assert_eq!(path_and_value("spec.seed=7"), Ok(("spec.seed".to_owned(), "7".to_owned())));
        assert_eq!(path_and_value("a.b=x=y"), Ok(("a.b".to_owned(), "x=y".to_owned())));
        assert_eq!(path_and_value("a.b="), Ok(("a.b".to_owned(), String::new())));
        assert!(path_and_value("spec.seed").is_err() && path_and_value("=7").is_err());
    }
}
