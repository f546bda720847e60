//! Scenarios of runs that are stopped, and of what is cleaned up then.

use super::model::{Quirks, S};
use super::plans::*;
use super::world::{Fate, World};
use crate::op::ErrorClass;
use crate::plan::FailureMode;
use crate::run::StageState;
use crate::run::message::Stop;
use crate::thresholds::Outcome;

/// Stops `usual` at an instant; the state of the cleanup stage at the end.
fn check_stop(at_ms: u64, stop: Stop, expect: StageState) {
    let world = World::new(usual(3), 5).fate(at_ms, Fate::Stop(stop)).finish();
    assert_eq!(world.outcome(), Outcome::Aborted, "{}", world.describe());
    assert_eq!(world.view().stages[3].facts.state, expect, "at {at_ms}: {}", world.describe());
}

#[test]
fn a_graceful_stop_cleans_up_and_a_hard_one_does_not() {
    for at_ms in [1_800, 4_000, 12_000] {
        check_stop(at_ms, Stop::Graceful, StageState::Done);
        check_stop(at_ms, Stop::Immediate, StageState::Skipped);
    }
    check_stop(100, Stop::Graceful, StageState::Skipped);
}

#[test]
fn a_second_stop_ends_the_cleanup() {
    let slow = |world: World| {
        (0..3).fold(world, |world, index| world.with(index, Quirks { slow: 20, ..Quirks::default() }))
    };
    let world = slow(World::new(usual(3), 5));
    let world =
        world.fate(10_000, Fate::Stop(Stop::Graceful)).fate(12_000, Fate::Stop(Stop::Immediate)).finish();
    assert_eq!(world.outcome(), Outcome::Aborted);
    assert_eq!(world.view().stages[3].facts.state, StageState::Failed, "{}", world.describe());
    assert!(world.now_ns < 21 * S, "{}", world.describe());
}

#[test]
fn a_stop_during_the_cleanup_lets_it_go_on() {
    let mut world = World::new(usual(3), 5);
    assert!(world.run_until(100, |world| world.view().stage == Some(3)));
    let at_ms = world.now_ns / 1_000_000;
    let world = world.fate(at_ms.saturating_sub(1_000), Fate::Stop(Stop::Graceful)).finish();
    assert_eq!(world.view().stages[3].facts.state, StageState::Done, "{}", world.describe());
}

#[test]
fn a_failure_is_cleaned_up_after() {
    let plan = with_mode(usual(3), FailureMode::FailFast, 0);
    let world = World::new(plan, 5).fate(12_000, Fate::Kill(0, "signal 9")).finish();
    assert_eq!(world.outcome(), Outcome::Failed);
    assert_eq!(world.view().stages[3].facts.state, StageState::Done, "{}", world.describe());
}

#[test]
fn a_place_that_is_anothers_is_not_cleaned_up() {
    for (class, expect) in [(Some(ErrorClass::Permission), StageState::Done), (None, StageState::Skipped)] {
        let world = World::new(usual(3), 5).fate(12_000, Fate::Refused(0, class)).finish();
        assert_eq!(world.outcome(), Outcome::Failed);
        assert_eq!(world.view().stages[3].facts.state, expect, "{}", world.describe());
    }
    // Also when something else was about to end the run.
    let world = World::new(usual(3), 5)
        .fate(12_000, Fate::Stop(Stop::Graceful))
        .fate(12_001, Fate::Refused(0, None))
        .finish();
    assert_eq!(world.view().stages[3].facts.state, StageState::Skipped, "{}", world.describe());
}

#[test]
fn a_loss_while_stopping_changes_nothing() {
    for (at_ms, stuck) in [(12_100, false), (14_500, true)] {
        let world = World::new(usual(3), 5)
            .with(1, Quirks { stuck, ..Quirks::default() })
            .fate(12_000, Fate::Stop(Stop::Graceful))
            .fate(at_ms, Fate::Kill(2, "signal 9"))
            .finish();
        assert_eq!(world.outcome(), Outcome::Aborted);
        assert_eq!(world.view().stages[3].facts.state, StageState::Done, "{}", world.describe());
        assert!(world.now_ns < 30 * S, "{}", world.describe());
    }
}

#[test]
fn only_what_was_touched_is_removed_from_a_fresh_place() {
    for (fresh, most) in [(true, OBJECTS / 2), (false, OBJECTS)] {
        let mut world = World::new(usual(2), 5);
        world.set_fresh(fresh);
        for index in 0..2 {
            world = world.with(index, Quirks { slow: 30, ..Quirks::default() });
        }
        let world = world.fate(3_000, Fate::Stop(Stop::Graceful)).finish();
        let total = world.view().stages[3].total;
        assert!(if fresh { total > 0 && total < most } else { total == most }, "{fresh} {total}");
    }
}

#[test]
fn nobody_cleans_up_behind_the_back_of_a_writer() {
    let world = World::new(plan(3, vec![prepare(), puts("write", 100), cleanup()]), 5)
        .fate(12_000, Fate::Partition(1, 50 * S))
        .fate(14_000, Fate::Stop(Stop::Graceful))
        .finish();
    let facts = &world.view().stages[3].facts;
    assert_eq!(facts.state, StageState::Done);
    assert!(facts.planned_start_ns >= Some(62 * S), "{}", world.describe());
}

#[test]
fn a_countdown_is_kept() {
    let mut plan = usual(2);
    plan.start.delay = std::time::Duration::from_secs(10);
    let world = World::new(plan, 5).finish();
    assert_eq!(world.outcome(), Outcome::Succeeded);
    let told =
        |what: &str| world.story().timeline.iter().find(|told| told.what == what).map(|told| told.at_ns);
    let until_ns = told("Countdown").expect("a countdown") + 10 * S;
    assert_eq!(world.view().stages[1].facts.planned_start_ns, Some(until_ns), "{}", world.describe());
}

#[test]
fn a_plan_of_nothing_but_preflight_succeeds() {
    let world = World::new(plan(2, Vec::new()), 5).finish();
    assert_eq!(world.outcome(), Outcome::Succeeded);
}
