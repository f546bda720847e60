//! The `lockstep` command: runs a benchmark on this machine, checks a manifest, shows a plan, prints results again; and
//! starts, shows, follows and stops runs of a cluster. Linked or copied as `kubectl-lockstep`, it is `kubectl lockstep`.
//!
//! The coordinator decides and the agents work; this binary starts them, or looks at where others did, shows what
//! happens and keeps what came of it. Deliberately thin: whatever it knows of a run, it knows from `lockstep_core`.

mod args;
mod cluster;
mod commands;
mod display;
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
