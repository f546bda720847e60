//! The one who writes results: gathers what is offered, and makes it count by one write of the head.
//!
//! A batch is decided on once, and then carried out until it is done or another leader has taken over: an API server that
//! is away, or a leader that may not write for a while, only delays it. Answers are given when the head is written.

use super::super::fenced::{Content, FencedMap, StoreError};
use super::codec::{self, Entry, Measured, Seat};
use super::{MayWrite, OBJECTS_KEY, PARTS_KEY};
use crate::pods::build::RunIdentity;
use crate::pods::config_maps::{self, BINARY_BYTES_MAX};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use lockstep_coordinator::Persisted;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How long the first result of a batch waits for others: agents that end together take about as long to hand in, and
/// etcd keeps every version that is written.
const GATHER: Duration = Duration::from_millis(50);
/// Sizes that what is written keeps to.
pub(super) const SIZES: Sizes = Sizes { object: BINARY_BYTES_MAX, head: 384 * 1024, sealed: 32 * 1024 };
/// Wait after the first write that failed, and the longest after others.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Bytes, packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// The most that one object holds.
    pub(super) object: usize,
    /// What the head holds itself: it is written anew with every batch, so agents that end one by one cost that much each.
    pub(super) head: usize,
    /// From here on what was packed together stays so, and is not packed again with what comes next: lines that are alike take
    /// little beside each other, but packing all of them with every batch is what agents would wait for.
    pub(super) sealed: usize,
}

/// A result that is to be written.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) entry: Entry,
    pub(super) answer: oneshot::Sender<io::Result<Persisted>>,
}

/// Where it is written, and as whom.
pub(super) struct Store {
    pub(super) maps: Api<ConfigMap>,
    pub(super) run: RunIdentity,
    pub(super) head: FencedMap,
    pub(super) epoch: i64,
    pub(super) may_write: MayWrite,
}

#[derive(Debug)]
pub(super) struct Queued {
    pub(super) entry: Entry,
    pub(super) answers: Vec<oneshot::Sender<io::Result<Persisted>>>,
}

/// What is in the head itself, as it will be written again.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Packed, to stay as it is.
    sealed: Vec<u8>,
    lines: Vec<Vec<u8>>,
    /// Merged by stage since this leader writes; in no line.
    measured: BTreeMap<u32, Measured>,
}

/// A batch that was decided on.
#[derive(Debug)]
pub(super) struct Batch {
    entries: BTreeMap<Seat, Queued>,
    /// What goes into objects of its own, before the head names them.
    pub(super) more: VecDeque<Vec<u8>>,
    /// Objects that the head will name.
    objects: Vec<u32>,
    /// What the head will hold, and that packed.
    pub(super) tail: Tail,
    pub(super) packed: Option<Vec<u8>>,
}

pub(super) struct Writer {
    store: Store,
    objects: Vec<u32>,
    next_object: u32,
    tail: Tail,
    /// Results that count, and whether they are of an attempt that was given up.
    seats: BTreeMap<Seat, bool>,
    queue: BTreeMap<Seat, Queued>,
    batch: Option<Batch>,
    fenced: Option<i64>,
}

/// Why a batch is not written yet.
enum Trouble {
    Fenced(i64),
    Later(String),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        match error {
            StoreError::Fenced { by } => Self::Fenced(by),
            error => Self::Later(format!("{error}: {}", source.unwrap_or_default())),
        }
    }
}

impl Writer {
    pub(super) fn new(
        store: Store,
        objects: Vec<u32>,
        lines: Vec<Vec<u8>>,
        seats: BTreeMap<Seat, bool>,
    ) -> Self {
        let next_object = objects.iter().max().map_or(0, |last| last + 1);
        let tail = Tail { lines, ..Tail::default() };
        Self { store, objects, next_object, tail, seats, queue: BTreeMap::new(), batch: None, fenced: None }
    }

    /// Writes until nobody offers any more.
    pub(super) async fn serve(mut self, mut inbox: mpsc::UnboundedReceiver<Offer>) {
        let mut retry = RETRY.0;
        loop {
            if self.batch.is_none() && self.queue.is_empty() {
                let Some(offer) = inbox.recv().await else { return };
                self.take(offer);
                if !self.queue.is_empty() {
                    tokio::time::sleep(GATHER).await;
                }
            }
            while let Ok(offer) = inbox.try_recv() {
                self.take(offer);
            }
            if self.batch.is_none() && !self.decide().await {
                return;
            }
            match self.carry_out().await {
                Ok(()) => {
                    if retry > RETRY.0 {
                        tracing::info!(run = self.store.run.name, "results are written again");
                    }
                    retry = RETRY.0;
                }
                Err(Trouble::Fenced(by)) => self.give_up(by),
                Err(Trouble::Later(error)) => {
                    if retry == RETRY.0 {
                        tracing::warn!(run = self.store.run.name, error, "results are not written yet");
                    }
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(RETRY.1);
                }
            }
        }
    }

    fn take(&mut self, Offer { entry, answer }: Offer) {
        if let Some(by) = self.fenced {
            let _ = answer.send(Err(fenced(by)));
            return;
        }
        let (seat, lost) = (entry.seat, entry.is_lost());
        // What an attempt hands in counts, not what it was given up with.
        let counts_no_more = |there_is_lost: bool| lost || !there_is_lost;
        if self.seats.get(&seat).is_some_and(|is_lost| counts_no_more(*is_lost)) {
            let _ = answer.send(Ok(Persisted::Repeat));
            return;
        }
        let under_way = self.batch.as_mut().and_then(|batch| batch.entries.get_mut(&seat));
        if let Some(queued) = under_way.filter(|queued| counts_no_more(queued.entry.is_lost())) {
            queued.answers.push(answer);
            return;
        }
        let queued = self.queue.remove(&seat);
        let queued = match queued {
            None => Queued { entry, answers: vec![answer] },
            Some(Queued { entry: there, mut answers }) => {
                answers.push(answer);
                let entry = if counts_no_more(there.is_lost()) { there } else { entry };
                Queued { entry, answers }
            }
        };
        self.queue.insert(seat, queued);
    }

    /// Decides on a batch: all that is queued. `false`: packing it broke, and what the head holds is lost to us; so whatever is
    /// offered from then on is not taken.
    async fn decide(&mut self) -> bool {
        let entries = std::mem::take(&mut self.queue);
        if entries.is_empty() {
            return true;
        }
        let tail = std::mem::take(&mut self.tail);
        let packing = tokio::task::spawn_blocking(move || plan(tail, entries, SIZES));
        let Ok((tail, planned)) = packing.await else { return false };
        match planned {
            Ok(mut batch) => {
                batch.objects.clone_from(&self.objects);
                self.batch = Some(batch);
            }
            Err((mut entries, refused)) => {
                for (seat, error) in refused {
                    let answers = entries.remove(&seat).map(|queued| queued.answers);
                    for answer in answers.into_iter().flatten() {
                        let _ = answer.send(Err(io::Error::other(error.clone())));
                    }
                }
                self.queue = entries;
            }
        }
        self.tail = tail;
        true
    }

    async fn carry_out(&mut self) -> Result<(), Trouble> {
        let Some(batch) = &mut self.batch else { return Ok(()) };
        while let Some(packed) = batch.more.front() {
            if self.store.make(self.next_object, packed).await? {
                batch.objects.push(self.next_object);
                batch.more.pop_front();
            }
            self.next_object += 1;
        }
        self.store.may_write()?;
        let objects: Vec<String> = batch.objects.iter().map(ToString::to_string).collect();
        let content = Content {
            texts: BTreeMap::from([(OBJECTS_KEY.to_owned(), objects.join(","))]),
            binaries: batch.packed.iter().map(|packed| (PARTS_KEY.to_owned(), packed.clone())).collect(),
        };
        self.store.head.put(&content).await?;
        let Some(Batch { entries, objects, tail, .. }) = self.batch.take() else { return Ok(()) };
        (self.objects, self.tail) = (objects, tail);
        for (seat, Queued { entry, answers }) in entries {
            self.seats.insert(seat, entry.is_lost());
            // Who asks goes on with the part, and need not copy it.
            drop(entry);
            for answer in answers {
                let _ = answer.send(Ok(Persisted::Written));
            }
        }
        Ok(())
    }

    fn give_up(&mut self, by: i64) {
        tracing::warn!(run = self.store.run.name, by, "another leader keeps the results now");
        self.fenced = Some(by);
        let batch = self.batch.take().map(|batch| batch.entries).unwrap_or_default();
        let queue = std::mem::take(&mut self.queue);
        for answer in batch.into_values().chain(queue.into_values()).flat_map(|queued| queued.answers) {
            let _ = answer.send(Err(fenced(by)));
        }
    }
}

impl Store {
    fn may_write(&self) -> Result<(), Trouble> {
        match (self.may_write)() {
            true => Ok(()),
            false => Err(Trouble::Later("this replica may not write now".to_owned())),
        }
    }

    /// Makes an object; `false` when another one has its name. It counts when the head names it.
    async fn make(&self, number: u32, packed: &[u8]) -> Result<bool, Trouble> {
        self.may_write()?;
        let name = self.run.more_parts_config_map(number);
        let texts = BTreeMap::from([("epoch".to_owned(), self.epoch.to_string())]);
        let binaries = BTreeMap::from([(PARTS_KEY.to_owned(), packed.to_vec())]);
        let object = config_maps::kept(&self.run, &name, &texts, binaries);
        let failed = |error| Trouble::from(StoreError::Api(name.clone(), Box::new(error)));
        match self.maps.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                // An answer of ours that was lost; or it is an earlier leader's, and counts for nothing.
                let there = self.maps.get_opt(&name).await.map_err(failed)?.unwrap_or_default();
                let same = there.data.as_ref() == Some(&texts)
                    && there.binary_data.as_ref().and_then(|binaries| binaries.get(PARTS_KEY))
                        == Some(&ByteString(packed.to_vec()));
                Ok(same && config_maps::is_of(&there.metadata, &self.run))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Results that cannot be written, each with the reason.
pub(super) type Refused = Vec<(Seat, String)>;

/// A batch, or the entries that no ConfigMap holds.
pub(super) type Planned = Result<Batch, (BTreeMap<Seat, Queued>, Refused)>;

/// A batch of `entries` after what is in the head. Hands the tail back.
pub(super) fn plan(tail: Tail, entries: BTreeMap<Seat, Queued>, sizes: Sizes) -> (Tail, Planned) {
    let mut measured = tail.measured.clone();
    for part in entries.values().filter_map(|queued| queued.entry.measured.as_deref()) {
        measured.entry(part.stage).or_default().add(part);
    }
    let merged = measured.iter().map(|(stage, measured)| measured.lines(*stage)).collect();
    let merged: Vec<Vec<Vec<u8>>> = match merged {
        Ok(merged) => merged,
        Err(error) => {
            let error: serde_json::Error = error;
            let refused = entries.keys().map(|seat| (*seat, error.to_string())).collect();
            return (tail, Err((entries, refused)));
        }
    };
    let of_entries = entries.values().map(|queued| &queued.entry.line);
    let lines: Vec<&[u8]> = tail.lines.iter().chain(of_entries).map(Vec::as_slice).collect();
    let merged: Vec<&[u8]> = merged.iter().flatten().map(Vec::as_slice).collect();
    let packed = || {
        let fresh = codec::pack(&lines, sizes.object).map_err(|(line, bytes)| (Some(line), bytes))?;
        let merged = codec::pack(&merged, sizes.object).map_err(|(_, bytes)| (None, bytes))?;
        Ok((fresh, merged))
    };
    let (fresh, merged) = match packed() {
        Ok(packed) => packed,
        Err((line, bytes)) => {
            let error = format!("a result of {bytes} bytes, packed, and a ConfigMap holds {}", sizes.object);
            let of_entry = line.and_then(|line| line.checked_sub(tail.lines.len()));
            let one = of_entry.and_then(|at| entries.keys().nth(at));
            let refused = one.map_or_else(|| entries.keys().collect(), |seat| vec![seat]);
            let refused = refused.into_iter().map(|seat| (*seat, error.clone())).collect();
            return (tail, Err((entries, refused)));
        }
    };
    let kept: Vec<&[u8]> = std::iter::once(&tail.sealed).chain(&fresh).map(Vec::as_slice).collect();
    let all: Vec<&[u8]> = kept.iter().copied().chain(merged.iter().map(Vec::as_slice)).collect();
    let (packed, more, after) = if all.iter().map(|one| one.len()).sum::<usize>() <= sizes.head {
        let after = if fresh.iter().map(Vec::len).sum::<usize>() >= sizes.sealed {
            Tail { sealed: kept.concat(), lines: Vec::new(), measured }
        } else {
            let lines = lines.into_iter().map(<[u8]>::to_vec).collect();
            Tail { sealed: tail.sealed.clone(), lines, measured }
        };
        (Some(all.concat()), VecDeque::new(), after)
    } else {
        (None, codec::joined(&all, sizes.object).into(), Tail::default())
    };
    (tail, Ok(Batch { entries, more, objects: Vec::new(), tail: after, packed }))
}

fn fenced(by: i64) -> io::Error {
    io::Error::other(format!("the leader of epoch {by} keeps the results of this run now"))
}
