//! Pictures and tables of made-up runs, compared as text.

use super::{lines, picture::Picture, plain::Plain, summary};
use crate::results::memory;
use lockstep_coordinator::progress::progress;
use lockstep_coordinator::{LiveStage, Snapshot, waiting};
use lockstep_core::op::{ErrorClass, Op};
use lockstep_core::plan::{Limit, Metric, OnBreach, Plan, Threshold};
use lockstep_core::problem::Problem;
use lockstep_core::results::part::Pause;
use lockstep_core::results::report::{Report, ReportInputs, RunFacts, StageInput};
use lockstep_core::results::stage::EnvironmentRow;
use lockstep_core::results::{PartState, Sample, StageFacts, StagePart};
use lockstep_core::run::agent::{AgentState, Position, Step};
use lockstep_core::run::{Run, StageState};
use lockstep_core::thresholds::Outcome;
use std::sync::Arc;

const S: u64 = 1_000_000_000;
const YAML: &str = "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: quick}
spec:
  agents: {replicas: 4}
  target: {uri: 'file:///tmp/quick'}
  dataset: {objects: 20000, size: {fixed: 64Ki}}
  stages:
    - {name: prepare, prepare: {concurrency: 4}}
    - {name: mixed, execute: {duration: 30s, operations: [{op: Get, weight: 7}, {op: Put, weight: 3}]}}
    - {name: cleanup, cleanup: {}}
";

pub(super) fn plan() -> Arc<Plan> {
    let manifest = lockstep_api::load(YAML.as_bytes(), &[]).expect("fits the schema");
    let options = lockstep_api::ResolveOptions { local: true, ..Default::default() };
    Arc::new(manifest.resolve(&options).expect("makes sense").plan)
}

/// A snapshot in which nobody has said anything yet, `at_ns` after the run began.
pub(super) fn snapshot(plan: &Arc<Plan>, at_ns: u64) -> Snapshot {
    let view = Run::new(Arc::clone(plan), false, 100 * S).view();
    Snapshot {
        at_ns: 100 * S + at_ns,
        began_ns: 100 * S,
        view,
        live: vec![LiveStage::default(); plan.stages.len()],
    }
}

/// All agents in a stage, each this far in it.
pub(super) fn in_stage(snapshot: &mut Snapshot, stage: u32, step: Step, done: u64) {
    snapshot.view.stage = Some(stage);
    for agent in &mut snapshot.view.agents {
        agent.state = AgentState::Active(Position::Stage { stage, step });
        (agent.in_stage, agent.done) = (step >= Step::Working, done);
        agent.what = "creating".to_owned();
    }
}

#[test]
fn every_wait_has_a_name() {
    let plan = plan();
    let mut now = snapshot(&plan, S);
    assert_eq!(waiting::reason(&now).as_deref(), Some("waiting for agents 0, 1, 2 and 1 more to say hello"));
    for agent in &mut now.view.agents {
        agent.state = AgentState::Active(Position::Ready);
    }
    now.view.agents[2].state = AgentState::Active(Position::Joined);
    assert_eq!(waiting::reason(&now).as_deref(), Some("waiting for agent 2 to pass preflight"));
    in_stage(&mut now, 1, Step::Working, 10);
    now.view.stages[1].facts.state = StageState::Working;
    assert_eq!(waiting::reason(&now), None);
    now.view.agents[0].state = AgentState::Active(Position::Stage { stage: 1, step: Step::AtBarrier });
    now.view.agents[1].total = 5_000;
    let at_barrier = "1 at the barrier, waiting for agents 1, 2, 3 (creating 10 of 5,000)";
    assert_eq!(waiting::reason(&now).as_deref(), Some(at_barrier));
    let was = Position::Stage { stage: 1, step: Step::Working };
    now.view.agents[3].state = AgentState::Disconnected { since_ns: now.at_ns - 7 * S, was };
    assert_eq!(waiting::reason(&now).as_deref(), Some("agent 3 has been disconnected for 7 s"));
}

#[test]
fn leased_work_grows_between_two_leases() {
    let plan = plan();
    let mut now = snapshot(&plan, 6 * S);
    now.view.stages[1].facts.state = StageState::Working;
    now.view.stages[1].facts.planned_start_ns = Some(102 * S);
    (now.view.stages[1].done, now.view.stages[1].total) = (4_000, 20_000);
    in_stage(&mut now, 1, Step::Working, 1_500);
    now.view.agents[3].what = "checking".to_owned();
    let acknowledged = progress(&plan, &now, 1).map(|progress| progress.done);
    assert_eq!(acknowledged, Some(4_500), "an agent that tells of another stage does not count");
    now.view.agents[3].what = "creating".to_owned();
    let progress = progress(&plan, &now, 1).expect("there is such a stage");
    assert_eq!((progress.done, progress.total, progress.remaining_ns), (6_000, 20_000, Some(4 * S * 14 / 6)));
    now.live[1] = LiveStage {
        operations: 6_000,
        bytes: 6_000 << 16,
        operations_per_s: 1_500.4,
        bytes_per_s: f64::from(1_500 << 16),
        p50_ns: Some(61_000),
        p99_ns: Some(402_000),
        errors: 0,
    };
    assert_eq!(
        lines::line(&Picture::of(&plan, &now), 1).fitted(200),
        "██████░░░░░░░░░░░░░░  6,000 of 20,000 objects  4/4 agents  1,500 op/s  94 MiB/s  p50 61 µs  p99 402 µs  0 errors  10 s left"
    );
}

#[test]
fn an_agent_that_has_not_said_hello_is_not_counted_as_there() {
    let plan = plan();
    let mut now = snapshot(&plan, 6 * S);
    now.view.stages[2].facts.state = StageState::Working;
    now.view.stages[2].facts.planned_start_ns = Some(102 * S);
    in_stage(&mut now, 2, Step::Working, 0);
    assert_eq!(lines::line(&Picture::of(&plan, &now), 2).full(), "0:04 / 0:30  4/4 agents");
    now.view.agents[1].state = AgentState::Active(Position::Expected);
    assert_eq!(lines::line(&Picture::of(&plan, &now), 2).full(), "0:04 / 0:30  3/4 agents");
}

#[test]
fn nothing_of_a_window_is_over_before_its_start_is_settled() {
    let plan = plan();
    let mut now = snapshot(&plan, 6 * S);
    now.view.stages[1].facts.ended_ns = Some(102 * S);
    now.view.stages[2].facts.state = StageState::Starting;
    in_stage(&mut now, 2, Step::Waiting, 0);
    let passed = |now: &_| progress(&plan, now, 2).map(|progress| (progress.done, progress.elapsed_ns));
    assert_eq!(passed(&now), Some((0, 0)));
    now.view.stages[2].facts.planned_start_ns = Some(104 * S);
    assert_eq!(passed(&now), Some((2_000, 2 * S)));
}

#[test]
fn a_start_to_come_is_counted_down() {
    let plan = plan();
    let mut now = snapshot(&plan, 6 * S);
    now.view.stages[2].facts.state = StageState::Starting;
    now.view.stages[2].facts.planned_start_ns = Some(109 * S);
    in_stage(&mut now, 2, Step::Armed, 0);
    assert_eq!(lines::line(&Picture::of(&plan, &now), 2).full(), "starts together in 3.0 s");
    now.view.stages[2].facts.state = StageState::Working;
    now.at_ns = 131 * S;
    assert_eq!(
        lines::line(&Picture::of(&plan, &now), 2).fitted(80),
        "██████████████░░░░░░  0:22 / 0:30  4/4 agents"
    );
    assert_eq!(lines::line(&Picture::of(&plan, &now), 3).fitted(80), "waiting");
}

#[test]
fn lines_come_at_once_on_a_change_and_else_every_ten_seconds() {
    let plan = plan();
    let mut plain = Plain::default();
    let mut lines = |at_ns, states: [StageState; 2]| {
        let mut now = snapshot(&plan, at_ns);
        in_stage(&mut now, 1, Step::Working, 5);
        for (view, state) in now.view.stages.iter_mut().zip(states) {
            view.facts.state = state;
        }
        plain.due(&Picture::of(&plan, &now)).len()
    };
    use StageState::{Done, Waiting, Working};
    assert_eq!(lines(S, [Working, Waiting]), 1);
    assert_eq!(lines(2 * S, [Working, Waiting]), 0);
    assert_eq!(lines(3 * S, [Done, Working]), 2);
    assert_eq!(lines(12 * S, [Done, Working]), 0);
    assert_eq!(lines(13 * S, [Done, Working]), 1);
}

/// A part of agent `agent` in `mixed`: gets from 41 µs on, and puts of twice that.
fn part(agent: u32, window_ns: u64) -> StagePart {
    let mut part = StagePart::new(2, agent, 0);
    part.window_ns = window_ns;
    (part.client.milli_cores, part.client.process_cpu_ns) = (1_000, window_ns * 61 / 100);
    for step in 0..1_000 {
        let service_ns = 41_000 + step * 97;
        let mut sample = Sample {
            op: Op::Get,
            size_bytes: 65_536,
            intended_ns: 0,
            start_ns: 0,
            first_byte_ns: None,
            end_ns: service_ns,
        };
        part.totals.record_ok(&sample, false, step == 999);
        if step % 3 == 0 {
            (sample.op, sample.end_ns) = (Op::Put, service_ns * 2);
            part.totals.record_ok(&sample, false, false);
        }
    }
    let refused =
        Sample { op: Op::Put, size_bytes: 0, intended_ns: 0, start_ns: 0, first_byte_ns: None, end_ns: 9 };
    part.totals.record_error(&refused, ErrorClass::Throttled);
    part
}

fn pause(from_s: u64, to_s: u64, what: &str) -> Pause {
    Pause { from_ns: from_s * S, to_ns: to_s * S, what: what.to_owned() }
}

fn report() -> Report {
    let facts = |stage, name: &str, kind: &str, window_ns| StageFacts {
        stage,
        name: name.to_owned(),
        kind: kind.to_owned(),
        state: "Done".to_owned(),
        agents_planned: 4,
        window_ns,
        skew_ns: window_ns.map(|_| 70_000),
        clock_error_ns: Some(40_000),
        ..StageFacts::default()
    };
    let prepare = StageFacts { stage: 1, ..facts(1, "prepare", "prepare", None) };
    let mixed = facts(2, "mixed", "execute", Some(30 * S));
    let mut prepared = StagePart::new(1, 0, 0);
    (prepared.window_ns, prepared.created, prepared.ranges_done) = (8 * S, 20_000, vec![(0, 20_000)]);
    let mut parts: Vec<StagePart> = (0..4).map(|agent| part(agent, 30 * S)).collect();
    parts[1].pauses = vec![pause(9, 24, "the process was stopped"), pause(31, 40, "of the next stage")];
    parts[2].pauses = vec![pause(0, 19, "late join")];
    parts[2].state = PartState::Partial { reason: "joined late".to_owned() };
    parts[3] = part(3, 12 * S);
    parts[3].state = PartState::Lost {
        reason: "its process ended: signal 9".to_owned(),
        unaccounted_from_ns: 12 * S,
        unaccounted_to_ns: 13 * S,
    };
    parts[1].attempt = 1;
    let limit = |name: &str, metric, limit| Threshold {
        name: name.to_owned(),
        stage: "mixed".to_owned(),
        op: Some(Op::Get),
        metric,
        limit,
        on_breach: OnBreach::Fail,
    };
    let thresholds = [
        limit("read-tail", Metric::P99, Limit::AtMost(20_000_000)),
        limit("fast", Metric::OperationsPerSecond, Limit::AtLeast(4_900_000)),
    ];
    let stages = [
        StageInput { facts: &prepare, parts: std::slice::from_ref(&prepared), live: None },
        StageInput { facts: &mixed, parts: &parts, live: None },
    ];
    let mut report = Report::build(ReportInputs {
        run: RunFacts { name: "quick".to_owned(), ..RunFacts::default() },
        outcome: Outcome::Partial,
        failure_exit: 1,
        in_doubt: false,
        degraded: vec!["agent 3 was lost in mixed at second 12: its process ended: signal 9".to_owned()],
        thresholds: &thresholds,
        objects_planned: Some(20_000),
        stages: &stages,
        timeline: Vec::new(),
        problems: vec![Problem::new("agent 3 was lost", "signal 9")],
    });
    report.stages[1].start.inherited_from = Some("warmup".to_owned());
    let plan = plan();
    memory::annotate(&mut report, &plan, &plan.dataset.expected_bytes(), 16 << 30);
    report
}

#[test]
fn the_tables_at_the_end_say_what_puts_a_number_in_doubt() {
    let text = summary::render(&report(), "lockstep-results/quick/", true);
    assert_eq!(text, include_str!("golden/summary.txt"));
}

#[test]
fn a_preflight_says_how_many_checks_every_agent_made() {
    let mut report = report();
    let stage = &mut report.stages[0];
    stage.kind = "preflight".to_owned();
    let mut row = |key: &str, value: &str, agents| {
        stage.environment.push(EnvironmentRow { key: key.to_owned(), value: value.to_owned(), agents });
    };
    row("check.rights", "write, read and remove work", 1);
    row("check.clock", "same boot", 1);
    row("kernel", "6.8", 1);
    assert!(
        summary::render(&report, "x/", true)
            .starts_with(" prepare · 8.0 s · 1 of 4 agents · 2 checks each\n")
    );
}

#[test]
fn a_run_without_an_end_says_so() {
    let text = summary::render(&report(), "x/", false);
    assert!(text.ends_with(" Interrupted · Pending · results: x/\n"), "{text}");
}
