//! The runs that this coordinator has, by uid, and who waits for one of them: on a cluster agents keep a session with every
//! replica, and one that does not coordinate their run holds it until it does.

use crate::actor::Input;
use crate::host::Snapshot;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

/// How to reach a run.
#[derive(Clone, Debug)]
pub(crate) struct RunEntry {
    pub(crate) replicas: u32,
    pub(crate) inputs: mpsc::UnboundedSender<Input>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    runs: Arc<Mutex<HashMap<String, RunEntry>>>,
    changed: watch::Sender<()>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { runs: Arc::default(), changed: watch::channel(()).0 }
    }
}

impl Registry {
    pub(crate) fn find(&self, uid: &str) -> Option<RunEntry> {
        self.runs.lock().ok()?.get(uid).cloned()
    }

    /// The runs, as they stand.
    pub(crate) fn snapshots(&self) -> Vec<Arc<Snapshot>> {
        let runs = self.runs.lock();
        runs.map(|runs| runs.values().map(|run| Arc::clone(&run.snapshots.borrow())).collect())
            .unwrap_or_default()
    }

    /// The run, as soon as it is coordinated here.
    pub(crate) async fn wait(&self, uid: &str) -> RunEntry {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(entry) = self.find(uid) {
                return entry;
            }
            if changed.changed().await.is_err() {
                // The sender lives as long as this registry.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Adds a run; it is taken out when the guard is dropped.
    pub(crate) fn add(&self, uid: String, entry: RunEntry) -> Registered {
        let inputs = entry.inputs.downgrade();
        if let Ok(mut runs) = self.runs.lock() {
            runs.insert(uid.clone(), entry);
        }
        self.changed.send_replace(());
        Registered { registry: self.clone(), uid, inputs }
    }
}

/// Keeps a run in the registry.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Registry,
    uid: String,
    inputs: mpsc::WeakUnboundedSender<Input>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Ok(mut runs) = self.registry.runs.lock() {
            // Not one that has come in its place meanwhile.
            let ours = self.inputs.upgrade().is_none_or(|inputs| {
                runs.get(&self.uid).is_some_and(|entry| entry.inputs.same_channel(&inputs))
            });
            if ours {
                runs.remove(&self.uid);
            }
        }
    }
}
