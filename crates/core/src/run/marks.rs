//! What the marker of each place must say, and when: whether the data set is complete, and below which index puts may
//! have written.
//!
//! A marker is written by the agent that keeps the place: the keeper where agents share one, each its own where they do
//! not. It exists so that a later run can go on from, or remove, whatever this one left, also when all of this one was
//! killed at once. It deliberately knows nothing of documents and of storage.
//!
//! Architecture invariant: names are marked before they are used. A put lease is given out only below the bound that
//! the marker is known to bear, so no put of a killed run is ever unknown to a cleanup. The bound is about what the stage
//! will have put in its window (of one without a window it grows by doubling), and is written down exactly at the end:
//! a killed run costs a later cleanup at most about as many look-ups as it was to put. And so it seldom has to grow, which
//! needs the record to be written, while somebody may be unable to.

use super::message::{Directive, Mark};
use super::pool::{Holder, LEASES_IN_HAND};
use super::record::Weight;
use super::work::has_puts;
use super::{Current, Phase, Run, StageState, Start};
use crate::op::Op;
use crate::plan::{ExecutePlan, Existing, Sharing, StageKind};
use serde::{Deserialize, Serialize};

/// How far ahead of puts their names are marked: no outage of the record that passes between two markings stops them.
const AHEAD_NS: u64 = 1_800_000_000_000;

/// What is known of one place: the shared one, or an agent's own.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct PlaceFacts {
    /// Whether somebody has looked at it.
    looked: bool,
    /// It held nothing before this run.
    pub fresh: bool,
    /// Below which index puts of earlier runs may lie, beyond the data set; 0 where there are none.
    pub found_below: u64,
    /// What its keeper was asked to write last.
    asked: Option<(Holder, Mark)>,
    /// Who looked at it last: holds its lock.
    kept_by: Option<Holder>,
}

impl PlaceFacts {
    /// Forgets what its keeper was asked to write, to ask anew.
    pub(super) fn forget_asked(&mut self) {
        self.asked = None;
    }
}

impl Run {
    /// The agent that looks after the place of a key space now: its own, or who adopted it.
    fn keeper_of(&self, space: Option<u32>) -> Option<Holder> {
        let (index, attempt) = match space {
            None => self.keeper?,
            Some(own) if self.seats[own as usize].is_live() => (own, self.seats[own as usize].attempt),
            Some(own) => self.adopter_of(own)?,
        };
        let seat = &self.seats[index as usize];
        (seat.attempt == attempt && seat.was_ready && seat.position().is_some()).then_some((index, attempt))
    }

    /// Who keeps the place of `own`, which is gone for good, and has said what lies there.
    pub(super) fn adopter_of(&self, own: u32) -> Option<Holder> {
        let adopter = *self.adopters.get(&own)?;
        let kept_by = self.places.get(&Some(own)).and_then(|facts| facts.kept_by);
        (kept_by == Some(adopter)).then_some(adopter)
    }

    /// Who was asked to keep the place of another, and is not known to, may never have heard of it: its standing says so, or it
    /// is asked anew.
    pub(super) fn forget_askings(&mut self) {
        let known: Vec<u32> =
            self.adopters.keys().copied().filter(|own| self.adopter_of(*own).is_some()).collect();
        self.adopters.retain(|own, _| known.contains(own));
    }

    /// Agents that are gone for good while work of theirs is left in the stage under way, and whose places others keep:
    /// those others may finish it. Asks somebody to keep the places of the rest.
    pub(super) fn adopt_places(&mut self, current: &Current, now_ns: u64) -> Vec<u32> {
        if self.plan.sharing != Sharing::PerAgent || current.drained {
            return Vec::new();
        }
        let mut adopted = Vec::new();
        for own in 0..self.plan.replicas {
            let left = (current.first..=current.last)
                .any(|stage| self.pools.get(&stage).is_some_and(|pool| pool.has_free(Some(own))));
            // Not while the lost one may still write, or hold its lock.
            let gone = self.ghosts.iter().all(|ghost| ghost.index != own || ghost.gone_ns <= now_ns);
            if self.seats[own as usize].is_live() || !left || !gone {
                continue;
            }
            let able = |holder: Holder| {
                let seat = &self.seats[holder.0 as usize];
                seat.attempt == holder.1 && seat.in_stage().is_some() && seat.state.is_heard()
            };
            if !self.adopters.get(&own).is_some_and(|holder| able(*holder)) {
                let mut others = self.seats.iter().map(|seat| (seat.index, seat.attempt));
                let Some(holder) = others.find(|holder| able(*holder)) else { continue };
                self.adopters.insert(own, holder);
                self.send(holder.0, Directive::Keep { space: Some(own) });
            }
            adopted.extend(self.adopter_of(own).map(|_| own));
        }
        adopted
    }

    /// What the agent at `index` found at a place that it keeps. The first look counts: later ones see what this run did.
    pub(super) fn on_place(&mut self, holder: Holder, space: Option<u32>, fresh: bool, puts_below: u64) {
        if space.is_some_and(|own| own >= self.plan.replicas) {
            return;
        }
        // One that was asked to adopt it before another was, and answers late, does not keep it.
        let adopter = space.and_then(|own| self.adopters.get(&own)).copied();
        let facts = self.places.entry(space).or_default();
        if adopter.is_none_or(|adopter| adopter == holder) {
            facts.kept_by = Some(holder);
        }
        if !facts.looked {
            (facts.looked, facts.fresh) = (true, fresh);
            self.unrecorded = Some(Weight::Decisive);
        }
        facts.found_below = facts.found_below.max(puts_below);
        if let Some(puts) = &mut self.puts {
            puts.skip(space, facts.found_below);
        }
    }

    /// A marker says `mark`.
    pub(super) fn on_marked(&mut self, mark: Mark) {
        if let Some(puts) = &mut self.puts {
            puts.allow(mark.space, mark.puts_below);
            // Below this bound somebody may put without a word.
            self.note_change(Weight::Decisive);
        }
    }

    /// Asks keepers to write what their markers lack.
    pub(super) fn ask_for_marks(&mut self, now_ns: u64) {
        if !matches!(self.phase, Phase::Stage(_) | Phase::Finishing { .. }) || self.is_cleaning() {
            return;
        }
        for space in super::work::spaces(&self.plan).collect::<Vec<_>>() {
            let Some(holder) = self.keeper_of(space) else { continue };
            let Some(mark) = self.mark_wanted(space, now_ns) else { continue };
            let facts = self.places.entry(space).or_default();
            if facts.asked != Some((holder, mark)) {
                facts.asked = Some((holder, mark));
                self.send(holder.0, Directive::Mark(mark));
            }
        }
    }

    /// Whether a cleanup has begun: from then on the marker is the business of those who delete.
    fn is_cleaning(&self) -> bool {
        self.plan.stages.iter().zip(&self.stages).any(|(stage, facts)| {
            let begun = !matches!(facts.state, StageState::Waiting | StageState::Skipped);
            begun && matches!(stage.kind, StageKind::Cleanup { .. })
        })
    }

    /// What the marker of a place should say now; `None` where it need not say anything yet.
    fn mark_wanted(&self, space: Option<u32>, now_ns: u64) -> Option<Mark> {
        let writes = self.plan.existing != Existing::Reuse;
        let prepared = writes
            && self.plan.stages.iter().zip(&self.stages).any(|(stage, facts)| {
                facts.state == StageState::Done && matches!(stage.kind, StageKind::Prepare { .. })
            });
        let mark = Mark { space, prepared, puts_below: self.puts_bound(space, now_ns) };
        let said = self.places.get(&space).is_some_and(|facts| facts.asked.is_some());
        (said || prepared || mark.puts_below > 0).then_some(mark)
    }

    /// Below which index the puts of this run lie, or will in a while.
    fn puts_bound(&self, space: Option<u32>, now_ns: u64) -> u64 {
        let facts = self.places.get(&space).copied().unwrap_or_default();
        let Some(puts) = &self.puts else { return 0 };
        if matches!(self.phase, Phase::Finishing { .. }) {
            return puts.touched_below(space);
        }
        // Never less than the marker bears, whoever asked for it.
        let asked = facts.asked.map_or(0, |(_, mark)| mark.puts_below).max(puts.allowed_below(space));
        let Phase::Stage(current) = &self.phase else { return asked };
        // Who is gone for good puts nothing more.
        if !self.puts_in(current) || space.is_some_and(|own| !self.seats[own as usize].is_live()) {
            return asked;
        }
        let base = self.plan.dataset.len().max(facts.found_below);
        let sharing = if space.is_none() { u64::from(self.plan.replicas) } else { 1 };
        let first = sharing * LEASES_IN_HAND as u64 * puts.first_size();
        let used = puts.given_below(space).saturating_sub(base);
        // What is asked for, and with how little left it is asked for anew: so early that nobody waits for the storage of
        // the marker, and so seldom that most outages of whoever keeps our record pass in between.
        let (more, least) = match self.puts_to_come(current, puts.speed(), now_ns) {
            Some(come) => {
                let come = come.div_ceil(u64::from(self.plan.replicas) / sharing);
                (come.saturating_add(first), come / 2 + first / 4)
            }
            None => (used.max(first), used.max(first) / 2),
        };
        let given = base.saturating_add(used);
        if asked.saturating_sub(given) >= least.max(1) {
            return asked;
        }
        given.saturating_add(more).min(super::work::PUT_END)
    }

    /// Puts of the cluster until the window ends, within [`AHEAD_NS`], as far as its rate is known; `None` where there is no
    /// window. `speed`: puts a second lately.
    fn puts_to_come(&self, current: &Current, speed: u64, now_ns: u64) -> Option<u64> {
        let stages = current.first..=current.last;
        let length_ns = self.length_ns(current)?;
        let since_ns = match current.start {
            Start::Going { at_ns } => now_ns.saturating_sub(at_ns),
            Start::Staging { .. } | Start::Countdown { .. } | Start::Arming { .. } => 0,
        };
        let left_ns = length_ns.saturating_sub(since_ns).min(AHEAD_NS);
        let with_puts = stages
            .filter_map(|stage| self.plan.stages[stage as usize].kind.execute())
            .filter(|e| has_puts(e));
        let planned: Option<Vec<u64>> = with_puts.map(milli_puts_per_second).collect();
        let planned = planned.and_then(|rates| rates.into_iter().max());
        let milli = match (planned, speed.saturating_mul(1_000)) {
            (Some(planned), 0) => planned,
            (Some(planned), seen) => planned.min(seen),
            (None, seen) => seen,
        };
        let puts = u128::from(milli) * u128::from(left_ns) / 1_000_000_000_000;
        Some(u64::try_from(puts).unwrap_or(u64::MAX))
    }

    fn puts_in(&self, current: &Current) -> bool {
        self.plan.stages[current.first as usize..=current.last as usize]
            .iter()
            .any(|stage| stage.kind.execute().is_some_and(has_puts))
    }

    /// Whether puts of the stages under way can begin: everybody who keeps a place has marked the first of them.
    pub(super) fn are_puts_marked(&self) -> bool {
        let (Phase::Stage(current), Some(puts)) = (&self.phase, &self.puts) else { return true };
        if !self.puts_in(current) {
            return true;
        }
        super::work::spaces(&self.plan)
            .filter(|space| space.is_none_or(|own| self.seats[own as usize].is_live()))
            .filter(|space| self.keeper_of(*space).is_some())
            .all(|space| puts.is_allowed(space))
    }
}

/// Puts a second of an open loop, in thousandths; `None` of a closed one.
fn milli_puts_per_second(execute: &ExecutePlan) -> Option<u64> {
    let rate = execute.rate.as_ref()?;
    let weight = |of: fn(Op) -> bool| -> u128 {
        execute.operations_mix.iter().filter(|op| of(op.op)).map(|op| u128::from(op.weight)).sum()
    };
    let (puts, all) = (weight(|op| op == Op::Put), weight(|_| true));
    let milli = u128::from(rate.milli_operations_per_second) * puts / all.max(1);
    Some(u64::try_from(milli).unwrap_or(u64::MAX))
}
