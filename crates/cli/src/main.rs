//! The `lockstep` command: runs a benchmark on this machine, checks a manifest, shows a plan, prints results again.
//!
//! The coordinator decides and the agents work; this binary starts them, shows what happens and keeps what came of
//! it. Deliberately thin: whatever it knows of a run, it knows from `lockstep_core`.

mod args;
mod commands;
mod display;
mod format;
mod input;
mod local;
mod output;
mod preview;
mod results;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(std::env::args_os()) {
        Ok(request) => ExitCode::from(commands::dispatch(request)),
        Err(refusal) => ExitCode::from(refusal.print()),
    }
}
