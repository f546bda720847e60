//! The pods of a desk's run: what is known of them, how they are made (several at a time, after whom they are to trust),
//! and how they are asked to go.

use super::{Desk, RoundError};
use crate::client::apply::{self, Asked};
use crate::plan::{Action, CaMap, Step, Trial};
use crate::pods::build::RunIdentity;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::trouble::{self, Trouble};
use crate::trust::rotation::Trusted;
use crate::validate::Validated;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// From when on a pod that was asked to go, and does not show it, is asked again.
const ASKED_AGAIN: Duration = Duration::from_secs(10);

impl Desk {
    /// Pods of the run: those that the watch shows, and those that we have just made. One that we have asked to go is
    /// going, though the watch does not show that yet.
    pub(super) fn pods(&mut self, run: &RunIdentity) -> BTreeMap<Seat, PodFacts> {
        let seen = self.context.pods_of(run);
        self.made.retain(|seat, _| !seen.contains_key(seat));
        let mut pods = self.made.clone();
        pods.extend(seen);
        self.asked.retain(|uid, at| at.elapsed() < ASKED_AGAIN && pods.values().any(|pod| pod.uid == *uid));
        for pod in pods.values_mut() {
            pod.deleting |= self.asked.contains_key(&pod.uid);
        }
        pods
    }

    /// Asks a pod to go.
    pub(super) async fn delete_pod(
        &mut self,
        run: &RunIdentity,
        name: &str,
        uid: String,
    ) -> Result<(), RoundError> {
        let pods: Api<core::Pod> = Api::namespaced(self.context.client.clone(), &run.namespace);
        if apply::delete(&pods, name, &uid).await? == Asked::Gone {
            // The watch may have shown it come and go while nobody looked.
            self.made.retain(|_, pod| pod.uid != uid);
        }
        self.asked.insert(uid, Instant::now());
        Ok(())
    }

    /// What is wrong with its pods.
    pub(super) async fn troubles(
        &mut self,
        run: &RunIdentity,
        pods: &BTreeMap<Seat, PodFacts>,
    ) -> BTreeMap<Seat, Trouble> {
        let now = Timestamp::now();
        let said_hello = |seat| self.live.as_ref().is_some_and(|live| live.has_said_hello(seat));
        if pods.values().any(|pod| pod.hangs(now) && !said_hello(pod.seat)) {
            self.mounts.look(&self.context, run).await;
        }
        let mut troubles = BTreeMap::new();
        for facts in pods.values() {
            let key = ObjectRef::<core::Pod>::new(&facts.name).within(&run.namespace);
            let Some(pod) = self.context.pods.get(&key) else { continue };
            if let Some(trouble) = trouble::of(&pod, self.mounts.of(&facts.uid), said_hello(facts.seat), now)
            {
                troubles.insert(facts.seat, trouble);
            }
        }
        troubles
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

    /// Reads whom the run's pods are told to trust, where that is what they should.
    pub(super) async fn read_trusted(&mut self, run: &RunIdentity) -> Result<(), RoundError> {
        let trusted = self.context.trust.trusted();
        if self.trusted.is_none() && apply::tells_of(&self.context, run, &trusted).await? {
            (self.ca, self.trusted) = (CaMap::Written, Some(trusted));
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
