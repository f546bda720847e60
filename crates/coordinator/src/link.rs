//! The link to one attempt: what it has not read yet, and its session, if it has one. Numbers count within the epoch of
//! this coordinator: to another one, both ends begin anew.

use lockstep_core::link::{Inbox, Outbox};
use lockstep_core::run::message::Directive;
use lockstep_proto::v1::{self, from_coordinator::Body as Down};
use tokio::sync::mpsc;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Link {
    epoch: u64,
    outbox: Outbox<Directive>,
    inbox: Inbox,
    pub(crate) interval_seq: u64,
    /// Whether it ever had a session.
    pub(crate) was_open: bool,
    session: Option<(u64, mpsc::UnboundedSender<v1::FromCoordinator>)>,
}

impl Link {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    pub(crate) fn open(&mut self, session: u64, outbound: mpsc::UnboundedSender<v1::FromCoordinator>) {
        self.session = Some((session, outbound));
    }

    /// Whether it was this session that closed, and not an earlier one.
    pub(crate) fn close(&mut self, session: u64) -> bool {
        let current = self.is_of(session);
        if current {
            self.session = None;
        }
        current
    }

    pub(crate) fn is_of(&self, session: u64) -> bool {
        self.session.as_ref().is_some_and(|(id, _)| *id == session)
    }

    /// The agent has read everything up to `seen`, counted in `epoch`.
    pub(crate) fn acknowledge(&mut self, epoch: u64, seen: u64) {
        if epoch == self.epoch {
            self.outbox.acknowledge(seen);
        }
    }

    /// Whether a numbered message is new, and said to this coordinator.
    pub(crate) fn accept(&mut self, epoch: u64, seq: u64) -> bool {
        epoch == self.epoch && self.inbox.accept(seq)
    }

    pub(crate) fn push(&mut self, directive: Directive) -> u64 {
        self.outbox.push(directive)
    }

    pub(crate) fn unacknowledged(&self) -> Vec<(u64, Directive)> {
        self.outbox.unacknowledged().cloned().collect()
    }

    /// Sends a message that needs no delivery, or one with its number.
    pub(crate) fn send(&self, seq: u64, body: Down) {
        if let Some((_, outbound)) = &self.session {
            let message =
                v1::FromCoordinator { seq, seen: self.inbox.seen(), epoch: self.epoch, body: Some(body) };
            // A session that is gone is noticed by its reader.
            let _ = outbound.send(message);
        }
    }
}
