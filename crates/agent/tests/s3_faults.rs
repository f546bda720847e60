//! Each thing that goes wrong gets its class and a sentence, and nothing is tried again.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::target::Target;
use lockstep_agent::target::s3::{Credentials, S3Client};
use lockstep_core::op::ErrorClass;
use lockstep_testkit::raw::{Raw, closed_port};
use lockstep_testkit::s3::{Fault, TestS3};
use s3_common::*;
use std::time::{Duration, Instant};

#[test]
fn answers_have_their_class_and_are_asked_for_once() {
    let cases = [
        (Fault::deny(), ErrorClass::Permission, "HTTP 403 AccessDenied on"),
        (Fault::status(401, ""), ErrorClass::Permission, "HTTP 401 on"),
        (Fault::status(404, "NoSuchBucket"), ErrorClass::NotFound, "HTTP 404 NoSuchBucket on"),
        (Fault::status(429, ""), ErrorClass::Throttled, "HTTP 429 on"),
        (Fault::status(503, "SlowDown"), ErrorClass::Throttled, "HTTP 503 SlowDown on"),
        (Fault::status(500, "InternalError"), ErrorClass::Other, "HTTP 500 InternalError on"),
        (Fault::status(507, "XMinioStorageFull"), ErrorClass::Full, "HTTP 507 XMinioStorageFull on"),
        (Fault::status(403, "QuotaExceeded"), ErrorClass::Full, "HTTP 403 QuotaExceeded on"),
        (Fault::status(504, ""), ErrorClass::Timeout, "HTTP 504 on"),
        (Fault::close(), ErrorClass::Reset, "on"),
    ];
    let server = TestS3::start();
    let mut target = target(&here(&server));
    run(async {
        target.put(object(1, "d00/f1", 2_000)).await.unwrap();
        for (fault, class, says) in cases {
            let what = format!("{fault:?}");
            server.forget();
            let handle = server.fault(fault);
            let object = object(1, "d00/f1", 2_000);
            let failures = [
                ("PUT", failed(target.put(object).await)),
                ("GET", failed(target.get(object, false).await)),
                ("LIST", failed(target.list(object).await)),
                ("DELETE", failed(target.delete(object).await)),
                ("HEAD", failed(target.head(object).await)),
            ];
            for (verb, failure) in failures {
                let detail = &failure.detail;
                let place = format!("{verb} of d00/f1 at {}", server.endpoint());
                assert!(detail.contains(&place), "{detail}");
                // A HEAD has no body, so no code.
                if verb != "HEAD" {
                    assert_eq!(failure.class, class, "{what}: {detail}");
                    assert!(detail.contains(says), "{what}: {detail}");
                }
                assert_eq!(server.data(verb), 1, "{what}: {verb} was tried again");
            }
            handle.release();
        }
        let row = &target.account().endpoints[0];
        assert_eq!(row.errors.iter().sum::<u64>(), 50);
        assert_eq!(row.service.count(), 1);
    });
}

#[test]
fn a_success_that_is_no_answer_of_s3_is_said_so() {
    let server = TestS3::start();
    let mut target = target(&here(&server));
    server.fault(Fault::garbage());
    run(async {
        let object = object(1, "f1", 2_000);
        for failure in [failed(target.put(object).await), failed(target.list(object).await)] {
            assert_eq!(failure.class, ErrorClass::Protocol, "{}", failure.detail);
            assert!(failure.detail.contains("HTTP 200 with an answer that is not S3"), "{}", failure.detail);
        }
        // A get of a page is content of the wrong length.
        assert_eq!(failed(target.get(object, false).await).class, ErrorClass::Corrupt);
    });
}

#[test]
fn what_is_below_http_has_its_class_too() {
    let silent = Raw::silent();
    let nonsense = Raw::answering(b"SSH-2.0-OpenSSH_9.6\r\n");
    let closing = Raw::answering(b"");
    let cases = [
        (closed_port(), ErrorClass::Connect, "connection refused by"),
        (silent.address(), ErrorClass::Timeout, "no answer within 200ms"),
        (nonsense.address(), ErrorClass::Protocol, "does not speak HTTP/1.1"),
        (closing.address(), ErrorClass::Reset, "closed the connection before it answered"),
    ];
    for (address, class, says) in cases {
        let plan = plan_with(&format!("http://{address}"), &[("timeout", "200ms")]);
        let failure = run(async { failed(target(&plan).get(object(1, "f1", 10), false).await) });
        assert_eq!(failure.class, class, "{}", failure.detail);
        assert!(failure.detail.contains(says), "{}", failure.detail);
        assert!(failure.detail.contains(&format!("on GET of f1 at http://{address}")), "{}", failure.detail);
    }
    assert_eq!((silent.accepted(), nonsense.accepted(), closing.accepted()), (1, 1, 1), "tried again");
}

#[test]
fn bodies_that_break_stall_or_change_are_found_out() {
    let server = TestS3::start();
    let plan = plan_with(&server.endpoint(), &[("timeout", "1s")]);
    let mut target = target(&plan);
    let object = object(1, "f1", 100_000);
    run(async {
        target.put(object).await.unwrap();
        let cut = server.fault(Fault::cut_body(60_000).verb("GET"));
        let failure = failed(target.get(object, false).await);
        assert_eq!(failure.class, ErrorClass::Reset, "{}", failure.detail);
        cut.release();
        let flip = server.fault(Fault::flip_body(70_000).verb("GET"));
        assert!(target.get(object, false).await.is_ok(), "nobody looks");
        let failure = failed(target.get(object, true).await);
        assert_eq!(failure.class, ErrorClass::Corrupt);
        assert!(failure.detail.contains("offset 70000 on on GET of f1"), "{}", failure.detail);
        flip.release();
        // Slower than the limit as a whole, but never silent for so long.
        let slow = server.fault(Fault::slow_body(10_000, Duration::from_millis(120)).verb("GET"));
        let began = Instant::now();
        target.get(object, true).await.unwrap();
        assert!(began.elapsed() > Duration::from_secs(1));
        slow.release();
        let stalled = server.fault(Fault::slow_body(10_000, Duration::from_secs(60)).verb("GET"));
        let failure = failed(target.get(object, false).await);
        assert_eq!(failure.class, ErrorClass::Timeout);
        assert!(failure.detail.contains("no more of the answer's body within 1s"), "{}", failure.detail);
        stalled.release();
        let longer = s3_common::object(1, "f1", 99_999);
        let failure = failed(target.get(longer, false).await);
        assert_eq!(failure.class, ErrorClass::Corrupt);
        assert!(failure.detail.starts_with("100000 bytes instead of 99999"), "{}", failure.detail);
    });
    assert_eq!(server.data("GET"), 6, "a get was tried again, or resumed");
}

#[test]
fn a_request_that_hangs_ends_when_it_is_dropped() {
    let server = TestS3::start();
    let mut target = target(&here(&server));
    run(async {
        target.put(object(1, "f1", 2_000)).await.unwrap();
        server.fault(Fault::hang());
        let object = object(1, "f1", 2_000);
        for verb in ["GET", "PUT", "LIST"] {
            let operation = async {
                match verb {
                    "GET" => target.get(object, false).await,
                    "PUT" => target.put(object).await,
                    _ => target.list(object).await,
                }
            };
            tokio::select! {
                _ = operation => panic!("it should hang"),
                () = server.until(Duration::from_secs(10), |server| server.under_way() > 0) => {}
            }
            // Its end was not waited for, so it comes at once.
            server.until(Duration::from_secs(1), |server| server.under_way() == 0).await;
        }
    });
}

#[test]
fn wrong_keys_are_a_matter_of_permission_and_show_nowhere() {
    let server = TestS3::start();
    let plan = here(&server);
    let wrong = Credentials::keys("test-access-key", "not-the-secret");
    let client = S3Client::connect_with(&plan, USER_AGENT, 0, wrong).unwrap();
    let mut target = client.target(&dataset(), Default::default()).unwrap();
    let failure = run(async { failed(target.put(object(1, "f1", 10)).await) });
    assert_eq!(failure.class, ErrorClass::Permission, "{}", failure.detail);
    assert!(failure.detail.contains("SignatureDoesNotMatch"), "{}", failure.detail);
    let shown = format!("{failure:?} {client:?} {target:?} {:?}", client.settings());
    assert!(!shown.contains("not-the-secret"), "{shown}");
}

#[test]
fn anonymous_requests_are_unsigned_and_need_no_keys() {
    let server = TestS3::start();
    let plan = plan_with(&server.endpoint(), &[("anonymous", "true")]);
    let client = S3Client::connect(&plan, USER_AGENT, 0).unwrap();
    let mut target = client.target(&dataset(), Default::default()).unwrap();
    // The test server wants signatures, so the refusal shows that there was none.
    let failure = run(async { failed(target.put(object(1, "f1", 10)).await) });
    assert_eq!(failure.class, ErrorClass::Permission, "{}", failure.detail);
    assert_eq!(client.settings()["s3.credentials"], "anonymous");
    assert_eq!(server.seen().len(), 1);
}
