//! Delivery once and in order over any number of sessions: what was not acknowledged is kept, and sent again after a
//! reconnect. Both ends of the control stream use it. Deliberately no timers: the transport below is reliable while
//! it lasts.

use std::collections::VecDeque;

/// Messages that may wait for an acknowledgement; a peer that lets so many pile up is not reading.
pub const UNACKNOWLEDGED_MAX: usize = 65_536;

/// The sending end.
#[derive(Clone, Debug)]
pub struct Outbox<T> {
    next_seq: u64,
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { next_seq: 1, waiting: VecDeque::new() }
    }
}

impl<T> Outbox<T> {
    /// Takes a message in; returns its number.
    pub fn push(&mut self, message: T) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.waiting.push_back((seq, message));
        seq
    }

    /// The peer has read everything up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.waiting.front().is_some_and(|(first, _)| *first <= seq) {
            self.waiting.pop_front();
        }
    }

    /// What a new session has to send first.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &(u64, T)> {
        self.waiting.iter()
    }

    /// Whether more waits than a peer that reads would let wait.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.waiting.len() > UNACKNOWLEDGED_MAX
    }
}

/// The receiving end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inbox {
    seen: u64,
}

impl Inbox {
    /// Whether the message with this number is new; a repeat is not, and neither is one after a gap, which the sender
    /// will repeat in the next session.
    pub fn accept(&mut self, seq: u64) -> bool {
        let is_next = seq == self.seen + 1;
        self.seen += u64::from(is_next);
        is_next
    }

    /// Last number that was accepted.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Sessions break anywhere, acknowledgements get lost: everything arrives once and in order.
        #[test]
        fn delivers_once_and_in_order(breaks in prop::collection::vec((0usize..8, any::<bool>()), 1..30)) {
            let (mut outbox, mut inbox, mut got) = (Outbox::default(), Inbox::default(), Vec::new());
            for (round, (reads, acknowledged)) in breaks.into_iter().enumerate() {
                outbox.push(2 * round);
                outbox.push(2 * round + 1);
                for (seq, message) in outbox.unacknowledged().take(reads) {
                    if inbox.accept(*seq) {
                        got.push(*message);
                    }
                }
                if acknowledged {
                    outbox.acknowledge(inbox.seen());
                }
            }
            for (seq, message) in outbox.unacknowledged() {
                if inbox.accept(*seq) { got.push(*message); }
            }
            prop_assert!(got.iter().copied().eq(0..got.len()));
        }
    }
}
