//! Printing, and problems on their way to a person.
//!
//! What cannot be printed because the reader went away is dropped, so that `lockstep plan | head` ends like any other
//! pipe. Results go to standard output; progress, notes and problems go to standard error.

use lockstep_core::problem::Problem;
use std::io::Write as _;

/// Prints lines on standard output.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
}

/// Prints lines on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end_matches('\n'));
}

/// Prints a problem in its four parts on standard error.
pub fn complain(problem: &Problem) {
    note(&problem.to_string());
}
