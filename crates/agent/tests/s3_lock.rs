//! The lock of a place in a bucket: taken by one, renewed, taken over when its holder is gone, and lost.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod common;
mod s3_common;

use common::{Driver, LONG_STAGE_MS, execute, files_below, flat};
use lockstep_agent::engine::interface::EngineEvent;
use lockstep_agent::target::place::{Locked, Place};
use lockstep_agent::target::s3::{LOCK_NAME, S3Backend, S3Place};
use lockstep_core::dataset::marker::MARKER_NAME;
use lockstep_core::op::Op;
use lockstep_core::plan::{Plan, Scheme};
use lockstep_core::problem::exit;
use lockstep_core::results::part::PartState;
use lockstep_testkit::process::wait_until;
use lockstep_testkit::s3::{Fault, TestS3};
use s3_common::*;
use std::time::{Duration, Instant, SystemTime};

const LIMIT: Duration = Duration::from_secs(20);

fn lock_file(server: &TestS3) -> std::path::PathBuf {
    server.file(&format!("run/1/{LOCK_NAME}"))
}

/// The server says from now on that the lock was renewed 90 s ago.
fn make_stale(server: &TestS3) {
    let file = std::fs::File::options().write(true).open(lock_file(server)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(90)).unwrap();
}

/// How often a client put the lock.
fn puts(server: &TestS3, user_agent: &str) -> usize {
    server.count(|seen| seen.verb == "PUT" && seen.key.ends_with(LOCK_NAME) && seen.user_agent == user_agent)
}

/// Another run takes the lock over. Again and again: its holder may be renewing it just now.
fn seize(server: &TestS3) -> S3Place {
    let mut other = S3Place::connect_with(&here(server), "other", 0, keys()).unwrap();
    let taken = wait_until(LIMIT, || {
        make_stale(server);
        matches!(run(other.lock("uid-2")).unwrap(), Locked::TakenOver(_))
    });
    assert!(taken, "the lock cannot be taken over");
    other
}

#[test]
fn one_run_holds_the_place_until_it_lets_go() {
    let server = TestS3::start();
    let plan = here(&server);
    let (mut first, mut second) = (place(&plan), place(&plan));
    run(async {
        assert_eq!(first.lock("uid-1").await.unwrap(), Locked::Taken);
        let held = second.lock("uid-2").await.unwrap();
        let Locked::Held(text) = held else { panic!("{held:?}") };
        assert!(text.starts_with("run uid-1 (agent 0) since 2"), "{text}");
        // A replacement of the agent that kept it, in the same run.
        assert_eq!(second.lock("uid-1").await.unwrap(), Locked::Taken);
        second.unlock().await.unwrap();
        assert!(!server.file(&format!("run/1/{LOCK_NAME}")).exists());
        first.unlock().await.unwrap();
        assert_eq!(second.lock("uid-2").await.unwrap(), Locked::Taken);
        second.unlock().await.unwrap();
    });
}

#[test]
fn a_lock_whose_holder_is_gone_is_taken_over_and_said_so() {
    let server = TestS3::start();
    let plan = here(&server);
    let mut next = place(&plan);
    run(async {
        let mut gone = place(&plan);
        assert_eq!(gone.lock("uid-1").await.unwrap(), Locked::Taken);
        drop(gone);
        assert!(matches!(next.lock("uid-2").await.unwrap(), Locked::Held(_)), "not stale yet");
        // Not renewed for longer than its time to live, as the server's clock has it.
        make_stale(&server);
        let over = next.lock("uid-2").await.unwrap();
        let Locked::TakenOver(text) = over else { panic!("{over:?}") };
        assert!(text.contains("run uid-1") && text.contains("renewed 90 s ago"), "{text}");
        next.unlock().await.unwrap();
    });
}

#[test]
fn of_two_at_one_moment_the_one_who_was_refused_knows() {
    let server = TestS3::start();
    let plan = here(&server);
    let put = server.fault(Fault::hang().verb("PUT").key(LOCK_NAME).times(1));
    let mut first = place(&plan);
    let first = std::thread::spawn(move || run(first.lock("uid-1")).unwrap());
    assert!(wait_until(LIMIT, || put.hits() == 1));
    // The first has seen that it is free, and its put is on the way.
    let mut second = place(&plan);
    assert_eq!(run(second.lock("uid-2")).unwrap(), Locked::Taken);
    put.release();
    let held = first.join().unwrap();
    assert!(matches!(&held, Locked::Held(text) if text.contains("uid-2")), "{held:?}");
}

#[test]
fn a_lock_that_somebody_wrote_over_at_once_is_not_ours() {
    let server = TestS3::start();
    // The second look, after the put.
    let look = server.fault(Fault::hang().verb("GET").key(LOCK_NAME).skip(1).times(1));
    let mut place = place(&here(&server));
    let locked = std::thread::spawn(move || run(place.lock("uid-1")).unwrap());
    assert!(wait_until(LIMIT, || look.hits() == 1));
    let file = server.file(&format!("run/1/{LOCK_NAME}"));
    let record = std::fs::read_to_string(&file).unwrap().replace("uid-1", "uid-2");
    std::fs::write(&file, record).unwrap();
    look.release();
    let held = locked.join().unwrap();
    assert!(matches!(&held, Locked::Held(text) if text.contains("uid-2")), "{held:?}");
}

#[test]
fn a_lock_is_renewed_until_it_is_given_back() {
    let server = TestS3::start();
    let ttl = Duration::from_secs(1);
    let mut first = place(&here(&server)).with_lock_ttl(ttl);
    assert_eq!(run(first.lock("uid-1")).unwrap(), Locked::Taken);
    assert!(wait_until(LIMIT, || puts(&server, USER_AGENT) >= 4), "the lock is not renewed");
    assert!(first.lost().is_none());
    run(first.unlock()).unwrap();
    let before = puts(&server, USER_AGENT);
    // The next holder's renewals tell the time: three of them would be three of the first one's, too.
    let mut next = S3Place::connect_with(&here(&server), "next", 0, keys()).unwrap().with_lock_ttl(ttl);
    assert_eq!(run(next.lock("uid-2")).unwrap(), Locked::Taken);
    assert!(wait_until(LIMIT, || puts(&server, "next") >= 4), "the lock is not renewed");
    assert_eq!(puts(&server, USER_AGENT), before, "renewed after it was given back");
    assert!(next.lost().is_none());
}

#[test]
fn a_lock_that_is_removed_is_lost_and_can_be_taken_again() {
    let server = TestS3::start();
    let mut place = place(&here(&server)).with_lock_ttl(Duration::from_secs(1));
    assert_eq!(run(place.lock("uid-1")).unwrap(), Locked::Taken);
    // Again and again: the server may be writing a renewal just now, and would bring the file back.
    let lost = || {
        let _ = std::fs::remove_file(lock_file(&server));
        place.lost().is_some()
    };
    assert!(wait_until(LIMIT, lost), "the loss is not noticed");
    let lost = place.lost().unwrap();
    assert!(lost.cause.contains("removed") && lost.exit == exit::REFUSED, "{lost}");
    assert_eq!(run(place.lock("uid-1")).unwrap(), Locked::Taken);
    assert!(place.lost().is_none());
    run(place.unlock()).unwrap();
    assert!(!lock_file(&server).exists());
}

#[test]
fn a_lock_that_cannot_be_renewed_is_lost_when_its_time_is_over_and_not_before() {
    let ttl = Duration::from_secs(1);
    let cases =
        [(Fault::status(503, "SlowDown"), "HTTP 503 SlowDown"), (Fault::hang(), "no answer within 250ms")];
    for (fault, says) in cases {
        let server = TestS3::start();
        let mut place = place(&here(&server)).with_lock_ttl(ttl);
        assert_eq!(run(place.lock("uid-1")).unwrap(), Locked::Taken);
        let away = server.fault(fault.verb("PUT").key(LOCK_NAME));
        // At most one renewal was on its way before, so the lock lives at least this long.
        let began = Instant::now();
        assert!(wait_until(LIMIT, || place.lost().is_some()), "the loss is not noticed");
        assert!(began.elapsed() > ttl / 2, "lost after {:?}", began.elapsed());
        assert!(away.hits() >= 2, "given up after {} tries", away.hits());
        let lost = place.lost().unwrap();
        assert!(
            lost.cause.contains("no renewal came through for 1 s") && lost.cause.contains(says),
            "{lost}"
        );
        assert!(!lost.likely.is_empty() && !lost.next.is_empty() && lost.exit == exit::REFUSED, "{lost}");
    }
}

/// Preflight, prepare, one execute stage that only reads, cleanup, on this server.
fn plan_on(server: &TestS3, duration_ms: u64) -> Plan {
    let mut plan = common::plan(Scheme::S3, "run/1", flat(20), vec![execute(&[(Op::Get, 1)], duration_ms)]);
    plan.target = here(server);
    plan
}

fn driver(plan: Plan, ttl: Duration) -> Driver {
    let backend = S3Backend::new_with(&plan, 0, USER_AGENT, keys()).unwrap().with_lock_ttl(ttl);
    let mut driver = Driver::over(plan, backend);
    assert!(driver.preflight().faults.is_empty());
    driver
}

#[test]
fn a_run_whose_lock_another_takes_ends_and_writes_nothing_more() {
    let server = TestS3::start();
    let mut driver = driver(plan_on(&server, LONG_STAGE_MS), Duration::from_secs(2));
    assert_eq!(driver.prepare(20, 20).changed(), 20);
    driver.stage_and_begin(2);
    let mut other = seize(&server);
    let marker = std::fs::read(server.file(&format!("run/1/{MARKER_NAME}"))).unwrap();
    let seen = driver.until_ended(2);
    let [(problem, true)] = &seen.faults[..] else { panic!("{:?}", seen.faults) };
    assert!(problem.what.contains("the lock of s3://bench/run/1 was lost"), "{problem}");
    assert!(problem.cause.contains("held by run uid-2"), "{problem}");
    assert_eq!((problem.exit, problem.class), (exit::REFUSED, None));
    assert!(!problem.likely.is_empty() && !problem.next.is_empty() && !problem.kept.is_empty(), "{problem}");
    let part = seen.part();
    assert!(!matches!(part.state, PartState::Complete) && part.totals.operations() > 0, "{:?}", part.state);
    // Cleanup asks for the lock again, does not get it, and leaves the place alone.
    let seen = driver.cleanup(20);
    assert!(seen.faults.iter().any(|(problem, fatal)| *fatal && problem.cause.contains("uid-2")));
    assert_eq!(std::fs::read(server.file(&format!("run/1/{MARKER_NAME}"))).unwrap(), marker);
    assert_eq!(files_below(&server.file("run/1")), 20);
    driver.finish();
    assert!(std::fs::read_to_string(lock_file(&server)).unwrap().contains("uid-2"));
    assert!(other.lost().is_none());
    run(other.unlock()).unwrap();
}

#[test]
fn a_lock_that_is_lost_between_stages_ends_the_run_too() {
    let server = TestS3::start();
    let mut driver = driver(plan_on(&server, LONG_STAGE_MS), Duration::from_secs(2));
    assert_eq!(driver.prepare(20, 20).changed(), 20);
    let _other = seize(&server);
    let problem = loop {
        if let EngineEvent::Fault { problem, fatal, stage } = driver.next() {
            assert!(fatal && stage == 1, "stage {stage}: {problem}");
            break problem;
        }
    };
    assert!(problem.cause.contains("held by run uid-2") && problem.exit == exit::REFUSED, "{problem}");
    // Said once: the keeper looks five times in this second, and finds the same.
    let again = wait_until(Duration::from_secs(1), || {
        matches!(driver.events.try_recv(), Ok(EngineEvent::Fault { .. }))
    });
    assert!(!again, "the loss is told again");
    driver.finish();
    assert!(std::fs::read_to_string(lock_file(&server)).unwrap().contains("uid-2"));
}

#[test]
fn renewals_that_fail_for_less_than_the_locks_life_change_nothing() {
    let server = TestS3::start();
    let mut driver = driver(plan_on(&server, 2_500), Duration::from_secs(2));
    assert_eq!(driver.prepare(20, 20).changed(), 20);
    let before = puts(&server, USER_AGENT);
    let blip = server.fault(Fault::status(503, "SlowDown").verb("PUT").key(LOCK_NAME).times(4));
    let seen = driver.execute(2);
    assert!(seen.faults.is_empty(), "{:?}", seen.faults);
    assert!(matches!(seen.part().state, PartState::Complete));
    assert_eq!(blip.hits(), 4);
    assert!(puts(&server, USER_AGENT) > before + 4, "not renewed again");
    assert_eq!(driver.cleanup(20).changed(), 20);
    driver.finish();
    assert!(!lock_file(&server).exists());
}
