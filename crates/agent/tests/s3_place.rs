//! The place of a data set in a bucket: checks, what lies there, the marker, the lock.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::target::place::{Check, Found, Locked, Place};
use lockstep_agent::target::s3::{Credentials, LOCK_NAME, S3Place};
use lockstep_core::dataset::marker::{MARKER_NAME, Marker};
use lockstep_core::plan::{Sharing, TargetPlan};
use lockstep_core::problem::{Problem, exit};
use lockstep_testkit::process::wait_until;
use lockstep_testkit::raw::{Raw, closed_port};
use lockstep_testkit::s3::{Fault, TestS3};
use lockstep_testkit::seaweed::{self, Seaweed};
use s3_common::*;
use std::time::{Duration, SystemTime};

fn problem(checks: Vec<Check>) -> (&'static str, Problem) {
    let failed: Vec<_> = checks.into_iter().filter(|check| check.problem.is_some()).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    failed.into_iter().map(|check| (check.name, check.problem.unwrap())).next().unwrap()
}

fn check(plan: &TargetPlan) -> Vec<Check> {
    run(place(plan).check())
}

#[test]
fn a_good_target_passes_and_nothing_is_left_there() {
    let server = TestS3::start();
    let checks = check(&here(&server));
    let names: Vec<_> = checks.iter().map(|check| check.name).collect();
    assert_eq!(names, ["reachable", "bucket", "rights", "conditional-put"]);
    assert!(checks.iter().all(|check| check.problem.is_none()), "{checks:?}");
    assert!(checks[3].finding.contains("is refused"), "{}", checks[3].finding);
    assert!(!server.file("run").exists() || server.file("run/1").read_dir().unwrap().count() == 0);
    assert_eq!(server.count(|seen| seen.is_data), 0, "checks are no data requests: {:?}", server.seen());
}

#[test]
fn a_bad_target_is_told_with_its_exit_code() {
    let silent = Raw::silent();
    let nonsense = Raw::answering(b"220 mail ready\r\n");
    let page = Raw::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>");
    let missing = Raw::answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found");
    for address in [closed_port(), silent.address(), nonsense.address(), page.address(), missing.address()] {
        let plan = plan_with(&format!("http://{address}"), &[("timeout", "200ms")]);
        let (name, problem) = problem(check(&plan));
        assert_eq!((name, problem.exit), ("reachable", exit::UNREACHABLE), "{problem}");
        assert!(problem.cause.contains(&address.to_string()), "{problem}");
        assert!(!problem.likely.is_empty() && !problem.next.is_empty(), "{problem}");
    }
}

#[test]
fn no_bucket_and_no_rights_are_refused() {
    let server = TestS3::start();
    let mut plan = here(&server);
    plan.bucket = "other".into();
    let (name, found) = problem(check(&plan));
    assert_eq!((name, found.exit), ("bucket", exit::REFUSED), "{found}");
    for (verb, says) in
        [("LIST", "may not be listed"), ("PUT", "may not be written"), ("DELETE", "may be deleted")]
    {
        let fault = server.fault(Fault::deny().verb(verb));
        let (name, found) = problem(check(&here(&server)));
        assert_eq!((name, found.exit), ("rights", exit::REFUSED), "{found}");
        assert!(found.what.contains(says) && found.cause.contains("AccessDenied"), "{found}");
        fault.release();
    }
    let wrong = Credentials::keys("nobody", "x");
    let mut place = S3Place::connect_with(&here(&server), USER_AGENT, 0, wrong).unwrap();
    let (name, found) = problem(run(place.check()));
    assert_eq!((name, found.exit), ("rights", exit::REFUSED), "{found}");
}

#[test]
fn what_lies_there_is_told_apart() {
    let server = TestS3::start();
    let mut place = place(&here(&server));
    let marker = Marker::new(&dataset(), Sharing::Shared, "uid-1");
    run(async {
        assert!(matches!(place.look().await.unwrap(), Found::Empty));
        // A neighbour whose name begins alike, and our own lock, are nothing here.
        std::fs::create_dir_all(server.file("run/10")).unwrap();
        std::fs::write(server.file("run/10/x"), "x").unwrap();
        assert_eq!(place.lock("uid-1").await.unwrap(), Locked::Taken);
        assert!(matches!(place.look().await.unwrap(), Found::Empty));
        for index in 0..15 {
            std::fs::write(server.file(&format!("run/1/f{index:02}")), "x").unwrap();
        }
        let found = place.look().await.unwrap();
        let Found::Foreign(names) = found else { panic!("{found:?}") };
        assert_eq!((names.len(), names[0].as_str()), (10, "f00"));
        place.mark(&marker).await.unwrap();
        let found = place.look().await.unwrap();
        let Found::Marked(read) = found else { panic!("{found:?}") };
        assert_eq!(*read, marker);
        place.unmark(&marker).await.unwrap();
        place.unmark(&marker).await.unwrap();
        assert!(!server.file(&format!("run/1/{MARKER_NAME}")).exists());
        std::fs::write(server.file(&format!("run/1/{MARKER_NAME}")), "{").unwrap();
        assert_eq!(place.look().await.unwrap_err().exit, exit::REFUSED);
        place.unlock().await.unwrap();
    });
    assert_eq!(server.count(|seen| seen.is_data), 0, "{:?}", server.seen());
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
        let file =
            std::fs::File::options().write(true).open(server.file(&format!("run/1/{LOCK_NAME}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(90)).unwrap();
        let over = next.lock("uid-2").await.unwrap();
        let Locked::TakenOver(text) = over else { panic!("{over:?}") };
        assert!(text.contains("run uid-1") && text.contains("renewed 90 s ago"), "{text}");
        next.unlock().await.unwrap();
    });
}

#[test]
fn a_lock_is_renewed_and_its_loss_is_noticed() {
    let server = TestS3::start();
    let mut place = place(&here(&server)).with_lock_ttl(Duration::from_secs(1));
    let renewals = || server.count(|seen| seen.verb == "PUT" && seen.key.ends_with(LOCK_NAME));
    assert_eq!(run(place.lock("uid-1")).unwrap(), Locked::Taken);
    assert!(wait_until(Duration::from_secs(20), || renewals() >= 3), "the lock is not renewed");
    assert!(place.lock_lost().is_none());
    // Again and again: the server may be writing a renewal just now, and would bring the file back.
    let lost = || {
        let _ = std::fs::remove_file(server.file(&format!("run/1/{LOCK_NAME}")));
        place.lock_lost().is_some()
    };
    assert!(wait_until(Duration::from_secs(20), lost), "the loss is not noticed");
    let lost = place.lock_lost().unwrap();
    assert!(lost.cause.contains("removed"), "{lost}");
    run(place.unlock()).unwrap();
    let after = renewals();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(renewals(), after, "renewed after it was given back");
}

#[test]
fn of_two_at_one_moment_the_one_who_was_refused_knows() {
    let server = TestS3::start();
    let plan = here(&server);
    let slow = server.fault(Fault::delay(Duration::from_millis(300)).verb("PUT").key(LOCK_NAME).times(1));
    let mut first = place(&plan);
    let first = std::thread::spawn(move || run(first.lock("uid-1")).unwrap());
    assert!(wait_until(Duration::from_secs(20), || slow.hits() == 1));
    // The first has seen that it is free, and its put is on the way.
    let mut second = place(&plan);
    assert_eq!(run(second.lock("uid-2")).unwrap(), Locked::Taken);
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
    assert!(wait_until(Duration::from_secs(20), || look.hits() == 1));
    let file = server.file(&format!("run/1/{LOCK_NAME}"));
    let record = std::fs::read_to_string(&file).unwrap().replace("uid-1", "uid-2");
    std::fs::write(&file, record).unwrap();
    look.release();
    let held = locked.join().unwrap();
    assert!(matches!(&held, Locked::Held(text) if text.contains("uid-2")), "{held:?}");
}

#[test]
fn another_implementation_agrees() {
    let server = Seaweed::start();
    let plan = plan(&[server.endpoint()]);
    let keys = || Credentials::keys(seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
    let place = || S3Place::connect_with(&plan, USER_AGENT, 0, keys()).unwrap();
    let (mut first, mut second) = (place(), place());
    run(async {
        let (name, found) = problem(first.check().await);
        assert_eq!((name, found.exit), ("bucket", exit::REFUSED), "{found}");
        server.create_bucket(&plan.bucket);
        let checks = first.check().await;
        assert!(checks.iter().all(|check| check.problem.is_none()), "{checks:?}");
        assert!(checks[3].finding.contains("is refused"), "{}", checks[3].finding);
        assert!(matches!(first.look().await.unwrap(), Found::Empty));
        assert_eq!(first.lock("uid-1").await.unwrap(), Locked::Taken);
        assert!(matches!(second.lock("uid-2").await.unwrap(), Locked::Held(_)));
        let marker = Marker::new(&dataset(), Sharing::Shared, "uid-1");
        first.mark(&marker).await.unwrap();
        assert!(matches!(first.look().await.unwrap(), Found::Marked(_)));
        first.unmark(&marker).await.unwrap();
        first.unlock().await.unwrap();
        assert!(matches!(first.look().await.unwrap(), Found::Empty));
        assert_eq!(second.lock("uid-2").await.unwrap(), Locked::Taken);
        second.unlock().await.unwrap();
    });
}
