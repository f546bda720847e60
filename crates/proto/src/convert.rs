//! Conversions between messages on the wire and the words of `lockstep_core::run`.

use crate::v1;
use crate::v1::{from_agent::Body as Up, from_coordinator::Body as Down};
use lockstep_core::lease::{Lease, LeaseDone, LeaseKind};
use lockstep_core::op::ErrorClass;
use lockstep_core::problem::Problem;
use lockstep_core::run::message::{Beat, Directive, Mark, Says};

/// A message that this version does not understand.
#[derive(Debug, thiserror::Error)]
#[error("message without {0}")]
pub struct ConvertError(&'static str);

impl From<&Problem> for v1::Problem {
    fn from(problem: &Problem) -> Self {
        Self {
            what: problem.what.clone(),
            cause: problem.cause.clone(),
            likely: problem.likely.clone(),
            next: problem.next.clone(),
            kept: problem.kept.clone(),
            class: problem.class.map_or(0, |class| class.index() as u32 + 1),
            exit: u32::from(problem.exit),
        }
    }
}

impl From<v1::Problem> for Problem {
    fn from(wire: v1::Problem) -> Self {
        Self {
            what: wire.what,
            cause: wire.cause,
            likely: wire.likely,
            next: wire.next,
            kept: wire.kept,
            class: (wire.class as usize).checked_sub(1).and_then(|index| ErrorClass::ALL.get(index).copied()),
            exit: wire.exit.min(255) as u8,
            // Whose loss it is, only the decider says.
            agent: None,
        }
    }
}

impl From<&LeaseDone> for v1::LeaseDone {
    fn from(done: &LeaseDone) -> Self {
        Self {
            id: done.id,
            done: done.done.iter().map(|&(start, end)| v1::Range { start, end }).collect(),
            changed: done.changed,
            unchanged: done.unchanged,
            bytes: done.bytes,
            took_ns: done.took_ns,
        }
    }
}

impl From<v1::LeaseDone> for LeaseDone {
    fn from(wire: v1::LeaseDone) -> Self {
        Self {
            id: wire.id,
            done: wire.done.iter().map(|range| (range.start, range.end)).collect(),
            changed: wire.changed,
            unchanged: wire.unchanged,
            bytes: wire.bytes,
            took_ns: wire.took_ns,
        }
    }
}

impl From<&Lease> for v1::Lease {
    fn from(lease: &Lease) -> Self {
        let kind = match lease.kind {
            LeaseKind::Prepare => v1::LeaseKind::Prepare,
            LeaseKind::Put => v1::LeaseKind::Put,
            LeaseKind::Operations => v1::LeaseKind::Operations,
            LeaseKind::Cleanup => v1::LeaseKind::Cleanup,
        };
        Self {
            id: lease.id,
            stage: lease.stage,
            kind: kind.into(),
            space: lease.space,
            start: lease.start,
            end: lease.end,
        }
    }
}

impl TryFrom<v1::Lease> for Lease {
    type Error = ConvertError;

    fn try_from(wire: v1::Lease) -> Result<Self, ConvertError> {
        let kind = match wire.kind() {
            v1::LeaseKind::Prepare => LeaseKind::Prepare,
            v1::LeaseKind::Put => LeaseKind::Put,
            v1::LeaseKind::Operations => LeaseKind::Operations,
            v1::LeaseKind::Cleanup => LeaseKind::Cleanup,
            v1::LeaseKind::Unspecified => return Err(ConvertError("a kind of lease")),
        };
        Ok(Self { id: wire.id, stage: wire.stage, kind, space: wire.space, start: wire.start, end: wire.end })
    }
}

impl From<Mark> for v1::Mark {
    fn from(mark: Mark) -> Self {
        Self { space: mark.space, prepared: mark.prepared, puts_below: mark.puts_below }
    }
}

impl From<v1::Mark> for Mark {
    fn from(wire: v1::Mark) -> Self {
        Self { space: wire.space, prepared: wire.prepared, puts_below: wire.puts_below }
    }
}

impl From<&Says> for Up {
    fn from(says: &Says) -> Self {
        match says {
            Says::Beat(beat) => Self::Beat(v1::Beat {
                beat: 0,
                what: beat.what.clone(),
                done: beat.done,
                total: beat.total,
                since_ns: beat.since_ns,
                pulse: beat.pulse,
            }),
            Says::Accepted => Self::Accepted(v1::Accepted {}),
            Says::Staged { stage } => Self::Staged(v1::Staged { stage: *stage }),
            Says::Armed { stage, round } => Self::Armed(v1::Armed { stage: *stage, round: *round }),
            Says::Started { stage, released_ns } => {
                Self::Started(v1::Started { stage: *stage, released_ns: *released_ns })
            }
            Says::MissedStart { stage } => Self::MissedStart(v1::MissedStart { stage: *stage }),
            Says::LeaseDone(done) => Self::LeaseDone(done.into()),
            Says::Draining { stage } => Self::Draining(v1::Draining { stage: *stage }),
            Says::Arrived { stage, degraded } => {
                Self::Arrived(v1::Arrived { stage: *stage, degraded: degraded.clone() })
            }
            Says::Place { space, fresh, puts_below } => {
                Self::Place(v1::Place { space: *space, fresh: *fresh, puts_below: *puts_below })
            }
            Says::Marked(mark) => Self::Marked((*mark).into()),
            Says::Fault { stage, problem, fatal } => {
                Self::Fault(v1::Fault { stage: *stage, problem: Some(problem.into()), fatal: *fatal })
            }
            Says::Stopped => Self::Stopped(v1::Stopped {}),
            Says::Standing(standing, said_ns) => Self::Standing(v1::Standing {
                json: serde_json::to_vec(standing).unwrap_or_default(),
                said_ns: *said_ns,
            }),
        }
    }
}

impl TryFrom<Up> for Says {
    type Error = ConvertError;

    fn try_from(body: Up) -> Result<Self, ConvertError> {
        Ok(match body {
            Up::Hello(_) | Up::Pong(_) => return Err(ConvertError("anything for the decider")),
            Up::Beat(beat) => Self::Beat(Beat {
                what: beat.what,
                done: beat.done,
                total: beat.total,
                since_ns: beat.since_ns,
                pulse: beat.pulse,
            }),
            Up::Accepted(_) => Self::Accepted,
            Up::Staged(m) => Self::Staged { stage: m.stage },
            Up::Armed(m) => Self::Armed { stage: m.stage, round: m.round },
            Up::Started(m) => Self::Started { stage: m.stage, released_ns: m.released_ns },
            Up::MissedStart(m) => Self::MissedStart { stage: m.stage },
            Up::LeaseDone(m) => Self::LeaseDone(m.into()),
            Up::Draining(m) => Self::Draining { stage: m.stage },
            Up::Arrived(m) => Self::Arrived { stage: m.stage, degraded: m.degraded },
            Up::Place(m) => Self::Place { space: m.space, fresh: m.fresh, puts_below: m.puts_below },
            Up::Marked(m) => Self::Marked(m.into()),
            Up::Fault(m) => Self::Fault {
                stage: m.stage,
                problem: m.problem.ok_or(ConvertError("a problem"))?.into(),
                fatal: m.fatal,
            },
            Up::Stopped(_) => Self::Stopped,
            Up::Standing(m) => {
                let standing = serde_json::from_slice(&m.json);
                Self::Standing(standing.map_err(|_| ConvertError("a standing"))?, m.said_ns)
            }
        })
    }
}

/// A directive as it goes on the wire. `plan_json`: what [`Directive::Plan`] carries.
#[must_use]
pub fn directive_to_wire(directive: &Directive, plan_json: &[u8]) -> Down {
    match directive {
        Directive::Plan => Down::Plan(v1::Plan { json: plan_json.to_vec() }),
        Directive::Release { stage } => Down::Release(v1::Release { stage: *stage }),
        Directive::Keep { space } => Down::Keep(v1::Keep { space: *space }),
        Directive::Mark(mark) => Down::Mark((*mark).into()),
        Directive::Stage { stage } => Down::Stage(v1::Stage { stage: *stage }),
        Directive::Arm { stage, round, at_ns, spin } => {
            Down::Arm(v1::Arm { stage: *stage, round: *round, at_ns: *at_ns, spin: *spin })
        }
        Directive::Commit { stage, round } => Down::Commit(v1::Commit { stage: *stage, round: *round }),
        Directive::Join { stage, at_ns } => Down::Join(v1::Join { stage: *stage, at_ns: *at_ns }),
        Directive::Lease(lease) => Down::Lease(lease.into()),
        Directive::Drain { stage } => Down::Drain(v1::Drain { stage: *stage }),
        Directive::Resplit { agents, position } => {
            Down::Resplit(v1::Resplit { agents: *agents, position: *position })
        }
        Directive::Abort { reason } => Down::Abort(v1::Abort { reason: reason.clone() }),
        Directive::LeftBehind { stage } => Down::LeftBehind(v1::LeftBehind { stage: *stage }),
        Directive::Superseded => Down::Superseded(v1::Superseded {}),
        Directive::Finish => Down::Finish(v1::Finish {}),
        Directive::Refused { what } => Down::Refused(v1::Refused { what: what.clone() }),
    }
}

impl TryFrom<&Down> for Directive {
    type Error = ConvertError;

    fn try_from(body: &Down) -> Result<Self, ConvertError> {
        Ok(match body {
            Down::Welcome(_) | Down::Ack(_) | Down::Ping(_) => return Err(ConvertError("a directive")),
            Down::Plan(_) => Self::Plan,
            Down::Release(m) => Self::Release { stage: m.stage },
            Down::Keep(m) => Self::Keep { space: m.space },
            Down::Mark(m) => Self::Mark((*m).into()),
            Down::Stage(m) => Self::Stage { stage: m.stage },
            Down::Arm(m) => Self::Arm { stage: m.stage, round: m.round, at_ns: m.at_ns, spin: m.spin },
            Down::Commit(m) => Self::Commit { stage: m.stage, round: m.round },
            Down::Join(m) => Self::Join { stage: m.stage, at_ns: m.at_ns },
            Down::Lease(m) => Self::Lease((*m).try_into()?),
            Down::Drain(m) => Self::Drain { stage: m.stage },
            Down::Resplit(m) => Self::Resplit { agents: m.agents, position: m.position },
            Down::Abort(m) => Self::Abort { reason: m.reason.clone() },
            Down::LeftBehind(m) => Self::LeftBehind { stage: m.stage },
            Down::Superseded(_) => Self::Superseded,
            Down::Finish(_) => Self::Finish,
            Down::Refused(m) => Self::Refused { what: m.what.clone() },
        })
    }
}
