//! What a desk asks of its run's pods, and how it makes them: several at a time, after whom they are to trust.

use super::{Desk, RoundError};
use crate::client::apply;
use crate::plan::{Action, Step, Trial};
use crate::pods::build::RunIdentity;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::trouble::{self, PodEvent, Trouble};
use crate::trust::rotation::Trusted;
use crate::validate::Validated;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Events of one pod that are looked at.
const POD_EVENTS_MAX: u32 = 20;

impl Desk {
    /// What is wrong with its pods.
    pub(super) async fn troubles(
        &self,
        run: &RunIdentity,
        pods: &BTreeMap<Seat, PodFacts>,
    ) -> BTreeMap<Seat, Trouble> {
        let mut troubles = BTreeMap::new();
        for facts in pods.values() {
            let key = ObjectRef::<core::Pod>::new(&facts.name).within(&run.namespace);
            let Some(pod) = self.context.pods.get(&key) else { continue };
            let hello = self.live.as_ref().is_some_and(|live| live.has_said_hello(facts.seat));
            let events =
                if hello || facts.ended.is_some() { Vec::new() } else { self.pod_events(run, facts).await };
            if let Some(trouble) = trouble::of(&pod, &events, hello, Timestamp::now()) {
                troubles.insert(facts.seat, trouble);
            }
        }
        troubles
    }

    /// Events of a pod that has a node and whose containers do not come up: mounts that fail are told nowhere else.
    async fn pod_events(&self, run: &RunIdentity, pod: &PodFacts) -> Vec<PodEvent> {
        if pod.node.is_none() {
            return Vec::new();
        }
        let events: Api<core::Event> = Api::namespaced(self.context.client.clone(), &run.namespace);
        let about = format!("involvedObject.uid={}", pod.uid);
        let params = ListParams::default().fields(&about).limit(POD_EVENTS_MAX);
        match events.list(&params).await {
            Ok(list) => list.items.iter().map(PodEvent::from).collect(),
            Err(error) => {
                tracing::debug!(%error, pod = pod.name, "its Events cannot be read");
                Vec::new()
            }
        }
    }

    /// Asks the API server what it would say to the pod of agent 0; the others differ in their index only.
    pub(super) async fn try_pod(&mut self, run: &RunIdentity, validated: Option<&Validated>) {
        self.trial = match validated.map(|validated| validated.recipe.pod(0, 0)) {
            Some(Ok(pod)) => {
                let trust = &self.context.trust;
                let pod = trust.sealed(run, (0, 0), &pod, &trust.trusted());
                Trial::of(apply::try_pod(&self.context, run, &pod).await)
            }
            // There is nothing to ask about.
            Some(Err(_)) | None => Trial::Passed,
        };
    }

    /// Creates the pods of consecutive steps, several at a time.
    pub(super) async fn create_pods(
        &mut self,
        run: &RunIdentity,
        validated: Option<&Validated>,
        steps: Vec<Step>,
    ) -> Result<(), RoundError> {
        let Some(validated) = validated else { return Ok(()) };
        let trusted = self.write_trusted(run).await?;
        let pod = |Step { action, why }: Step| {
            let Action::CreatePod(seat) = action else { return None };
            tracing::info!(?seat, %why, "create a pod");
            let pod = validated.recipe.pod(seat.0, seat.1).ok()?;
            Some((seat, self.context.trust.sealed(run, seat, &pod, &trusted)))
        };
        let pods = steps.into_iter().filter_map(pod).collect();
        let context = Arc::clone(&self.context);
        let mut created = std::pin::pin!(apply::create_pods(&context, run, pods));
        while let Some((seat, created)) = created.next().await {
            match created {
                Ok(pod) => {
                    self.rejected.remove(&seat);
                    self.made.extend(PodFacts::of(&pod).map(|facts| (seat, facts)));
                }
                Err(rejected) => {
                    self.rejected.insert(seat, rejected);
                    self.wake.notify_one();
                }
            }
        }
        Ok(())
    }

    /// Writes whom new pods are to trust, unless that stands there already.
    pub(super) async fn write_trusted(&mut self, run: &RunIdentity) -> Result<Arc<Trusted>, RoundError> {
        let trusted = self.context.trust.trusted();
        if self.trusted.as_ref() != Some(&trusted) {
            self.ca = apply::ca(&self.context, run, &trusted).await?;
            self.trusted = Some(Arc::clone(&trusted));
        }
        Ok(trusted)
    }
}
