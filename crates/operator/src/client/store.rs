//! What outlives this operator of a run that has begun: its record, and the results that agents have handed in.
//!
//! Taken by the leader of an epoch before it does anything for the run; from then on nothing that an earlier leader
//! writes lands there. Deliberately only a pair: what each of them is made of, [`super::memo`] and [`super::parts`] know.

use super::fenced::StoreError;
use super::memo::Memo;
use super::parts::{MayWrite, Parts};
use crate::pods::build::RunIdentity;
use crate::pods::rejected::is_of_a_namespace_that_goes;
use kube::Client;
use lockstep_coordinator::{Persisted, Persisting, RecordError, Recording, ResultStore};
use lockstep_core::results::part::StagePart;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// See the module's text.
pub struct RunStore {
    memo: Arc<Mutex<Memo>>,
    parts: Parts,
    may_write: MayWrite,
    /// The namespace is going, and nothing can be made there: nobody will ever take this run over.
    going: Arc<AtomicBool>,
}

/// What an earlier leader has left.
#[derive(Debug)]
pub struct Left {
    /// The record of the run; `None` when it had not begun.
    pub record: Option<Vec<u8>>,
    /// Results that were acknowledged.
    pub parts: Vec<StagePart>,
}

impl RunStore {
    /// Takes what there is of a run for the leader of `epoch`.
    ///
    /// # Errors
    /// When a later leader has it, another object has its name, or the API server does not answer.
    pub async fn take(
        client: &Client,
        run: &RunIdentity,
        epoch: i64,
        may_write: MayWrite,
    ) -> Result<(Arc<Self>, Left), StoreError> {
        // In whatever order: no record tells of results that are not written.
        let memo = Memo::take(client.clone(), run, epoch);
        let results = Parts::take(client.clone(), run, epoch, Arc::clone(&may_write));
        let ((memo, record), (results, parts)) = tokio::try_join!(memo, results)?;
        let going = Arc::default();
        let store = Self { memo: Arc::new(Mutex::new(memo)), parts: results, may_write, going };
        Ok((Arc::new(store), Left { record, parts }))
    }

    /// Deletes all of it: the run's end stands in its status, or the attempt has none.
    ///
    /// # Errors
    /// As [`RunStore::take`].
    pub async fn delete(client: &Client, run: &RunIdentity, epoch: i64) -> Result<(), StoreError> {
        Memo::delete(client.clone(), run, epoch).await?;
        Parts::delete(client.clone(), run, epoch).await
    }
}

impl ResultStore for RunStore {
    fn persist(&self, part: Arc<StagePart>) -> Persisting {
        if self.going.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Ok(Persisted::Written)));
        }
        self.parts.persist(part)
    }

    fn keeps_record(&self) -> bool {
        true
    }

    fn record(&self, document: Vec<u8>) -> Recording {
        let (memo, may_write) = (Arc::clone(&self.memo), Arc::clone(&self.may_write));
        let going = Arc::clone(&self.going);
        Box::pin(async move {
            if !may_write() {
                return Err(RecordError::Failed("this replica cannot renew its lease".to_owned()));
            }
            match memo.lock().await.save(document).await {
                Ok(()) => Ok(()),
                Err(StoreError::Fenced { .. }) => Err(RecordError::Replaced),
                Err(StoreError::Api(_, error))
                    if matches!(&*error, kube::Error::Api(status)
                        if is_of_a_namespace_that_goes(status.code, &status.message)) =>
                {
                    going.store(true, Ordering::Release);
                    Ok(())
                }
                Err(error) => Err(RecordError::Failed(said(&error))),
            }
        })
    }
}

/// An error with its source, in one line.
fn said(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
