//! Which stage a directive, or an answer, is about: for the log.

use lockstep_core::run::message::{Directive, Says};

/// Index of the stage that a directive is about, if it is about one.
pub(super) fn of_directive(directive: &Directive) -> Option<u32> {
    match directive {
        Directive::Release { stage }
        | Directive::Stage { stage }
        | Directive::Arm { stage, .. }
        | Directive::Commit { stage, .. }
        | Directive::Join { stage, .. }
        | Directive::Drain { stage }
        | Directive::LeftBehind { stage } => Some(*stage),
        Directive::Lease(lease) => Some(lease.stage),
        _ => None,
    }
}

/// Index of the stage that an answer is about, if it is about one.
pub(super) fn of_says(says: &Says) -> Option<u32> {
    match says {
        Says::Staged { stage }
        | Says::Armed { stage, .. }
        | Says::Started { stage, .. }
        | Says::MissedStart { stage }
        | Says::Draining { stage }
        | Says::Arrived { stage, .. }
        | Says::Fault { stage, .. } => Some(*stage),
        _ => None,
    }
}
