//! Runs that are suspended, stopped, deleted, finished or orphaned.

use super::*;

#[test]
fn a_deleted_run_whose_agents_ended_without_their_operator_goes() {
    let mut world = World::begun(2);
    (world.decider, world.run.deleting) = (Decider::TakingOver, true);
    assert_eq!(world.waits(), Some(Reason::CoordinatorChanged), "its agents may still act");
    for index in 0..2 {
        world.end((index, 0), Reason::Orphaned, false);
    }
    world.settle();
    assert!(!world.run.finalizer && world.ca == CaMap::Unwritten);
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
