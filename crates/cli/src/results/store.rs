//! Keeps what agents hand in. The coordinator acknowledges a result only when [`ResultStore::persist`] is done, so
//! everything that an agent may forget is on disk.

use super::directory::{PARTS, ResultsDirectory};
use lockstep_coordinator::{Persisted, Persisting, ResultStore};
use lockstep_core::plan::Plan;
use lockstep_core::results::StagePart;
use std::io;
use std::sync::Arc;

/// Parts as files of a results directory.
#[derive(Clone, Debug)]
pub struct PartStore {
    directory: ResultsDirectory,
    plan: Arc<Plan>,
}

impl PartStore {
    /// A store in `directory`; the plan gives the stages' names.
    pub fn new(directory: ResultsDirectory, plan: Arc<Plan>) -> Self {
        Self { directory, plan }
    }

    /// Writes one part.
    ///
    /// # Errors
    /// When it cannot be encoded or written.
    pub fn write(&self, part: &StagePart) -> io::Result<()> {
        let name = part_name(&self.plan, part.stage, part.agent, part.attempt);
        let bytes = part.to_bytes().map_err(io::Error::other)?;
        self.directory.write(format!("{PARTS}/{name}"), &bytes)
    }
}

/// `<stage>-<name>.agent-<index>-<attempt>.part`: sorts by stage, and says what it is.
#[must_use]
pub fn part_name(plan: &Plan, stage: u32, agent: u32, attempt: u32) -> String {
    let name = plan.stages.get(stage as usize).map_or("unknown", |stage| stage.name.as_str());
    format!("{stage:02}-{name}.agent-{agent}-{attempt}.part")
}

impl ResultStore for PartStore {
    fn persist(&self, part: Arc<StagePart>) -> Persisting {
        let store = self.clone();
        let write = move || store.write(&part).map(|()| Persisted::Written);
        // A disk may be slow, and nobody else waits for it.
        Box::pin(async { tokio::task::spawn_blocking(write).await.map_err(io::Error::other)? })
    }
}
