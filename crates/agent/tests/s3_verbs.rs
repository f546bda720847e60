//! What each operation does on the wire, against a server that counts, and against a server that others wrote.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::clock::now_ns;
use lockstep_agent::target::Target;
use lockstep_agent::target::s3::{Credentials, S3Client};
use lockstep_core::op::ErrorClass;
use lockstep_core::plan::{EndpointSelection, TargetPlan};
use lockstep_testkit::s3::{Fault, Seen, TestS3};
use lockstep_testkit::seaweed::{self, Seaweed};
use s3_common::*;
use std::time::Duration;

/// All verbs, on any server. Returns how many operations of each verb were made.
async fn all_verbs(client: &S3Client) -> [(&'static str, usize); 5] {
    let mut target = client.target(&dataset(), Default::default()).unwrap();
    let sizes = [0, 1, 1000, 4096, 70_001, 1 << 20, (3 << 20) + 17];
    for (index, size) in (0..).zip(sizes) {
        let name = format!("d{:02}/f{index}", index % 2);
        let object = object(index, &name, size);
        let before_ns = now_ns();
        let done = target.put(object).await.unwrap();
        assert_eq!(done.bytes, size);
        assert!((before_ns..=now_ns()).contains(&done.first_byte_ns.unwrap()));
        assert_eq!(target.head(object).await.unwrap().bytes, size);
        for verify in [false, true] {
            assert_eq!(target.get(object, verify).await.unwrap().bytes, size, "{size}");
        }
    }
    // d00 holds 0, 2, 4, 6 and d01 the others; the root holds two directories.
    assert_eq!(target.list(object(0, "d00/f0", 0)).await.unwrap().bytes, 4);
    assert_eq!(target.list(object(1, "d01/f1", 0)).await.unwrap().bytes, 3);
    assert_eq!(target.list(object(1, "x", 0)).await.unwrap().bytes, 2);
    for index in 0..sizes.len() {
        let name = format!("d{:02}/f{index}", index % 2);
        target.delete(object(index as u64, &name, 0)).await.unwrap();
    }
    let gone = failed(target.head(object(0, "d00/f0", 0)).await);
    assert_eq!(gone.class, ErrorClass::NotFound);
    let gone = failed(target.get(object(0, "d00/f0", 0), true).await);
    assert_eq!(gone.class, ErrorClass::NotFound, "{}", gone.detail);
    let n = sizes.len();
    [("PUT", n), ("HEAD", n + 1), ("GET", 2 * n + 1), ("LIST", 3), ("DELETE", n)]
}

#[test]
fn the_server_sees_one_request_for_each_operation() {
    let server = TestS3::start();
    let client = client(&here(&server));
    let operations = run(all_verbs(&client));
    for (verb, count) in operations {
        assert_eq!(server.data(verb), count, "{verb}");
    }
    assert_eq!(server.data("POST"), 0, "a bulk delete or a multipart upload");
    let seen = server.seen();
    let all: usize = operations.iter().map(|(_, count)| count).sum();
    assert_eq!(seen.len(), all);
    assert!(seen.iter().all(|seen| seen.user_agent == USER_AGENT));
    let (_, counts) = &client.wire_counts()[0];
    assert_eq!((counts.data_requests, counts.other_requests), (all as u64, 0));
    assert_eq!((counts.statuses[2], counts.statuses[4]), (all as u64 - 2, 2));
    assert_eq!(counts.connects, 1, "one worker needs one connection");
    assert_eq!(server.connections(), 1);
}

#[test]
fn what_is_put_is_the_data_sets_content() {
    let server = TestS3::start();
    let mut target = target(&here(&server));
    run(async {
        // Small after large, so that the buffer of the large one is used again.
        for (index, size) in [(0, 2_500_000), (1, 10), (2, 2_500_000), (3, 3_000_000)] {
            let name = format!("o{index}");
            target.put(object(index, &name, size)).await.unwrap();
            assert!(std::fs::read(server.file(&format!("run/1/{name}"))).unwrap() == content(index, size));
        }
    });
}

#[test]
fn large_objects_go_in_parts_and_come_back_whole() {
    let server = TestS3::start();
    let plan = plan_with(&server.endpoint(), &[("partSize", "5MiB")]);
    let mut target = target(&plan);
    let size = (12 << 20) + 5;
    run(async {
        let large = object(4, "large", size);
        assert_eq!(target.put(large).await.unwrap().bytes, size);
        assert_eq!(target.get(large, true).await.unwrap().bytes, size);
    });
    assert_eq!((server.data("POST"), server.data("PUT"), server.data("GET")), (2, 3, 1));
    let row = &target.account().endpoints[0];
    assert_eq!((row.requests, row.bytes_in, row.bytes_out, row.service.count()), (6, size, size, 2));
}

#[test]
fn an_upload_that_fails_is_aborted() {
    let server = TestS3::start();
    let plan = plan_with(&server.endpoint(), &[("partSize", "5MiB")]);
    let mut target = target(&plan);
    server.fault(Fault::status(500, "InternalError").verb("PUT").skip(1));
    run(async {
        let failure = failed(target.put(object(4, "large", 12 << 20)).await);
        assert_eq!(failure.class, ErrorClass::Other);
        let is_abort = |seen: &Seen| seen.verb == "DELETE" && seen.query.contains("uploadId");
        server.until(Duration::from_secs(10), |server| server.count(is_abort) > 0).await;
    });
    assert_eq!(server.data("PUT"), 2, "no part is sent after the one that failed, and none again");
}

#[test]
fn a_page_is_one_request_of_at_most_a_thousand_entries() {
    let server = TestS3::start();
    std::fs::create_dir_all(server.file("run/1/d")).unwrap();
    for index in 0..1_100 {
        std::fs::write(server.file(&format!("run/1/d/{index}")), "").unwrap();
    }
    let mut target = target(&here(&server));
    assert_eq!(run(target.list(object(0, "d/1", 0))).unwrap().bytes, 1_000);
    assert_eq!(server.data("LIST"), 1);
}

#[test]
fn endpoints_are_chosen_as_the_plan_says_and_told_apart() {
    let servers: Vec<_> = (0..3).map(|_| TestS3::start()).collect();
    let endpoints: Vec<_> = servers.iter().map(TestS3::endpoint).collect();
    let mut plan = plan(&endpoints);
    let put_all = |plan: &TargetPlan, agent| {
        servers.iter().for_each(TestS3::forget);
        let client = S3Client::connect_with(plan, USER_AGENT, agent, keys()).unwrap();
        let mut target = client.target(&dataset(), Default::default()).unwrap();
        run(async {
            for index in 0..9 {
                target.put(object(index, &format!("o{index}"), 100)).await.unwrap();
                // Found where it was put, although the servers share nothing.
                target.get(object(index, &format!("o{index}"), 100), true).await.unwrap();
            }
        });
        let account = target.account();
        assert_eq!(account.endpoints.iter().map(|row| row.uri.clone()).collect::<Vec<_>>(), endpoints);
        for (row, server) in account.endpoints.iter().zip(&servers) {
            assert_eq!(row.requests, server.seen().len() as u64);
            assert_eq!(row.service.count(), row.requests);
        }
        servers.iter().map(|server| server.data("PUT")).collect::<Vec<_>>()
    };
    assert_eq!(put_all(&plan, 0), [3, 3, 3]);
    plan.endpoint_selection = EndpointSelection::PerAgent;
    assert_eq!(put_all(&plan, 4), [0, 9, 0]);
    plan.endpoint_selection = EndpointSelection::LeastBusy;
    assert_eq!(put_all(&plan, 0), [3, 3, 3]);
    // One endpoint hangs: of a core's other workers none goes there.
    servers[1].fault(Fault::hang().key("stuck"));
    let client = client(&plan);
    let make = || client.target(&dataset(), Default::default()).unwrap();
    let (mut stuck, mut other) = (make(), make());
    run(async {
        tokio::select! {
            _ = stuck.put(object(1, "stuck", 10)) => panic!("it should hang"),
            () = async {
                servers[1].until(Duration::from_secs(10), |server| server.under_way() > 0).await;
                servers.iter().for_each(TestS3::forget);
                for index in 0..9 {
                    other.put(object(index, "o", 10)).await.unwrap();
                }
            } => {}
        }
    });
    assert_eq!(servers[1].data("PUT"), 0);
}

#[test]
fn waiting_ends_at_the_instant_or_when_told_to_stop() {
    let server = TestS3::start();
    let hands = lockstep_agent::engine::hands::Hands::default();
    let mut target = client(&here(&server)).target(&dataset(), hands.clone()).unwrap();
    run(async {
        let at_ns = now_ns() + 3_000_000;
        target.wait_until(at_ns).await;
        assert!(now_ns() >= at_ns);
        let stop = async {
            tokio::task::yield_now().await;
            hands.stop.stop();
        };
        let hour_ns = 3_600_000_000_000;
        let waited = async { tokio::join!(target.wait_until(now_ns() + hour_ns), stop) };
        tokio::time::timeout(Duration::from_secs(10), waited).await.unwrap();
    });
}

#[test]
fn another_implementation_agrees() {
    let server = Seaweed::start();
    let plan = plan(&[server.endpoint()]);
    let credentials = Credentials::keys(seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
    server.create_bucket(&plan.bucket);
    let client = S3Client::connect_with(&plan, USER_AGENT, 0, credentials).unwrap();
    let operations = run(all_verbs(&client));
    let (_, counts) = &client.wire_counts()[0];
    assert_eq!(counts.data_requests, operations.iter().map(|(_, count)| *count as u64).sum::<u64>());
    assert_eq!(counts.connects, 1);
    let mut parts = plan.clone();
    parts.options.insert("partSize".into(), "5MiB".into());
    let credentials = Credentials::keys(seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
    let client = S3Client::connect_with(&parts, USER_AGENT, 0, credentials).unwrap();
    let mut target = client.target(&dataset(), Default::default()).unwrap();
    run(async {
        let large = object(9, "large", 11 << 20);
        target.put(large).await.unwrap();
        target.get(large, true).await.unwrap();
    });
}
