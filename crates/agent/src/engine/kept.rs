//! One place that this agent keeps: what is known of it, its lock, and what its marker says.
//!
//! The rule: nobody's data is ever overwritten or deleted; a place that is not empty and bears no marker of this
//! very data set is refused before anything is touched. Deliberately without a view of its own on when the marker
//! says what: the decider asks for that, but for the one word that must stand before anything is changed.
//!
//! Architecture invariant: nothing is written to a place whose lock is not held, or was lost.

use super::keeper::{Findings, Found};
use crate::preflight;
use crate::target::place::{Check, Found as Lies, Locked, Place};
use lockstep_core::dataset::marker::Marker;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, Plan, Scheme, StageKind};
use lockstep_core::problem::{Problem, exit};
use lockstep_core::ranges::RangeSet;
use lockstep_core::run::message::Mark;
use std::sync::Arc;

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

/// See the module's text.
pub struct Kept<P> {
    /// The place itself.
    pub place: P,
    plan: Arc<Plan>,
    space: Option<u32>,
    /// What the marker says, or will: filled from what lies there at the first look.
    marker: Marker,
    /// Below which index puts of earlier runs may lie; no mark of this run takes that back.
    found_below: u64,
    looked: bool,
    /// Why nothing may be written there any more.
    barred: Option<Problem>,
}

impl<P: Place> Kept<P> {
    /// The place of a key space, of which nothing is known yet.
    pub fn new(place: P, plan: Arc<Plan>, space: Option<u32>) -> Self {
        let marker = Marker::new(&plan.dataset, plan.sharing, &plan.run.uid);
        Self { place, plan, space, marker, found_below: 0, looked: false, barred: None }
    }

    /// The problem, once, when the lock is another's by now.
    pub fn newly_lost(&mut self) -> Option<Problem> {
        if self.barred.is_some() {
            return None;
        }
        self.barred = self.place.lost();
        self.barred.clone()
    }

    /// Takes the place over in the middle of a run: takes the lock, and looks what the marker says.
    pub async fn take_over(&mut self) -> Result<Findings, Problem> {
        let check = self.lock().await.inspect_err(|problem| self.barred = Some(problem.clone()))?;
        self.barred = None;
        let found = if self.looked { None } else { Some(self.look().await?.1) };
        Ok(Findings { checks: vec![check], found })
    }

    /// The marker no longer says that everything is there.
    pub async fn mark_unfinished(&mut self) -> Result<(), Problem> {
        self.marker.ranges_done = RangeSet::default();
        self.write().await
    }

    /// The marker says what the decider knows.
    pub async fn mark(&mut self, mark: Mark) -> Result<(), Problem> {
        if mark.prepared {
            self.marker.ranges_done = RangeSet::of(0, self.plan.dataset.len());
        }
        self.marker.puts_below = mark.puts_below.max(self.found_below);
        self.write().await
    }

    /// Removes the marker, and the place if a run created it.
    pub async fn unmark(&mut self) -> Result<(), Problem> {
        self.hold().await?;
        self.place.unmark(&self.marker).await
    }

    async fn write(&mut self) -> Result<(), Problem> {
        self.hold().await?;
        self.place.mark(&self.marker).await
    }

    /// Holds the lock, or says why not. One that was lost is not taken again: the other may have begun to write.
    async fn hold(&mut self) -> Result<(), Problem> {
        if let Some(problem) = self.place.lost().or_else(|| self.barred.clone()) {
            return Err(problem);
        }
        self.lock().await.map(|_| ())
    }

    /// Looks what lies there, and takes over what its marker says.
    async fn look(&mut self) -> Result<(Lies, Found), Problem> {
        let lies = self.place.look().await?;
        let fresh = matches!(lies, Lies::Absent | Lies::Empty);
        let mut found = Found { space: self.space, fresh, puts_below: 0 };
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
    pub async fn preflight(&mut self, keep: bool) -> Findings {
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
            return Findings { checks, found: None };
        }
        let looked = self.look().await;
        let found = looked.as_ref().ok().map(|(_, found)| *found);
        let judged = looked.and_then(|(lies, _)| judge(&lies, &self.plan, writes));
        let refused = judged.is_err();
        checks.push(checked("place", judged));
        if writes && !refused {
            let locked = self.lock().await;
            checks.push(locked.unwrap_or_else(|problem| checked("lock", Err(problem))));
        }
        Findings { checks, found }
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
