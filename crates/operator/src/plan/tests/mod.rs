//! The planner against a world that carries out its steps, with every invariant held at each of them.

mod begin;
mod decider;
mod leave;
mod live;
mod story;

use super::observed::{Finished, Holder};
use super::*;
use crate::pods::config::Installation;
use crate::pods::ended::Ended;
use crate::pods::facts::{PodFacts, Seat};
use crate::pods::rejected::Rejection;
use crate::pods::trouble::{Trouble, Weight};
use crate::testing;
use jiff::{SignedDuration, Timestamp};
use lockstep_api::reasons::Reason;
use lockstep_api::spec::words::CleanupPolicy;
use lockstep_core::problem::Problem;
use lockstep_core::run::agent::LossReason;
use lockstep_core::run::message::Stop;
use lockstep_core::thresholds::Outcome;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What one run is surrounded by.
struct World {
    now: Timestamp,
    run: RunFacts,
    pods: Vec<PodFacts>,
    rejected: BTreeMap<Seat, Rejected>,
    trial: Trial,
    gone: BTreeMap<Seat, PodFacts>,
    ca: CaMap,
    decider: Decider,
    others: Vec<OtherRun>,
    installation: Installation,
    memory: Memory,
    /// Pods that find a node.
    room: usize,
    /// A queue holds them back instead.
    gated: bool,
    /// What keeps every pod for ever.
    fatal: Option<Reason>,
    /// What the API server says to every new pod.
    refuses: Option<Rejection>,
    made: u32,
    losses: Vec<LossReason>,
    concluded: Option<(Outcome, Reason)>,
    deleted: bool,
}

impl World {
    fn new(replicas: u32) -> Self {
        let (run, _) =
            testing::run(&json!({"agents": {"replicas": replicas}, "start": {"readyTimeout": "10m"}}));
        let run = RunFacts::of(&run).expect("readable").expect("stored");
        let now = run.created;
        Self {
            now,
            run,
            pods: Vec::new(),
            rejected: BTreeMap::new(),
            trial: Trial::Untried,
            gone: BTreeMap::new(),
            ca: CaMap::Unwritten,
            decider: Decider::Absent,
            others: Vec::new(),
            installation: Installation::example(),
            memory: Memory::default(),
            room: 100,
            gated: false,
            fatal: None,
            refuses: None,
            made: 0,
            losses: Vec::new(),
            concluded: None,
            deleted: false,
        }
    }

    fn troubles(&self) -> BTreeMap<Seat, Trouble> {
        if let Some(reason) = self.fatal {
            let problem = Problem::new("agent does not get started", "it never will");
            let trouble = Trouble { reason, problem, weight: Weight::Fatal };
            return self.pods.iter().map(|pod| (pod.seat, trouble.clone())).collect();
        }
        let waiting = self.pods.iter().filter(|pod| pod.unschedulable && pod.node.is_none());
        let trouble = |_: &PodFacts| Trouble {
            reason: if self.gated { Reason::SchedulingGated } else { Reason::Unschedulable },
            problem: Problem::new("agent waits", "0/3 nodes are available"),
            weight: Weight::Waits,
        };
        waiting.map(|pod| (pod.seat, trouble(pod))).collect()
    }

    fn plan(&self) -> Planned {
        let troubles = self.troubles();
        let pods = self.pods.iter().map(|pod| (pod.seat, pod.clone())).collect();
        let observed = Observed {
            now: self.now,
            run: &self.run,
            pods: &pods,
            troubles: &troubles,
            rejected: &self.rejected,
            trial: &self.trial,
            gone: &self.gone,
            ca: &self.ca,
            decider: &self.decider,
            others: &self.others,
            installation: &self.installation,
            memory: &self.memory,
        };
        let planned = plan(&observed);
        assert_eq!(planned, plan(&observed), "the same observation gives the same plan");
        planned
    }

    /// Plans and carries out, until nothing is left to do. Returns the last plan.
    fn settle(&mut self) -> Planned {
        for _ in 0..20 {
            let planned = self.plan();
            self.memory = planned.memory.clone();
            if planned.steps.is_empty() {
                return planned;
            }
            for step in planned.steps {
                assert!(!step.why.is_empty());
                self.carry_out(step.action);
            }
            self.schedule();
        }
        panic!("the planner does not come to rest: {:?}", self.plan().steps);
    }

    /// Carries one step out as the API server would, and refuses what must not be.
    fn carry_out(&mut self, action: Action) {
        assert!(!self.deleted, "the run is gone: {action:?}");
        match action {
            Action::Claim => {
                assert_eq!(self.run.controller, None);
                self.run.controller = Some(self.installation.claim());
            }
            Action::NextAttempt { attempt } => {
                assert!(self.pods.is_empty() && attempt == self.run.run_attempt + 1);
                self.run.run_attempt = attempt;
                self.run.names = Names::default();
                self.run.suspended = false;
                self.trial = Trial::Untried;
                self.decider = Decider::Absent;
            }
            Action::TryPod => {
                assert!(self.pods.is_empty() && self.run.names.is_empty(), "it is known by now");
                self.trial = Trial::of(match self.refuses.clone() {
                    Some(why) => Err(Rejected { at: self.now, why, holder: None }),
                    None => Ok(()),
                });
            }
            Action::AddFinalizer => {
                assert!(!self.run.finalizer && !self.run.deleting);
                self.run.finalizer = true;
            }
            Action::RemoveFinalizer => {
                assert!(self.run.finalizer && !self.pods.iter().any(PodFacts::may_live));
                self.run.finalizer = false;
            }
            Action::Name(names) => {
                assert_ne!(self.run.names, names);
                self.run.names = names;
            }
            Action::WriteCa => {
                assert_eq!(self.ca, CaMap::Unwritten);
                self.ca = CaMap::Written;
            }
            Action::RemoveCa => {
                assert!(self.run.finalizer && !self.pods.iter().any(PodFacts::may_live));
                self.ca = CaMap::Unwritten;
            }
            Action::CreatePod(seat) => self.create(seat),
            Action::DeletePod { name, uid } => {
                let at =
                    self.pods.iter().position(|pod| pod.uid == uid && pod.name == name).expect("it is there");
                assert!(!self.pods[at].deleting, "{name} is asked to go twice");
                self.pods[at].deleting = true;
                // Nothing has to end where nothing runs.
                if self.pods[at].node.is_none() || !self.pods[at].may_live() {
                    self.pods.remove(at);
                }
            }
            Action::Begin => {
                assert_eq!(self.decider, Decider::Absent);
                let wishes = (0..self.run.replicas).map(|index| ((index, 0), Wish::Lives)).collect();
                self.decider = Decider::Live { wishes, told: BTreeSet::new(), stopped: None };
            }
            Action::Stop(stop) => {
                let Decider::Live { stopped, .. } = &mut self.decider else { panic!("nothing to stop") };
                assert!(stopped.is_none_or(|before| before < stop));
                *stopped = Some(stop);
            }
            Action::TellEnded { seat, loss, .. } => {
                self.losses.push(loss);
                let Decider::Live { told, .. } = &mut self.decider else { panic!("nobody to tell") };
                assert!(told.insert(seat), "{seat:?} is told twice");
            }
            Action::Conclude(conclusion) => {
                assert_eq!(self.concluded, None);
                self.concluded = Some((conclusion.outcome, conclusion.reason));
                assert!(!conclusion.problem.what.is_empty() && !conclusion.problem.cause.is_empty());
                self.run.finished = Some(Finished { at: self.now, complete: false });
                self.decider = Decider::Absent;
            }
            Action::DeleteRun => {
                assert!(self.run.finished.is_some());
                self.deleted = true;
            }
        }
    }

    fn create(&mut self, seat: Seat) {
        assert!(self.run.names.names(seat), "{seat:?} is not named in status");
        assert!(self.run.finalizer && self.ca == CaMap::Written, "nobody would look after it");
        assert!(!self.pods.iter().any(|pod| pod.seat == seat), "{seat:?} has a pod");
        let alive = self.pods.iter().any(|pod| pod.seat.0 == seat.0 && pod.may_live() && pod.node.is_some());
        assert!(!alive, "two attempts under index {}", seat.0);
        if let Some(why) = &self.refuses {
            let holder = None;
            self.rejected.insert(seat, Rejected { at: self.now, why: why.clone(), holder });
            return;
        }
        self.rejected.remove(&seat);
        self.made += 1;
        self.pods.push(PodFacts {
            name: self.run.identity.pod_name(seat.0, seat.1),
            uid: format!("uid-{}", self.made),
            run: self.run.identity.name.clone(),
            run_uid: self.run.identity.uid.clone(),
            run_attempt: self.run.run_attempt,
            seat,
            owner_uid: Some(self.run.identity.uid.clone()),
            created: Some(self.now),
            deleting: false,
            node: None,
            placed: None,
            started: false,
            unschedulable: false,
            over: false,
            ended: None,
        });
    }

    /// The scheduler: the first pods find a node while there is room.
    fn schedule(&mut self) {
        let mut used = self.pods.iter().filter(|pod| pod.node.is_some() && pod.may_live()).count();
        for pod in self.pods.iter_mut().filter(|pod| pod.node.is_none()) {
            pod.unschedulable = used >= self.room;
            if used < self.room {
                pod.node = Some("node".to_owned());
                used += 1;
            }
        }
    }

    /// The kubelet: pods that were asked to go are gone.
    fn kubelet(&mut self) {
        self.pods.retain(|pod| !pod.deleting);
    }

    fn end(&mut self, seat: Seat, reason: Reason, clean: bool) {
        for pod in self.pods.iter_mut().filter(|pod| pod.seat == seat && pod.node.is_some()) {
            let loss = LossReason::Ended(reason.name().to_owned());
            pod.over = true;
            pod.ended.get_or_insert(Ended { loss, reason, clean, dead: true, cause: "it ended".to_owned() });
        }
    }

    fn wait_s(&mut self, seconds: i64) {
        self.now = self.now.saturating_add(SignedDuration::from_secs(seconds)).expect("in range");
    }

    fn wish(&mut self, seat: Seat, wish: Wish) {
        let Decider::Live { wishes, .. } = &mut self.decider else { return };
        wishes.insert(seat, wish);
    }

    fn begun(replicas: u32) -> Self {
        let mut world = Self::new(replicas);
        world.settle();
        assert!(matches!(world.decider, Decider::Live { .. }));
        world
    }

    fn waits(&self) -> Option<Reason> {
        self.plan().wait.map(|wait| wait.reason)
    }

    fn told(&self) -> Vec<Seat> {
        match &self.decider {
            Decider::Live { told, .. } => told.iter().copied().collect(),
            _ => Vec::new(),
        }
    }
}

fn other(name: &str, seconds_before: i64) -> OtherRun {
    let created =
        World::new(1).now.saturating_sub(SignedDuration::from_secs(seconds_before)).expect("in range");
    OtherRun {
        namespace: "perf".to_owned(),
        name: name.to_owned(),
        created,
        group: None,
        active: false,
        eager: true,
        short: false,
        holds: false,
    }
}

fn names_of(planned: &Planned) -> Vec<String> {
    planned
        .steps
        .iter()
        .map(|step| format!("{:?}", step.action).chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect()
}
