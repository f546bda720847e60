//! Mounts that fail: the kubelet tells of them in Events, and nowhere else.
//!
//! They are read for a whole run at once, and only while one of its pods has a node and hangs: the API server keeps Events
//! without an index, so that each question goes through all those of the namespace, whatever it asks for.

use crate::client::context::Context;
use crate::pods::build::RunIdentity;
use crate::pods::trouble::{MOUNT_FAILURES, PodEvent};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How often they are read at most.
const EVERY: Duration = Duration::from_secs(3);

/// Of the pods of one run's namespace, as they were read last.
#[derive(Default)]
pub struct MountEvents {
    read: Option<Instant>,
    by_pod: HashMap<String, Vec<PodEvent>>,
}

impl MountEvents {
    /// Of the pod with this uid, oldest first.
    #[must_use]
    pub fn of(&self, uid: &str) -> &[PodEvent] {
        self.by_pod.get(uid).map_or(&[], Vec::as_slice)
    }

    /// Reads them, unless that was done just now.
    pub async fn look(&mut self, context: &Context, run: &RunIdentity) {
        if self.read.is_some_and(|read| read.elapsed() < EVERY) {
            return;
        }
        self.read = Some(Instant::now());
        let events: Api<Event> = Api::namespaced(context.client.clone(), &run.namespace);
        let mut by_pod: HashMap<String, Vec<PodEvent>> = HashMap::new();
        for reason in MOUNT_FAILURES {
            let about = format!("involvedObject.kind=Pod,reason={reason}");
            match events.list(&ListParams::default().fields(&about)).await {
                Ok(list) => {
                    for event in list {
                        let uid = event.involved_object.uid.clone().unwrap_or_default();
                        by_pod.entry(uid).or_default().push(PodEvent::from(&event));
                    }
                }
                Err(error) => tracing::debug!(%error, reason, "Events cannot be read"),
            }
        }
        self.by_pod = by_pod;
    }
}
