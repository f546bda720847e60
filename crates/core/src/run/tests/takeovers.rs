//! Scenarios of takeovers: the coordinator dies in each phase, and another goes on from what was recorded and what the
//! agents tell.

use super::model::S;
use super::plans::*;
use super::world::{Fate, World};
use crate::plan::Plan;
use crate::ranges::RangeSet;
use crate::run::message::Directive;
use crate::thresholds::Outcome;

fn with_takeover(plan: Plan, at_ms: u64, away_ns: u64) -> World {
    World::new(plan, 3).fate(at_ms, Fate::TakeOver(away_ns)).finish()
}

fn slow_prepare(replicas: u32) -> Plan {
    let mut plan = usual(replicas);
    plan.dataset.layout = crate::dataset::Layout::Flat { objects: 150_000, prefix_shards: 0 };
    plan
}

/// Whatever the coordinator was at, nothing is lost by its death, and nobody is given up.
#[test]
fn a_run_goes_on_from_wherever_it_was() {
    for at_ms in (0..34_000).step_by(250) {
        let world = with_takeover(slow_prepare(3), at_ms, 5 * S);
        let story = world.story();
        assert_eq!(world.outcome(), Outcome::Succeeded, "at {at_ms} ms\n{}", world.describe());
        assert!(story.ghosts.is_empty() && story.partial.is_empty(), "at {at_ms} ms\n{}", world.describe());
        assert_eq!(world.view().stages.len(), 4);
        assert!(story.timeline.iter().filter(|told| told.what == "CoordinatorChanged").count() <= 1);
    }
}

/// What was written before is not written again: agents tell what they did, down to the lease in hand.
#[test]
fn prepare_repeats_nothing() {
    for at_ms in [1_000, 2_000, 3_000, 4_500] {
        let world = with_takeover(slow_prepare(3), at_ms, 12 * S);
        let prepare = &world.view().stages[1];
        assert_eq!(
            (prepare.changed, prepare.done, prepare.returned),
            (150_000, 150_000, 0),
            "{}",
            world.describe()
        );
        let written: u64 = world.agents().map(|agent| agent.written).sum();
        assert_eq!(written, 150_000, "at {at_ms} ms\n{}", world.describe());
    }
}

/// A window that had begun ends when it would have, and nobody is told to begin again.
#[test]
fn a_window_is_not_disturbed() {
    let undisturbed = World::new(usual(3), 3).finish();
    let began = |world: &World| world.view().stages[2].facts.planned_start_ns.expect("it began");
    let begins_ms = (began(&undisturbed) - S) / 1_000_000;
    for after_ms in [50, 3_000, 15_000, 19_900] {
        let world = with_takeover(usual(3), begins_ms + after_ms, 8 * S);
        let shift_ns = began(&world).abs_diff(began(&undisturbed));
        assert!(shift_ns < 50_000_000, "the start moved by {shift_ns} ns\n{}", world.describe());
        for agent in world.agents() {
            let arms =
                agent.told.iter().filter(|told| matches!(told, Directive::Arm { stage: 2, .. })).count();
            let joins = agent.told.iter().any(|told| matches!(told, Directive::Join { .. }));
            assert!(arms == 1 && !joins, "{:?}", agent.told);
        }
        assert!(world.story().partial.is_empty(), "{}", world.describe());
    }
}

/// An agent that died with its coordinator: what it did is done again where it must be, and cleanup finds its puts.
#[test]
fn whoever_dies_with_the_coordinator_is_replaced() {
    for at_ms in [1_500, 3_000, 9_000, 14_000] {
        let mut plan = plan(3, vec![prepare(), puts("puts", 12), cleanup()]);
        plan.dataset.layout = crate::dataset::Layout::Flat { objects: 100_000, prefix_shards: 0 };
        let world = World::new(plan, 5)
            .fate(at_ms, Fate::TakeOver(4 * S))
            .fate(at_ms + 10, Fate::Kill(1, "signal 9"))
            .finish();
        assert!(matches!(world.outcome(), Outcome::Succeeded | Outcome::Partial), "{}", world.describe());
        assert_eq!(world.story().ghosts.len(), 1, "{}", world.describe());
        let left: u64 = world.objects.values().map(RangeSet::len).sum();
        assert_eq!(left, 0, "at {at_ms} ms\n{}", world.describe());
    }
}

/// A second and a third death, before the agents are all back.
#[test]
fn takeovers_may_follow_each_other() {
    let world = World::new(slow_prepare(4), 9)
        .fate(3_000, Fate::TakeOver(2 * S))
        .fate(6_000, Fate::TakeOver(S))
        .fate(7_500, Fate::TakeOver(S))
        .fate(20_000, Fate::TakeOver(S))
        .finish();
    assert_eq!(world.outcome(), Outcome::Succeeded, "{}", world.describe());
    let written: u64 = world.agents().map(|agent| agent.written).sum();
    assert_eq!(written, 150_000, "{}", world.describe());
}

/// Nobody comes back: the run ends all the same, and says why.
#[test]
fn agents_that_stay_away_are_given_up() {
    let world = World::new(usual(2), 4)
        .fate(3_000, Fate::TakeOver(5 * S))
        .fate(3_010, Fate::Partition(0, 400 * S))
        .fate(3_010, Fate::Partition(1, 400 * S))
        .finish();
    assert_ne!(world.outcome(), Outcome::Succeeded, "{}", world.describe());
}
