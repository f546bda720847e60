//! Keeps what agents hand in. The coordinator acknowledges a result only after [`ResultStore::persist`] returned, so
//! everything that an agent may forget is on disk.

use super::directory::{PARTS, ResultsDirectory};
use lockstep_coordinator::ResultStore;
use lockstep_core::plan::Plan;
use lockstep_core::results::StagePart;
use std::io;
use std::sync::Arc;

/// Parts as files of a results directory.
#[derive(Debug)]
pub struct PartStore {
    directory: ResultsDirectory,
    plan: Arc<Plan>,
}

impl PartStore {
    /// A store in `directory`; the plan gives the stages' names.
    pub fn new(directory: ResultsDirectory, plan: Arc<Plan>) -> Self {
        Self { directory, plan }
    }
}

/// `<stage>-<name>.agent-<index>-<attempt>.part`: sorts by stage, and says what it is.
#[must_use]
pub fn part_name(plan: &Plan, stage: u32, agent: u32, attempt: u32) -> String {
    let name = plan.stages.get(stage as usize).map_or("unknown", |stage| stage.name.as_str());
    format!("{stage:02}-{name}.agent-{agent}-{attempt}.part")
}

impl ResultStore for PartStore {
    fn persist(&self, part: &StagePart, bytes: &[u8]) -> io::Result<()> {
        let name = part_name(&self.plan, part.stage, part.agent, part.attempt);
        self.directory.write(format!("{PARTS}/{name}"), bytes)
    }
}
