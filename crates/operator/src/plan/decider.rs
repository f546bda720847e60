//! What the decider of a run wishes, as far as pods are concerned: the fold of what the coordinator asks of its host.

use crate::pods::facts::Seat;
use lockstep_coordinator::HostRequest;
use lockstep_core::run::message::Stop;
use std::collections::{BTreeMap, BTreeSet};

/// What the decider of a run wishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decider {
    /// The run has not begun.
    #[default]
    Absent,
    /// The run had begun under another coordinator, and is being taken over: nothing is done to its pods.
    TakingOver,
    /// The run is under way.
    Live {
        /// From `Spawn` and `Kill`; the last word on each attempt.
        wishes: BTreeMap<Seat, Wish>,
        /// Attempts of which it was told that they ended.
        told: BTreeSet<Seat>,
        /// The hardest stop that it was told.
        stopped: Option<Stop>,
    },
    /// The run is over; its results are being written.
    Over,
}

/// What becomes of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It has a pod.
    Lives,
    /// It has none.
    Goes,
}

impl Decider {
    /// A run that was just begun in the coordinator.
    #[must_use]
    pub fn begun() -> Self {
        Self::Live { wishes: BTreeMap::new(), told: BTreeSet::new(), stopped: None }
    }

    /// Takes in what the coordinator asks of its host.
    pub fn note(&mut self, request: &HostRequest) {
        let Self::Live { wishes, .. } = self else { return };
        match *request {
            HostRequest::Spawn { index, attempt } => {
                wishes.insert((index, attempt), Wish::Lives);
            }
            HostRequest::Kill { index, attempt } => {
                wishes.insert((index, attempt), Wish::Goes);
            }
            HostRequest::Over => *self = Self::Over,
            HostRequest::Told(_) | HostRequest::StageOver { .. } | HostRequest::Replaced => {}
        }
    }

    /// The coordinator was told that an attempt ended ([`super::Action::TellEnded`]).
    pub fn note_told(&mut self, seat: Seat) {
        if let Self::Live { told, .. } = self {
            told.insert(seat);
        }
    }

    /// The coordinator was told to stop ([`super::Action::Stop`]).
    pub fn note_stopped(&mut self, stop: Stop) {
        if let Self::Live { stopped, .. } = self {
            *stopped = (*stopped).max(Some(stop));
        }
    }
}
