//! Everybody may stand still for a while: an agent, the coordinator, the target, the reader of reports. Nobody is
//! declared lost for it, no count is lost, and the result says what happened.

#[path = "common/lab.rs"]
mod lab;

use lab::{
    Front, Lab, SOON, agents_of, alone, assert_every_second, assert_exact, on_s3, resident_bytes, stage,
    told_at_ms,
};
use lockstep_testkit::process::{Running, signal, wait_until};
use lockstep_testkit::proxy::{Network, Proxy};
use lockstep_testkit::s3::{Fault, TestS3};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than the 12 s within which a silent drop is noticed.
const PAUSE: Duration = Duration::from_secs(20);

/// Stops a process for a time.
fn pause(pid: Pid) {
    signal(pid, Signal::STOP);
    let until = Instant::now() + PAUSE;
    wait_until(PAUSE, || Instant::now() >= until);
    signal(pid, Signal::CONT);
}

/// Both ends of the first thing of this name that the timeline tells of, milliseconds since the run's start.
fn interval_ms(report: &Value, what: &str) -> (u64, u64) {
    let timeline = report["timeline"].as_array().expect("a timeline");
    let event = timeline.iter().find(|event| event["what"] == what).expect("it is told");
    (event["sinceMs"].as_u64().expect("since when"), event["atMs"].as_u64().expect("until when"))
}

fn assert_nobody_lost(report: &Value) {
    assert_eq!(report["outcome"], "Succeeded", "{:#}", report["problems"]);
    for agent in 0..2 {
        assert_eq!(told_at_ms(report, Some(agent), "Lost", ""), None, "{:#}", report["timeline"]);
    }
}

#[test]
fn an_agent_stopped_for_20_s_is_missed_and_not_lost() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run(&on_s3(&s3, 2, 32, ""), &["--json"]);
    let agents = agents_of(&run, 2);
    run.wait_for("\"what\":\"StageBegins\",\"reason\":\"mixed", SOON);
    assert!(wait_until(SOON, || s3.data("GET") > 200), "mixed does not read");
    pause(agents[1]);
    run.wait(Duration::from_secs(45)).expect_code(0);
    let report = lab.report();
    assert_nobody_lost(&report);
    let total = assert_exact(&report, &s3, 40);
    assert_every_second(&report, 32);
    let away = told_at_ms(&report, Some(1), "Disconnected", "").expect("Disconnected");
    let back = told_at_ms(&report, Some(1), "Working", "heard again").expect("heard again");
    let timeline = report["timeline"].as_array().expect("a timeline");
    // It may have said more in the same millisecond.
    let heard = timeline
        .iter()
        .find(|event| event["atMs"] == back && event["sinceMs"] == away && event["agent"] == 1);
    assert!(heard.is_some(), "the disconnection has two ends: {timeline:#?}");
    let degraded = report["degraded"].to_string();
    assert!(
        degraded.contains("agent 1 was disconnected") && degraded.contains("was stopped for"),
        "{degraded}"
    );
    let pauses = stage(&report, "mixed")["agents"][1]["pauses"].clone();
    let length_ns =
        pauses[0]["toNs"].as_u64().expect("a pause") - pauses[0]["fromNs"].as_u64().expect("a pause");
    println!("agent stopped: {total} operations, away from {away} to {back} ms, pause of {length_ns} ns");
    assert!((19_500_000_000..22_000_000_000).contains(&length_ns), "{pauses:#}");
}

#[test]
fn a_coordinator_stopped_for_20_s_judges_nobody_by_it() {
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run(&on_s3(&s3, 2, 32, ""), &["--json"]);
    run.wait_for("\"what\":\"StageBegins\",\"reason\":\"mixed", SOON);
    assert!(wait_until(SOON, || s3.data("GET") > 200), "mixed does not read");
    pause(run.pid());
    run.wait(Duration::from_secs(45)).expect_code(0);
    let report = lab.report();
    assert_nobody_lost(&report);
    let total = assert_exact(&report, &s3, 40);
    assert_every_second(&report, 32);
    for agent in 0..2 {
        assert_eq!(told_at_ms(&report, Some(agent), "Disconnected", ""), None, "{:#}", report["timeline"]);
        assert_eq!(told_at_ms(&report, Some(agent), "Stalled", ""), None, "{:#}", report["timeline"]);
    }
    let paused = told_at_ms(&report, None, "Paused", "the coordinator was stopped for 2");
    let degraded = report["degraded"].to_string();
    println!("coordinator stopped: {total} operations, {degraded}");
    assert!(degraded.contains("the coordinator was stopped for 2"), "{degraded}");
    let (from_ms, to_ms) = interval_ms(&report, "Paused");
    assert_eq!(Some(to_ms), paused);
    assert!((19_500..22_000).contains(&(to_ms - from_ms)), "{from_ms} to {to_ms}");
}

#[test]
fn a_target_that_hangs_and_reports_that_nobody_reads_delay_no_heartbeat() {
    let _alone = alone();
    let (lab, s3) = (Lab::new(), TestS3::start());
    let mut run = lab.run_with(&on_s3(&s3, 2, 40, ""), &["--json"], &lab.detour(1));
    let coordinator = lab.coordinator();
    let reports = Proxy::start(coordinator);
    let front = Front::start(coordinator, &reports);
    lab.let_dial(front.address);
    let agents = agents_of(&run, 2);
    run.wait_for("\"what\":\"StageBegins\",\"reason\":\"mixed", SOON);
    assert!(wait_until(SOON, || s3.data("GET") > 100), "mixed does not read");
    let before = agents.iter().map(|pid| resident_bytes(*pid)).collect::<Vec<_>>();
    let _hogs = [hog(), hog()];
    let hang = s3.fault(Fault::hang());
    reports.set(Network::Hold);
    let until = Instant::now() + Duration::from_secs(30);
    run.wait_for("\"what\":\"Stalled\"", Duration::from_secs(16));
    let mut most = before.clone();
    wait_until(until - Instant::now(), || {
        for (most, pid) in most.iter_mut().zip(&agents) {
            *most = resident_bytes(*pid).max(*most);
        }
        Instant::now() >= until
    });
    assert!(hang.hits() >= 8, "{} requests hang", hang.hits());
    hang.release();
    run.wait_for("moves again after", SOON);
    reports.set(Network::Pass);
    run.wait(Duration::from_secs(45)).expect_code(0);
    let report = lab.report();
    assert_nobody_lost(&report);
    let total = assert_exact(&report, &s3, 40);
    let mixed = stage(&report, "mixed");
    let gaps: Vec<u64> =
        (0..2).map(|agent| mixed["agents"][agent]["network"]["gapMaxNs"].as_u64().expect("a gap")).collect();
    let grown: Vec<u64> = before.iter().zip(&most).map(|(before, most)| (most - before) >> 10).collect();
    println!("target hung: {total} operations, gaps of {gaps:?} ns, memory grew by {grown:?} KiB");
    for agent in 0..2 {
        assert!(gaps[agent] <= 3_000_000_000, "agent {agent} was not answered for {} ns", gaps[agent]);
        assert!(grown[agent] <= 8 << 10, "agent {agent} grew by {} KiB", grown[agent]);
        assert!(told_at_ms(&report, Some(agent as u32), "Stalled", "").is_some(), "agent {agent}");
        assert!(
            told_at_ms(&report, Some(agent as u32), "Working", "moves again after").is_some(),
            "agent {agent}"
        );
        assert_eq!(told_at_ms(&report, Some(agent as u32), "Disconnected", ""), None, "agent {agent}");
    }
}

/// Somebody else who wants a core for himself.
fn hog() -> Running {
    Running::start(Command::new("sh").args(["-c", "while :; do :; done"]))
}
