//! One status, two field managers: lifecycle (what tools wait for) and progress (what changes all the time).
//!
//! Each document holds all fields of its manager: server-side apply removes what a manager no longer sends. Both carry the
//! epoch, so that the CEL rule refuses either of a leader that was replaced, and the uid, so that neither lands on another
//! run of the same name. Both are applied with force: the other owner of a field is an earlier version of ourselves.

use crate::pods::build::RunIdentity;
use lockstep_api::labels;
use lockstep_api::status::BenchmarkRunStatus;
use serde_json::{Map, Value, json};

/// Fields of the lifecycle manager. Every other field is the progress manager's; `epoch` is both's.
pub const LIFECYCLE: [&str; 12] = [
    "observedGeneration",
    "epoch",
    "controller",
    "phase",
    "verdict",
    "message",
    "attempt",
    "agentAttempts",
    "startTime",
    "completionTime",
    "results",
    "conditions",
];

/// The two documents of one status.
#[derive(Clone, Debug, PartialEq)]
pub struct Documents {
    /// For [`labels::MANAGER_LIFECYCLE`].
    pub lifecycle: Value,
    /// For [`labels::MANAGER_PROGRESS`]. To be written before a lifecycle that says `Finished`: whoever waits for that
    /// finds everything else there.
    pub progress: Value,
}

/// Splits a status into the documents to apply.
#[must_use]
pub fn split(run: &RunIdentity, status: &BenchmarkRunStatus) -> Documents {
    let Ok(Value::Object(fields)) = serde_json::to_value(status) else {
        // A status has nothing that JSON cannot say.
        return Documents { lifecycle: document(run, &Map::new()), progress: document(run, &Map::new()) };
    };
    let (mut lifecycle, mut progress): (Map<String, Value>, Map<String, Value>) =
        fields.into_iter().partition(|(name, _)| LIFECYCLE.contains(&name.as_str()));
    if let Some(epoch) = lifecycle.get("epoch").cloned() {
        progress.insert("epoch".to_owned(), epoch);
    }
    lifecycle.entry("conditions").or_insert_with(|| json!([]));
    Documents { lifecycle: document(run, &lifecycle), progress: document(run, &progress) }
}

fn document(run: &RunIdentity, status: &Map<String, Value>) -> Value {
    json!({
        "apiVersion": labels::API_VERSION,
        "kind": labels::KIND,
        "metadata": {"name": run.name, "namespace": run.namespace, "uid": run.uid},
        "status": status,
    })
}

/// Whether two progress documents say the same, but for when it was true.
#[must_use]
pub fn is_same_progress(one: &Value, other: &Value) -> bool {
    let timeless = |document: &Value| {
        let mut document = document.clone();
        if let Some(Value::Object(progress)) = document.pointer_mut("/status/progress") {
            progress.remove("lastUpdateTime");
        }
        document
    };
    one == other || timeless(one) == timeless(other)
}
