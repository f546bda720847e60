//! Writes what there is to say: status by server-side apply under two field managers, and Events.

use super::context::Context;
use crate::events::{Limit, Note};
use crate::pods::build::RunIdentity;
use crate::status::managers::{self, Parts};
use crate::status::pace::Written;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_api::{BenchmarkRun, labels};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// What came of writing a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrote {
    /// resourceVersion of the run now, if something was written.
    pub version: Option<String>,
    /// When to come again for what must wait, milliseconds.
    pub again_ms: Option<u64>,
}

/// What was written of one run, and what may be.
#[derive(Debug, Default)]
pub struct Publisher {
    written: Written,
    /// Since when something has been held back, milliseconds.
    held_ms: Option<u64>,
    events: Limit,
    /// Events that are being written.
    telling: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Writes the parts of a status that are due now to `run`, as it was seen. `at_once`: its progress must not be late, as is
    /// that of a run that is finished.
    ///
    /// # Errors
    /// When the API server does not take one; then nothing is known of what stands there.
    pub async fn status(
        &mut self,
        context: &Context,
        run: &BenchmarkRun,
        identity: &RunIdentity,
        status: &BenchmarkRunStatus,
        at_once: bool,
    ) -> Result<Wrote, kube::Error> {
        let Parts { lifecycle, progress } = managers::split(status);
        let parts = Parts { lifecycle: lifecycle.clone(), progress: progress.clone() };
        let last = conditions::truth(&status.conditions, ConditionType::Finished) == Some(Truth::True);
        let due = self.written.due(&parts, last || at_once, &context.budget(), context.now_ms());
        let since_ms = *self.held_ms.get_or_insert_with(|| context.now_ms());
        let seen = run.resource_version().unwrap_or_default();
        let mut version = seen.clone();
        // Progress first: whoever waits for `Finished` finds everything else there.
        if due.progress {
            let document = managers::document(identity, &progress, &version);
            let done = apply(context, identity, labels::MANAGER_PROGRESS, &document).await;
            version = done.inspect_err(|_| self.written.forget())?;
            self.written.wrote_progress(progress, context.now_ms());
        }
        if due.lifecycle {
            let document = managers::document(identity, &lifecycle, &version);
            let done = apply(context, identity, labels::MANAGER_LIFECYCLE, &document).await;
            version = done.inspect_err(|_| self.written.forget())?;
            self.written.wrote_lifecycle(lifecycle);
        }
        if due.progress || due.lifecycle {
            context.vitals.status_written(Duration::from_millis(context.now_ms().saturating_sub(since_ms)));
        }
        if due.again_ms.is_none() {
            self.held_ms = None;
        }
        Ok(Wrote { version: (version != seen).then_some(version), again_ms: due.again_ms })
    }

    /// Writes Events, of each kind not too many, one after the other and beside all else: the status does not wait for what is
    /// only told. One that is not taken is only logged.
    pub fn tell(&mut self, context: &Arc<Context>, run: &BenchmarkRun, notes: impl Iterator<Item = Note>) {
        let notes: Vec<Note> = notes.filter_map(|note| self.events.admit(note)).collect();
        if notes.is_empty() {
            return;
        }
        let (context, before) = (Arc::clone(context), self.telling.take());
        let about = kube::Resource::object_ref(run, &());
        self.telling = Some(tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            for note in notes {
                let event = event(note);
                if let Err(error) = context.recorder.publish(&event, &about).await {
                    tracing::warn!(%error, reason = event.reason, "an Event was not taken");
                }
            }
        }));
    }
}

fn event(note: Note) -> Event {
    Event {
        type_: if note.reason.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: note.reason.name().to_owned(),
        note: Some(note.note),
        action: "Coordinate".to_owned(),
        secondary: None,
    }
}

/// Answers with the resourceVersion that the run has now.
async fn apply(
    context: &Context,
    run: &RunIdentity,
    manager: &str,
    document: &Value,
) -> Result<String, kube::Error> {
    let runs: Api<BenchmarkRun> = Api::namespaced(context.client.clone(), &run.namespace);
    let params = PatchParams::apply(manager).force();
    let now = runs.patch_status(&run.name, &params, &Patch::Apply(document)).await?;
    context.wrote(serde_json::to_vec(&now).map_or(0, |json| json.len()));
    Ok(now.resource_version().unwrap_or_default())
}
