//! The one shape of everything that goes wrong and that a person must act on: what failed and where, the cause,
//! likely reasons, next steps. Deliberately no error type of its own: libraries keep their small enums, and turn
//! into a `Problem` where a person will read them.

use crate::op::ErrorClass;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A failure in four parts, with what was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What failed and where: run, stage, agent, target.
    pub what: String,
    /// The technical cause, as close to the source as it was seen.
    pub cause: String,
    /// Likely reasons, the likeliest first.
    pub likely: Vec<String>,
    /// What to do next, commands first.
    pub next: Vec<String>,
    /// What was kept, created or left as it was; empty when nothing needs saying.
    pub kept: String,
    /// The class that policy looks at, where the failure was one of storage.
    pub class: Option<ErrorClass>,
    /// The exit code that this failure asks for (design: 1 stage, 4 unreachable, 5 refused, 6 deadline).
    pub exit: u8,
    /// Index of the agent whose loss it is, where it is that of one: who knows more of it may say more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<u32>,
}

impl Problem {
    /// A problem with what failed and its cause; the rest is added with the builder methods.
    #[must_use]
    pub fn new(what: impl Into<String>, cause: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cause: cause.into(),
            likely: Vec::new(),
            next: Vec::new(),
            kept: String::new(),
            class: None,
            exit: exit::STAGE_FAILED,
            agent: None,
        }
    }

    /// Adds a likely reason.
    #[must_use]
    pub fn likely(mut self, reason: impl Into<String>) -> Self {
        self.likely.push(reason.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// Says what was kept or left alone.
    #[must_use]
    pub fn kept(mut self, kept: impl Into<String>) -> Self {
        self.kept = kept.into();
        self
    }

    /// Sets the class.
    #[must_use]
    pub fn class(mut self, class: ErrorClass) -> Self {
        self.class = Some(class);
        self
    }

    /// Says whose loss it is.
    #[must_use]
    pub fn agent(mut self, index: u32) -> Self {
        self.agent = Some(index);
        self
    }

    /// Sets the exit code that this failure asks for; see [`exit`].
    #[must_use]
    pub fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "✖ {}", self.what)?;
        writeln!(f, "  cause      {}", self.cause.replace('\n', "\n             "))?;
        if !self.likely.is_empty() {
            writeln!(f, "  likely     {}", self.likely.join("\n           · "))?;
        }
        if !self.next.is_empty() {
            writeln!(f, "  next       {}", self.next.join("\n           · "))?;
        }
        if !self.kept.is_empty() {
            writeln!(f, "  kept       {}", self.kept)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// The exit codes of `lockstep run`.
pub mod exit {
    /// Finished, and nothing to object.
    pub const SUCCEEDED: u8 = 0;
    /// A stage failed or the policy gave up.
    pub const STAGE_FAILED: u8 = 1;
    /// Finished, with part of an agent's window missing.
    pub const PARTIAL: u8 = 2;
    /// Stopped by a person.
    pub const ABORTED: u8 = 3;
    /// No hello within `readyTimeout`, or the target is unreachable.
    pub const UNREACHABLE: u8 = 4;
    /// Manifest or target refused before any load, or the place's lock lost.
    pub const REFUSED: u8 = 5;
    /// A deadline passed after hello.
    pub const DEADLINE: u8 = 6;
    /// Finished, but a threshold was breached or the verdict is inconclusive.
    pub const VERDICT: u8 = 7;
}
