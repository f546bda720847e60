//! What agents hand in, in ConfigMaps, until the report is written: a result is acknowledged only when it is here.
//!
//! ```text
//! <run>-<uid8>-parts      the head: epoch, which other objects count, and the results that are in none of them yet
//! <run>-<uid8>-parts-<n>  results that the head had no room for; never changed
//! ```
//!
//! Only the head makes a result count, and only the latest leader can write it ([`super::fenced`]). So an earlier leader
//! that was stopped acknowledges nothing that the later one does not know of; objects that it makes late count for nothing.
//! What arrives while a write is under way goes into the next one: a thousand agents that end together cost one write per
//! ConfigMap that their results fill, and two or three more.
//!
//! Objects are found by name: the operator may not list ConfigMaps. They are owned by the run, and go with it at the latest.
//! Deliberately not the report: that is made from the parts once, at the end.

mod codec;
#[cfg(test)]
mod tests;
mod writer;

use super::apply;
use super::fenced::{Content, FencedMap, StoreError};
use crate::pods::build::RunIdentity;
use crate::pods::config_maps;
use codec::{Entry, Found};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::Api;
use lockstep_coordinator::{Persisting, ResultStore};
use lockstep_core::problem::Problem;
use lockstep_core::results::part::StagePart;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use writer::{Offer, Store, Writer};

/// Key of the results in each object.
const PARTS_KEY: &str = "parts.gz";
/// Key of the list of objects in the head.
const OBJECTS_KEY: &str = "objects";
/// How long a result is waited for until its agent is told to offer it again. It stays in the queue.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Results that are taken apart at once: more would only fight for the cores that the control plane needs.
const ENCODINGS_MAX: usize = 2;

/// Whether this process may write now; asked before each write.
pub type MayWrite = Arc<dyn Fn() -> bool + Send + Sync>;

/// The results of one run, taken by one leader. Writes until it is dropped.
#[derive(Debug)]
pub struct Parts {
    offers: mpsc::UnboundedSender<Offer>,
    encodings: Arc<Semaphore>,
    writer: JoinHandle<()>,
}

impl Parts {
    /// Takes the results of a run for the leader of `epoch`, and reads them: parts that merge to what the original ones
    /// merge to, where what a stage measured is in one of them ([`StagePart::summary`]). From here on no earlier leader can add to them.
    ///
    /// # Errors
    /// See [`FencedMap::take`]; and when something that counts is gone or cannot be read.
    pub async fn take(
        client: Client,
        run: &RunIdentity,
        epoch: i64,
        may_write: MayWrite,
    ) -> Result<(Self, Vec<StagePart>), StoreError> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace);
        let name = run.parts_config_map();
        let (head, mut content) = FencedMap::take(client, run, name.clone(), epoch).await?;
        let objects = objects(&content).ok_or_else(|| unreadable(run, &name, "it lists no objects"))?;
        let mut found = Found::default();
        for number in &objects {
            let name = run.more_parts_config_map(*number);
            let object = maps.get_opt(&name).await;
            let object = object.map_err(|error| StoreError::Api(name.clone(), Box::new(error)))?;
            let packed = object
                .filter(|object| config_maps::is_of(&object.metadata, run))
                .and_then(|object| object.binary_data?.remove(PARTS_KEY));
            let Some(packed) = packed else { return Err(unreadable(run, &name, "it is gone")) };
            (found, _) = read(found, packed.0).await.map_err(|error| unreadable(run, &name, error))?;
        }
        let mut tail = Vec::new();
        if let Some(packed) = content.binaries.remove(PARTS_KEY) {
            (found, tail) = read(found, packed).await.map_err(|error| unreadable(run, &name, error))?;
        }
        let (offers, inbox) = mpsc::unbounded_channel();
        let store = Store { maps, run: run.clone(), head, epoch, may_write };
        let writer = tokio::spawn(Writer::new(store, objects, tail, found.seats()).serve(inbox));
        let encodings = Arc::new(Semaphore::new(ENCODINGS_MAX));
        Ok((Self { offers, encodings, writer }, found.into_parts()))
    }

    /// Deletes everything here of a run whose end stands in its status, unless a later leader has it.
    ///
    /// # Errors
    /// See [`FencedMap::delete`]; to be called again then.
    pub async fn delete(client: Client, run: &RunIdentity, epoch: i64) -> Result<(), StoreError> {
        FencedMap::delete(client.clone(), run, run.parts_config_map(), epoch).await?;
        let maps: Api<ConfigMap> = Api::namespaced(client, &run.namespace);
        let failed = |name: &str, error| StoreError::Api(name.to_owned(), Box::new(error));
        let mut there = Vec::new();
        for number in 0.. {
            let name = run.more_parts_config_map(number);
            let object = maps.get_metadata_opt(&name).await.map_err(|error| failed(&name, error))?;
            let Some(object) = object else { break };
            if config_maps::is_of(&object.metadata, run) {
                there.push((name, object.metadata.uid.unwrap_or_default()));
            }
        }
        // The first one last: while it stands, the others are found.
        for (name, uid) in there.iter().rev() {
            apply::delete(&maps, name, uid).await.map_err(|error| failed(name, error))?;
        }
        Ok(())
    }
}

impl ResultStore for Parts {
    fn persist(&self, part: Arc<StagePart>) -> Persisting {
        let (offers, encodings) = (self.offers.clone(), Arc::clone(&self.encodings));
        Box::pin(async move {
            let permit = encodings.acquire_owned().await.map_err(io::Error::other)?;
            let entry =
                tokio::task::spawn_blocking(move || Entry::of(part)).await.map_err(io::Error::other)??;
            drop(permit);
            let (answer, answered) = oneshot::channel();
            let let_go = || io::Error::other("this replica of the operator has let the run go");
            offers.send(Offer { entry, answer }).map_err(|_| let_go())?;
            drop(offers);
            match tokio::time::timeout(ANSWER_LIMIT, answered).await {
                Ok(answered) => answered.map_err(|_| let_go())?,
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not written within {ANSWER_LIMIT:?}; it is tried on"),
                )),
            }
        })
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Numbers of the objects that count; `None` when what is there is no list of them.
fn objects(head: &Content) -> Option<Vec<u32>> {
    let list = head.texts.get(OBJECTS_KEY).map_or("", String::as_str);
    list.split(',').filter(|number| !number.is_empty()).map(|number| number.parse().ok()).collect()
}

/// Adds what is in a binary to what was found, and answers with its lines. Megabytes, so not on the runtime.
async fn read(mut found: Found, packed: Vec<u8>) -> io::Result<(Found, Vec<Vec<u8>>)> {
    let read = move || {
        let lines = codec::lines(&packed).collect::<io::Result<Vec<_>>>()?;
        lines.iter().try_for_each(|line| found.add(line))?;
        Ok((found, lines))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

fn unreadable(run: &RunIdentity, name: &str, cause: impl std::fmt::Display) -> StoreError {
    let RunIdentity { namespace, name: run, uid: _ } = run;
    let problem = Problem::new(
        format!("results of run {namespace}/{run} that agents have handed in cannot be read"),
        format!("ConfigMap {name}: {cause}"),
    )
    .likely("somebody deleted or changed it while the run was under way")
    .next(format!("kubectl describe configmap {name} -n {namespace}"))
    .next("apply the run again: what is lost was measured once");
    StoreError::Refused(Box::new(problem))
}
