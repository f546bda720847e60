//! Scenarios of losses: policies, rules, barriers, liveness, exit codes.

use super::model::{Quirks, S};
use super::plans::*;
use super::world::{Fate, World};
use crate::plan::{BarrierMode, FailureMode, FailureRule, LateJoin, Plan, RuleAction, Scheme, Sharing};
use crate::run::agent::{AgentState, LossReason};
use crate::run::message::Directive;
use crate::thresholds::Outcome;
use FailureMode::{BestEffort, ContinueIfMajority, FailFast};
use Outcome::{Failed, Partial, Succeeded};

/// In the middle of prepare, and of the measured stage, of [`usual`].
const IN_PREPARE: u64 = 2_000;
const IN_READ: u64 = 12_000;

fn exit(world: &World) -> Option<u8> {
    world.story().failure.map(|problem| problem.exit)
}

/// Kills agent 1 of `replicas` at an instant, and expects an outcome.
fn check_kill(plan: Plan, at_ms: u64, expect: Outcome) -> World {
    let world = World::new(plan, 7).fate(at_ms, Fate::Kill(1, "signal 9")).finish();
    assert_eq!(world.outcome(), expect, "{}", world.describe());
    assert_eq!(exit(&world), (expect == Failed).then_some(1));
    world
}

#[test]
fn policies_decide_what_a_loss_costs() {
    let slow = |replicas| {
        let mut plan = usual(replicas);
        plan.dataset.layout = crate::dataset::Layout::Flat { objects: 100_000, prefix_shards: 0 };
        plan
    };
    for (replicas, mode, retries, at_ms, expect) in [
        (3, FailFast, 0, IN_PREPARE, Failed),
        (3, FailFast, 1, IN_PREPARE, Succeeded),
        (3, FailFast, 1, IN_READ, Partial),
        (3, FailFast, 0, IN_READ, Failed),
        (3, ContinueIfMajority, 1, IN_PREPARE, Succeeded),
        (3, ContinueIfMajority, 0, IN_PREPARE, Partial),
        (3, ContinueIfMajority, 0, IN_READ, Partial),
        (2, ContinueIfMajority, 0, IN_READ, Failed),
        (2, BestEffort, 0, IN_READ, Partial),
        (2, BestEffort, 0, IN_PREPARE, Partial),
    ] {
        let world = check_kill(with_mode(slow(replicas), mode, retries), at_ms, expect);
        let story = world.story();
        assert_eq!(expect == Succeeded, story.partial.is_empty() && expect != Failed, "{}", world.describe());
        assert_eq!(expect == Failed, story.failure.is_some());
        assert!(expect == Failed || !story.degraded.is_empty());
    }
}

#[test]
fn a_replacement_joins_the_window_late() {
    let world = check_kill(usual(3), IN_READ, Partial);
    let joined = &world.agent((1, 1)).told;
    assert!(joined.iter().any(|told| matches!(told, Directive::Join { stage: 2, .. })), "{joined:?}");
}

#[test]
fn what_can_never_start_is_not_tried_again_unless_a_rule_says_so() {
    let mut plan = with_mode(usual(3), BestEffort, 5);
    let denied =
        |plan: &Plan, at_ms| World::new(plan.clone(), 7).fate(at_ms, Fate::Kill(1, "CannotStart")).finish();
    let world = denied(&plan, IN_PREPARE);
    assert_eq!((world.outcome(), world.view().agents[1].attempt), (Partial, 0), "{}", world.describe());
    let world = denied(&plan, 1);
    assert_eq!((world.outcome(), exit(&world)), (Failed, Some(4)), "the quorum is never there");
    assert_eq!(world.story().failure.and_then(|problem| problem.agent), Some(1));
    let reasons = vec!["CannotStart".to_owned()];
    plan.failure.rules = vec![FailureRule { reasons, action: RuleAction::Retry, count_attempt: true }];
    assert_eq!(denied(&plan, IN_PREPARE).view().agents[1].attempt, 1);
}

#[test]
fn min_agents_is_a_floor() {
    let mut plan = with_mode(usual(4), BestEffort, 0);
    plan.failure.min_agents = 4;
    let world = check_kill(plan, IN_READ, Failed);
    assert!(world.story().failure.is_some_and(|problem| problem.cause.contains("minAgents")));
}

#[test]
fn rules_come_before_the_policy() {
    let rule =
        |name: &str, action, count_attempt| FailureRule { reasons: vec![name.into()], action, count_attempt };
    let mut plan = with_mode(usual(3), FailFast, 0);
    plan.failure.rules =
        vec![rule("OOMKilled", RuleAction::Abort, true), rule("Preempted", RuleAction::Retry, false)];
    let killed = |how| World::new(plan.clone(), 1).fate(IN_READ, Fate::Kill(0, how)).finish();
    assert_eq!(killed("OOMKilled").outcome(), Failed);
    assert_eq!(killed("Preempted").outcome(), Partial);
    assert_eq!(killed("Evicted").outcome(), Failed);
}

#[test]
fn stragglers_are_left_behind_where_the_barrier_allows_it() {
    for (mode, replicas) in [(BarrierMode::Majority, 3), (BarrierMode::BestEffort, 2)] {
        let world = World::new(with_barrier(usual(replicas), mode, 5), 1)
            .with(0, Quirks { slow: 100_000, ..Quirks::default() })
            .finish();
        assert_eq!(world.outcome(), Partial, "{}", world.describe());
        assert_eq!(world.view().agents[0].state, AgentState::LeftBehind);
        assert!(world.view().stages[1].returned > 0);
    }
}

#[test]
fn all_waits_for_whoever_gets_on() {
    let world = World::new(usual(2), 1).with(0, Quirks { slow: 300, ..Quirks::default() }).finish();
    assert_eq!(world.outcome(), Succeeded, "{}", world.describe());
}

#[test]
fn a_stall_is_shown_and_then_lost() {
    let mut world =
        World::new(with_mode(usual(3), ContinueIfMajority, 0), 1).fate(IN_READ, Fate::Hang(2, Some(2)));
    let shown =
        world.run_until(30, |world| matches!(world.view().agents[2].state, AgentState::Stalled { .. }));
    assert!(shown && world.now_ns < S * (1 + 12 + 13), "{}", world.describe());
    let world = world.finish();
    assert_eq!(world.view().agents[2].state, AgentState::Lost(LossReason::Stalled));
    assert_eq!(world.outcome(), Partial);
}

#[test]
fn a_stall_that_ends_only_degrades() {
    let world = World::new(usual(3), 1)
        .fate(IN_READ, Fate::Hang(2, Some(2)))
        .fate(40_000, Fate::Hang(2, None))
        .finish();
    assert_eq!(world.outcome(), Succeeded, "{}", world.describe());
    assert!(world.story().degraded.iter().any(|why| why.contains("stalled")));
}

#[test]
fn pauses_lose_nobody() {
    for fate in [Fate::Pause(1, 20 * S), Fate::PauseCoordinator(20 * S), Fate::Partition(1, 20 * S)] {
        for at_ms in [1_000, IN_PREPARE, IN_READ] {
            let world = World::new(usual(3), 1).fate(at_ms, fate.clone()).finish();
            assert_eq!(world.outcome(), Succeeded, "{fate:?} {}", world.describe());
            assert!(world.story().ghosts.is_empty() && !world.story().degraded.is_empty());
        }
    }
}

#[test]
fn a_long_partition_is_a_loss_and_the_attempt_that_returns_is_told() {
    let world = World::new(usual(3), 1).fate(IN_PREPARE, Fate::Partition(1, 65 * S)).finish();
    assert_eq!(world.outcome(), Succeeded, "{}", world.describe());
    let world = World::new(usual(3), 1).fate(5_000, Fate::Cut(1, 61 * S)).finish();
    assert_eq!(world.story().ghosts.len(), 1, "{}", world.describe());
}

#[test]
fn exits_say_what_stopped_the_run() {
    let mute = Quirks { mute: true, ..Quirks::default() };
    let world = World::new(with_mode(usual(3), FailFast, 0), 1).with(1, mute).finish();
    assert_eq!((world.outcome(), exit(&world)), (Failed, Some(4)), "{}", world.describe());

    let mut plan = usual(3);
    plan.active_deadline = Some(std::time::Duration::from_secs(15));
    let world = World::new(plan, 1).finish();
    assert_eq!((world.outcome(), exit(&world)), (Failed, Some(6)));
    assert!(world.run.is_stage_done(3), "the cleanup runs all the same\n{}", world.describe());

    let bad = Quirks { bad_preflight: true, ..Quirks::default() };
    let world = World::new(usual(3), 1).with(2, bad).finish();
    assert_eq!((world.outcome(), exit(&world)), (Failed, Some(5)));
}

#[test]
fn a_quorum_may_start() {
    let mut plan = with_mode(usual(3), ContinueIfMajority, 0);
    plan.min_available = 2;
    let world = World::new(plan, 1).with(1, Quirks { mute: true, ..Quirks::default() }).finish();
    assert_eq!(world.outcome(), Succeeded, "{}", world.describe());
    assert!(world.story().degraded.iter().any(|why| why == "started with 2 of 3 agents"));
}

#[test]
fn whoever_misses_the_start_is_left_behind_or_joins_late() {
    for (late_join, expect) in [(LateJoin::Refuse, Partial), (LateJoin::Admit, Succeeded)] {
        let mut plan = plan(3, vec![timed("read", 20), cleanup()]);
        plan.start.late_join = late_join;
        let world = World::new(plan, 1).with(1, Quirks { lose_commits: 1, ..Quirks::default() }).finish();
        assert_eq!(world.outcome(), expect, "{}", world.describe());
        assert!(world.story().degraded.iter().any(|why| why.contains("missed the start")));
        assert_eq!(world.view().stages[1].facts.releases.len(), 2);
    }
}

#[test]
fn the_keeper_is_never_missing() {
    let world = World::new(usual(3), 3);
    let mut world = world;
    assert!(world.run_until(20, |world| world.view().stage == Some(2)));
    let keeper = world
        .agents()
        .find(|agent| agent.told.contains(&Directive::Keep { space: None }))
        .expect("a keeper")
        .index;
    let at_ms = world.now_ns / 1_000_000;
    let world = world.fate(at_ms, Fate::Kill(keeper, "signal 9")).finish();
    let keepers =
        world.agents().filter(|agent| agent.told.contains(&Directive::Keep { space: None })).count();
    assert_eq!(keepers, 2, "{}", world.describe());
}

#[test]
fn spaces_of_lost_agents_are_adopted_or_given_up() {
    for (scheme, done) in [(Scheme::S3, 3 * OBJECTS), (Scheme::Mem, 2 * OBJECTS)] {
        let mut plan = with_mode(usual(3), ContinueIfMajority, 0);
        plan.sharing = Sharing::PerAgent;
        plan.target.scheme = scheme;
        let world = World::new(plan, 1).with(1, Quirks { slow: 50, ..Quirks::default() });
        let world = world.fate(IN_PREPARE, Fate::Kill(1, "signal 9"));
        let mut world = world;
        assert!(world.run_until(600, |world| world.view().stage == Some(2)), "{}", world.describe());
        let prepared = world.view().stages[1].done;
        assert!(
            prepared >= done.min(2 * OBJECTS) && (scheme == Scheme::Mem) == (prepared < 3 * OBJECTS),
            "{prepared}"
        );
    }
}

#[test]
fn put_ranges_of_many_spaces_can_be_counted() {
    let mut plan = plan(8, vec![prepare(), puts("write", 5), cleanup()]);
    plan.sharing = Sharing::PerAgent;
    let world = World::new(plan, 1).finish();
    assert_eq!(world.outcome(), Succeeded, "{}", world.describe());
}
