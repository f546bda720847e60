//! The log: one line per event on standard error, as text or as JSON, through a filter that can be changed at run time.

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// An object per line, with the fields of its spans.
    Json,
}

/// The filter of the log of this process.
#[derive(Clone, Debug)]
pub struct Filter(reload::Handle<EnvFilter, Registry>);

/// The filter of a process that was told nothing else.
const DEFAULT: &str = "info";

impl Filter {
    /// Installs the log, filtered as the environment's `LOCKSTEP_LOG` says.
    #[must_use]
    pub fn install(format: Format) -> Self {
        let filter = EnvFilter::try_from_env("LOCKSTEP_LOG").unwrap_or_else(|_| DEFAULT.into());
        let (filter, handle) = reload::Layer::new(filter);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        let lines = match format {
            Format::Text => lines.boxed(),
            Format::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        };
        tracing_subscriber::registry().with(filter).with(lines).init();
        // A thread that breaks is a line like any other.
        std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread broke, which is a fault")));
        Self(handle)
    }

    /// The filter, as [`Filter::set`] takes one.
    #[must_use]
    pub fn get(&self) -> String {
        self.0.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Sets the filter.
    ///
    /// # Errors
    /// Why it is none.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        self.0.reload(parsed).map_err(|error| error.to_string())
    }
}
