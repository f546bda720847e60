//! Keeps the place of the data set: looks whether it is ours, holds the lock, writes and removes the marker.
//!
//! Runs on a thread of its own, because each of these may take as long as the storage likes, and the director must
//! go on answering. Under `Shared` one agent of the run keeps the place; under `PerAgent` each keeps its own.
//! The rule: nobody's data is ever overwritten or deleted; a place that is not empty and bears no marker of this
//! very data set is refused before anything is touched. Deliberately without a view of its own on when the marker
//! says what: the decider asks for that, but for the one word that must stand before anything is changed.
//!
//! Architecture invariant: nothing is written to a place whose lock is not held.

use super::director::Message;
use crate::preflight;
use crate::target::backend::Backend;
use crate::target::place::{Check, Found as Lies, Locked, Place};
use lockstep_core::dataset::marker::Marker;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, Plan, Scheme, StageKind};
use lockstep_core::problem::{Problem, exit};
use lockstep_core::ranges::RangeSet;
use lockstep_core::run::message::Mark;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};

/// What the keeper can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// All checks; with `keep` also the place's rules and its lock.
    Preflight {
        /// Whether this agent keeps the place.
        keep: bool,
    },
    /// Take the lock, in the middle of a run.
    Lock,
    /// Write the marker of a data set that is about to be written or deleted.
    MarkUnfinished,
    /// Write what the decider knows of the data set.
    Mark(Mark),
    /// Flush what was written.
    Sync,
    /// Remove the marker, and the place if a run created it.
    Unmark,
    /// Give the lock back.
    Unlock,
}

/// What it answers.
pub type Answer = Result<Findings, Problem>;

/// What was found on the way to an answer.
#[derive(Debug, Default)]
pub struct Findings {
    /// Named checks, of preflight.
    pub checks: Vec<Check>,
    /// What lies at the place, where it was looked at for the first time.
    pub place: Option<Found>,
}

/// What lies at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// It held nothing.
    pub fresh: bool,
    /// Below which index puts of earlier runs may lie; 0 where there are none.
    pub puts_below: u64,
}

/// Whether a plan writes to or deletes from its target.
#[must_use]
pub fn writes(plan: &Plan) -> bool {
    plan.stages.iter().any(|stage| match &stage.kind {
        StageKind::Preflight => false,
        StageKind::Prepare { .. } => plan.existing != Existing::Reuse,
        StageKind::Cleanup { .. } => true,
        StageKind::Execute(execute) => {
            execute.operations_mix.iter().any(|op| matches!(op.op, Op::Put | Op::Delete))
        }
    })
}

/// Starts the keeper's thread. `sent` counts the requests that it sent and nobody accounted for yet.
///
/// # Errors
/// A thread or runtime that cannot be made.
pub fn start<B: Backend>(
    backend: Arc<B>,
    plan: Arc<Plan>,
    requests: Receiver<(u64, Request)>,
    director: Sender<Message>,
    sent: Arc<AtomicU64>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("keeper".into()).spawn(move || {
        let mut keeper = None;
        let mut seen = 0;
        while let Ok((serial, request)) = requests.recv() {
            let answer = runtime.block_on(async {
                if keeper.is_none() {
                    keeper = Some(Keeper::new(backend.place()?, Arc::clone(&plan)));
                }
                match &mut keeper {
                    Some(keeper) => keeper.answer(request).await,
                    None => Ok(Findings::default()),
                }
            });
            // Before the answer, which may be the last thing that a stage waits for.
            let requests = keeper.as_ref().map_or(0, |keeper| keeper.place.requests());
            sent.fetch_add(requests - seen, Ordering::Relaxed);
            seen = requests;
            if director.send(Message::Kept { serial, request, answer }).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// A place, and what is known of it.
struct Keeper<P> {
    place: P,
    plan: Arc<Plan>,
    /// What the marker says, or will: filled from what lies there at the first look.
    marker: Marker,
    /// Below which index puts of earlier runs may lie; no mark of this run takes that back.
    found_below: u64,
    looked: bool,
}

impl<P: Place> Keeper<P> {
    fn new(place: P, plan: Arc<Plan>) -> Self {
        let marker = Marker::new(&plan.dataset, plan.sharing, &plan.run.uid);
        Self { place, plan, marker, found_below: 0, looked: false }
    }

    async fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Preflight { keep } => Ok(self.preflight(keep).await),
            Request::Lock => {
                let check = self.lock().await?;
                // Who takes a place over in the middle of a run must not forget what its marker says.
                let place = if self.looked { None } else { Some(self.look().await?.1) };
                Ok(Findings { checks: vec![check], place })
            }
            Request::MarkUnfinished => {
                self.marker.ranges_done = RangeSet::default();
                self.mark().await
            }
            Request::Mark(Mark { prepared, puts_below }) => {
                if prepared {
                    self.marker.ranges_done = RangeSet::of(0, self.plan.dataset.len());
                }
                self.marker.puts_below = puts_below.max(self.found_below);
                self.mark().await
            }
            Request::Sync => self.place.sync().await.map(|()| Findings::default()),
            Request::Unmark => self.place.unmark(&self.marker).await.map(|()| Findings::default()),
            Request::Unlock => self.place.unlock().await.map(|()| Findings::default()),
        }
    }

    /// Writes the marker. Only while the lock is held: without it the place may be another run's by now.
    async fn mark(&mut self) -> Answer {
        self.lock().await?;
        self.place.mark(&self.marker).await.map(|()| Findings::default())
    }

    /// Looks what lies there, and takes over what its marker says.
    async fn look(&mut self) -> Result<(Lies, Found), Problem> {
        let lies = self.place.look().await?;
        let mut found = Found { fresh: matches!(lies, Lies::Absent | Lies::Empty), puts_below: 0 };
        if let Lies::Marked(marker) = &lies {
            self.marker.ranges_done = marker.ranges_done.clone();
            self.marker.puts_below = marker.puts_below;
            if marker.run_uid != self.plan.run.uid {
                self.found_below = marker.puts_below;
                found.puts_below = marker.puts_below;
            }
        }
        self.looked = true;
        Ok((lies, found))
    }

    /// Everything that preflight looks at. Stops at the first problem of the place: what follows would only repeat it.
    async fn preflight(&mut self, keep: bool) -> Findings {
        let mut checks = preflight::machine(&self.plan);
        let writes = writes(&self.plan);
        for mut check in self.place.check().await {
            // Who only reads needs neither rights to write nor space.
            if !writes && matches!(check.name, "rights" | "free-space") && check.problem.is_some() {
                check.problem = None;
                check.finding += "; not needed, this run only reads";
            }
            checks.push(check);
        }
        if !keep || checks.iter().any(|check| check.problem.is_some()) {
            return Findings { checks, place: None };
        }
        let looked = self.look().await;
        let place = looked.as_ref().ok().map(|(_, found)| *found);
        let judged = looked.and_then(|(lies, _)| judge(&lies, &self.plan, writes));
        let refused = judged.is_err();
        checks.push(checked("place", judged));
        if writes && !refused {
            let locked = self.lock().await;
            checks.push(locked.unwrap_or_else(|problem| checked("lock", Err(problem))));
        }
        Findings { checks, place }
    }

    async fn lock(&mut self) -> Result<Check, Problem> {
        let finding = match self.place.lock(&self.plan.run.uid).await? {
            Locked::Taken => "taken".to_owned(),
            Locked::TakenOver(whose) => format!("taken over from {whose}, which is gone"),
            Locked::Held(whose) => {
                return Err(Problem::new(
                    format!("target {}: another run is using it", self.plan.target.uri),
                    format!("the lock is held by {whose}"),
                )
                .likely("another run has not ended yet")
                .next("wait for it, or give this run a place of its own")
                .kept("nothing was touched")
                .exit(exit::REFUSED));
            }
        };
        Ok(checked("lock", Ok(finding)))
    }
}

fn checked(name: &'static str, finding: Result<String, Problem>) -> Check {
    match finding {
        Ok(finding) => Check { name, finding, problem: None },
        Err(problem) => Check { name, finding: problem.cause.clone(), problem: Some(problem) },
    }
}

/// Whether a run may use what lies there; what it is, for people.
fn judge(lies: &Lies, plan: &Plan, writes: bool) -> Result<String, Problem> {
    let uri = &plan.target.uri;
    let reuse = plan.existing == Existing::Reuse;
    let refuse = |what: String, cause: String| {
        Err(Problem::new(what, cause).kept("nothing was touched").exit(exit::REFUSED))
    };
    match lies {
        Lies::Absent | Lies::Empty if reuse && !matches!(plan.target.scheme, Scheme::Null | Scheme::Mem) => {
            refuse(format!("target {uri}: nothing is there to reuse"), "the place is empty or missing".into())
                .map_err(|problem| {
                    problem
                        .likely("the URI names another place than the one that was prepared")
                        .next("set `existing: FillGaps` and add a prepare stage, or correct target.uri")
                })
        }
        Lies::Absent => Ok("missing; will be created, and removed again by cleanup".into()),
        Lies::Empty => Ok("empty".into()),
        Lies::Foreign(names) if writes => refuse(
            format!("target {uri} is not empty and bears no marker of Lockstep's"),
            format!("it holds {}", names.join(", ")),
        )
        .map_err(|problem| {
            problem
                .likely("the URI names a directory or prefix with data of your own")
                .next("choose an empty place, or a new last component: it will be created")
        }),
        Lies::Foreign(names) => Ok(format!(
            "WARNING: no marker; this run trusts that the data set is there (it holds {})",
            names.join(", ")
        )),
        Lies::Marked(marker) => {
            let done = marker.ranges_done.len();
            let len = plan.dataset.len();
            if let Some(difference) = marker.difference(&plan.dataset, plan.sharing) {
                return refuse(
                    format!("target {uri} holds another data set than this run's"),
                    format!("they differ in {} (written by run {})", difference.name(), marker.run_uid),
                )
                .map_err(|problem| {
                    problem
                        .likely("the manifest's data set was changed since it was prepared")
                        .next("give this data set a place of its own, or clean the old one up with its own manifest")
                });
            }
            if reuse && done < len {
                return refuse(
                    format!("target {uri} holds an incomplete data set"),
                    format!("its marker says that {done} of {len} objects are known to be written"),
                )
                .map_err(|problem| {
                    problem
                        .likely("the run that prepared it was stopped")
                        .next("set `existing: FillGaps` and add a prepare stage")
                });
            }
            Ok(format!("holds this data set, {done} of {len} objects known to be written"))
        }
    }
}
