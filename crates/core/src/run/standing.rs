//! Where an agent stands: all that a coordinator which takes a run over has to hear of it, beside what was recorded.
//!
//! It is a fold over what the agent was told and what it said, so that agent and simulation keep it the same way, and no
//! message can be forgotten in it. Deliberately only of the stage in hand: what was before is in the record, which was
//! durable before the stage began.

use super::agent::{Position, Step};
use super::message::{Directive, Says};
use crate::lease::{Lease, LeaseDone, LeaseKind};
use crate::problem::Problem;
use crate::ranges::RangeSet;
use serde::{Deserialize, Serialize};

/// Faults that are told again.
const FAULTS_MAX: usize = 8;

/// Where an agent stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Where it is.
    pub position: Position,
    /// Ready to begin the stage at an instant.
    pub staged: bool,
    /// The last arming that it read: stage, round, instant on its own monotonic clock, nanoseconds.
    pub armed: Option<(u32, u32, u64)>,
    /// The start that it was committed to, or joined late: stage, instant on its own clock.
    pub began: Option<(u32, u64)>,
    /// Whether it joined late.
    pub joined: bool,
    /// When its workers were first released, own clock.
    pub released_ns: Option<u64>,
    /// After an abort: no I/O is issued any more.
    pub stopped: bool,
    /// It was told to end.
    pub leaving: bool,
    /// It keeps the shared place.
    pub keeps: bool,
    /// Places of others that it keeps.
    pub adopted: Vec<u32>,
    /// What it found at places: key space, whether fresh, below which index puts may lie. The first look counts.
    pub places: Vec<(Option<u32>, bool, u64)>,
    /// Leases in hand.
    pub leases: Vec<Lease>,
    /// Leases that it finished in the stage in hand.
    pub finished: Vec<FinishedWork>,
    /// What makes the run degraded, as it said on arrival.
    pub degraded: Vec<String>,
    /// Faults of the stage in hand.
    pub faults: Vec<(u32, Problem, bool)>,
}

/// Finished leases of one kind, in one stage and key space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedWork {
    /// Stage that they belonged to.
    pub stage: u32,
    /// What was leased.
    pub kind: LeaseKind,
    /// Whose key space.
    pub space: Option<u32>,
    /// What is done of them; for puts: may have been written.
    pub done: RangeSet,
    /// Objects that were written or deleted.
    pub changed: u64,
    /// Objects that already were as they should be.
    pub unchanged: u64,
    /// Bytes that were written.
    pub bytes: u64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            position: Position::Joined,
            staged: false,
            armed: None,
            began: None,
            joined: false,
            released_ns: None,
            stopped: false,
            leaving: false,
            keeps: false,
            adopted: Vec::new(),
            places: Vec::new(),
            leases: Vec::new(),
            finished: Vec::new(),
            degraded: Vec::new(),
            faults: Vec::new(),
        }
    }
}

impl Standing {
    /// The agent read a directive.
    pub fn told(&mut self, directive: &Directive) {
        match *directive {
            Directive::Release { stage } => self.enter(stage, Step::Working),
            Directive::Stage { stage } => self.enter(stage, Step::Waiting),
            Directive::Arm { stage, round, at_ns, spin: _ } => self.armed = Some((stage, round, at_ns)),
            Directive::Commit { stage, round } => {
                let meant = self.armed.filter(|(of, at, _)| (*of, *at) == (stage, round));
                self.began = meant.map(|(stage, _, at_ns)| (stage, at_ns)).or(self.began);
            }
            Directive::Join { stage, at_ns } => {
                if self.stage() != Some(stage) {
                    self.enter(stage, Step::Waiting);
                }
                (self.joined, self.began) = (true, Some((stage, at_ns)));
            }
            Directive::Keep { space: None } => self.keeps = true,
            Directive::Keep { space: Some(own) } => self.adopted.push(own),
            Directive::Lease(ref lease) => self.leases.push(lease.clone()),
            Directive::Abort { .. } => (self.position, self.stopped) = (Position::Aborting, false),
            Directive::LeftBehind { .. } | Directive::Superseded | Directive::Finish => self.leaving = true,
            Directive::Plan
            | Directive::Mark(_)
            | Directive::Drain { .. }
            | Directive::Resplit { .. }
            | Directive::Refused { .. } => {}
        }
    }

    /// The agent said something.
    pub fn said(&mut self, says: &Says) {
        match says {
            Says::Accepted => self.position = Position::Validated,
            Says::Staged { stage } => self.staged |= self.stage() == Some(*stage),
            Says::Armed { stage, .. } => self.step(*stage, Step::Armed),
            Says::Started { stage, released_ns } => {
                self.released_ns.get_or_insert(*released_ns);
                self.step(*stage, Step::Working);
            }
            Says::MissedStart { stage } => {
                (self.armed, self.began) = (None, None);
                self.step(*stage, Step::Waiting);
            }
            Says::LeaseDone(done) => self.finish(done),
            Says::Draining { stage } => self.step(*stage, Step::Draining),
            Says::Arrived { stage, degraded } => {
                self.degraded.extend(degraded.iter().cloned());
                self.position = match stage {
                    0 => Position::Ready,
                    _ => Position::Stage { stage: *stage, step: Step::AtBarrier },
                };
            }
            Says::Place { space, fresh, puts_below } => {
                match self.places.iter_mut().find(|(of, ..)| of == space) {
                    Some((_, _, below)) => *below = (*below).max(*puts_below),
                    None => self.places.push((*space, *fresh, *puts_below)),
                }
            }
            Says::Fault { stage, problem, fatal } => {
                if self.faults.len() < FAULTS_MAX {
                    self.faults.push((*stage, problem.clone(), *fatal));
                }
            }
            Says::Stopped => self.stopped = true,
            Says::Beat(_) | Says::Marked(_) | Says::Standing(..) => {}
        }
    }

    fn stage(&self) -> Option<u32> {
        match self.position {
            Position::Stage { stage, .. } => Some(stage),
            _ => None,
        }
    }

    fn step(&mut self, stage: u32, step: Step) {
        // After an abort nothing that was under way says where it is.
        if self.position != Position::Aborting {
            self.position = Position::Stage { stage, step };
        }
    }

    fn enter(&mut self, stage: u32, step: Step) {
        let Self { leaving, keeps, .. } = *self;
        let (adopted, places) = (std::mem::take(&mut self.adopted), std::mem::take(&mut self.places));
        let leases = std::mem::take(&mut self.leases);
        let position = Position::Stage { stage, step };
        *self = Self { position, leaving, keeps, adopted, places, leases, ..Self::default() };
    }

    fn finish(&mut self, done: &LeaseDone) {
        let Some(at) = self.leases.iter().position(|lease| lease.id == done.id) else { return };
        let lease = self.leases.swap_remove(at);
        let same = |work: &&mut FinishedWork| {
            (work.stage, work.kind, work.space) == (lease.stage, lease.kind, lease.space)
        };
        let work = match self.finished.iter_mut().find(same) {
            Some(work) => work,
            None => {
                let Lease { stage, kind, space, .. } = lease;
                let done = RangeSet::default();
                self.finished.push(FinishedWork {
                    stage,
                    kind,
                    space,
                    done,
                    changed: 0,
                    unchanged: 0,
                    bytes: 0,
                });
                let last = self.finished.len() - 1;
                &mut self.finished[last]
            }
        };
        for &(start, end) in &done.done {
            work.done.insert(start.max(lease.start), end.min(lease.end));
        }
        work.changed = work.changed.saturating_add(done.changed);
        work.unchanged = work.unchanged.saturating_add(done.unchanged);
        work.bytes = work.bytes.saturating_add(done.bytes);
    }
}
