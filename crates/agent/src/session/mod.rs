//! The agent's side of the conversation: one thread for control, one for reports, each with a small runtime and a
//! connection of its own.
//!
//! Architecture invariant: control never waits for data. The control thread does nothing but read, beat and decide;
//! histograms are encoded, and results sent, on the report thread; I/O happens on the engine's threads.

mod control;
mod dial;
mod lines;
mod report;
mod stages;
pub mod state;

pub use control::run;

use std::path::PathBuf;
use std::time::Duration;

/// Who this agent is, and whom it serves.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Where the coordinator listens, `host:port`.
    pub coordinator: String,
    /// Name of the run; part of the User-Agent.
    pub run: String,
    /// Uid of the run.
    pub uid: String,
    /// Index of the agent, from 0.
    pub index: u32,
    /// Attempt under that index, from 0.
    pub attempt: u32,
    /// Cores that it may use; empty is all.
    pub cores: Vec<usize>,
    /// What it presents to the coordinator, and what it expects of it.
    pub access: Access,
    /// How long it works on without the coordinator before its plan says so.
    pub orphan_grace: Duration,
}

/// How an agent and its coordinator know each other.
#[derive(Clone, Debug)]
pub enum Access {
    /// One machine: a secret that came through a pipe, and loopback.
    Secret(String),
    /// A cluster: files that are replaced while the pod lives, and so are read at each dial.
    Cluster {
        /// Token of the pod.
        token: PathBuf,
        /// PEM bundle of the authorities that may sign the coordinator.
        authorities: PathBuf,
    },
}

/// How the agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The coordinator let it go.
    Released,
    /// The coordinator was silent for longer than `orphanGrace`, or is known to be dead.
    Orphaned,
}

impl Ended {
    /// Exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Released => 0,
            Self::Orphaned => EXIT_ORPHANED,
        }
    }
}

/// Exit code of an orphan.
pub const EXIT_ORPHANED: u8 = 70;

/// Wait before dialling again: 0.5 s, doubling to 4 s, with full jitter.
#[must_use]
pub(crate) fn redial_delay(attempt: u32, random: u64) -> Duration {
    let ceiling_ms = (500u64 << attempt.min(3)).min(4_000);
    Duration::from_millis(random % (ceiling_ms + 1))
}
