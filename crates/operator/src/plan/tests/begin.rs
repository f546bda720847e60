//! What stands before a run, and how its pods come all or none.

use super::*;

#[test]
fn a_config_map_or_a_pod_that_will_never_do_ends_the_run_before_it_begins() {
    let mut world = World::new(2);
    world.ca = CaMap::Foreign;
    world.settle();
    assert_eq!((world.concluded, world.made), (Some((Outcome::Failed, Reason::NameConflict)), 0));
    let mut world = World::new(2);
    (world.room, world.fatal) = (1, Some(Reason::InvalidImageName));
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::InvalidImageName)));
}

#[test]
fn a_run_begins_one_thing_after_the_other() {
    let mut world = World::new(3);
    let mut seen = Vec::new();
    for _ in 0..7 {
        let planned = world.plan();
        seen.push(names_of(&planned));
        world.memory = planned.memory.clone();
        planned.steps.into_iter().for_each(|step| world.carry_out(step.action));
        world.schedule();
    }
    let creates = vec!["CreatePod"; 3];
    assert_eq!(
        seen,
        [
            vec!["Claim"],
            vec!["TryPod"],
            vec!["AddFinalizer"],
            vec!["WriteCa"],
            vec!["Name"],
            creates,
            vec!["Begin"]
        ]
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
fn a_run_is_in_the_way_of_others_while_agents_of_it_may_live() {
    let nothing = BTreeMap::new();
    let flags = |run: &RunFacts| OtherRun::of(run, &nothing, false).map(|other| (other.active, other.eager));
    let mut world = World::new(1);
    assert_eq!(flags(&world.run), Some((false, true)));
    world.settle();
    assert_eq!(flags(&world.run), Some((true, true)));
    world.run.suspend = true;
    assert_eq!(flags(&world.run), Some((true, false)));
    world.run.finalizer = false;
    assert_eq!(flags(&world.run), None);
    world.run.suspend = false;
    world.run.finished = Some(Finished { at: world.now, complete: true });
    assert_eq!(flags(&world.run), None);
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
    younger.others = vec![OtherRun { active: true, short: true, holds: true, ..other("older", 60) }];
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
    older.others = vec![OtherRun { active: true, short: true, holds: true, ..other("younger", -60) }];
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
    world.others = vec![OtherRun { active: true, holds: true, ..other("holder", 60) }];
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
fn two_runs_that_can_never_be_placed_do_not_keep_each_other_waiting() {
    let mut world = World::new(6);
    world.room = 4;
    let short = |holds| vec![OtherRun { active: true, short: holds, holds, ..other("younger", -60) }];
    // The other one holds nodes half of the time, and gives them back the other half.
    let mut rounds = 0;
    while world.concluded.is_none() && rounds < 1_000 {
        rounds += 1;
        world.others = short(rounds % 2 == 0);
        world.wait_s(60);
        world.settle();
        world.kubelet();
    }
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::ReadyTimeout)), "after {rounds} minutes");
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
    world.refuses = Some(Rejection::Never(Reason::PodRejected, problem.clone()));
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::PodRejected)));
    assert!(!world.run.finalizer && world.ca == CaMap::Unwritten, "nothing was made for it");

    // What was taken as a dry run may be denied all the same.
    let mut world = World::new(2);
    world.trial = Trial::Passed;
    world.refuses = Some(Rejection::Never(Reason::PodRejected, problem));
    world.settle();
    assert_eq!(world.concluded, Some((Outcome::Failed, Reason::PodRejected)));
}

#[test]
fn nothing_is_made_and_nothing_accepted_before_the_api_server_says_whether_it_takes_the_pods() {
    let mut world = World::new(2);
    world.refuses = Some(Rejection::Again);
    let planned = world.settle();
    assert!(planned.unjudged && planned.wait.is_some());
    assert!(!world.run.finalizer && world.run.names.is_empty());
    (world.now, world.refuses) = (planned.again_at.expect("it asks again"), None);
    let planned = world.settle();
    assert!(!planned.unjudged && matches!(world.decider, Decider::Live { .. }));
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
        world.wait_s(crate::plan::live::RETRY_S);
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
fn a_run_in_a_queue_waits_as_long_as_it_takes() {
    let mut world = World::new(2);
    world.room = 0;
    world.gated = true;
    world.settle();
    world.wait_s(86_400);
    let planned = world.settle();
    assert_eq!(planned.wait.map(|wait| wait.reason), Some(Reason::SchedulingGated));
    assert_eq!((world.concluded, planned.short), (None, false));
    (world.gated, world.room) = (false, 2);
    world.schedule();
    world.settle();
    assert!(matches!(world.decider, Decider::Live { .. }));
}
