//! What an operation costs the client: CPU time of the one thread that a core's workers share. Over loopback, against a
//! server on another thread, whose own time does not count.
//!
//! The limits are ten times what was measured, so that a busy machine passes and a regression of the kind that matters
//! (a thread per operation, a copy per byte, a sleep that spins) does not. The numbers are printed:
//! `cargo test --release -p lockstep-agent --test s3_cost -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the way to fail")]

mod s3_common;

use lockstep_agent::target::Target;
use lockstep_testkit::s3::TestS3;
use rustix::time::{ClockId, clock_gettime};
use s3_common::*;
use std::time::Duration;

const WORKERS: u64 = 8;

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// CPU time per operation of `WORKERS` workers on one runtime.
fn cost(server: &TestS3, size: u64, each: u64, put: bool) -> Duration {
    let client = client(&here(server));
    run(async {
        let workers = (0..WORKERS).map(|worker| {
            let mut target = client.target(&dataset(), Default::default()).unwrap();
            async move {
                let name = format!("o{worker}");
                let object = object(worker, &name, size);
                target.put(object).await.unwrap();
                tokio::task::yield_now().await;
                let began = thread_cpu();
                for _ in 0..each {
                    if put {
                        target.put(object).await.unwrap()
                    } else {
                        target.get(object, false).await.unwrap()
                    };
                }
                (began, thread_cpu())
            }
        });
        let times = futures::future::join_all(workers).await;
        let began = times.iter().map(|(began, _)| *began).min().unwrap();
        let ended = times.iter().map(|(_, ended)| *ended).max().unwrap();
        (ended - began) / (WORKERS * each) as u32
    })
}

#[test]
fn an_operation_costs_the_client_little() {
    let server = TestS3::start();
    let each = if cfg!(debug_assertions) { 100 } else { 500 };
    for (size, put, limit_us) in
        [(1 << 10, true, 2_000), (1 << 10, false, 2_000), (1 << 20, true, 20_000), (1 << 20, false, 20_000)]
    {
        let each = if size > 1 << 10 { each / 5 } else { each };
        let cost = cost(&server, size, each, put);
        println!(
            "{} of {size} bytes: {} us of client CPU",
            if put { "put" } else { "get" },
            cost.as_micros()
        );
        assert!(cost < Duration::from_micros(limit_us), "{cost:?}");
    }
}
