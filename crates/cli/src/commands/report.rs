//! `lockstep report`: prints the results of a run again from its directory, also of one that was interrupted.

use super::Outcome;
use crate::args::ReportRequest;
use crate::display::{self, summary};
use crate::output;
use crate::results::salvage;
use anyhow::Context as _;
use lockstep_core::problem::{Problem, exit};

/// Prints the report. The exit code is that of the run; 1 when no end was recorded.
pub fn report(request: &ReportRequest) -> Outcome {
    let found = salvage::read(&request.directory).map_err(|error| {
        Box::new(
            Problem::new(
                format!("{} holds no results that can be read", request.directory.display()),
                format!("{error:#}"),
            )
            .likely("it is not the results directory of a run, but one above or below it")
            .likely("the run was interrupted before its plan was written")
            .next("ls lockstep-results")
            .exit(exit::REFUSED),
        )
    })?;
    if request.json {
        let json = found.report.to_json().context("results.json").map_err(|error| {
            Box::new(Problem::new("the report cannot be written as JSON", format!("{error:#}")))
        })?;
        output::say(&json);
    } else {
        output::say(&summary::render(&found.report, &request.directory, found.ended));
    }
    display::complain(&found.report.problems);
    for note in &found.notes {
        output::note(&format!("note: {note}"));
    }
    Ok(if found.ended { found.report.exit_code } else { exit::STAGE_FAILED })
}
