//! A run under way.

use super::*;

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
fn a_sidecar_that_runs_on_goes_when_its_agent_is_replaced() {
    let mut world = World::begun(2);
    world.end((1, 0), Reason::OOMKilled, false);
    world.pods.iter_mut().filter(|pod| pod.seat == (1, 0)).for_each(|pod| pod.over = false);
    world.settle();
    assert_eq!(world.pods.len(), 2, "nobody needs its node yet");
    world.wish((1, 1), Wish::Lives);
    world.settle();
    let seats: Vec<Seat> = world.pods.iter().map(|pod| pod.seat).collect();
    assert_eq!(seats, [(0, 0), (1, 1)]);
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
fn a_pod_that_ended_and_went_unseen_is_told_as_it_was() {
    let mut world = World::begun(2);
    world.end((0, 0), Reason::Evicted, false);
    let gone = world.pods.remove(0);
    world.gone.insert(gone.seat, gone);
    world.settle();
    assert_eq!(world.told(), [(0, 0)]);
    assert_eq!(world.losses, [LossReason::Ended("Evicted".to_owned())]);
}

#[test]
fn what_can_never_run_is_told_as_such() {
    let cannot =
        |world: &World| matches!(&world.losses[..], [LossReason::CannotStart(why)] if why.contains(": "));
    let mut world = World::begun(2);
    world.end((1, 0), Reason::OOMKilled, false);
    world.settle();
    world.losses.clear();
    world.wish((1, 1), Wish::Lives);
    let problem = Problem::new("not created", "violates PodSecurity");
    world.refuses = Some(Rejection::Never(Reason::PodRejected, problem));
    world.settle();
    assert!(cannot(&world), "{:?}", world.losses);

    let mut world = World::begun(1);
    world.fatal = Some(Reason::InvalidImageName);
    world.settle();
    assert!(cannot(&world), "{:?}", world.losses);
    assert!(world.pods.iter().all(|pod| pod.deleting), "waiting cannot help it");
}

#[test]
fn a_living_pod_that_nobody_expects_is_removed() {
    let mut world = World::begun(2);
    let Decider::Live { wishes, .. } = &mut world.decider else { panic!("it lives") };
    wishes.remove(&(1, 0));
    world.settle();
    assert!(world.pods.iter().any(|pod| pod.seat == (1, 0) && pod.deleting));
}
