//! `lockstep report`: prints the results of a run again: from its directory, also of one that was interrupted, or from a
//! cluster.

use super::Outcome;
use crate::args::{ReportRequest, ReportSource};
use crate::cluster::access::connect;
use crate::cluster::{block_on, results};
use crate::display::{self, summary};
use crate::output;
use crate::results::salvage;
use lockstep_api::labels::REPORT_KEY;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::Report;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// A report that was found.
struct Found {
    report: Report,
    /// The document, where it stands as it is.
    text: Option<String>,
    place: String,
    ended: bool,
    notes: Vec<String>,
}

/// Prints the report. The exit code is that of the run; 1 when no end was recorded.
pub fn report(request: &ReportRequest) -> Outcome {
    let found = match &request.source {
        ReportSource::Directory(directory) => of_directory(directory)?,
        ReportSource::Run { cluster, name } => block_on(async {
            let cluster = connect(cluster).await?;
            let run = cluster.run(name).await?;
            let results::Stored { text, report, place } = results::fetch(&cluster, &run).await?;
            Ok(Found { report, text: Some(text), place, ended: true, notes: Vec::new() })
        })?,
    };
    let Found { report, text, place, ended, notes } = found;
    if request.json || request.output.is_some() {
        let text = match text {
            Some(text) => text,
            None => report.to_json().map_err(|error| {
                Problem::new("the report cannot be written as JSON", format!("results.json: {error}"))
            })?,
        };
        if let Some(directory) = &request.output {
            write(directory, &text).map_err(|error| unwritable(directory, &error))?;
        }
        if request.json {
            output::say(&text);
        }
    }
    if !request.json {
        output::say(&summary::render(&report, &place, ended));
    }
    display::complain(&report.problems);
    for note in &notes {
        output::note(&format!("note: {note}"));
    }
    Ok(if ended { report.exit_code } else { exit::STAGE_FAILED })
}

fn of_directory(directory: &Path) -> Result<Found, Box<Problem>> {
    let found = salvage::read(directory).map_err(|error| {
        Problem::new(
            format!("{} holds no results that can be read", directory.display()),
            format!("{error:#}"),
        )
        .likely("it is not the results directory of a run, but one above or below it")
        .likely("the run was interrupted before its plan was written")
        .next("ls lockstep-results")
        .next("lockstep report brun/NAME, where the run is one of a cluster")
        .exit(exit::REFUSED)
    })?;
    let salvage::Found { report, ended, notes } = found;
    Ok(Found { report, text: None, place: format!("{}/", directory.display()), ended, notes })
}

fn write(directory: &Path, text: &str) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::File::create_new(directory.join(REPORT_KEY))?.write_all(text.as_bytes())
}

fn unwritable(directory: &Path, error: &std::io::Error) -> Problem {
    let path = directory.join(REPORT_KEY);
    Problem::new(format!("{} cannot be written", path.display()), error.to_string())
        .likely("a report is there already, and is kept")
        .next("-o DIR, with another directory")
        .exit(exit::REFUSED)
}
