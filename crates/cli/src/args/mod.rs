//! Arguments in two layers: what was typed ([`typed`]), and what was meant ([`request`]).
//!
//! The first is clap's. The second has looked at terminals and the environment, so that nobody behind it does.

pub mod request;
pub mod typed;

use clap::{CommandFactory as _, FromArgMatches as _};
use lockstep_core::problem::exit;
use request::Surroundings;
pub use request::{
    Format, GetRequest, PlanRequest, ReportRequest, ReportSource, Request, RunRequest, StartRequest,
    StopRequest, Style, ValidateRequest, WatchRequest,
};
use std::ffi::OsString;

/// Arguments that make no request: `--help` and `--version` too.
#[derive(Debug)]
pub struct Refusal(clap::Error);

impl Refusal {
    /// Prints what there is to say, and returns the exit code: 0 for what was asked for, 5 for what was refused.
    /// clap's own 2 would read as a partial run.
    pub fn print(&self) -> u8 {
        let _ = self.0.print();
        if self.0.use_stderr() { exit::REFUSED } else { exit::SUCCEEDED }
    }
}

/// Reads the command line. Its first word is the program's name: as `kubectl-lockstep` it is a plugin of kubectl, and
/// speaks of itself as such.
///
/// # Errors
///
/// When it makes no request.
pub fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Request, Refusal> {
    let line: Vec<OsString> = line.into_iter().collect();
    let around = Surroundings::look(line.first().map_or("".as_ref(), OsString::as_os_str));
    let command = typed::Cli::command();
    let command = if around.is_plugin { command.bin_name("kubectl lockstep") } else { command };
    let matches = command.try_get_matches_from(line).map_err(Refusal)?;
    let typed = typed::Cli::from_arg_matches(&matches).map_err(Refusal)?;
    Ok(Request::of(typed, &around))
}
