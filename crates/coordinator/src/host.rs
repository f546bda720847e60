//! What the coordinator asks of whoever hosts it: the operator, or the local runner. Deliberately small, and the
//! same for pods and processes.

use lockstep_core::plan::Plan;
use lockstep_core::results::part::StagePart;
use lockstep_core::results::series::Series;
use lockstep_core::run::message::Told;
use lockstep_core::run::view::{RunView, Story};
use lockstep_core::thresholds::Outcome;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostRequest {
    /// Start an agent.
    Spawn {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// End the process of an attempt, and say so with [`crate::RunHandle::ended`].
    Kill {
        /// Index of the agent.
        index: u32,
        /// Its attempt.
        attempt: u32,
    },
    /// Something to show.
    Told(Told),
    /// Every result of the stage that will come is persisted.
    StageOver {
        /// Index of the stage.
        stage: u32,
    },
    /// The run is over; nothing follows.
    Over,
    /// Another coordinator has the run; nothing follows.
    Replaced,
}

/// What became of a result that is durable now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    /// It counts.
    Written,
    /// One of the same (stage, agent, attempt) was there already, and that one counts.
    Repeat,
}

/// The answer of [`ResultStore::persist`], when it is known.
pub type Persisting = Pin<Box<dyn Future<Output = io::Result<Persisted>> + Send>>;

/// The answer of [`ResultStore::record`], when it is known.
pub type Recording = Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send>>;

/// Where results go. A result is acknowledged to its agent only when the answer is `Ok`.
pub trait ResultStore: Send + Sync + 'static {
    /// Persists one agent's result of one stage. Called on the runtime, for as many results at once as there are agents; a
    /// store that blocks goes to threads of its own. A repeat of the same (stage, agent, attempt) may take the place of what
    /// is there or be dropped; what an attempt hands in itself takes the place of what it was given up with.
    ///
    /// # Errors
    /// When it could not be made durable; the agent offers it again.
    fn persist(&self, part: Arc<StagePart>) -> Persisting;

    /// Whether the run itself is written down, so that another coordinator can go on with it.
    fn keeps_record(&self) -> bool {
        false
    }

    /// Writes the run down; what stands there is replaced. One at a time.
    ///
    /// # Errors
    /// When it could not be made durable; it is tried again unless another coordinator has the run.
    fn record(&self, document: Vec<u8>) -> Recording {
        let _ = document;
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Why a run could not be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Another coordinator has written since: it has the run.
    #[error("another coordinator has the run")]
    Replaced,
    /// Anything else; it may go better next time.
    #[error("{0}")]
    Failed(String),
}

/// A run as it stands, a few times a second.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Coordinator's monotonic clock, nanoseconds.
    pub at_ns: u64,
    /// When the run began, on the same clock.
    pub began_ns: u64,
    /// What the decider knows.
    pub view: RunView,
    /// What was measured so far; one per stage of the plan.
    pub live: Vec<LiveStage>,
}

/// What was measured so far in one stage, merged over all agents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveStage {
    /// Operations that succeeded.
    pub operations: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations per second in the latest second that every agent has reported.
    pub operations_per_s: f64,
    /// Bytes per second in that second.
    pub bytes_per_s: f64,
    /// Median response time in that second, nanoseconds; exact over the cluster. `None` without operations.
    pub p50_ns: Option<u64>,
    /// 99th percentile of it.
    pub p99_ns: Option<u64>,
}

/// How a run ended: everything that a report needs.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// The plan that was run.
    pub plan: Arc<Plan>,
    /// What it came to.
    pub outcome: Outcome,
    /// The last view.
    pub view: RunView,
    /// What happened.
    pub story: Story,
    /// Every persisted result, those of lost attempts among them.
    pub parts: Vec<StagePart>,
    /// Per stage, the seconds merged over the cluster with their histograms.
    pub series: BTreeMap<u32, Series>,
}
