//! The desks of one term: opened when this replica begins to lead, closed all at once when it stops.
//!
//! A desk that is closed says and writes nothing more: the run that it had in hand is let go, and the sessions of its agents
//! wait for whoever coordinates it next. Deliberately nothing is told to anybody by closing.

use super::context::Context;
use super::desk::Desk;
use kube::ResourceExt;
use lockstep_api::BenchmarkRun;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// See the module's text.
pub struct Desks {
    context: Arc<Context>,
    wakes: HashMap<String, Arc<Notify>>,
    at_work: JoinSet<String>,
}

impl Desks {
    /// A desk for each run that is known; more are opened as they are seen.
    #[must_use]
    pub fn open(context: Arc<Context>) -> Self {
        let mut desks = Self { context, wakes: HashMap::new(), at_work: JoinSet::new() };
        desks.look_anew();
        desks
    }

    /// The runs were listed anew: what came or went meanwhile shows only now.
    pub fn look_anew(&mut self) {
        self.context.runs.state().iter().for_each(|run| self.wake(run));
        self.wake_all();
    }

    /// Something of the run changed.
    pub fn wake(&mut self, run: &BenchmarkRun) {
        let Some(uid) = run.uid() else { return };
        let wake = self.wakes.entry(uid.clone()).or_insert_with(|| {
            let wake = Arc::new(Notify::new());
            let desk = Desk::new(Arc::clone(&self.context), run, Arc::clone(&wake));
            self.at_work.spawn(async move {
                desk.serve().await;
                uid
            });
            wake
        });
        wake.notify_one();
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

    /// Waits until a run is gone, and clears its desk; for ever while there are none.
    pub async fn clear_one(&mut self) {
        match self.at_work.join_next().await {
            Some(Ok(uid)) => _ = self.wakes.remove(&uid),
            Some(Err(error)) => tracing::error!(%error, "the desk of a run broke"),
            None => std::future::pending().await,
        }
    }

    /// Closes all of them; returns when none does anything any more.
    pub async fn close(mut self) {
        self.at_work.shutdown().await;
    }
}
