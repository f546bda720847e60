//! Keeps the places of the data set: looks whether they are ours, holds their locks, writes and removes their markers.
//!
//! Runs on a thread of its own, because each of these may take as long as the storage likes, and the director must
//! go on answering. Under `Shared` one agent of the run keeps the place; under `PerAgent` each keeps its own, and
//! those of agents that are gone for good where the decider asks for it. What is done to one place is in `kept`;
//! deliberately nothing here looks at what lies there.

use super::director::Message;
use super::kept::Kept;
use crate::target::backend::Backend;
use crate::target::place::{Check, Place};
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use lockstep_core::run::message::Mark;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often places are asked whether their locks were lost.
const LOOK: Duration = Duration::from_millis(200);

/// What the keeper can be asked for. Without a key space it is about the agent's own place, or the shared one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// All checks; with `keep` also the place's rules and its lock.
    Preflight {
        /// Whether this agent keeps the place.
        keep: bool,
    },
    /// Keep the place from now on, in the middle of a run.
    TakeOver,
    /// Keep also the place of another agent, which is gone, and mark it as unfinished.
    Adopt(u32),
    /// Write the markers of a data set that is about to be written or deleted, in every place that is kept.
    MarkUnfinished,
    /// Write what the decider knows of the data set.
    Mark(Mark),
    /// Flush what was written.
    Sync,
    /// Remove the markers, and the places that a run created.
    Unmark,
    /// Give the locks back.
    Unlock,
}

/// What it answers.
pub type Answer = Result<Findings, Problem>;

/// What was found on the way to an answer.
#[derive(Debug, Default)]
pub struct Findings {
    /// Named checks, of preflight.
    pub checks: Vec<Check>,
    /// What lies at a place, where it was looked at for the first time.
    pub found: Option<Found>,
}

/// What lies at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose place it is; `None` is the shared one.
    pub space: Option<u32>,
    /// It held nothing.
    pub fresh: bool,
    /// Below which index puts of earlier runs may lie; 0 where there are none.
    pub puts_below: u64,
}

/// Starts the keeper's thread. `home`: the agent's own key space. `sent` counts the requests that it sent and nobody
/// accounted for yet.
///
/// # Errors
/// A thread or runtime that cannot be made.
pub fn start<B: Backend>(
    backend: Arc<B>,
    plan: Arc<Plan>,
    home: Option<u32>,
    requests: Receiver<(u64, Request)>,
    director: Sender<Message>,
    sent: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let mut keeper = Keeper { backend, plan, home, places: BTreeMap::new() };
        let mut seen = 0;
        loop {
            let (serial, request) = match requests.recv_timeout(LOOK) {
                Ok(asked) => asked,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(problem) = keeper.places.values_mut().find_map(Kept::newly_lost) {
                        let (request, answer) = (Request::TakeOver, Err(problem));
                        let _ = director.send(Message::Kept { serial: 0, request, answer });
                    }
                    continue;
                }
            };
            let answer = runtime.block_on(keeper.answer(request));
            // Before the answer, which may be the last thing that a stage waits for.
            let requests = keeper.places.values().map(|kept| kept.place.requests()).sum();
            sent.fetch_add(requests - seen, Ordering::Relaxed);
            seen = requests;
            if director.send(Message::Kept { serial, request, answer }).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

struct Keeper<B: Backend> {
    backend: Arc<B>,
    plan: Arc<Plan>,
    home: Option<u32>,
    places: BTreeMap<Option<u32>, Kept<B::Place>>,
}

impl<B: Backend> Keeper<B> {
    fn place(&mut self, space: Option<u32>) -> Result<&mut Kept<B::Place>, Problem> {
        match self.places.entry(space) {
            std::collections::btree_map::Entry::Occupied(kept) => Ok(kept.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let place = self.backend.place(space)?;
                Ok(free.insert(Kept::new(place, Arc::clone(&self.plan), space)))
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Answer {
        let home = self.place(self.home)?;
        match request {
            Request::Preflight { keep } => return Ok(home.preflight(keep).await),
            Request::TakeOver => return home.take_over().await,
            Request::Adopt(agent) => {
                let kept = self.place(Some(agent))?;
                let findings = kept.take_over().await?;
                kept.mark_unfinished().await?;
                return Ok(findings);
            }
            Request::Mark(mark) => self.place(mark.space)?.mark(mark).await?,
            Request::Sync => home.place.sync().await?,
            Request::MarkUnfinished => {
                for kept in self.places.values_mut() {
                    kept.mark_unfinished().await?;
                }
            }
            Request::Unmark => {
                for kept in self.places.values_mut() {
                    kept.unmark().await?;
                }
            }
            Request::Unlock => {
                for kept in self.places.values_mut() {
                    kept.place.unlock().await?;
                }
            }
        }
        Ok(Findings::default())
    }
}
