//! Scenarios of runs that go well, and of starts that do not.

use super::model::{Quirks, S};
use super::plans::*;
use super::world::{Fate, World};
use crate::thresholds::Outcome;

#[test]
fn every_kind_of_stage_passes() {
    let stages =
        vec![prepare(), warm_up(3), timed("read", 5), counted("count", 30_000), puts("write", 5), cleanup()];
    let world = World::new(plan(3, stages), 1).finish();
    assert_eq!(world.outcome(), Outcome::Succeeded, "{}", world.describe());
    let story = world.story();
    assert!(story.degraded.is_empty() && story.refused == 0, "{story:?}");
    assert_eq!(world.stage_overs, [0, 1, 2, 3, 4, 5, 6]);
    let view = world.view();
    assert_eq!((view.stages[1].done, view.stages[1].total), (OBJECTS, OBJECTS));
    assert_eq!(view.stages[4].done, 30_000);
    assert!(
        view.stages[3].facts.skew_ns.is_none()
            && view.stages[2].facts.skew_ns.is_some_and(|skew| skew < 5_000_000)
    );
}

#[test]
fn an_agent_cut_off_for_a_moment_is_back() {
    let world = World::new(usual(3), 1).fate(8_000, Fate::Cut(1, 5 * S)).finish();
    assert_eq!(world.outcome(), Outcome::Succeeded, "{}", world.describe());
    assert!(world.story().degraded.iter().any(|why| why.contains("disconnected")));
}

#[test]
fn a_deaf_agent_stops_everybody_from_starting() {
    let world = World::new(with_mode(usual(3), crate::plan::FailureMode::FailFast, 0), 1)
        .with(1, Quirks { deaf: true, ..Quirks::default() })
        .finish();
    assert_eq!(world.outcome(), Outcome::Failed);
    assert!(world.story().failure.is_some_and(|problem| problem.cause.contains("acknowledge")));
    assert!(world.view().stages[1].facts.rearmed >= 10 && world.view().stages[1].facts.releases.is_empty());
}
