//! The desks of one term: opened when this replica begins to lead, closed all at once when it stops.
//!
//! A desk that is closed says and writes nothing more: the run that it had in hand is let go, and the sessions of its agents
//! wait for whoever coordinates it next. Deliberately nothing is told to anybody by closing.

use super::context::Context;
use super::desk::Desk;
use super::rest::{self, Rest, Sleepers};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use lockstep_api::BenchmarkRun;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::Instrument;

/// See the module's text.
pub struct Desks {
    context: Arc<Context>,
    wakes: HashMap<String, Arc<Notify>>,
    at_work: JoinSet<(String, ObjectRef<BenchmarkRun>)>,
    sleepers: Sleepers,
}

impl Desks {
    /// A desk for each run that is known; more are opened as they are seen.
    #[must_use]
    pub fn open(context: Arc<Context>) -> Self {
        let mut desks =
            Self { context, wakes: HashMap::new(), at_work: JoinSet::new(), sleepers: Sleepers::default() };
        desks.look_anew();
        desks
    }

    /// The runs were listed anew: what came or went meanwhile shows only now.
    pub fn look_anew(&mut self) {
        self.context.runs.state().iter().for_each(|run| self.wake(run));
        self.wake_all();
    }

    /// Something of the run changed. Its desk is opened if there is none, and something is left to do.
    pub fn wake(&mut self, run: &BenchmarkRun) {
        let Some(uid) = run.uid() else { return };
        if let Some(wake) = self.wakes.get(&uid) {
            wake.notify_one();
            return;
        }
        match rest::at(run, Timestamp::now()) {
            Rest::Works => self.open_one(uid, run),
            Rest::Rests(Some(until)) => self.sleepers.add(until, run),
            Rest::Rests(None) => {}
        }
    }

    fn open_one(&mut self, uid: String, run: &BenchmarkRun) {
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
        wake.notify_one();
        self.wakes.insert(uid, wake);
    }

    /// Wakes runs that rested long enough; answers how many desks are open. To be called every few seconds.
    pub fn beat(&mut self) -> usize {
        for key in self.sleepers.due(Timestamp::now()) {
            self.wake_again(&key);
        }
        self.wakes.len()
    }

    fn wake_again(&mut self, key: &ObjectRef<BenchmarkRun>) {
        if let Some(run) = self.context.runs.get(key) {
            self.wake(&run);
        }
    }

    /// Something changed of what the run with this uid owns.
    pub fn wake_by_uid(&self, uid: &str) {
        if let Some(wake) = self.wakes.get(uid) {
            wake.notify_one();
        }
    }

    /// Anything may have changed.
    pub fn wake_all(&self) {
        self.wakes.values().for_each(|wake| wake.notify_one());
    }

    /// Waits until a run is gone or rests, and clears its desk; for ever while there are none.
    pub async fn clear_one(&mut self) {
        match self.at_work.join_next().await {
            Some(Ok((uid, key))) => {
                self.wakes.remove(&uid);
                // What changed since it closed has woken nobody.
                self.wake_again(&key);
            }
            Some(Err(error)) => tracing::error!(%error, "the desk of a run broke"),
            None => std::future::pending().await,
        }
    }

    /// Closes all of them; returns when none does anything any more.
    pub async fn close(mut self) {
        self.at_work.shutdown().await;
    }
}
