//! What a desk says of its run: the report when it is over, the status, Events.

use super::{Desk, RoundError};
use crate::client::results;
use crate::events::{of_change, of_told};
use crate::plan::{Planned, RunFacts};
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::trouble::Trouble;
use crate::status::{self, Picture, Published, Stand, fit};
use crate::validate::Validated;
use jiff::Timestamp;
use lockstep_api::BenchmarkRun;
use lockstep_api::status::BenchmarkRunStatus;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Desk {
    /// Says what is known now; answers when to come again for what must wait, milliseconds.
    pub(super) async fn publish(
        &mut self,
        run: &BenchmarkRun,
        facts: &RunFacts,
        validated: Option<&Validated>,
        pods: &BTreeMap<Seat, PodFacts>,
        troubles: &BTreeMap<Seat, Trouble>,
        planned: &Planned,
    ) -> Result<Option<u64>, RoundError> {
        if let Some(over) = &mut self.over
            && over.results == Published::Writing
        {
            over.results =
                match results::publish(&self.context, &facts.identity, &over.report, run.spec.results.retain)
                    .await
                {
                    Ok(done) => Published::Done(done),
                    Err(problem) => Published::Failed(problem),
                };
        }
        let snapshot = self.live.as_ref().map(|live| Arc::clone(&live.snapshots.borrow()));
        let stand = match (&self.concluded, &self.over, &self.live, &snapshot) {
            _ if facts.finished.is_some() => Stand::Finished,
            (Some(conclusion), ..) => Stand::Concluded(conclusion),
            (_, Some(over), ..) => Stand::Over {
                plan: &over.plan,
                view: &over.view,
                report: &over.report,
                results: &over.results,
            },
            (_, _, Some(live), Some(snapshot)) => Stand::Live { plan: &live.plan, snapshot },
            _ if validated.is_some() => Stand::Waiting,
            _ => Stand::Unseen,
        };
        let claim = self.context.installation.claim();
        let picture = Picture {
            now: Timestamp::now(),
            generation: run.metadata.generation.unwrap_or_default(),
            epoch: self.context.epoch(),
            controller: facts.controller.as_ref().map(|_| claim.as_str()),
            run: facts,
            pods,
            troubles,
            wait: planned.wait.as_ref(),
            unjudged: planned.unjudged,
            stand,
        };
        let before = self.status.clone().unwrap_or_default();
        let stored = run.status.clone().unwrap_or_default();
        let bare = BenchmarkRun { status: None, ..run.clone() };
        let others_bytes = serde_json::to_vec(&bare).map_or(0, |json| json.len()) + fit::MANAGED_FIELDS_BYTES;
        // Names and claims come from what is stored: they are written by steps, not by a projection of ours.
        let base = BenchmarkRunStatus { controller: stored.controller, ..before.clone() };
        let status = fit::fit(status::project(&base, &picture), others_bytes);
        let agents = status.agents.as_ref().filter(|_| self.awaits && snapshot.is_some());
        let in_hand = agents.is_some_and(|agents| agents.disconnected == 0);
        let wrote = match self.publisher.status(&self.context, run, &facts.identity, &status, in_hand).await {
            // Somebody wrote in between: the watch will show what.
            Err(kube::Error::Api(refused)) if refused.is_conflict() => {
                return Ok(Some(self.context.now_ms() + 50));
            }
            wrote => wrote?,
        };
        self.awaits &= !in_hand;
        if let Some(version) = wrote.version {
            self.echo = Some((version, 0));
        }
        let told = std::mem::take(&mut self.tales);
        let notes = told.iter().filter_map(|told| of_told(&facts.identity, told));
        self.publisher.tell(&self.context, run, notes.chain(of_change(&before, &status)));
        self.status = Some(status);
        Ok(wrote.again_ms)
    }
}
