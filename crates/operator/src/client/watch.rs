//! Watches: what the API server has, kept in stores, and which desk to wake when it changes.
//!
//! A desk exists as long as there is something left to do for its run (see [`rest`]). A watch that fails is taken up again
//! with a back-off, and says so once.

use super::context::Context;
use super::desk::Desk;
use super::follow::{Changes, follow};
use super::rest::{self, Rest, Sleepers};
use crate::admin::vitals::BEAT_EVERY;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument;

/// Every run of these namespaces; of all, if there are none.
#[must_use]
pub fn runs(
    client: &Client,
    namespaces: &[String],
) -> (reflector::Store<BenchmarkRun>, Changes<BenchmarkRun>) {
    follow(client, namespaces, &watcher::Config::default(), rest::slim)
}

/// Every pod there that bears the labels of a run.
#[must_use]
pub fn pods(client: &Client, namespaces: &[String]) -> (reflector::Store<Pod>, Changes<Pod>) {
    follow(client, namespaces, &watcher::Config::default().labels(labels::RUN_UID), |pod| {
        pod.managed_fields_mut().clear();
    })
}

/// Wakes desks by what changes, and opens one for each run that has something left to do. Ends when a watch ends, which it
/// never does.
pub async fn serve(context: Arc<Context>, mut runs: Changes<BenchmarkRun>, mut pods: Changes<Pod>) {
    let mut beats = tokio::time::interval(BEAT_EVERY);
    let vitals = Arc::clone(&context.vitals);
    let mut desks = Desks::new(context);
    loop {
        vitals.turned();
        tokio::select! {
            _ = beats.tick() => desks.beat(),
            change = runs.next() => match change {
                Some(Ok(Event::Apply(run) | Event::Delete(run))) => desks.wake(&run),
                // What is listed is in the store only when the list is complete.
                Some(Ok(Event::Init | Event::InitApply(_))) => {}
                Some(Ok(Event::InitDone)) => desks.wake_all(),
                Some(Err(error)) => tracing::warn!(%error, "the watch of runs is taken up again"),
                None => return,
            },
            change = pods.next() => match change {
                Some(Ok(Event::Apply(pod) | Event::InitApply(pod) | Event::Delete(pod))) => desks.wake_of(&pod),
                Some(Ok(Event::Init)) => {}
                // What went while nobody watched is seen only now.
                Some(Ok(Event::InitDone)) => desks.wake_open(),
                Some(Err(error)) => tracing::warn!(%error, "the watch of pods is taken up again"),
                None => return,
            },
            Some(left) = desks.at_work.join_next() => match left {
                Ok((uid, key)) => desks.left(&uid, &key),
                Err(error) => tracing::error!(%error, "the desk of a run broke"),
            },
        }
    }
}

/// The desks that are open, and the runs that rest.
struct Desks {
    context: Arc<Context>,
    open: HashMap<String, Arc<Notify>>,
    at_work: JoinSet<(String, ObjectRef<BenchmarkRun>)>,
    sleepers: Sleepers,
}

impl Desks {
    fn new(context: Arc<Context>) -> Self {
        Self { context, open: HashMap::new(), at_work: JoinSet::new(), sleepers: Sleepers::default() }
    }

    /// Wakes the desk of a run, which is opened if there is none and something is left to do.
    fn wake(&mut self, run: &BenchmarkRun) {
        let Some(uid) = run.uid() else { return };
        if let Some(wake) = self.open.get(&uid) {
            wake.notify_one();
            return;
        }
        match rest::at(run, Timestamp::now()) {
            Rest::Works => self.open(uid, run),
            Rest::Rests(Some(until)) => self.sleepers.add(until, run),
            Rest::Rests(None) => {}
        }
    }

    fn open(&mut self, uid: String, run: &BenchmarkRun) {
        let wake = Arc::new(Notify::new());
        let desk = Desk::new(Arc::clone(&self.context), run, Arc::clone(&wake));
        let (name, namespace) = (run.name_any(), run.namespace().unwrap_or_default());
        // Of the highest level, so that it is there whatever the log is filtered by.
        let span = tracing::error_span!("run", run = name, namespace, uid);
        let (left, key) = (uid.clone(), ObjectRef::from_obj(run));
        let serve = async move {
            desk.serve().await;
            (left, key)
        };
        self.at_work.spawn(serve.instrument(span));
        self.open.insert(uid, wake);
    }

    /// Wakes every run that the store has.
    fn wake_all(&mut self) {
        for run in self.context.runs.state() {
            self.wake(&run);
        }
        // What went while nobody watched is seen only now.
        self.wake_open();
    }

    fn wake_open(&self) {
        self.open.values().for_each(|wake| wake.notify_one());
    }

    fn wake_of(&self, pod: &Pod) {
        if let Some(wake) = pod.labels().get(labels::RUN_UID).and_then(|uid| self.open.get(uid)) {
            wake.notify_one();
        }
    }

    /// A desk has closed. What changed since it decided to has woken nobody.
    fn left(&mut self, uid: &str, key: &ObjectRef<BenchmarkRun>) {
        self.open.remove(uid);
        if let Some(run) = self.context.runs.get(key) {
            self.wake(&run);
        }
    }

    fn beat(&mut self) {
        self.context.vitals.set_desks(self.open.len());
        for key in self.sleepers.due(Timestamp::now()) {
            if let Some(run) = self.context.runs.get(&key) {
                self.wake(&run);
            }
        }
    }
}
