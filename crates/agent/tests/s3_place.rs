//! The place of a data set in a bucket: checks, what lies there, the marker. Its lock is in `s3_lock.rs`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::target::place::{Check, Found, Locked, Place};
use lockstep_agent::target::s3::{Credentials, S3Place};
use lockstep_core::dataset::marker::{MARKER_NAME, Marker};
use lockstep_core::plan::{Sharing, TargetPlan};
use lockstep_core::problem::{Problem, exit};
use lockstep_testkit::raw::{Raw, closed_port};
use lockstep_testkit::s3::{Fault, TestS3};
use lockstep_testkit::seaweed::{self, Seaweed};
use s3_common::*;

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

/// All that is done around a load, with one fault at the request number `turn`.
fn once_around(fault: &Fault, turn: usize) {
    let server = TestS3::start();
    let mut place = place(&plan_with(&server.endpoint(), &[("timeout", "200ms")]));
    let marker = Marker::new(&dataset(), Sharing::Shared, "uid-1");
    let once = server.fault(fault.clone().skip(turn).times(1));
    run(async {
        let checks = place.check().await;
        assert!(checks.iter().all(|check| check.problem.is_none()), "{fault:?} {turn}: {checks:?}");
        assert!(checks[3].finding.contains("is refused"), "{fault:?} {turn}: {}", checks[3].finding);
        assert_eq!(place.lock("uid-1").await.unwrap(), Locked::Taken, "{fault:?} {turn}");
        assert!(matches!(place.look().await.unwrap(), Found::Empty), "{fault:?} {turn}");
        place.mark(&marker).await.unwrap();
        assert!(matches!(place.look().await.unwrap(), Found::Marked(_)), "{fault:?} {turn}");
        place.unmark(&marker).await.unwrap();
        place.unlock().await.unwrap();
    });
    assert_eq!(once.hits(), 1, "{fault:?} {turn}");
    assert_eq!(place.requests(), server.seen().len() as u64, "{fault:?} {turn}");
    // Giving the lock back looks anew before it removes anything.
    let expected = if turn == 13 { 16 } else { 15 };
    assert_eq!(server.seen().len(), expected, "{fault:?} {turn}: {:?}", server.seen());
}

#[test]
fn control_requests_that_fail_once_are_sent_again_and_counted() {
    let faults = [
        Fault::status(503, "SlowDown"),
        Fault::status(500, "InternalError"),
        Fault::status(502, ""),
        Fault::status(429, ""),
        Fault::close(),
        Fault::hang(),
    ];
    std::thread::scope(|scope| {
        for fault in &faults {
            scope.spawn(move || (0..14).for_each(|turn| once_around(fault, turn)));
        }
    });
}

#[test]
fn control_requests_that_go_on_failing_are_given_up_and_the_tries_are_told() {
    let marker = Marker::new(&dataset(), Sharing::Shared, "uid-1");
    for (fault, says) in [
        (Fault::status(503, "SlowDown"), "3 of 3 tries: HTTP 503 SlowDown on "),
        (Fault::close(), "3 of 3 tries: "),
    ] {
        let server = TestS3::start();
        let away = server.fault(fault);
        let mut place = place(&here(&server));
        let (name, found) = problem(run(place.check()));
        assert_eq!((name, found.exit), ("reachable", exit::UNREACHABLE), "{found}");
        let others = run(async {
            let lock = place.lock("uid-1").await.unwrap_err();
            [lock, place.look().await.unwrap_err(), place.mark(&marker).await.unwrap_err()]
        });
        for found in [&found].into_iter().chain(&others) {
            assert!(found.cause.starts_with(says) && found.exit == exit::UNREACHABLE, "{found}");
        }
        assert_eq!((away.hits(), place.requests()), (12, 12));
    }
    // What tells the truth is asked for once.
    for (status, code) in [(403, "AccessDenied"), (404, "NoSuchBucket"), (501, "NotImplemented"), (507, "")] {
        let server = TestS3::start();
        let away = server.fault(Fault::status(status, code));
        let (_, found) = problem(check(&here(&server)));
        assert!(found.cause.starts_with(&format!("HTTP {status}")), "{found}");
        assert_eq!(away.hits(), 1, "{status}");
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
