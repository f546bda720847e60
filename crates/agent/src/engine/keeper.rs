//! Keeps the place of the data set: looks whether it is ours, holds the lock, writes and removes the marker.
//!
//! Runs on a thread of its own, because each of these may take as long as the storage likes, and the director must
//! go on answering. Under `Shared` one agent of the run keeps the place; under `PerAgent` each keeps its own.
//! The rule: nobody's data is ever overwritten or deleted; a place that is not empty and bears no marker of this
//! very data set is refused before anything is touched, and one whose lock was lost is not written to any more.

use super::director::Message;
use super::interface::{PLACE_EMPTY, PLACE_MISSING};
use crate::preflight;
use crate::target::backend::Backend;
use crate::target::place::{Check, Found, Locked, Place};
use lockstep_core::dataset::marker::Marker;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, Plan, Scheme, StageKind};
use lockstep_core::problem::{Problem, exit};
use lockstep_core::ranges::RangeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// How often the place is asked whether its lock was lost.
const LOOK: Duration = Duration::from_millis(200);

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
    /// Write the marker of a data set that is being written or deleted.
    MarkUnfinished,
    /// Write the marker of a data set that is complete.
    MarkComplete,
    /// Flush what was written.
    Sync,
    /// Remove the marker, and the place if a run created it.
    Unmark,
    /// Give the lock back.
    Unlock,
}

impl Request {
    /// Whether it changes what lies at the place, which takes the lock.
    fn writes(self) -> bool {
        matches!(self, Self::MarkUnfinished | Self::MarkComplete | Self::Unmark)
    }
}

/// What it answers.
pub type Answer = Result<Vec<Check>, Problem>;

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
        let mut place = None;
        let mut seen = 0;
        // Why the place may not be written to: its lock is another's, or was lost.
        let mut barred: Option<Problem> = None;
        loop {
            let (serial, request) = match requests.recv_timeout(LOOK) {
                Ok(asked) => asked,
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let lost = place.as_ref().and_then(Place::lost).filter(|_| barred.is_none());
                    if let Some(problem) = lost {
                        barred = Some(problem.clone());
                        let (request, answer) = (Request::Lock, Err(problem));
                        let _ = director.send(Message::Kept { serial: 0, request, answer });
                    }
                    continue;
                }
            };
            let answer = runtime.block_on(async {
                if place.is_none() {
                    place = Some(backend.place()?);
                }
                let Some(place) = &mut place else { return Ok(Vec::new()) };
                match place.lost().or_else(|| barred.clone()).filter(|_| request.writes()) {
                    Some(problem) => Err(problem),
                    None => answer(place, &plan, request).await,
                }
            });
            if request == Request::Lock {
                barred = answer.as_ref().err().cloned();
            }
            // Before the answer, which may be the last thing that a stage waits for.
            let requests = place.as_ref().map_or(0, Place::requests);
            sent.fetch_add(requests - seen, Ordering::Relaxed);
            seen = requests;
            if director.send(Message::Kept { serial, request, answer }).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

async fn answer<P: Place>(place: &mut P, plan: &Plan, request: Request) -> Answer {
    let marker = |done| {
        let mut marker = Marker::new(&plan.dataset, plan.sharing, &plan.run.uid);
        marker.ranges_done = done;
        marker
    };
    let nothing = |()| Vec::new();
    match request {
        Request::Preflight { keep } => Ok(check(place, plan, keep).await),
        Request::Lock => lock(place, plan).await.map(|check| vec![check]),
        Request::MarkUnfinished => place.mark(&marker(RangeSet::default())).await.map(nothing),
        Request::MarkComplete => place.mark(&marker(RangeSet::of(0, plan.dataset.len()))).await.map(nothing),
        Request::Sync => place.sync().await.map(nothing),
        Request::Unmark => place.unmark(&marker(RangeSet::default())).await.map(nothing),
        Request::Unlock => place.unlock().await.map(nothing),
    }
}

/// Everything that preflight looks at. Stops at the first problem of the place: what follows would only repeat it.
async fn check<P: Place>(place: &mut P, plan: &Plan, keep: bool) -> Vec<Check> {
    let mut checks = preflight::machine(plan);
    let writes = writes(plan);
    for mut check in place.check().await {
        // Who only reads needs neither rights to write nor space.
        if !writes && matches!(check.name, "rights" | "free-space") && check.problem.is_some() {
            check.problem = None;
            check.finding += "; not needed, this run only reads";
        }
        checks.push(check);
    }
    if !keep || checks.iter().any(|check| check.problem.is_some()) {
        return checks;
    }
    let (finding, problem) = match place.look().await.and_then(|found| judge(&found, plan, writes)) {
        Ok(finding) => (finding, None),
        Err(problem) => (problem.cause.clone(), Some(problem)),
    };
    let refused = problem.is_some();
    checks.push(Check { name: "place", finding, problem });
    if writes && !refused {
        checks.push(match lock(place, plan).await {
            Ok(check) => check,
            Err(problem) => Check { name: "lock", finding: problem.cause.clone(), problem: Some(problem) },
        });
    }
    checks
}

/// Whether a run may use what lies there; what it is, for people.
fn judge(found: &Found, plan: &Plan, writes: bool) -> Result<String, Problem> {
    let uri = &plan.target.uri;
    let reuse = plan.existing == Existing::Reuse;
    let refuse = |what: String, cause: String| {
        Err(Problem::new(what, cause).kept("nothing was touched").exit(exit::REFUSED))
    };
    match found {
        Found::Absent | Found::Empty
            if reuse && !matches!(plan.target.scheme, Scheme::Null | Scheme::Mem) =>
        {
            refuse(format!("target {uri}: nothing is there to reuse"), "the place is empty or missing".into())
                .map_err(|problem| {
                    problem
                        .likely("the URI names another place than the one that was prepared")
                        .next("set `existing: FillGaps` and add a prepare stage, or correct target.uri")
                })
        }
        Found::Absent => Ok(PLACE_MISSING.into()),
        Found::Empty => Ok(PLACE_EMPTY.into()),
        Found::Foreign(names) if writes => refuse(
            format!("target {uri} is not empty and bears no marker of Lockstep's"),
            format!("it holds {}", names.join(", ")),
        )
        .map_err(|problem| {
            problem
                .likely("the URI names a directory or prefix with data of your own")
                .next("choose an empty place, or a new last component: it will be created")
        }),
        Found::Foreign(names) => Ok(format!(
            "WARNING: no marker; this run trusts that the data set is there (it holds {})",
            names.join(", ")
        )),
        Found::Marked(marker) => {
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

async fn lock<P: Place>(place: &mut P, plan: &Plan) -> Result<Check, Problem> {
    let finding = match place.lock(&plan.run.uid).await? {
        Locked::Taken => "taken".to_owned(),
        Locked::TakenOver(whose) => format!("taken over from {whose}, which is gone"),
        Locked::Held(whose) => {
            return Err(Problem::new(
                format!("target {}: another run is using it", plan.target.uri),
                format!("the lock is held by {whose}"),
            )
            .likely("another run has not ended yet")
            .next("wait for it, or give this run a place of its own")
            .kept("nothing was touched")
            .exit(exit::REFUSED));
        }
    };
    Ok(Check { name: "lock", finding, problem: None })
}
