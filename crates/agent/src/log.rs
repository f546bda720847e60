//! The log: one line per event on standard error, as text or as JSON, within a span that says whose line it is.
//!
//! Threads know nothing of each other's spans: each that logs of the run enters this one when it begins.

use tracing::Span;
use tracing_subscriber::EnvFilter;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// An object per line, with the fields of its span.
    Json,
}

/// Installs the log, filtered as the environment's `LOCKSTEP_LOG` says.
pub fn install(format: Format) {
    let filter = EnvFilter::try_from_env("LOCKSTEP_LOG").unwrap_or_else(|_| "info".into());
    let lines =
        tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_env_filter(filter);
    match format {
        Format::Text => lines.init(),
        Format::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
}

/// The span of all lines of an agent of a run.
#[must_use]
pub fn span(run: &str, uid: &str, agent: u32, attempt: u32) -> Span {
    // Of the highest level, so that it is there whatever the log is filtered by.
    tracing::error_span!("agent", run, uid, agent, attempt)
}
