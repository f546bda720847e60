//! The run, written down: what another coordinator needs to go on, and how this one waits for it to be durable.
//!
//! Architecture invariant: state is written before it is acted on. A step that decided something is held until its record is
//! durable: its actions wait, and so does the decider. Meanwhile sessions are opened, heartbeats answered, and results
//! taken in: agents work on with what they have. So a coordinator that cannot write begins nothing new.

use crate::actor::{Actor, Input};
use crate::clock::RunClock;
use crate::host::RecordError;
use lockstep_core::run::Run;
use lockstep_core::run::message::{Action, Event, Says};
use lockstep_core::run::record::Weight;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the document.
const RECORD_FORMAT: u32 = 1;
/// Time between two records that hold details alone, nanoseconds.
const DETAIL_NS: u64 = 15_000_000_000;
/// Wait before a record is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// A run as it is written down.
#[derive(Debug, Serialize)]
struct RecordOut<'a> {
    format: u32,
    wall_ms: u64,
    run_ns: u64,
    run: &'a Run,
}

/// A run as it is read back.
#[derive(Debug, Deserialize)]
struct RecordIn {
    format: u32,
    wall_ms: u64,
    run_ns: u64,
    run: Run,
}

/// Why a run cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Not a record at all, or of a version that this program does not read.
    #[error("the record of the run cannot be read")]
    Malformed(#[from] serde_json::Error),
    /// Of another version of the document.
    #[error("the record of the run has format {0}, and this program reads {RECORD_FORMAT}")]
    Format(u32),
}

/// Reads a record back, with a clock on which the run went on while nobody looked.
pub(crate) fn read(document: &[u8]) -> Result<(Run, RunClock), ResumeError> {
    let RecordIn { format, wall_ms, run_ns, run } = serde_json::from_slice(document)?;
    if format != RECORD_FORMAT {
        return Err(ResumeError::Format(format));
    }
    // Wall clocks only bridge the gap between two processes; whatever has to be exact, agents tell in their own time.
    let away_ns = wall_now_ms().saturating_sub(wall_ms).saturating_mul(1_000_000);
    Ok((run, RunClock::that_shows(run_ns.saturating_add(away_ns))))
}

fn wall_now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What came while a step was held.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    events: Vec<Event>,
    /// Of heartbeats, the last one of each attempt counts.
    beats: BTreeMap<(u32, u32), Event>,
}

impl Backlog {
    fn add(&mut self, event: Event) {
        match event {
            Event::Says { index, attempt, says: Says::Beat(_) } => {
                self.beats.insert((index, attempt), event);
            }
            // Measured across the wait, they are worth nothing.
            Event::Clock { .. } | Event::Tick => {}
            event => self.events.push(event),
        }
    }
}

/// The coordinator was replaced: nothing that it says or writes counts any more.
#[derive(Debug)]
pub(crate) struct Replaced;

impl Actor {
    /// Carries out the actions of a step, once what it decided is durable.
    ///
    /// # Errors
    /// When another coordinator has the run.
    pub(crate) async fn settle(&mut self, mut actions: Vec<Action>) -> Result<(), Replaced> {
        loop {
            let weight = self.run.take_unrecorded().filter(|_| self.store.keeps_record());
            self.stale |= weight.is_some();
            let now_ns = self.clock.now_ns();
            if weight != Some(Weight::Decisive) {
                if self.stale && now_ns.saturating_sub(self.recorded_ns) >= DETAIL_NS {
                    self.write_details_down();
                }
                self.carry_out(actions);
                return Ok(());
            }
            let since_ns = self.clock.now_ns();
            let backlog = self.write_down(&actions).await?;
            actions.retain(|action| !matches!(action, Action::GiveUp { .. }));
            self.carry_out(actions);
            let now_ns = self.clock.now_ns();
            actions = self.run.excuse(since_ns, now_ns);
            for event in backlog.events.into_iter().chain(backlog.beats.into_values()) {
                self.run.absorb(event, now_ns);
            }
            actions.extend(self.run.decide(now_ns));
            if actions.is_empty() {
                return Ok(());
            }
        }
    }

    /// Details are written beside the run, which does not wait for them; one that is not taken is written with the next.
    fn write_details_down(&mut self) {
        if self.details.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
            && let Some(document) = self.document()
        {
            let writing = self.store.record(document);
            self.details = Some(tokio::spawn(async move {
                if let Err(error) = writing.await {
                    tracing::debug!(%error, "details of the run are not written down");
                }
            }));
            (self.recorded_ns, self.stale) = (self.clock.now_ns(), false);
        }
    }

    fn document(&self) -> Option<Vec<u8>> {
        let (wall_ms, run_ns) = (wall_now_ms(), self.clock.now_ns());
        let record = RecordOut { format: RECORD_FORMAT, wall_ms, run_ns, run: &self.run };
        let document = serde_json::to_vec(&record);
        let told = document.inspect_err(|error| {
            tracing::error!(%error, "the run cannot be written down");
        });
        told.ok()
    }

    /// Brings the run to stable storage. What attempts that are given up had reported comes first, so that no record says
    /// that they are gone while their counts are nowhere.
    async fn write_down(&mut self, actions: &[Action]) -> Result<Backlog, Replaced> {
        for action in actions {
            if let Action::GiveUp { index, attempt, stage, reason, unheard } = action {
                self.give_up((*index, *attempt), *stage, reason, *unheard);
            }
        }
        let mut backlog = Backlog::default();
        while self.persisting > 0 {
            match self.inputs.recv().await {
                Some(input) => self.take_while_held(input, &mut backlog),
                None => break,
            }
        }
        let Some(document) = self.document() else { return Ok(backlog) };
        let mut said = false;
        loop {
            let writing = self.store.record(document.clone());
            match self.held_until(writing, &mut backlog).await {
                Ok(()) => break,
                Err(RecordError::Replaced) => return Err(Replaced),
                Err(RecordError::Failed(cause)) => {
                    if !said {
                        tracing::warn!(%cause, "the run waits until it can be written down");
                    }
                    said = true;
                }
            }
            self.held_until(tokio::time::sleep(RETRY), &mut backlog).await;
        }
        (self.recorded_ns, self.stale) = (self.clock.now_ns(), false);
        Ok(backlog)
    }

    /// Waits, and takes everything in meanwhile: an answer that is late by more than `orphanGrace` ends the agent.
    async fn held_until<T>(&mut self, what: impl Future<Output = T>, backlog: &mut Backlog) -> T {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return done,
                Some(input) = self.inputs.recv() => self.take_while_held(input, backlog),
            }
        }
    }

    /// Links, results and answers to heartbeats do not wait; what the decider has to hear does.
    fn take_while_held(&mut self, input: Input, backlog: &mut Backlog) {
        if let Some(event) = self.take(input, self.clock.now_ns()) {
            backlog.add(event);
        }
    }
}
