//! Keeps the whole object within its size: etcd refuses what is too large, and a result that cannot be written is lost.
//!
//! Details go worst-last: problems of agents from the least bad up, then the length of what the worst have to say, then the
//! worst themselves, at last percentiles, those of the first stages first. What was left out is counted, and stands whole
//! in the report.

use lockstep_api::status::{AgentProblem, BenchmarkRunStatus};

/// The largest object with its managedFields, bytes as JSON.
pub const OBJECT_BYTES_MAX: usize = 128 * 1024;
/// What managedFields take before the first write has shown it, bytes: two managers, atomic lists, 13 conditions.
pub const MANAGED_FIELDS_BYTES: usize = 8 * 1024;
/// The worst problems, which are kept until nothing else but percentiles is left.
const PROBLEMS_KEPT: usize = 4;

/// Characters that are left of what one of them has to say.
const MESSAGE_KEPT: usize = 100;

/// Leaves out details until the object fits. `others_bytes`: the object without its status, managedFields included.
#[must_use]
pub fn fit(mut status: BenchmarkRunStatus, others_bytes: usize) -> BenchmarkRunStatus {
    let room = OBJECT_BYTES_MAX.saturating_sub(others_bytes);
    let mut size = bytes(&status);
    while size > room {
        let Some(saved) = drop_one(&mut status) else { break };
        status.details_dropped += 1;
        // Every eighth is measured: measuring costs as much as writing.
        size = if status.details_dropped % 8 == 0 || size.saturating_sub(saved) <= room {
            bytes(&status)
        } else {
            size.saturating_sub(saved)
        };
    }
    status
}

/// Bytes of a status as JSON.
#[must_use]
pub fn bytes(status: &BenchmarkRunStatus) -> usize {
    serde_json::to_vec(status).map_or(usize::MAX, |json| json.len())
}

/// Leaves the least important detail out; answers about how many bytes that saved, `None` when nothing is left.
fn drop_one(status: &mut BenchmarkRunStatus) -> Option<usize> {
    if status.agent_problems.len() > PROBLEMS_KEPT {
        return status.agent_problems.pop().map(|problem| size(&problem));
    }
    let long = |problem: &&mut AgentProblem| problem.message.chars().nth(MESSAGE_KEPT).is_some();
    if let Some(problem) = status.agent_problems.iter_mut().find(long) {
        let before = problem.message.len();
        problem.message = super::fitted(&problem.message, MESSAGE_KEPT);
        return Some(before.saturating_sub(problem.message.len()));
    }
    if let Some(problem) = status.agent_problems.pop() {
        return Some(size(&problem));
    }
    let stage = status.stages.iter_mut().find(|stage| !stage.latency.is_empty())?;
    stage.latency.pop().map(|latency| size(&latency))
}

/// Bytes of a detail as JSON.
fn size(detail: &impl serde::Serialize) -> usize {
    serde_json::to_vec(detail).map_or(0, |json| json.len())
}
