//! One thing that is wrong with a manifest, and all of them as one problem.
//!
//! Faults are collected, never thrown one at a time: a person should have to run `lockstep validate` once.

use lockstep_core::problem::{Problem, exit};
use std::fmt;

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Where, as it is written in `--set`: `spec.stages[2].execute.duration`; empty for the document as a whole.
    pub path: String,
    /// Line in the file, from 1, where there is one.
    pub line: Option<u32>,
    /// What is wrong, in a few words, with the value that was found.
    pub message: String,
    /// What would be right.
    pub allowed: Option<String>,
    /// What was probably meant, or the way out.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), ..Self::default() }
    }

    /// Says what would be right.
    #[must_use]
    pub fn allowed(mut self, allowed: impl Into<String>) -> Self {
        self.allowed = Some(allowed.into());
        self
    }

    /// Says what was probably meant, or the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says on which line of the file.
    #[must_use]
    pub fn at_line(mut self, line: u32) -> Self {
        self.line = Some(line);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}", self.path)?;
            if let Some(line) = self.line {
                write!(f, " (line {line})")?;
            }
            f.write_str(": ")?;
        } else if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(allowed) = &self.allowed {
            write!(f, "; allowed: {allowed}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// How many faults a problem shows before it only counts the rest.
pub const SHOWN: usize = 40;

/// All faults of one manifest as the one problem that a person reads. `source` names the manifest, e.g. its path.
#[must_use]
pub fn problem(source: &str, faults: &[Fault]) -> Problem {
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        count => format!("{count} faults"),
    };
    let mut lines: Vec<String> = faults.iter().take(SHOWN).map(ToString::to_string).collect();
    if faults.len() > SHOWN {
        lines.push(format!("… and {} more", faults.len() - SHOWN));
    }
    Problem::new(format!("{source} was refused: {count}"), lines.join("\n"))
        .likely(likely(faults))
        .next(format!("mend what is named above, then: lockstep validate -f {source}"))
        .next("docs/manifest.md lists every field with its unit and limits")
        .kept("nothing was started and nothing was written")
        .exit(exit::REFUSED)
}

/// How such faults come about, by the first of them.
fn likely(faults: &[Fault]) -> &'static str {
    match faults.first() {
        Some(fault) if fault.path.is_empty() => {
            "an indentation, a tab, or a quote or brace that is not closed; or it is another file"
        }
        Some(fault) if fault.message.starts_with("is missing") || fault.message.contains("no such field") => {
            "a name is misspelt, or a line is indented so that it belongs to another field"
        }
        _ => "the value is meant for another field, or lacks its unit",
    }
}
