//! A model agent: obeys directives as a real one does, on its own clock, and keeps a record of what it wrote.

use crate::lease::{Lease, LeaseDone, LeaseKind};
use crate::op::ErrorClass;
use crate::plan::{Plan, Sharing};
use crate::problem::{Problem, exit};
use crate::run::agent::LossReason;
use crate::run::message::{Beat, Directive, Mark, Says};
use crate::run::seat::nanos;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) const MS: u64 = 1_000_000;
pub(super) const S: u64 = 1_000_000_000;

/// How an agent misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quirks {
    /// Never opens a session.
    pub mute: bool,
    /// Does not acknowledge a start.
    pub deaf: bool,
    /// Loses this many commits.
    pub lose_commits: u32,
    /// Fails preflight with a fatal fault.
    pub bad_preflight: bool,
    /// Works this many times slower.
    pub slow: u64,
    /// Its workers hang in this stage.
    pub hang_in: Option<u32>,
    /// It cannot stop within a second.
    pub stuck: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Preflight { until_ns: u64 },
    Waiting,
    Staging { stage: u32, until_ns: u64 },
    Armed { stage: u32, round: u32, at_ns: u64, committed: bool },
    Working { stage: u32, end_ns: Option<u64> },
    Draining { stage: u32, until_ns: u64 },
    Stopping { until_ns: u64, leave: bool },
    Leaving { at_ns: u64 },
}

#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub index: u32,
    pub plan: Arc<Plan>,
    pub quirks: Quirks,
    pub phase: Phase,
    pub has_plan: bool,
    pub fresh: bool,
    /// What an earlier run's marker says at its place.
    pub found_below: u64,
    /// Whether it looks after a place, and has passed preflight.
    keeps: bool,
    passed: bool,
    /// What it wrote into the marker last.
    pub marked: Option<Mark>,
    /// The same, by place.
    pub marks: BTreeMap<Option<u32>, Mark>,
    pub acked: Option<(u32, u32)>,
    /// Unacknowledged messages, in order.
    pub outbox: VecDeque<Says>,
    /// What it was told, in order.
    pub told: Vec<Directive>,
    pub leases: VecDeque<(Lease, u64)>,
    /// What it wrote or removed since somebody looked: (removed, space, start, end).
    pub touched: Vec<(bool, Option<u32>, u64, u64)>,
    /// Sending time of the last message that was acknowledged to it.
    pub acknowledged_ns: u64,
    pub exit: Option<(LossReason, bool)>,
    /// Stages that have no work left for anybody.
    drained: BTreeSet<u32>,
    /// Through with its stage, and not yet told of another.
    through: bool,
    pub operations: u64,
    /// Objects of the data set that it wrote, each time counted.
    pub written: u64,
    last_ns: u64,
}

impl Agent {
    pub(super) fn new(index: u32, plan: Arc<Plan>, quirks: Quirks, now_ns: u64) -> Self {
        Self {
            index,
            plan,
            quirks,
            phase: Phase::Idle,
            has_plan: false,
            fresh: true,
            found_below: 0,
            keeps: false,
            passed: false,
            marked: None,
            marks: BTreeMap::new(),
            acked: None,
            outbox: VecDeque::new(),
            told: Vec::new(),
            leases: VecDeque::new(),
            touched: Vec::new(),
            acknowledged_ns: now_ns,
            exit: None,
            drained: BTreeSet::new(),
            through: false,
            operations: 0,
            written: 0,
            last_ns: now_ns,
        }
    }

    pub(super) fn is_orphan(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.acknowledged_ns) > nanos(self.plan.failure.orphan_grace)
    }

    /// Whether it may issue I/O now.
    pub(super) fn does_io(&self, now_ns: u64) -> bool {
        let busy =
            matches!(self.phase, Phase::Working { .. } | Phase::Draining { .. } | Phase::Stopping { .. });
        self.exit.is_none() && busy && !self.is_orphan(now_ns.saturating_sub(2 * S))
    }

    pub(super) fn beat(&self) -> Beat {
        let what = match self.phase {
            Phase::Working { .. } if self.leases.is_empty() && self.is_leased() && !self.hangs() => "waiting",
            Phase::Working { .. } | Phase::Draining { .. } => "working",
            _ => "waiting",
        };
        Beat { what: what.into(), done: self.operations, total: 0, since_ns: 0, pulse: self.operations }
    }

    fn is_leased(&self) -> bool {
        matches!(self.phase, Phase::Working { stage, .. } if self.plan.stages[self.chain_end(stage) as usize].kind.is_leased())
    }

    fn hangs(&self) -> bool {
        matches!(self.phase, Phase::Working { stage, .. } if self.quirks.hang_in.is_some_and(|at| stage <= at && at <= self.chain_end(stage)))
    }

    fn chain_end(&self, stage: u32) -> u32 {
        let mut last = stage;
        while self.plan.stages[last as usize].kind.is_discard()
            && (last as usize + 1) < self.plan.stages.len()
        {
            last += 1;
        }
        last
    }

    pub(super) fn take(&mut self, directive: Directive, now_ns: u64) {
        self.told.push(directive.clone());
        let leaving = matches!(self.phase, Phase::Leaving { .. } | Phase::Stopping { leave: true, .. });
        match directive {
            Directive::Superseded | Directive::LeftBehind { .. } if !leaving => self.stop(true, now_ns),
            Directive::Finish => self.phase = Phase::Leaving { at_ns: now_ns + 20 * MS },
            _ if leaving => {}
            Directive::Plan => {
                self.has_plan = true;
                self.outbox.push_back(Says::Accepted);
            }
            Directive::Release { stage: 0 } => self.phase = Phase::Preflight { until_ns: now_ns + 300 * MS },
            Directive::Release { stage } => self.start(stage, now_ns, now_ns),
            Directive::Stage { stage } => {
                self.through = false;
                self.phase = Phase::Staging { stage, until_ns: now_ns + 50 * MS };
            }
            Directive::Arm { stage, round, at_ns, .. } if !self.quirks.deaf => {
                self.acked = Some((stage, round));
                self.outbox.push_back(Says::Armed { stage, round });
                self.phase = Phase::Armed { stage, round, at_ns, committed: false };
            }
            Directive::Commit { stage, round } => self.commit(stage, round, now_ns),
            Directive::Join { stage, at_ns } => self.start(stage, at_ns, now_ns),
            // One that crossed the end of the stage on its way is handed back untouched.
            Directive::Lease(lease) if self.through => self.say_done(&lease, lease.start, 0),
            Directive::Lease(lease) => self.leases.push_back((lease, 0)),
            Directive::Drain { stage } => _ = self.drained.insert(stage),
            Directive::Keep { space: Some(other) } => self.look(Some(other)),
            Directive::Keep { space: None } => {
                self.keeps = true;
                if self.passed {
                    self.look(None);
                }
            }
            Directive::Mark(mark) => {
                self.marked = Some(mark);
                self.marks.insert(mark.space, mark);
                self.outbox.push_back(Says::Marked(mark));
            }
            Directive::Abort { .. } => self.stop(false, now_ns),
            _ => {}
        }
    }

    fn commit(&mut self, in_stage: u32, of_round: u32, now_ns: u64) {
        if self.quirks.lose_commits > 0 {
            self.quirks.lose_commits -= 1;
            return;
        }
        if let Phase::Armed { stage, round, at_ns, committed } = &mut self.phase
            && (*stage, *round) == (in_stage, of_round)
            && now_ns < *at_ns
        {
            *committed = true;
        }
    }

    fn start(&mut self, stage: u32, window_ns: u64, now_ns: u64) {
        self.through = false;
        let mut end_ns = Some(window_ns);
        for index in stage..=self.chain_end(stage) {
            let length = self.plan.stages[index as usize].kind.execute().and_then(|execute| execute.duration);
            end_ns = end_ns.zip(length).map(|(end_ns, length)| end_ns + nanos(length));
        }
        self.outbox.push_back(Says::Started { stage, released_ns: now_ns });
        self.phase = Phase::Working { stage, end_ns };
    }

    fn stop(&mut self, leave: bool, now_ns: u64) {
        self.give_leases_back();
        let takes_ns = if self.quirks.stuck { 1_000 * S } else { 300 * MS };
        self.phase = Phase::Stopping { until_ns: now_ns + takes_ns, leave };
    }

    fn give_leases_back(&mut self) {
        self.through = true;
        for (lease, did) in std::mem::take(&mut self.leases) {
            let end = (lease.start + did).min(lease.end);
            self.say_done(&lease, end, did);
        }
    }

    /// Says that its target refuses: the storage, or the place itself.
    pub(super) fn refuse(&mut self, class: Option<ErrorClass>) {
        let refused = Problem::new("refused", "as the test said").exit(exit::REFUSED);
        self.outbox.push_back(Says::Fault { stage: 0, problem: Problem { class, ..refused }, fatal: true });
    }

    fn say_done(&mut self, lease: &Lease, end: u64, took: u64) {
        let done = if end > lease.start { vec![(lease.start, end)] } else { Vec::new() };
        let changed = end - lease.start;
        let report =
            LeaseDone { id: lease.id, done, changed, took_ns: (took + 1) * 100_000, ..LeaseDone::default() };
        self.outbox.push_back(Says::LeaseDone(report));
    }

    /// Lets time pass.
    pub(super) fn poll(&mut self, now_ns: u64) {
        let gone_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        if self.exit.is_some() {
            return;
        }
        if self.has_plan && self.is_orphan(now_ns) {
            self.exit = Some((LossReason::Orphaned, false));
            return;
        }
        match self.phase {
            Phase::Preflight { until_ns } if now_ns >= until_ns => self.pass_preflight(),
            Phase::Staging { stage, until_ns } if now_ns >= until_ns => {
                self.outbox.push_back(Says::Staged { stage });
                self.phase = Phase::Waiting;
            }
            Phase::Armed { stage, at_ns, committed, .. } if now_ns >= at_ns => {
                if committed && now_ns < at_ns + S {
                    self.start(stage, at_ns, now_ns);
                } else {
                    self.outbox.push_back(Says::MissedStart { stage });
                    self.phase = Phase::Waiting;
                }
            }
            Phase::Working { stage, end_ns } => self.work(stage, end_ns, gone_ns, now_ns),
            Phase::Draining { stage, until_ns } if now_ns >= until_ns => {
                self.outbox.push_back(Says::Arrived { stage, degraded: Vec::new() });
                self.phase = Phase::Waiting;
            }
            Phase::Stopping { until_ns, leave } if now_ns >= until_ns => {
                self.outbox.push_back(Says::Stopped);
                self.phase = if leave { Phase::Leaving { at_ns: now_ns + 100 * MS } } else { Phase::Waiting };
            }
            Phase::Leaving { at_ns } if now_ns >= at_ns => {
                self.exit = Some((LossReason::Ended("exit code 0".into()), true));
            }
            _ => {}
        }
    }

    fn look(&mut self, space: Option<u32>) {
        self.outbox.push_back(Says::Place { space, fresh: self.fresh, puts_below: self.found_below });
    }

    fn pass_preflight(&mut self) {
        self.phase = Phase::Waiting;
        self.passed = true;
        match self.plan.sharing {
            Sharing::PerAgent => self.look(Some(self.index)),
            Sharing::Shared if self.keeps => self.look(None),
            Sharing::Shared => {}
        }
        self.outbox.push_back(if self.quirks.bad_preflight {
            let problem = crate::problem::Problem::new("preflight", "no such bucket").exit(5);
            Says::Fault { stage: 0, problem, fatal: true }
        } else {
            Says::Arrived { stage: 0, degraded: Vec::new() }
        });
    }

    fn work(&mut self, stage: u32, end_ns: Option<u64>, gone_ns: u64, now_ns: u64) {
        if self.hangs() {
            return;
        }
        self.operations += 1;
        // Ten thousand operations per second.
        let mut budget = gone_ns.min(S) / 100_000 / self.quirks.slow.max(1);
        while let Some((mut lease, mut did)) = self.leases.pop_front() {
            let step = budget.min(lease.end - lease.start - did);
            if step > 0 && lease.kind != LeaseKind::Operations {
                let from = lease.start + did;
                self.written += if lease.kind == LeaseKind::Prepare { step } else { 0 };
                self.touched.push((lease.kind == LeaseKind::Cleanup, lease.space, from, from + step));
            }
            did += step;
            budget -= step;
            if did < lease.end - lease.start {
                self.leases.push_front((lease, did));
                break;
            }
            lease.end = lease.start + did;
            let end = lease.end;
            self.say_done(&lease, end, did);
        }
        let over = end_ns.is_some_and(|end_ns| now_ns >= end_ns);
        let put_only = self.leases.iter().all(|(lease, _)| lease.kind == LeaseKind::Put);
        let is_drained = self.drained.contains(&self.chain_end(stage));
        if over || (self.is_leased() && is_drained && put_only) {
            self.give_leases_back();
            let stage = self.chain_end(stage);
            self.outbox.push_back(Says::Draining { stage });
            self.phase = Phase::Draining { stage, until_ns: now_ns + 30 * MS };
        }
    }
}
