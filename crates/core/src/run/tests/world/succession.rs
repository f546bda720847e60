//! One coordinator after another: what is written down, and how the next goes on from it.

use super::super::model::{MS, S};
use super::{Happens, Id, World};
use crate::run::message::Says;
use crate::run::record::Weight;

impl World {
    /// What is decisive is durable before it is acted on; a detail is only now and then.
    pub(super) fn write_down(&mut self) {
        let weight = self.run.take_unrecorded();
        if weight == Some(Weight::Decisive) || (weight.is_some() && self.luck.below(8) == 0) {
            self.record = serde_json::to_vec(&self.run).expect("a document");
        }
    }

    /// Another coordinator goes on from what was written down. Agents drop what they had to say to the one before.
    pub(super) fn resume(&mut self) {
        self.headless = false;
        self.run = serde_json::from_slice(&self.record).expect("a record");
        self.terminal.retain(|id, _| self.run.seats[id.0 as usize].state.is_terminal());
        let actions = self.run.resume(self.now_ns);
        let ids: Vec<Id> = self.peers.keys().copied().collect();
        for id in ids {
            let peer = self.peers.get_mut(&id).expect("it was just seen");
            peer.agent.outbox.iter().skip(peer.sent).for_each(|says| peer.standing.said(says));
            peer.agent.outbox.clear();
            peer.inbox.clear();
            peer.sent = 0;
            let says = Says::Standing(Box::new(peer.standing.clone()), self.now_ns + peer.offset_ns);
            peer.agent.outbox.push_back(says);
            match peer.ended.clone() {
                Some((reason, clean)) => {
                    let told_ns = peer.partitioned_until_ns.max(self.now_ns + 20 * MS);
                    self.at(told_ns, Happens::Ended(id, reason, clean));
                }
                None => {
                    let delay_ns = self.rng.below(4 * S);
                    self.at(self.now_ns + delay_ns, Happens::Hello(id));
                }
            }
        }
        self.write_down();
        self.carry_out(actions);
    }
}
