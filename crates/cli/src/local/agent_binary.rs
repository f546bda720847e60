//! Finding the agent's program: where the user says, or beside this one.

use lockstep_core::problem::{Problem, exit};
use std::path::{Path, PathBuf};

/// Name of the program.
const NAME: &str = "lockstep-agent";

/// The agent's program. `named`: from `--agent-binary` or `LOCKSTEP_AGENT`.
///
/// # Errors
///
/// When there is none; nothing was started then.
pub fn find(named: Option<&Path>) -> Result<PathBuf, Box<Problem>> {
    let here = std::env::current_exe();
    let path = match (named, &here) {
        (Some(named), _) => named.to_owned(),
        (None, Ok(here)) => here.with_file_name(NAME),
        (None, Err(_)) => PathBuf::from(NAME),
    };
    if path.is_file() {
        return Ok(path);
    }
    let problem = Problem::new(
        "no agent can be started: its program is missing",
        format!("{} is no file", path.display()),
    );
    let problem = match named {
        Some(_) => problem.likely("--agent-binary or LOCKSTEP_AGENT names another place"),
        None => problem.likely("lockstep was copied without lockstep-agent, which belongs beside it"),
    };
    Err(Box::new(
        problem
            .next("put lockstep-agent beside lockstep, or name it with --agent-binary")
            .next("cargo build --release -p lockstep-agent")
            .kept("nothing was started and nothing was written")
            .exit(exit::REFUSED),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_said_before_anything_starts() {
        let problem = find(Some(Path::new("/nonexistent/lockstep-agent"))).expect_err("it is missing");
        assert_eq!(
            (problem.exit, problem.cause.as_str()),
            (exit::REFUSED, "/nonexistent/lockstep-agent is no file")
        );
    }
}
