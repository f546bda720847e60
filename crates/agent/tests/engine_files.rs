//! The engine over real directories: what prepare writes is what lies there, cleanup leaves nothing, and nobody
//! else's data is ever touched.

mod common;

use common::*;
use lockstep_core::dataset::marker::Marker;
use lockstep_core::op::Op;
use lockstep_core::plan::{Existing, KeyChoice, Scheme, Sharing};
use lockstep_core::problem::exit;
use lockstep_core::results::part::PartState;
use lockstep_core::run::message::Mark;
use std::path::Path;

fn file_plan(dir: &Path, layout: lockstep_core::dataset::Layout) -> lockstep_core::plan::Plan {
    plan(Scheme::File, dir.to_str().expect("UTF-8"), layout, vec![execute(&[(Op::Get, 1)], 100)])
}

#[test]
fn prepare_execute_cleanup_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("set");
    let mut driver = Driver::new(file_plan(&place, tree(4, 3, 3)));
    let objects = 4 * 4 * 4 * 3;

    let seen = driver.preflight();
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert!(seen.part().environment.keys().any(|key| key == "check.place"));

    let seen = driver.prepare(objects, 50);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert_eq!((seen.changed(), files_below(&place)), (objects, objects));
    assert_eq!((seen.part().created, seen.part().ranges_done.clone()), (objects, vec![(0, objects)]));
    assert_eq!(seen.part().totals.by_op(Op::Put).count(), objects);
    assert_eq!(seen.leases.iter().map(|done| done.bytes).sum::<u64>(), objects * 512);

    let seen = driver.execute(2);
    let part = seen.part();
    assert!(part.totals.by_op(Op::Get).count() > 100, "{:?}", part.totals);
    assert_eq!((part.totals.errors(), &part.state), (0, &PartState::Complete));
    assert!(part.released_ns >= Some(part.planned_start_ns));
    assert_eq!(part.window_ns, 100_000_000);
    let in_intervals: u64 = seen.intervals.iter().map(|interval| interval.totals.operations()).sum();
    assert_eq!(in_intervals, part.totals.operations());

    let seen = driver.cleanup(objects);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert_eq!(seen.changed(), objects);
    driver.finish();
    assert!(!place.exists(), "the place was created by the run");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_place_that_was_there_stays() {
    let dir = tempfile::tempdir().unwrap();
    // As in the root of a file system that was just made.
    std::fs::create_dir(dir.path().join("lost+found")).unwrap();
    let mut driver = Driver::new(file_plan(dir.path(), flat(10)));
    let seen = driver.preflight();
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    driver.prepare(10, 10);
    driver.cleanup(10);
    driver.finish();
    let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["lost+found"]);
}

#[test]
fn fill_gaps_writes_only_what_is_missing_or_of_another_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(file_plan(dir.path(), flat(100)));
    driver.preflight();
    driver.prepare(100, 100);
    driver.finish();
    for index in [3, 50, 99] {
        std::fs::remove_file(dir.path().join(format!("obj-{index:08}"))).unwrap();
    }
    std::fs::write(dir.path().join("obj-00000007"), "short").unwrap();

    let mut driver = Driver::new(file_plan(dir.path(), flat(100)));
    assert!(driver.preflight().faults.is_empty());
    let seen = driver.prepare(100, 100);
    assert_eq!((seen.changed(), seen.unchanged()), (4, 96));
    assert_eq!((seen.part().created, seen.part().existed), (4, 96));
    let content = std::fs::read(dir.path().join("obj-00000007")).unwrap();
    let mut want = vec![0; 512];
    driver.plan.dataset.fill_content(7, 0, 0, &mut want);
    assert_eq!(content, want);
}

#[test]
fn a_foreign_directory_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "years").unwrap();
    let mut driver = Driver::new(file_plan(dir.path(), flat(10)));
    let seen = driver.preflight();
    let (problem, fatal) = &seen.faults[0];
    assert!(*fatal && problem.exit == exit::REFUSED && problem.cause.contains("thesis.tex"), "{problem}");
    assert!(matches!(seen.part().state, PartState::Partial { .. }));
    driver.finish();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_parent_and_an_incomplete_data_set_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut driver = Driver::new(file_plan(&dir.path().join("no/set"), flat(10)));
    let seen = driver.preflight();
    assert_eq!(seen.faults[0].0.exit, exit::REFUSED, "{:?}", seen.faults);

    let mut driver = Driver::new(file_plan(dir.path(), flat(10)));
    driver.preflight();
    driver.prepare(10, 10);
    // Its marker was never completed: the agents of the run were killed before the barrier behind prepare opened.
    driver.finish();
    let mut plan = file_plan(dir.path(), flat(10));
    plan.existing = Existing::Reuse;
    let seen = Driver::new(plan).preflight();
    assert!(seen.faults[0].0.what.contains("incomplete"), "{}", seen.faults[0].0);
    let mut other = file_plan(dir.path(), flat(10));
    other.dataset.seed = 8;
    let seen = Driver::new(other).preflight();
    assert!(seen.faults[0].0.cause.contains("seed"), "{}", seen.faults[0].0);
}

#[test]
fn a_marker_keeps_what_earlier_runs_have_put_until_a_cleanup() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("set");
    let marker = || {
        let document = std::fs::read(place.join(".lockstep-data-set.json")).expect("a marker");
        Marker::from_json(&document).expect("a marker")
    };
    let plan = |uid: &str| {
        let mut plan = file_plan(&place, flat(10));
        plan.run.uid = uid.into();
        plan
    };
    let found = |driver: &mut Driver| {
        let seen = driver.preflight();
        assert!(seen.faults.is_empty(), "{:?}", seen.faults);
        seen.puts_below
    };
    let mut first = Driver::new(plan("uid-1"));
    assert_eq!(found(&mut first), Some(0));
    first.prepare(10, 10);
    first.mark(Mark { space: None, prepared: true, puts_below: 500 });
    assert_eq!((marker().ranges_done.len(), marker().puts_below), (10, 500));
    first.mark(Mark { space: None, prepared: true, puts_below: 40 });
    assert_eq!(marker().puts_below, 40, "the exact bound is lower than the one that was asked for first");
    first.finish();

    let mut second = Driver::new(plan("uid-2"));
    assert_eq!(found(&mut second), Some(40));
    second.mark(Mark { space: None, prepared: false, puts_below: 0 });
    let now = marker();
    assert_eq!((now.run_uid.as_str(), now.ranges_done.len(), now.puts_below), ("uid-2", 10, 40));
    second.cleanup(40);
    second.finish();
    assert!(!place.exists());
}

#[test]
fn a_held_lock_refuses_and_a_stale_one_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Driver::new(file_plan(dir.path(), flat(10)));
    assert!(first.preflight().faults.is_empty());
    let lock = std::fs::read(dir.path().join(".lockstep.lock")).unwrap();
    let mut plan = file_plan(dir.path(), flat(10));
    plan.run.uid = "uid-2".into();
    let seen = Driver::new(plan.clone()).preflight();
    assert!(seen.faults[0].0.cause.contains("uid-1"), "{}", seen.faults[0].0);
    first.finish();
    // What a killed run leaves behind: the file, and no lock on it.
    std::fs::write(dir.path().join(".lockstep.lock"), lock).unwrap();
    let mut second = Driver::new(plan);
    let seen = second.preflight();
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert!(seen.part().environment["check.lock"].contains("taken over from run uid-1"));
}

#[test]
fn agents_with_data_sets_of_their_own_leave_nothing_either() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("set");
    let mut plan = file_plan(&place, flat(20));
    (plan.sharing, plan.replicas) = (Sharing::PerAgent, 2);
    let mut drivers = [Driver::at(plan.clone(), 0, true), Driver::at(plan, 1, false)];
    for driver in &mut drivers {
        assert!(driver.preflight().faults.is_empty());
    }
    for (index, driver) in drivers.iter_mut().enumerate() {
        driver.lease_in(1, lockstep_core::lease::LeaseKind::Prepare, Some(index as u32), 0, 20);
        driver.handle.send(lockstep_agent::engine::interface::Command::Drain { stage: 1 });
        driver.stage_and_begin(1);
        assert_eq!(driver.until_ended(1).changed(), 20);
    }
    assert_eq!(files_below(&place), 40);
    assert_eq!(files_below(&place.join("agent-00001")), 20);
    for (index, mut driver) in drivers.into_iter().enumerate() {
        driver.lease_in(3, lockstep_core::lease::LeaseKind::Cleanup, Some(index as u32), 0, 20);
        driver.handle.send(lockstep_agent::engine::interface::Command::Drain { stage: 3 });
        driver.stage_and_begin(3);
        assert_eq!(driver.until_ended(3).changed(), 20);
        driver.finish();
    }
    assert!(!place.exists());
}

#[test]
fn reading_once_reads_everything_once_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut plan = file_plan(dir.path(), flat(500));
    if let lockstep_core::plan::StageKind::Execute(execute) = &mut plan.stages[2].kind {
        execute.operations_mix[0].keys = KeyChoice::Once;
        execute.duration = Some(std::time::Duration::from_secs(20));
    }
    let mut driver = Driver::new(plan);
    driver.preflight();
    driver.prepare(500, 500);
    let seen = driver.execute(2);
    assert_eq!(seen.part().totals.by_op(Op::Get).count(), 500);
    assert!(seen.part().window_ns < 20_000_000_000);
}
