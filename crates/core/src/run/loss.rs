//! What a loss costs: replacement, going on without, or giving up.
//!
//! Architecture invariant: never two attempts under one index. A seat gets its next attempt only when the one
//! before is known dead, or must have ended by itself: two seconds after `orphanGrace`, counted from the last
//! message of the coordinator that it can have read.

use super::agent::{AgentState, LossReason, Position};
use super::message::{Action, Directive};
use super::record::Weight;
use super::seat::{Ghost, nanos};
use super::{Current, Phase, Run, Start};
use crate::plan::{FailureMode, FailurePlan, RuleAction};
use crate::problem::{Problem, exit};

/// What an agent needs to end once its orphan grace is over, nanoseconds: a second to stop its I/O, and one to exit.
const ORPHAN_MARGIN_NS: u64 = 2_000_000_000;

impl Run {
    /// Gives up the attempt at `index`. `dead`: its process is known to have ended.
    pub(super) fn lose(&mut self, index: u32, reason: &LossReason, dead: bool, now_ns: u64) {
        let attempt = self.seats[index as usize].attempt;
        let (stage, unheard) = (self.handed_in_until(index), self.seats[index as usize].awaited);
        if !self.move_to(index, AgentState::Lost(reason.clone()), &reason.to_string(), now_ns) {
            return;
        }
        self.note_change(Weight::Decisive);
        if !dead {
            // One that is heard, or will be, learns that it is out; one that is not ends by itself.
            self.send(index, Directive::Superseded);
            self.actions.push(Action::Kill { index, attempt });
        }
        self.haunt(index, Some(reason.clone()), dead, now_ns);
        self.actions.push(Action::GiveUp { index, attempt, stage, reason: reason.to_string(), unheard });
        if self.is_ending() {
            return;
        }
        self.note_lost_window(index, stage, &reason.to_string());
        match self.verdict_on(index, reason) {
            Loss::Replace { counted } => {
                let seat = &mut self.seats[index as usize];
                let delay_ns = retry_delay_ns(&self.plan.failure, &self.plan.run.uid, index, attempt);
                seat.retries += u32::from(counted);
                seat.replace_at_ns = Some(now_ns.saturating_add(delay_ns));
                self.degrade(format!("agent {index} was lost ({reason}) and is replaced"));
            }
            Loss::GoOn => {
                self.degrade(format!("agent {index} was lost ({reason}) and is not replaced"));
                self.resplit();
            }
            Loss::GiveUp(why) => self.fail(self.loss_problem(index, stage, reason, why), now_ns),
        }
    }

    /// The stage whose result the attempt at `index` has not handed in.
    pub(super) fn handed_in_until(&self, index: u32) -> Option<u32> {
        let seat = &self.seats[index as usize];
        match seat.position() {
            Some(Position::Aborting) if !seat.stopped => seat.aborted_in,
            _ => self.unfinished_stage(index),
        }
    }

    /// The attempt at `index` is given up, and may still act; what it held goes back to the pools.
    pub(super) fn haunt(&mut self, index: u32, reason: Option<LossReason>, dead: bool, now_ns: u64) {
        self.take_work_back(index);
        let seat = &self.seats[index as usize];
        let gone_ns = if dead { now_ns } else { self.gone_by_ns(seat.heard_ns) };
        self.ghosts.push(Ghost { index, attempt: seat.attempt, reason, gone_ns });
    }

    /// When an attempt has ended by itself at the latest. An agent counts its orphan grace from the sending of the
    /// last message that was acknowledged to it, and that was read here at `heard_ns` or before.
    fn gone_by_ns(&self, heard_ns: u64) -> u64 {
        heard_ns.saturating_add(nanos(self.plan.failure.orphan_grace)).saturating_add(ORPHAN_MARGIN_NS)
    }

    /// The window of an agent that was lost, or left behind, while the stage was under way.
    pub(super) fn note_lost_window(&mut self, index: u32, stage: Option<u32>, reason: &str) {
        let Some(stage) = stage else { return };
        let going = matches!(&self.phase, Phase::Stage(Current { start: Start::Going { .. }, .. }));
        // A discard stage flows into the one that counts, and takes its agents along.
        let last = self.chain_end(stage);
        if going && self.counts(last) {
            let name = self.stage_name(last);
            self.partial.push(format!("{name} lacks part of agent {index}'s window: {reason}"));
        }
    }

    fn verdict_on(&self, index: u32, reason: &LossReason) -> Loss {
        let failure = &self.plan.failure;
        if self.is_troubled() {
            // The policy has spoken already: what is left to do is done by whoever is left.
            return if self.live() == 0 { Loss::GiveUp("no agent is left") } else { Loss::GoOn };
        }
        let rule = failure.rules.iter().find(|rule| rule.reasons.iter().any(|name| name == reason.name()));
        let counted = rule.is_none_or(|rule| rule.count_attempt);
        match rule.map(|rule| rule.action) {
            Some(RuleAction::Abort) => Loss::GiveUp("a rule of failurePolicy asks for it"),
            Some(RuleAction::Continue) => self.go_on_or_give_up(),
            Some(RuleAction::Retry) if !counted => Loss::Replace { counted },
            // The same again would wait for the same; only a rule that says so tries it.
            None if matches!(reason, LossReason::CannotStart(_)) => self.go_on_or_give_up(),
            _ if self.seats[index as usize].retries < failure.retry_attempts => Loss::Replace { counted },
            _ => self.go_on_or_give_up(),
        }
    }

    /// What the policy says of a seat that stays empty. The seat is not live any more here.
    fn go_on_or_give_up(&self) -> Loss {
        let live = self.live();
        let failure = &self.plan.failure;
        if live < failure.min_agents {
            return Loss::GiveUp("fewer than minAgents are left");
        }
        let started = self.stages.iter().skip(1).any(|stage| stage.planned_start_ns.is_some());
        if !started && live < self.plan.min_available {
            return Loss::GiveUp("fewer than minAvailable are left to start");
        }
        match failure.mode {
            FailureMode::FailFast => Loss::GiveUp("failurePolicy is FailFast and no attempt is left"),
            FailureMode::ContinueIfMajority if live * 2 <= self.plan.replicas => {
                Loss::GiveUp("no majority of the agents is left")
            }
            FailureMode::BestEffort if live == 0 => Loss::GiveUp("no agent is left"),
            FailureMode::ContinueIfMajority | FailureMode::BestEffort => Loss::GoOn,
        }
    }

    /// Splits the cluster's rate over those who live, where the stage asks for it.
    pub(super) fn resplit(&mut self) {
        let Phase::Stage(current) = &self.phase else { return };
        let asked = self.plan.stages[current.last as usize]
            .kind
            .execute()
            .and_then(|execute| execute.rate)
            .is_some_and(|rate| rate.redistribute);
        if !asked {
            return;
        }
        let sharing: Vec<u32> =
            self.seats.iter().filter(|seat| seat.in_stage().is_some()).map(|seat| seat.index).collect();
        let agents = sharing.len() as u32;
        for (position, index) in (0u32..).zip(sharing) {
            self.send(index, Directive::Resplit { agents, position });
        }
    }

    fn loss_problem(&self, index: u32, stage: Option<u32>, reason: &LossReason, why: &str) -> Problem {
        let place = stage.map_or_else(
            || "before the first stage".to_owned(),
            |stage| format!("in {}", self.stage_name(stage)),
        );
        let attempts = self.seats[index as usize].retries + 1;
        let replicas = self.plan.replicas;
        let problem = Problem::new(
            format!("run {} stopped: agent {index} of {replicas} was lost {place}", self.plan.run.name),
            format!("{reason} (attempt {attempts}); {why}"),
        );
        let never_came = matches!(reason, LossReason::NoHello | LossReason::CannotStart(_));
        let exit = if never_came { exit::UNREACHABLE } else { exit::STAGE_FAILED };
        problem
            .agent(index)
            .likely(match reason {
                LossReason::NoHello => "the agent could not start, or cannot reach the coordinator",
                LossReason::Unreachable => {
                    "the network between agent and coordinator is down, or its machine is"
                }
                LossReason::Ended(_) => {
                    "it was killed: by a person, by the kernel for memory, or by an eviction"
                }
                LossReason::Stalled => "the storage under test hangs, e.g. a dead NFS mount",
                LossReason::NoAcknowledgement => "the agent's machine is overloaded",
                LossReason::Orphaned => "the coordinator was stopped or cut off for longer than orphanGrace",
                LossReason::CannotStart(_) => "what the agents are started with is wrong, for all of them",
            })
            .next("look at the agent's log in the results directory")
            .next("allow for losses: failurePolicy.retryAttempts, mode ContinueIfMajority or BestEffort")
            .kept("results of stages that were over before are kept")
            .exit(exit)
    }

    pub(super) fn deadline_problem(&self) -> Problem {
        Problem::new(
            format!("run {} stopped: its deadline passed", self.plan.run.name),
            format!("activeDeadline of {:?} is over", self.plan.active_deadline.unwrap_or_default()),
        )
        .likely("the target is slower than the plan's estimate")
        .next("lockstep plan -f FILE shows the estimate; raise activeDeadline or ask for less")
        .exit(exit::DEADLINE)
    }
}

/// What becomes of a lost seat.
enum Loss {
    Replace { counted: bool },
    GoOn,
    GiveUp(&'static str),
}

/// Wait before the attempt after `attempt`: `retryDelay`, doubling to 30 s, with a jitter of up to a quarter that depends only
/// on the run and the seat, so that seats lost together do not come back together.
fn retry_delay_ns(failure: &FailurePlan, uid: &str, index: u32, attempt: u32) -> u64 {
    let base_ns = nanos(failure.retry_delay);
    let ceiling_ns = nanos(FailurePlan::RETRY_DELAY_MAX).max(base_ns);
    let doubled_ns = base_ns.saturating_mul(1 << attempt.min(16)).min(ceiling_ns);
    let seed = uid
        .bytes()
        .fold(u64::from(index) + 1, |hash, byte| hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte));
    doubled_ns + (seed % 1_000) * (doubled_ns / 4) / 1_000
}
