//! `lockstep run`: a benchmark on this machine.

use super::Outcome;
use crate::args::RunRequest;
use crate::local;

/// Runs it, and returns the exit code of the run.
pub fn run(request: &RunRequest) -> Outcome {
    local::run(request)
}
