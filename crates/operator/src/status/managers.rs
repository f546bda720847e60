//! One status, two field managers: lifecycle (what tools wait for) and progress (what changes all the time).
//!
//! Each part holds all fields of its manager: server-side apply removes what a manager no longer sends. Both carry the
//! epoch, so that the CEL rule refuses either of a leader that was replaced. Both are applied with force: the other owner
//! of a field is an earlier version of ourselves. And both carry the resourceVersion that was seen last, so that neither
//! lands on another run of the same name: the API server ignores `metadata.uid` in an apply to the status subresource
//! (seen with v1.36: another uid is accepted), but refuses a resourceVersion that is not the current one.

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

/// The two parts of one status, each the `status` of a document to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// For [`labels::MANAGER_LIFECYCLE`].
    pub lifecycle: Value,
    /// For [`labels::MANAGER_PROGRESS`]. To be written before a lifecycle that says `Finished`: whoever waits for that
    /// finds everything else there.
    pub progress: Value,
}

/// Splits a status into what each manager applies.
#[must_use]
pub fn split(status: &BenchmarkRunStatus) -> Parts {
    // A status has nothing that JSON cannot say.
    let fields = match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (mut lifecycle, mut progress): (Map<String, Value>, Map<String, Value>) =
        fields.into_iter().partition(|(name, _)| LIFECYCLE.contains(&name.as_str()));
    if let Some(epoch) = lifecycle.get("epoch").cloned() {
        progress.insert("epoch".to_owned(), epoch);
    }
    lifecycle.entry("conditions").or_insert_with(|| json!([]));
    Parts { lifecycle: Value::Object(lifecycle), progress: Value::Object(progress) }
}

/// The document that applies one part. `resource_version`: of the object that the part was made from, or that the last
/// write returned.
#[must_use]
pub fn document(run: &RunIdentity, part: &Value, resource_version: &str) -> Value {
    json!({
        "apiVersion": labels::API_VERSION,
        "kind": labels::KIND,
        "metadata": {"name": run.name, "namespace": run.namespace, "resourceVersion": resource_version},
        "status": part,
    })
}

/// Whether two parts of the progress manager say the same, but for when it was true.
#[must_use]
pub fn is_same_progress(one: &Value, other: &Value) -> bool {
    let timeless = |part: &Value| {
        let mut part = part.clone();
        if let Some(Value::Object(progress)) = part.get_mut("progress") {
            progress.remove("lastUpdateTime");
        }
        part
    };
    one == other || timeless(one) == timeless(other)
}
