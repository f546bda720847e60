//! The measuring loops, over targets without storage: exact counts, chains of stages, open loops, stops.

mod common;

use common::*;
use lockstep_agent::clock;
use lockstep_agent::engine::interface::{Command, EngineEvent};
use lockstep_core::lease::LeaseKind;
use lockstep_core::op::Op;
use lockstep_core::plan::{Arrival, ExecutePlan, Plan, RatePlan, Scheme};
use lockstep_core::ranges::RangeSet;
use lockstep_core::results::part::PartState;
use std::sync::atomic::Ordering;

fn mem(objects: u64, executes: Vec<ExecutePlan>) -> Plan {
    plan(Scheme::Mem, "", flat(objects), executes)
}

fn prepared(plan: Plan, objects: u64) -> Driver {
    let mut driver = Driver::new(plan);
    assert!(driver.preflight().faults.is_empty());
    assert_eq!(driver.prepare(objects, objects).changed(), objects);
    driver
}

#[test]
fn a_count_of_operations_is_exact() {
    let mut stage = execute(&[(Op::Get, 3), (Op::Head, 1)], 0);
    stage.operations = Some(1_003);
    let mut driver = prepared(mem(50, vec![stage]), 50);
    for start in (0..1_003).step_by(250) {
        driver.lease(2, LeaseKind::Operations, start, (start + 250).min(1_003));
    }
    driver.handle.send(Command::Drain { stage: 2 });
    let seen = driver.execute(2);
    assert_eq!((seen.part().totals.operations(), seen.changed()), (1_003, 1_003));
    assert_eq!(seen.leases.len(), 5);
    assert_eq!(driver.cleanup(50).changed(), 50);
}

#[test]
fn nothing_is_issued_behind_the_fence() {
    for abort in [false, true] {
        let mut driver = prepared(mem(50, vec![execute(&[(Op::Get, 1)], 200)]), 50);
        driver.handle.fence.set(clock::now_ns());
        let at_ns = driver.stage_and_begin(2);
        clock::sleep_until(at_ns + 100_000_000);
        let opened_ns = clock::now_ns();
        if abort {
            driver.handle.send(Command::Abort { reason: "superseded".into() });
        } else {
            driver.handle.fence.set(u64::MAX);
        }
        let seen = driver.until_ended(2);
        let part = seen.part();
        assert_eq!(part.totals.operations() > 0, !abort, "{:?}", part.totals);
        assert!(part.first_operation_ns.is_none_or(|first_ns| first_ns >= opened_ns), "{opened_ns} {part:?}");
        assert!(clock::now_ns() - opened_ns < 1_000_000_000, "workers at the fence look whether to stop");
    }
}

#[test]
fn a_discard_stage_flows_into_the_next_and_both_hand_in_parts() {
    let mut warm_up = execute(&[(Op::Get, 1)], 60);
    warm_up.discard = true;
    let mut measured = execute(&[(Op::Head, 1)], 60);
    measured.concurrency = 4;
    let mut driver = prepared(mem(50, vec![warm_up, measured]), 50);
    let at_ns = driver.stage_and_begin(2);
    let seen = driver.until_ended(3);
    let [first, second] = &seen.parts[..] else { panic!("{} parts", seen.parts.len()) };
    assert_eq!((first.stage, second.stage), (2, 3));
    assert_eq!((first.planned_start_ns, second.planned_start_ns), (at_ns, at_ns + 60_000_000));
    assert!(first.totals.by_op(Op::Get).count() > 0 && first.totals.by_op(Op::Head).count() == 0);
    assert!(second.totals.by_op(Op::Head).count() > 0 && second.totals.by_op(Op::Get).count() == 0);
    assert_eq!((&first.state, &second.state), (&PartState::Complete, &PartState::Complete));
}

#[test]
fn puts_use_leased_names_and_deletes_only_what_was_put() {
    let stage = execute(&[(Op::Put, 1), (Op::Delete, 1)], 100);
    let mut driver = prepared(mem(10, vec![stage]), 10);
    driver.lease(2, LeaseKind::Put, 10, 100_000_000);
    let seen = driver.execute(2);
    let totals = &seen.part().totals;
    let (puts, deletes) = (totals.by_op(Op::Put).count(), totals.by_op(Op::Delete).count());
    assert_eq!((totals.errors(), seen.leases.len()), (0, 1));
    assert!(puts > 0 && deletes <= puts && totals.starved_deletes > 0, "{puts} {deletes}");
    let mut used = RangeSet::default();
    seen.leases[0].done.iter().for_each(|&(start, end)| assert_eq!(used.insert(start, end), end - start));
    assert_eq!(used.len(), puts);
    let last = used.ranges().last().unwrap().1;
    let cleaned = driver.cleanup(last);
    assert_eq!(cleaned.changed(), 10 + puts - deletes);
}

#[test]
fn deletes_without_puts_starve_and_are_no_operations() {
    let mut driver = prepared(mem(10, vec![execute(&[(Op::Delete, 1)], 50)]), 10);
    let seen = driver.execute(2);
    assert_eq!(seen.part().totals.operations(), 0);
    assert!(seen.part().totals.starved_deletes > 0);
}

#[test]
fn who_waits_for_its_schedule_does_not_stand_still() {
    let mut stage = execute(&[(Op::Get, 1)], 1_000);
    let arrival = Arrival::Deterministic;
    stage.rate = Some(RatePlan { milli_operations_per_second: 1, arrival, redistribute: true });
    let mut driver = prepared(mem(50, vec![stage]), 50);
    let at_ns = driver.stage_and_begin(2);
    let pulse = |driver: &Driver, after_ms: u64| {
        clock::sleep_until(at_ns + after_ms * 1_000_000);
        driver.handle.progress.pulse.load(Ordering::Relaxed)
    };
    let (early, late) = (pulse(&driver, 300), pulse(&driver, 800));
    assert!(late > early, "{early} {late}");
    assert!(driver.until_ended(2).part().totals.operations() <= 1);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let mut stage = execute(&[(Op::Get, 1)], 500);
    let rate = 2_000_000;
    stage.rate = Some(RatePlan {
        milli_operations_per_second: rate,
        arrival: Arrival::Deterministic,
        redistribute: true,
    });
    let mut driver = prepared(mem(10, vec![stage]), 10);
    let seen = driver.execute(2);
    let totals = &seen.part().totals;
    // Every intended start is either an operation or a dropped start.
    assert_eq!(totals.operations() + totals.dropped_starts, 1_000);
    assert!(totals.by_op(Op::Get).is_open_loop());
}

#[test]
fn a_slow_target_drops_what_the_window_did_not_let_start() {
    let mut stage = execute(&[(Op::Get, 1)], 300);
    stage.rate = Some(RatePlan {
        milli_operations_per_second: 1_000_000,
        arrival: Arrival::Deterministic,
        redistribute: true,
    });
    let mut plan = mem(10, vec![stage]);
    plan.target.options.insert("latency".into(), "20ms".into());
    let mut driver = prepared(plan, 10);
    let seen = driver.execute(2);
    let (part, totals) = (seen.part(), &seen.part().totals);
    assert_eq!(totals.operations() + totals.dropped_starts, 300);
    assert!(totals.dropped_starts > 200, "{}", totals.dropped_starts);
    assert!(part.lateness.pacing_lag_max_ns > 100_000_000);
    let cell = totals.by_op(Op::Get);
    assert!(cell.response().max_ns > cell.service.max_ns + 100_000_000);
}

#[test]
fn an_abort_stops_within_a_second_and_cleanup_still_works() {
    let mut plan = mem(50, vec![execute(&[(Op::Get, 1)], 3_600_000)]);
    plan.target.options.insert("latency".into(), "1ms".into());
    let mut driver = prepared(plan, 50);
    driver.stage_and_begin(2);
    while !matches!(driver.next(), EngineEvent::Released { .. }) {}
    while driver.handle.progress.done.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    let asked_ns = clock::now_ns();
    driver.handle.send(Command::Abort { reason: "a person said so".into() });
    let seen = driver.until_ended(2);
    assert!(clock::now_ns() - asked_ns < 1_000_000_000);
    assert_eq!(seen.part().state, PartState::Partial { reason: "a person said so".into() });
    assert!(seen.part().totals.operations() > 0 && seen.part().window_ns < 3_600_000_000_000);
    assert_eq!(driver.cleanup(50).changed(), 50);
}

#[test]
fn an_aborted_prepare_says_what_is_done() {
    let mut plan = mem(100_000, vec![]);
    plan.target.options.insert("latency".into(), "1ms".into());
    let mut driver = Driver::new(plan);
    driver.preflight();
    driver.lease(1, LeaseKind::Prepare, 0, 100_000);
    driver.stage_and_begin(1);
    while driver.handle.progress.done.load(Ordering::Relaxed) < 20 {
        std::thread::yield_now();
    }
    driver.handle.send(Command::Abort { reason: "enough".into() });
    let seen = driver.until_ended(1);
    let done: u64 = seen.leases[0].done.iter().map(|(start, end)| end - start).sum();
    assert_eq!(seen.leases.len(), 1);
    assert!(done >= 20 && done == seen.changed() && done < 100_000, "{done}");
    assert_eq!(seen.part().created, done);
}

#[test]
fn an_unstaged_start_does_not_happen_and_a_later_one_does() {
    let mut driver = prepared(mem(10, vec![execute(&[(Op::Get, 1)], 50)]), 10);
    driver.handle.send(Command::Stage { stage: 2 });
    while !matches!(driver.next(), EngineEvent::Staged { stage: 2 }) {}
    let first_ns = clock::now_ns() + 60_000_000;
    driver.handle.send(Command::Begin { stage: 2, at_ns: first_ns, spin: true });
    driver.handle.send(Command::Unstage);
    let second_ns = first_ns + 100_000_000;
    driver.handle.send(Command::Begin { stage: 2, at_ns: second_ns, spin: true });
    let seen = driver.until_ended(2);
    assert!(seen.released_ns.unwrap() >= second_ns);
    assert_eq!(seen.part().planned_start_ns, second_ns);
}

#[test]
fn who_joins_late_ends_with_the_others() {
    let mut driver = prepared(mem(10, vec![execute(&[(Op::Get, 1)], 1_600)]), 10);
    let origin_ns = clock::now_ns() - 1_500_000_000;
    driver.handle.send(Command::Begin { stage: 2, at_ns: origin_ns, spin: false });
    let seen = driver.until_ended(2);
    assert!(seen.part().totals.operations() > 0);
    assert_eq!(seen.part().pauses.len(), 1);
    assert_eq!(seen.part().window_ns, 1_600_000_000);
    assert!(seen.intervals.iter().all(|interval| interval.second >= 1));
}

#[test]
fn who_joins_an_open_loop_late_does_not_make_up_for_what_it_missed() {
    for arrival in [Arrival::Deterministic, Arrival::Poisson, Arrival::Uniform] {
        let mut stage = execute(&[(Op::Get, 1)], 2_500);
        stage.rate = Some(RatePlan { milli_operations_per_second: 1_000_000, arrival, redistribute: true });
        let mut driver = prepared(mem(10, vec![stage]), 10);
        let origin_ns = clock::now_ns() - 2_000_000_000;
        driver.handle.send(Command::Begin { stage: 2, at_ns: origin_ns, spin: false });
        let seen = driver.until_ended(2);
        let part = seen.part();
        let due = part.totals.operations() + part.totals.dropped_starts;
        // Half a second of a thousand operations per second, less what it took to get going.
        assert!((100..=600).contains(&due), "{arrival:?}: {due} arrivals");
        assert!(seen.intervals.iter().all(|interval| interval.second >= 2));
        assert!(part.lateness.pacing_lag_max_ns < 1_000_000_000, "{:?}", part.lateness);
    }
}

#[test]
fn too_many_failures_end_the_stage() {
    // Nothing was prepared: every get fails.
    let mut driver = Driver::new(mem(10, vec![execute(&[(Op::Get, 1)], 60_000)]));
    driver.preflight();
    let seen = driver.execute(2);
    let (problem, fatal) = &seen.faults[0];
    assert!(*fatal && problem.class == Some(lockstep_core::op::ErrorClass::NotFound), "{problem}");
    assert!(problem.cause.contains("100 failures in a row"), "{problem}");
    assert!(matches!(seen.part().state, PartState::Partial { .. }));
}
