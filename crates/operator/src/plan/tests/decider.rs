//! The planner and the real decider, `core::run`, with nothing between them but requests and ends.

use super::*;
use lockstep_coordinator::HostRequest;
use lockstep_core::run::Run;
use lockstep_core::run::message::{Action as Ask, Event};
use std::sync::Arc;

/// A world in which the decider is the real one.
struct Both {
    world: World,
    machine: Option<Run>,
    now_ns: u64,
}

impl Both {
    fn new(spec: &serde_json::Value) -> (Self, Arc<lockstep_core::plan::Plan>) {
        let (run, plan) = testing::run(spec);
        let facts = RunFacts::of(&run).expect("readable").expect("stored");
        let world = World { run: facts, ..World::new(plan.replicas) };
        (Self { world, machine: None, now_ns: 0 }, Arc::new(plan))
    }

    fn ask(&mut self, asks: Vec<Ask>) {
        for ask in asks {
            let request = match ask {
                Ask::Spawn { index, attempt } => HostRequest::Spawn { index, attempt },
                Ask::Kill { index, attempt } => HostRequest::Kill { index, attempt },
                Ask::Over => HostRequest::Over,
                _ => continue,
            };
            self.world.decider.note(&request);
        }
    }

    fn say(&mut self, event: Event) {
        let asks = self.machine.as_mut().map(|machine| machine.step(event, self.now_ns)).unwrap_or_default();
        self.ask(asks);
    }

    /// Plans and carries out until nothing is due; what concerns the decider goes to the real one.
    fn settle(&mut self, plan: &Arc<lockstep_core::plan::Plan>) {
        for _ in 0..50 {
            let planned = self.world.plan();
            self.world.memory = planned.memory.clone();
            if planned.steps.is_empty() {
                return;
            }
            for step in planned.steps {
                match step.action {
                    Action::Begin => {
                        self.world.decider = Decider::begun();
                        let mut machine = Run::new(Arc::clone(plan), false, self.now_ns);
                        let asks = machine.begin();
                        self.machine = Some(machine);
                        self.ask(asks);
                    }
                    Action::TellEnded { seat: (index, attempt), loss, clean } => {
                        self.world.decider.note_told((index, attempt));
                        self.say(Event::Ended { index, attempt, reason: loss, clean });
                    }
                    Action::Stop(stop) => {
                        self.world.decider.note_stopped(stop);
                        self.say(Event::Stop(stop));
                    }
                    action => self.world.carry_out(action),
                }
            }
            self.world.schedule();
        }
        panic!("planner and decider do not come to rest");
    }

    /// A second passes: pods that were asked to go end and are gone, and the decider looks at the time.
    fn second(&mut self, plan: &Arc<lockstep_core::plan::Plan>) {
        self.now_ns += 1_000_000_000;
        self.world.wait_s(1);
        let going: Vec<Seat> =
            self.world.pods.iter().filter(|pod| pod.deleting).map(|pod| pod.seat).collect();
        going.iter().for_each(|seat| self.world.end(*seat, Reason::PodDeleted, false));
        self.say(Event::Tick);
        self.settle(plan);
        self.world.kubelet();
        if self.world.decider == Decider::Over && self.world.run.finished.is_none() {
            self.world.run.finished = Some(Finished { at: self.world.now, complete: false });
        }
    }

    fn seats(&self) -> Vec<Seat> {
        self.world.pods.iter().filter(|pod| pod.may_live()).map(|pod| pod.seat).collect()
    }
}

#[test]
fn an_agent_that_is_killed_is_replaced_after_its_delay() {
    let (mut both, plan) = Both::new(&json!({"agents": {"replicas": 3}}));
    both.settle(&plan);
    assert_eq!(both.seats(), [(0, 0), (1, 0), (2, 0)]);
    both.world.end((1, 0), Reason::OOMKilled, false);
    both.second(&plan);
    assert_eq!(both.seats(), [(0, 0), (2, 0)], "not before retryDelay");
    let mut waited_s = 1;
    while both.seats().len() < 3 && waited_s < 60 {
        both.second(&plan);
        waited_s += 1;
    }
    assert!((10..=13).contains(&waited_s), "{waited_s} s");
    assert_eq!(
        (both.seats(), both.world.run.names.encode().as_str()),
        (vec![(0, 0), (2, 0), (1, 1)], "0:0,1:1,2:0")
    );
}

#[test]
fn a_run_whose_agents_never_say_hello_fails_and_leaves_nothing() {
    let spec = json!({"agents": {"replicas": 2}, "start": {"readyTimeout": "30s"}, "failurePolicy": {"retryAttempts": 1}});
    let (mut both, plan) = Both::new(&spec);
    both.settle(&plan);
    let mut waited_s = 0;
    while both.world.run.finished.is_none() && waited_s < 1_000 {
        both.second(&plan);
        waited_s += 1;
    }
    let outcome = both.machine.as_ref().map(Run::outcome);
    assert_eq!(outcome, Some(Outcome::Failed), "after {waited_s} s");
    assert_eq!(both.world.made, 4, "each agent was replaced once");
    (0..5).for_each(|_| both.second(&plan));
    assert!(both.world.pods.is_empty() && !both.world.run.finalizer);
}

#[test]
fn a_run_that_is_deleted_lets_go_within_seconds() {
    let (mut both, plan) = Both::new(&json!({"agents": {"replicas": 3}}));
    both.settle(&plan);
    both.second(&plan);
    both.world.run.deleting = true;
    let mut waited_s = 0;
    while both.world.run.finalizer && waited_s < 60 {
        both.second(&plan);
        waited_s += 1;
    }
    assert!(waited_s <= 15, "{waited_s} s");
    assert!(both.seats().is_empty());
    assert_eq!(both.machine.as_ref().map(Run::outcome), Some(Outcome::Aborted));
}
