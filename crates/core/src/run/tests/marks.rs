//! Scenarios of what markers say. That no put lease is given beyond them, the world checks in every run.

use super::model::{Agent, Quirks, S};
use super::plans::*;
use super::world::{Fate, World};
use crate::plan::{Existing, FailureMode, Plan, Sharing};
use crate::ranges::RangeSet;
use crate::run::message::{Directive, Mark, Stop};
use crate::thresholds::Outcome;

/// A run that puts for ten seconds and leaves everything.
fn leaves() -> Plan {
    plan(3, vec![prepare(), puts("write", 10)])
}

/// What the marker says after the run: the last that anybody wrote.
fn marked(world: &World) -> Option<Mark> {
    world.agents().filter_map(|agent| agent.marked).last()
}

fn end_of(set: &RangeSet) -> u64 {
    set.ranges().last().map_or(0, |(_, end)| *end)
}

#[test]
fn the_marker_tells_in_the_end_exactly_what_was_put() {
    let world = World::new(leaves(), 5).finish();
    let objects = &world.objects[&None];
    assert!(end_of(objects) > OBJECTS, "{objects:?}");
    let mark = Mark { space: None, prepared: true, puts_below: end_of(objects) };
    let keeper = world.agents().find_map(|agent| agent.marked);
    assert_eq!(keeper, Some(mark), "{}", world.describe());
}

#[test]
fn a_data_set_that_was_only_prepared_is_marked_as_complete() {
    let world = World::new(plan(3, vec![prepare()]), 5).finish();
    assert_eq!(
        marked(&world),
        Some(Mark { space: None, prepared: true, puts_below: 0 }),
        "{}",
        world.describe()
    );
    let mut reuse = plan(3, vec![timed("read", 5)]);
    reuse.existing = Existing::Reuse;
    assert_eq!(marked(&World::new(reuse, 5).finish()), None, "who only reads writes nothing");
}

#[test]
fn an_unfinished_data_set_is_not_marked_as_complete() {
    let slow = Quirks { slow: 20, ..Quirks::default() };
    let mut world = World::new(leaves(), 5).fate(3_000, Fate::Stop(Stop::Graceful));
    for index in 0..3 {
        world = world.with(index, slow);
    }
    let world = world.finish();
    assert_eq!(world.outcome(), Outcome::Aborted);
    assert_eq!(marked(&world), None, "{}", world.describe());
}

#[test]
fn a_new_keeper_goes_on_where_the_lost_one_was() {
    let mut world = World::new(leaves(), 5);
    assert!(world.run_until(100, |world| world.agents().any(|agent| agent.marked.is_some())));
    let keeper = world.agents().find(|agent| agent.marked.is_some()).expect("a keeper").index;
    let at_ms = (world.now_ns - S) / 1_000_000 + 3_000;
    let world = world.fate(at_ms, Fate::Kill(keeper, "signal 9")).finish();
    let others: Vec<Mark> =
        world.agents().filter(|agent| agent.index != keeper).filter_map(|agent| agent.marked).collect();
    let [mark] = others[..] else { panic!("one new keeper: {others:?}\n{}", world.describe()) };
    assert!(mark.prepared && mark.puts_below >= end_of(&world.objects[&None]), "{mark:?}");
}

#[test]
fn the_place_of_an_agent_that_is_gone_for_good_is_adopted_before_its_work_is_done() {
    let slow = Quirks { slow: 20, ..Quirks::default() };
    let mut plan =
        with_mode(plan(3, vec![prepare(), puts("write", 5), cleanup()]), FailureMode::BestEffort, 0);
    plan.sharing = Sharing::PerAgent;
    for (stage, label) in [(1, "in prepare"), (2, "while it puts"), (3, "in cleanup")] {
        let mut world = World::new(plan.clone(), 5).with(1, slow);
        assert!(world.run_until(200, |world| world.view().stage == Some(stage)));
        let at_ms = (world.now_ns - S) / 1_000_000 + 500;
        // The world checks at the end that nothing is left in any place.
        let world = world.fate(at_ms, Fate::Kill(1, "signal 9")).finish();
        let adopts = |agent: &&Agent| agent.told.contains(&Directive::Keep { space: Some(1) });
        assert_eq!(world.agents().filter(adopts).count(), 1, "{label}: {}", world.describe());
        for agent in world.agents().filter(|agent| agent.index != 1) {
            let adopted = agent.told.iter().position(|told| *told == Directive::Keep { space: Some(1) });
            let of_it = |told: &Directive| matches!(told, Directive::Lease(lease) if lease.space == Some(1));
            let first = agent.told.iter().position(of_it);
            assert!(first.is_none_or(|first| adopted.is_none_or(|adopted| adopted < first)), "{label}");
        }
    }
}

#[test]
fn nothing_is_marked_any_more_once_a_cleanup_has_begun() {
    let world = World::new(plan(3, vec![prepare(), puts("write", 5), cleanup()]), 5).finish();
    for agent in world.agents() {
        let begins = |told: &Directive| matches!(told, Directive::Release { stage: 3 });
        let at = agent.told.iter().position(begins).expect("it cleaned up");
        assert!(!agent.told[at..].iter().any(|told| matches!(told, Directive::Mark(_))), "{:?}", agent.told);
    }
}

#[test]
fn puts_of_an_earlier_run_are_stepped_over_and_cleaned_up() {
    const FOUND: u64 = OBJECTS + 5_000;
    for sharing in [Sharing::Shared, Sharing::PerAgent] {
        let mut plan = plan(2, vec![prepare(), puts("write", 5), cleanup()]);
        plan.sharing = sharing;
        let mut world = World::new(plan, 5);
        world.set_found(FOUND);
        assert!(world.run_until(100, |world| world.view().stage == Some(3)));
        for set in world.objects.values() {
            let mut strange = set.clone();
            strange.remove(0, OBJECTS);
            strange.remove(FOUND, u64::MAX);
            assert!(strange.is_empty() && end_of(set) > FOUND, "{sharing:?}: {set:?}");
        }
        let put: u64 = world.objects.values().map(|set| set.len() - OBJECTS).sum();
        let places = world.objects.len() as u64;
        let total = world.view().stages[3].total;
        assert!(total >= places * FOUND + put, "{sharing:?}: {total} of {places} × {FOUND} and {put}");
        let world = world.finish();
        assert_eq!(world.outcome(), Outcome::Succeeded, "{}", world.describe());
    }
}
