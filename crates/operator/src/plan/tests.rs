//! The planner against a world that carries out its steps, with every invariant held at each of them.

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
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What one run is surrounded by.
struct World {
    now: Timestamp,
    run: RunFacts,
    pods: Vec<PodFacts>,
    rejected: BTreeMap<Seat, Rejected>,
    ca_written: bool,
    decider: Decider,
    others: Vec<OtherRun>,
    installation: Installation,
    memory: Memory,
    /// Pods that find a node.
    room: usize,
    /// What the API server says to every new pod.
    refuses: Option<Rejection>,
    made: u32,
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
            ca_written: false,
            decider: Decider::Absent,
            others: Vec::new(),
            installation: Installation::example(),
            memory: Memory::default(),
            room: 100,
            refuses: None,
            made: 0,
            concluded: None,
            deleted: false,
        }
    }

    fn troubles(&self) -> BTreeMap<Seat, Trouble> {
        let waiting = self.pods.iter().filter(|pod| pod.unschedulable && pod.node.is_none());
        let trouble = |_: &PodFacts| Trouble {
            reason: Reason::Unschedulable,
            problem: Problem::new("agent waits", "0/3 nodes are available"),
            weight: Weight::Waits,
        };
        waiting.map(|pod| (pod.seat, trouble(pod))).collect()
    }

    fn plan(&self) -> Planned {
        let troubles = self.troubles();
        let observed = Observed {
            now: self.now,
            run: &self.run,
            pods: &self.pods,
            troubles: &troubles,
            rejected: &self.rejected,
            ca_written: self.ca_written,
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
                self.decider = Decider::Absent;
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
                assert!(!self.ca_written);
                self.ca_written = true;
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
            Action::TellEnded { seat, .. } => {
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
        assert!(self.run.finalizer && self.ca_written, "nobody would look after it");
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
            unschedulable: false,
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
    }
}

fn names_of(planned: &Planned) -> Vec<String> {
    planned
        .steps
        .iter()
        .map(|step| format!("{:?}", step.action).chars().take_while(|c| c.is_alphanumeric()).collect())
        .collect()
}

#[test]
fn a_run_begins_one_thing_after_the_other() {
    let mut world = World::new(3);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let planned = world.plan();
        seen.push(names_of(&planned));
        world.memory = planned.memory.clone();
        planned.steps.into_iter().for_each(|step| world.carry_out(step.action));
        world.schedule();
    }
    let creates = vec!["CreatePod"; 3];
    assert_eq!(
        seen,
        [vec!["Claim"], vec!["AddFinalizer"], vec!["WriteCa"], vec!["Name"], creates, vec!["Begin"]]
    );
    assert_eq!(world.settle().wait, None);
    assert_eq!(world.run.names.encode(), "0-2:0");
}

#[test]
fn a_run_of_somebody_else_is_left_alone() {
    let mut world = World::new(1);
    world.run.managed_by = "example.com/other".to_owned();
    assert_eq!((names_of(&world.plan()), world.waits()), (Vec::new(), Some(Reason::Waiting)));
    let mut world = World::new(1);
    world.run.controller = Some("elsewhere/lockstep-operator".to_owned());
    world.run.deleting = true;
    assert_eq!(names_of(&world.plan()), Vec::<String>::new());
}

#[test]
fn runs_of_one_group_wait_for_each_other() {
    let mut world = World::new(1);
    world.run.group = Some("ceph".to_owned());
    let in_group = |mut other: OtherRun, active| {
        (other.group, other.active) = (Some("ceph".to_owned()), active);
        other
    };
    for (others, want) in [
        (vec![in_group(other("a", 5), false)], Some(Reason::WaitingForExclusive)),
        (vec![in_group(other("a", -5), false)], None),
        (vec![in_group(other("a", -5), true)], Some(Reason::WaitingForExclusive)),
        (vec![other("a", 5)], None),
        (vec![OtherRun { eager: false, ..in_group(other("a", 5), false) }], None),
    ] {
        let mut world = World { others, run: world.run.clone(), ..World::new(1) };
        let planned = world.settle();
        assert_eq!(planned.wait.map(|wait| wait.reason), want);
        assert_eq!(world.pods.is_empty(), want.is_some());
    }
}

#[test]
fn an_installation_can_cap_the_runs_of_a_namespace() {
    let mut world = World::new(1);
    world.installation.runs_per_namespace_max = 2;
    let active = |name: &str| OtherRun { active: true, ..other(name, -5) };
    world.others = vec![active("a"), OtherRun { namespace: "else".to_owned(), ..active("b") }];
    world.settle();
    assert_eq!(world.pods.len(), 1);
    let mut world = World { others: vec![active("a"), active("b")], pods: Vec::new(), ..World::new(1) };
    world.installation.runs_per_namespace_max = 2;
    assert_eq!(world.settle().wait.map(|wait| wait.reason), Some(Reason::WaitingForQuota));
}

#[test]
fn two_runs_for_one_place_do_not_block_each_other() {
    let mut younger = World::new(6);
    younger.room = 4;
    younger.settle();
    assert!(younger.plan().short, "it holds four nodes and lacks two");
    assert_eq!(younger.waits(), Some(Reason::Unschedulable));
    // Nobody is in its way: it is patient.
    younger.wait_s(gang::PATIENCE_S - 1);
    assert_eq!(names_of(&younger.plan()), Vec::<String>::new());
    // An older one is short of room as well.
    younger.others = vec![OtherRun { active: true, short: true, ..other("older", 60) }];
    let planned = younger.settle();
    assert_eq!(planned.wait.map(|wait| wait.reason), Some(Reason::WaitingForRoom));
    younger.kubelet();
    assert!(younger.pods.is_empty());
    younger.wait_s(3_600);
    younger.settle();
    assert!(younger.pods.is_empty(), "the older one still looks for room");
    // It has found room, and leaves.
    younger.others.clear();
    younger.room = 8;
    younger.settle();
    assert!(matches!(younger.decider, Decider::Live { .. }));
}

#[test]
fn the_older_of_two_keeps_what_it_has() {
    let mut older = World::new(6);
    older.room = 4;
    older.others = vec![OtherRun { active: true, short: true, ..other("younger", -60) }];
    older.settle();
    older.wait_s(gang::YIELD_S + 5);
    older.settle();
    assert_eq!(older.pods.iter().filter(|pod| pod.node.is_some()).count(), 4);
    older.wait_s(gang::PATIENCE_S);
    older.settle();
    older.kubelet();
    assert!(older.pods.is_empty(), "even the oldest gives up what is of no use");
    let again = older.plan().again_at.expect("it will try again");
    assert!(again > older.now);
    older.now = again;
    older.settle();
    assert_eq!(older.pods.len(), 6);
}

#[test]
fn pods_that_hold_nothing_are_kept_for_the_autoscaler_and_time_out_at_last() {
    let mut world = World::new(2);
    world.room = 0;
    world.settle();
    world.wait_s(599);
    assert_eq!(
        (world.settle().wait.map(|wait| wait.reason), world.pods.len()),
        (Some(Reason::Unschedulable), 2)
    );
    world.wait_s(1);
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::ReadyTimeout)));
    assert!(world.pods.is_empty() && !world.run.finalizer);
}

#[test]
fn the_time_in_which_another_run_holds_the_room_does_not_count() {
    let mut world = World::new(2);
    world.room = 0;
    world.others = vec![OtherRun { active: true, ..other("holder", 60) }];
    world.settle();
    world.wait_s(86_400);
    world.settle();
    assert_eq!(world.concluded, None);
    (world.room, world.others) = (2, Vec::new());
    world.schedule();
    world.settle();
    assert!(matches!(world.decider, Decider::Live { .. }));
}

#[test]
fn a_quorum_is_enough_and_the_rest_may_come_later() {
    let mut world = World::new(4);
    (world.run.min_available, world.room) = (3, 3);
    world.settle();
    assert!(matches!(world.decider, Decider::Live { .. }));
    assert_eq!((world.pods.len(), world.told().len()), (4, 0));
}

#[test]
fn quota_is_waited_for_and_a_denial_is_not() {
    let mut world = World::new(2);
    let problem = Problem::new("pod was not created", "exceeded quota: q");
    world.refuses = Some(Rejection::Wait(Reason::WaitingForQuota, problem.clone()));
    let planned = world.settle();
    assert_eq!(planned.wait.map(|wait| wait.reason), Some(Reason::WaitingForQuota));
    let again = planned.again_at.expect("it tries again");
    (world.now, world.refuses) = (again, None);
    world.settle();
    assert!(matches!(world.decider, Decider::Live { .. }));

    let mut world = World::new(2);
    world.refuses = Some(Rejection::Never(Reason::PodRejected, problem));
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::PodRejected)));
}

#[test]
fn a_name_that_is_taken_is_waited_for_only_while_its_holder_goes() {
    let controller = |kind: &str, name: &str| Some((kind.to_owned(), name.to_owned()));
    for (holder, is_fatal) in [
        (Holder { controller_uid: None, controller: None, deleting: false }, true),
        (Holder { controller_uid: None, controller: None, deleting: true }, false),
        (
            Holder {
                controller_uid: Some("x".to_owned()),
                controller: controller("Job", "nightly"),
                deleting: false,
            },
            true,
        ),
        // An earlier run of this name: the garbage collector is on its way.
        (
            Holder {
                controller_uid: Some("x".to_owned()),
                controller: controller("BenchmarkRun", "nightly"),
                deleting: false,
            },
            false,
        ),
    ] {
        let mut world = World::new(1);
        world.refuses = Some(Rejection::NameTaken);
        world.settle();
        for rejected in world.rejected.values_mut() {
            rejected.holder = Some(holder.clone());
        }
        world.wait_s(live::RETRY_S);
        if is_fatal {
            world.settle();
            assert_eq!(world.concluded, Some((Outcome::Failed, Reason::NameConflict)));
        } else {
            world.refuses = None;
            world.settle();
            assert_eq!(world.pods.len(), 1, "{holder:?}");
        }
    }
}

#[test]
fn a_replacement_is_named_before_it_is_made() {
    let mut world = World::begun(2);
    world.end((1, 0), Reason::OOMKilled, false);
    world.settle();
    assert_eq!(world.told(), [(1, 0)]);
    world.wish((1, 0), Wish::Goes);
    world.wish((1, 1), Wish::Lives);
    let planned = world.plan();
    assert!(
        names_of(&planned).contains(&"Name".to_owned())
            && !names_of(&planned).contains(&"CreatePod".to_owned())
    );
    world.settle();
    assert_eq!(world.run.names.encode(), "0:0,1:1");
    assert!(world.pods.iter().any(|pod| pod.seat == (1, 1)));
}

#[test]
fn an_attempt_that_is_given_up_loses_its_pod_and_its_end_is_told() {
    let mut world = World::begun(2);
    world.wish((0, 0), Wish::Goes);
    world.settle();
    assert!(world.pods.iter().any(|pod| pod.seat == (0, 0) && pod.deleting));
    assert_eq!(world.told(), []);
    world.end((0, 0), Reason::PodDeleted, false);
    world.settle();
    assert_eq!(world.told(), [(0, 0)]);
}

#[test]
fn a_pod_that_vanishes_with_its_node_proves_nothing() {
    let mut world = World::begun(2);
    world.settle();
    world.pods.retain(|pod| pod.seat != (0, 0));
    world.settle();
    assert_eq!((world.told(), world.pods.len()), (vec![], 1), "neither told, nor made a second time");
    let mut world = World::new(2);
    (world.run.min_available, world.room) = (1, 1);
    world.settle();
    world.pods.retain(|pod| pod.node.is_some());
    world.settle();
    assert_eq!(world.told().len(), 1, "it never had a node to act on");
}

#[test]
fn a_living_pod_that_nobody_expects_is_removed() {
    let mut world = World::begun(2);
    let Decider::Live { wishes, .. } = &mut world.decider else { panic!("it lives") };
    wishes.remove(&(1, 0));
    world.settle();
    assert!(world.pods.iter().any(|pod| pod.seat == (1, 0) && pod.deleting));
}

#[test]
fn suspending_aborts_and_resuming_is_a_new_attempt() {
    let mut world = World::begun(2);
    world.run.suspend = true;
    world.settle();
    assert!(matches!(world.decider, Decider::Live { stopped: Some(Stop::Immediate), .. }));
    world.decider = Decider::Over;
    world.settle();
    world.kubelet();
    let planned = world.settle();
    assert_eq!(planned.wait.map(|wait| wait.reason), Some(Reason::Suspended));
    assert!(world.pods.is_empty() && !world.run.finalizer);
    (world.run.suspend, world.run.suspended, world.decider) = (false, true, Decider::Absent);
    world.settle();
    assert_eq!((world.run.run_attempt, world.pods.len()), (2, 2));
    assert!(matches!(world.decider, Decider::Live { .. }));
}

#[test]
fn a_run_that_is_suspended_from_the_start_has_no_pod() {
    let mut world = World::new(2);
    world.run.suspend = true;
    assert_eq!(world.settle().wait.map(|wait| wait.reason), Some(Reason::Suspended));
    assert_eq!((world.made, world.run.finalizer), (0, false));
}

#[test]
fn stopping_hardens_and_never_softens() {
    let mut world = World::begun(1);
    world.run.stop = Some(Stop::Graceful);
    world.settle();
    assert!(matches!(world.decider, Decider::Live { stopped: Some(Stop::Graceful), .. }));
    world.run.stop = Some(Stop::Immediate);
    world.settle();
    assert!(matches!(world.decider, Decider::Live { stopped: Some(Stop::Immediate), .. }));
    world.run.deleting = true;
    world.settle();
    assert!(matches!(world.decider, Decider::Live { stopped: Some(Stop::Immediate), .. }));
}

#[test]
fn a_run_that_is_stopped_before_it_begins_is_aborted() {
    let mut world = World::new(2);
    world.run.stop = Some(Stop::Graceful);
    world.settle();
    assert_eq!((world.concluded, world.made), (Some((Outcome::Aborted, Reason::Aborted)), 0));
    let mut world = World::new(2);
    world.room = 1;
    world.settle();
    world.run.stop = Some(Stop::Immediate);
    world.settle();
    assert_eq!(world.concluded, None, "an agent still lives");
    world.kubelet();
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Aborted, Reason::Aborted)));
}

#[test]
fn the_finalizer_of_a_deleted_run_goes_with_the_last_agent() {
    let mut world = World::begun(2);
    world.run.deleting = true;
    world.settle();
    assert!(matches!(world.decider, Decider::Live { stopped: Some(Stop::Graceful), .. }));
    assert!(world.run.finalizer);
    // After a restart nobody has taken it over, and nothing is left of the run but pods.
    (world.decider, world.memory) = (Decider::Absent, Memory::default());
    world.settle();
    assert!(world.run.finalizer, "agents live");
    world.kubelet();
    world.settle();
    assert!(!world.run.finalizer && world.pods.is_empty());
}

#[test]
fn what_is_left_of_a_finished_run_is_as_its_policy_says() {
    for (cleanup, complete, left) in [
        (CleanupPolicy::Always, false, 0),
        (CleanupPolicy::OnSuccess, true, 0),
        (CleanupPolicy::OnSuccess, false, 1),
        (CleanupPolicy::Never, true, 1),
    ] {
        let mut world = World::begun(2);
        world.settle();
        world.end((0, 0), Reason::Completed, true);
        (world.run.cleanup, world.decider) = (cleanup, Decider::Absent);
        world.run.finished = Some(Finished { at: world.now, complete });
        world.settle();
        assert!(world.run.finalizer, "agent 1 lives still");
        world.kubelet();
        world.settle();
        assert_eq!((world.pods.len(), world.run.finalizer), (left, false), "{cleanup:?} {complete}");
    }
}

#[test]
fn a_finished_run_goes_when_its_time_is_over() {
    let mut world = World::new(1);
    world.run.controller = Some(world.installation.claim());
    world.run.finished = Some(Finished { at: world.now, complete: true });
    assert_eq!(world.settle().again_at, None);
    world.run.ttl = Some(Duration::from_secs(60));
    let planned = world.settle();
    assert!(!world.deleted);
    world.now = planned.again_at.expect("it comes back");
    let planned = world.plan();
    planned.steps.into_iter().for_each(|step| world.carry_out(step.action));
    assert!(world.deleted);
}

#[test]
fn only_our_own_pods_without_run_and_owner_are_orphans() {
    let mut world = World::begun(2);
    world.settle();
    let collect = |pods: &[PodFacts], runs: &[&str]| {
        orphans::collect("perf", pods, &runs.iter().map(|uid| (*uid).to_owned()).collect()).len()
    };
    assert_eq!(collect(&world.pods, &[]), 0, "the garbage collector has them");
    world.pods[0].owner_uid = None;
    assert_eq!((collect(&world.pods, &[]), collect(&world.pods, &[testing::UID])), (1, 0));
    world.pods[0].name = "copied-by-hand".to_owned();
    assert_eq!(collect(&world.pods, &[]), 0);
}

#[test]
fn a_run_that_is_being_taken_over_is_not_touched() {
    let mut world = World::begun(2);
    world.decider = Decider::TakingOver;
    world.memory = Memory::default();
    for change in [
        |_: &mut RunFacts| {},
        |run: &mut RunFacts| run.deleting = true,
        |run: &mut RunFacts| run.suspend = true,
    ] {
        change(&mut world.run);
        assert_eq!((names_of(&world.plan()), world.waits()), (Vec::new(), Some(Reason::CoordinatorChanged)));
    }
}

/// Something that happens around a run.
#[derive(Clone, Debug)]
enum Happens {
    Time(i64),
    Room(usize),
    Refuse(bool),
    End(u32),
    Vanish(u32),
    GiveUp(u32),
    Kubelet,
    Suspend(bool),
    Stop,
    Delete,
    Over,
    Restart,
    Rival(bool),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1..200_i64).prop_map(Happens::Time),
        (0..8_usize).prop_map(Happens::Room),
        any::<bool>().prop_map(Happens::Refuse),
        (0..4_u32).prop_map(Happens::End),
        (0..4_u32).prop_map(Happens::Vanish),
        (0..4_u32).prop_map(Happens::GiveUp),
        Just(Happens::Kubelet),
        any::<bool>().prop_map(Happens::Suspend),
        Just(Happens::Stop),
        Just(Happens::Delete),
        Just(Happens::Over),
        Just(Happens::Restart),
        any::<bool>().prop_map(Happens::Rival),
    ]
}

impl World {
    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Time(seconds) => self.wait_s(seconds),
            Happens::Room(room) => self.room = room,
            Happens::Refuse(refuses) => {
                let quota = || {
                    Rejection::Wait(Reason::WaitingForQuota, Problem::new("not created", "exceeded quota"))
                };
                self.refuses = refuses.then(quota);
            }
            Happens::End(index) => {
                for attempt in 0..10 {
                    self.end((index, attempt), Reason::OOMKilled, false);
                }
            }
            Happens::Vanish(index) => self.pods.retain(|pod| pod.seat.0 != index),
            Happens::GiveUp(index) => self.replace(index),
            Happens::Kubelet => self.kubelet(),
            Happens::Suspend(suspend) => {
                self.run.suspend = suspend;
                self.run.suspended |= suspend;
            }
            Happens::Stop => self.run.stop = Some(Stop::Graceful),
            Happens::Delete => self.run.deleting = true,
            Happens::Over => self.over(),
            Happens::Restart => self.memory = Memory::default(),
            Happens::Rival(short) => {
                self.others = vec![OtherRun { active: true, short, ..other("older", 60) }]
            }
        }
    }

    /// As the decider would: the attempt goes, and another comes when it is known to be dead.
    fn replace(&mut self, index: u32) {
        let Decider::Live { wishes, told, stopped: None } = &mut self.decider else { return };
        let Some((&seat, _)) = wishes.iter().rfind(|(seat, _)| seat.0 == index) else { return };
        wishes.insert(seat, Wish::Goes);
        if told.contains(&seat) {
            wishes.insert((index, seat.1 + 1), Wish::Lives);
        }
    }

    /// The decider is done, and publishing has written what there is to write.
    fn over(&mut self) {
        if matches!(self.decider, Decider::Live { .. }) && self.run.finished.is_none() {
            if self.run.is_suspended_attempt() {
                self.decider = Decider::Over;
            } else {
                self.decider = Decider::Absent;
                self.run.finished = Some(Finished { at: self.now, complete: false });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever happens, in whatever order: no step repeats what is done, none is taken that must not be (the world refuses
    /// it), and the planner comes to rest. A run that is deleted lets go as soon as its agents are gone.
    #[test]
    fn whatever_happens_no_step_is_wrong_or_repeated(
        story in proptest::collection::vec(happens(), 0..40),
        delete_last in any::<bool>(),
    ) {
        let mut world = World::new(4);
        world.run.min_available = 3;
        for happens in story {
            if world.deleted || (world.run.deleting && !world.run.finalizer) {
                break;
            }
            world.happen(happens);
            world.schedule();
            world.settle();
        }
        if delete_last && !world.deleted {
            world.run.deleting = true;
            world.settle();
            world.over();
            world.settle();
            world.kubelet();
            world.settle();
            prop_assert!(!world.run.finalizer && world.pods.iter().all(|pod| !pod.may_live()));
        }
    }
}
