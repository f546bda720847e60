//! Writes what there is to say: status by server-side apply under two field managers, and Events.

use super::context::Context;
use crate::events::{Limit, Note};
use crate::pods::build::RunIdentity;
use crate::status::managers::Documents;
use crate::status::pace::Written;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_api::{BenchmarkRun, labels};
use serde_json::Value;

/// What was written of one run, and what may be.
#[derive(Debug, Default)]
pub struct Publisher {
    written: Written,
    events: Limit,
}

impl Publisher {
    /// Writes the documents of a status that are due now. Answers when to come again for what must wait, milliseconds.
    ///
    /// # Errors
    /// When the API server does not take one; then nothing is known of what stands there.
    pub async fn status(
        &mut self,
        context: &Context,
        run: &RunIdentity,
        status: &BenchmarkRunStatus,
        documents: Documents,
    ) -> Result<Option<u64>, kube::Error> {
        let last = conditions::truth(&status.conditions, ConditionType::Finished) == Some(Truth::True);
        let due = self.written.due(&documents, last, &context.budget(), context.now_ms());
        // Progress first: whoever waits for `Finished` finds everything else there.
        if due.progress {
            let document = documents.progress;
            apply(context, run, labels::MANAGER_PROGRESS, &document).await.inspect_err(|_| self.written.forget())?;
            self.written.wrote_progress(document, context.now_ms());
        }
        if due.lifecycle {
            let document = documents.lifecycle;
            apply(context, run, labels::MANAGER_LIFECYCLE, &document).await.inspect_err(|_| self.written.forget())?;
            self.written.wrote_lifecycle(document);
        }
        Ok(due.again_ms)
    }

    /// Writes an Event, if there were not enough of its kind. One that is not taken is only logged.
    pub async fn event(&mut self, context: &Context, run: &BenchmarkRun, note: Note) {
        let Some(note) = self.events.admit(note) else { return };
        let type_ = if note.reason.is_warning() { EventType::Warning } else { EventType::Normal };
        let event = Event {
            type_,
            reason: note.reason.name().to_owned(),
            note: Some(note.note),
            action: "Coordinate".to_owned(),
            secondary: None,
        };
        let about = kube::Resource::object_ref(run, &());
        if let Err(error) = context.recorder.publish(&event, &about).await {
            tracing::warn!(%error, reason = event.reason, "an Event was not taken");
        }
    }
}

async fn apply(context: &Context, run: &RunIdentity, manager: &str, document: &Value) -> Result<(), kube::Error> {
    let runs: Api<BenchmarkRun> = Api::namespaced(context.client.clone(), &run.namespace);
    let params = PatchParams::apply(manager).force();
    let now = runs.patch_status(&run.name, &params, &Patch::Apply(document)).await?;
    context.wrote(serde_json::to_vec(&now).map_or(0, |json| json.len()));
    Ok(())
}
