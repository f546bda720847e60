//! Whole statuses, from pictures of runs at every point of their life.

use super::managers::LIFECYCLE;
use super::*;
use crate::plan::observed::Finished;
use crate::pods::build::RunIdentity;
use crate::pods::trouble::Weight;
use crate::testing;
use lockstep_api::conditions::{ConditionType, Truth, truth};
use lockstep_api::reasons::Reason;
use lockstep_api::status::{AgentProblem, LatencyStatus, StageStatus};
use lockstep_coordinator::LiveStage;
use lockstep_coordinator::report::{WallTimes, build};
use lockstep_coordinator::{RunEnd, Snapshot};
use lockstep_core::run::Run;
use lockstep_core::run::agent::{AgentState, LossReason, Position, Step};
use lockstep_core::run::view::{AgentView, Story};
use lockstep_core::run::{StageFacts, StageState};
use lockstep_core::thresholds::{Outcome, Verdict};
use serde_json::{Value, json};
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;

struct Scene {
    run: RunFacts,
    plan: Plan,
    pods: BTreeMap<Seat, PodFacts>,
    troubles: BTreeMap<Seat, Trouble>,
    snapshot: Snapshot,
    wait: Option<Wait>,
    now: Timestamp,
}

impl Scene {
    fn new(replicas: u32) -> Self {
        Self::of(&json!({"agents": {"replicas": replicas}}))
    }

    fn of(spec: &Value) -> Self {
        let (run, plan) = testing::run(spec);
        let mut facts = RunFacts::of(&run).expect("readable").expect("stored");
        facts.names = crate::plan::Names::first(plan.replicas);
        let view = Run::new(Arc::new(plan.clone()), false, 0).view();
        let live = vec![LiveStage::default(); plan.stages.len()];
        let snapshot = Snapshot { at_ns: 60 * SECOND_NS, began_ns: 0, view, live };
        Self {
            now: facts.created,
            run: facts,
            plan,
            pods: BTreeMap::new(),
            troubles: BTreeMap::new(),
            snapshot,
            wait: None,
        }
    }

    /// Everybody works in the first execute stage, 20 s into its window.
    fn working(replicas: u32) -> Self {
        let mut scene = Self::new(replicas);
        let mixed =
            scene.plan.stages.iter().position(|stage| stage.kind.execute().is_some()).expect("a stage");
        let view = &mut scene.snapshot.view;
        view.stage = Some(mixed as u32);
        for (index, stage) in view.stages.iter_mut().enumerate().take(mixed + 1) {
            let start_ns = if index == mixed { 40 * SECOND_NS } else { 10 * SECOND_NS };
            stage.facts = StageFacts {
                state: if index == mixed { StageState::Working } else { StageState::Done },
                planned_start_ns: Some(start_ns),
                ended_ns: (index < mixed).then_some(39 * SECOND_NS),
                skew_ns: (index > 0).then_some(412_345),
                clock_error_ns: 38_001,
                agents: replicas,
                ..StageFacts::default()
            };
        }
        for agent in &mut view.agents {
            agent.state = AgentState::Active(Position::Stage { stage: mixed as u32, step: Step::Working });
            (agent.in_stage, agent.what) = (true, "reading".to_owned());
        }
        scene.snapshot.live[mixed] = LiveStage {
            operations: 800_000,
            bytes: 52_428_800_000,
            errors: 3,
            operations_per_s: 41_210.0,
            bytes_per_s: 2_684_354_560.0,
            p50_ns: Some(61_000),
            p99_ns: Some(402_000),
        };
        scene
    }

    fn project(&self, before: &BenchmarkRunStatus, stand: Stand<'_>) -> BenchmarkRunStatus {
        let picture = Picture {
            unjudged: false,
            now: self.now,
            generation: 3,
            epoch: 7,
            controller: Some("lockstep-system/lockstep-operator"),
            run: &self.run,
            pods: &self.pods,
            troubles: &self.troubles,
            wait: self.wait.as_ref(),
            stand,
        };
        project(before, &picture)
    }

    fn live(&self, before: &BenchmarkRunStatus) -> BenchmarkRunStatus {
        self.project(before, Stand::Live { plan: &self.plan, snapshot: &self.snapshot })
    }

    /// The run is over with this outcome and verdict.
    fn over(
        &self,
        before: &BenchmarkRunStatus,
        outcome: Outcome,
        verdict: Verdict,
        results: &Published,
    ) -> BenchmarkRunStatus {
        let mut report = self.report(outcome);
        report.verdict = verdict;
        if outcome == Outcome::Failed {
            report.problems =
                vec![Problem::new("run nightly stopped", "activeDeadline is over").next("raise it").exit(6)];
            report.exit_code = 6;
        }
        let view = &self.snapshot.view;
        self.project(before, Stand::Over { plan: &self.plan, view, report: &report, results })
    }

    fn report(&self, outcome: Outcome) -> Report {
        let story = Story {
            partial: Vec::new(),
            degraded: Vec::new(),
            failure: None,
            faults: Vec::new(),
            faults_dropped: 0,
            refused: 0,
            timeline: Vec::new(),
            ghosts: Vec::new(),
            began_ns: 0,
        };
        let end = RunEnd {
            plan: Arc::new(self.plan.clone()),
            outcome,
            view: self.snapshot.view.clone(),
            story,
            parts: Vec::new(),
            series: BTreeMap::new(),
        };
        build(&end, &WallTimes::default(), "0.1.0")
    }
}

fn is(status: &BenchmarkRunStatus, type_: ConditionType) -> Option<Truth> {
    truth(&status.conditions, type_)
}

fn reason_of(status: &BenchmarkRunStatus, type_: ConditionType) -> &str {
    let condition = status.conditions.iter().find(|one| one.type_ == type_.name());
    condition.map_or("", |one| one.reason.as_str())
}

/// What kstatus would say; its own rules in its own order, as kubernetes-peers has them.
fn kstatus(status: &BenchmarkRunStatus, generation: i64) -> &'static str {
    if status.observed_generation != generation || is(status, ConditionType::Reconciling) == Some(Truth::True)
    {
        return "InProgress";
    }
    match (is(status, ConditionType::Stalled), is(status, ConditionType::Ready)) {
        (Some(Truth::True), _) => "Failed",
        (_, Some(Truth::True)) => "Current",
        _ => "InProgress",
    }
}

fn done() -> Published {
    let results = lockstep_api::status::ResultsStatus {
        config_map: Some("nightly-3f9a0b1c-results".to_owned()),
        uri: None,
        sha256: None,
    };
    Published::Done(results)
}

#[test]
fn a_running_run_shows_where_it_stands() {
    let scene = Scene::working(8);
    let status = scene.live(&BenchmarkRunStatus::default());
    assert_eq!((status.phase.as_str(), status.verdict.as_str()), ("Running", "Pending"));
    assert_eq!((status.observed_generation, status.epoch, status.attempt), (3, 7, 1));
    let agents = status.agents.as_ref().expect("agents");
    assert_eq!((agents.ready, agents.running, agents.summary.as_str()), (8, 8, "8/8"));
    let progress = status.progress.as_ref().expect("progress");
    assert_eq!((progress.stage.as_str(), progress.what.as_str()), ("mixed", "reading"));
    assert_eq!((progress.done, progress.total, progress.unit.as_str()), (20_000, 30_000, "milliseconds"));
    assert_eq!((progress.summary.as_str(), progress.estimated_remaining_seconds), ("66%", Some(10)));
    assert_eq!(status.throughput.as_deref(), Some("41210 op/s 2.5 GiB/s"));
    assert_eq!(status.skew.as_deref(), Some("412 us +- 38 us"));
    let mixed = status.stages.iter().find(|stage| stage.name == "mixed").expect("a stage");
    assert_eq!((mixed.operations, mixed.errors, mixed.operations_per_second), (800_000, 3, 40_000));
    assert_eq!(
        mixed.start.as_ref().map(|start| (start.skew_micros, start.clock_error_micros)),
        Some((413, 39))
    );
    assert_eq!(is(&status, ConditionType::AgentsReady), Some(Truth::True));
    assert_eq!(is(&status, ConditionType::Started), Some(Truth::True));
    assert_eq!((is(&status, ConditionType::Finished), kstatus(&status, 3)), (None, "InProgress"));
    assert!(status.message.starts_with("stage mixed"), "{}", status.message);
}

#[test]
fn the_same_picture_again_writes_nothing_and_times_follow_transitions() {
    let mut scene = Scene::working(8);
    let first = scene.live(&BenchmarkRunStatus::default());
    assert_eq!(scene.live(&first), first);
    scene.now = scene.now.saturating_add(SignedDuration::from_secs(60)).expect("in range");
    let later = scene.live(&first);
    assert_eq!(later.conditions, first.conditions, "nothing has changed its state");
    assert_eq!(managers::split(&later).lifecycle, managers::split(&first).lifecycle);
    let finished = scene.over(&later, Outcome::Succeeded, Verdict::Passed, &done());
    let time = |status: &BenchmarkRunStatus, type_: ConditionType| {
        status.conditions.iter().find(|one| one.type_ == type_.name()).map(|one| one.last_transition_time.0)
    };
    assert_eq!(time(&finished, ConditionType::AgentsReady), time(&first, ConditionType::AgentsReady));
    assert_eq!(time(&finished, ConditionType::Finished), Some(seconds(scene.now).0));
    assert_eq!(finished.completion_time.as_ref().map(|time| time.0), Some(seconds(scene.now).0));
}

#[test]
fn each_cell_of_the_outcome_table_on_a_whole_status() {
    use Truth::{False, True, Unknown};
    for (outcome, verdict, complete, passed, ready, kstatus_says, reason) in [
        (Outcome::Succeeded, Verdict::Passed, True, True, True, "Current", "Completed"),
        (Outcome::Succeeded, Verdict::None, True, True, True, "Current", "Completed"),
        (Outcome::Succeeded, Verdict::Failed, False, False, False, "Failed", "ThresholdBreached"),
        (Outcome::Succeeded, Verdict::Inconclusive, True, Unknown, True, "Current", "Completed"),
        (Outcome::Partial, Verdict::None, True, Unknown, True, "Current", "Partial"),
        (Outcome::Partial, Verdict::Failed, False, False, False, "Failed", "ThresholdBreached"),
        (Outcome::Failed, Verdict::None, False, Unknown, False, "Failed", "DeadlineExceeded"),
        (Outcome::Aborted, Verdict::None, False, Unknown, False, "Failed", "Aborted"),
    ] {
        let scene = Scene::working(8);
        let running = scene.live(&BenchmarkRunStatus::default());
        let status = scene.over(&running, outcome, verdict, &done());
        let case = format!("{outcome:?} {verdict:?}");
        assert_eq!(is(&status, ConditionType::Complete), Some(complete), "{case}");
        let failed = if complete == True { False } else { True };
        assert_eq!(is(&status, ConditionType::Failed), Some(failed), "{case}");
        assert_eq!(is(&status, ConditionType::Finished), Some(True), "{case}");
        assert_eq!(is(&status, ConditionType::Passed), Some(passed), "{case}");
        assert_eq!(is(&status, ConditionType::Ready), Some(ready), "{case}");
        assert_eq!(is(&status, ConditionType::Reconciling), None, "{case}");
        assert_eq!((kstatus(&status, 3), kstatus(&status, 4)), (kstatus_says, "InProgress"), "{case}");
        assert_eq!(reason_of(&status, ConditionType::Finished), reason, "{case}");
        assert_eq!(status.phase, format!("{outcome:?}"));
        assert!(status.completion_time.is_some() && !status.message.is_empty());
        assert!(status.conditions.iter().all(|one| one.observed_generation == Some(3)));
    }
}

#[test]
fn a_run_is_not_finished_before_its_results_are_written() {
    let scene = Scene::working(8);
    let running = scene.live(&BenchmarkRunStatus::default());
    let writing = scene.over(&running, Outcome::Succeeded, Verdict::Passed, &Published::Writing);
    assert_eq!((writing.phase.as_str(), writing.verdict.as_str()), ("Collecting", "Pending"));
    assert_eq!((is(&writing, ConditionType::Finished), kstatus(&writing, 3)), (None, "InProgress"));
    let problem = Problem::new("results were not written", "configmaps is forbidden");
    let failed = scene.over(&writing, Outcome::Succeeded, Verdict::Passed, &Published::Failed(problem));
    assert_eq!(is(&failed, ConditionType::ResultsPublished), Some(Truth::False));
    assert_eq!(reason_of(&failed, ConditionType::Degraded), "ResultsFailed");
    assert_eq!(is(&failed, ConditionType::Finished), Some(Truth::True));
    let done = scene.over(&writing, Outcome::Succeeded, Verdict::Passed, &done());
    assert_eq!(is(&done, ConditionType::ResultsPublished), Some(Truth::True));
    assert_eq!(
        done.results.and_then(|results| results.config_map).as_deref(),
        Some("nightly-3f9a0b1c-results")
    );
}

#[test]
fn degraded_stays_once_it_is_true() {
    let mut scene = Scene::working(8);
    scene.snapshot.view.degraded = vec!["agent 3 was lost (OOMKilled) and is replaced".to_owned()];
    let degraded = scene.live(&BenchmarkRunStatus::default());
    scene.snapshot.view.degraded.clear();
    let report = Report {
        degraded: vec!["mixed lacks part of agent 3's window".to_owned()],
        ..scene.report(Outcome::Partial)
    };
    let view = &scene.snapshot.view;
    let over = Stand::Over { plan: &scene.plan, view, report: &report, results: &done() };
    let partial = scene.project(&BenchmarkRunStatus::default(), over);
    assert_eq!(is(&partial, ConditionType::Degraded), Some(Truth::True));
    let after = scene.over(&scene.live(&degraded), Outcome::Succeeded, Verdict::Passed, &done());
    assert_eq!(is(&after, ConditionType::Degraded), Some(Truth::True));
    assert!(after.conditions.iter().any(|one| one.message.contains("agent 3 was lost")));
}

#[test]
fn waiting_is_shown_with_its_reason_and_next_step() {
    let mut scene = Scene::new(8);
    scene.run.names = crate::plan::Names::default();
    for (reason, phase) in [
        (Reason::WaitingForExclusive, "Waiting"),
        (Reason::WaitingForQuota, "Waiting"),
        (Reason::Unschedulable, "Scheduling"),
        (Reason::Scheduling, "Scheduling"),
    ] {
        let problem = Problem::new("2 of 8 agents have nodes", "Insufficient cpu").next("ask for less");
        scene.wait = Some(Wait {
            reason,
            message: "2 of 8 agents have nodes: Insufficient cpu".to_owned(),
            problem: Some(problem),
        });
        let status = scene.project(&BenchmarkRunStatus::default(), Stand::Waiting);
        assert_eq!(status.phase, phase);
        assert!(status.message.ends_with("next: ask for less"), "{}", status.message);
        assert_eq!(reason_of(&status, ConditionType::AgentsReady), reason.name());
        assert_eq!(status.start_time, None);
    }
}

#[test]
fn a_refused_run_says_so_at_once() {
    let scene = Scene::new(8);
    let conclusion = Conclusion {
        outcome: Outcome::Failed,
        reason: Reason::SpecRejected,
        problem: Problem::new("perf/nightly was refused: 1 fault", "spec.target.uri: is no URI")
            .next("lockstep validate"),
    };
    let status = scene.project(&BenchmarkRunStatus::default(), Stand::Concluded(&conclusion));
    assert_eq!(is(&status, ConditionType::Accepted), Some(Truth::False));
    assert_eq!((status.phase.as_str(), status.verdict.as_str()), ("Failed", "None"));
    assert_eq!(
        (reason_of(&status, ConditionType::Finished), kstatus(&status, 3)),
        ("SpecRejected", "Failed")
    );
}

#[test]
fn a_suspended_run_has_no_outcome_and_resuming_starts_afresh() {
    let mut scene = Scene::working(8);
    let running = scene.live(&BenchmarkRunStatus::default());
    scene.run.suspend = true;
    let aborting = scene.live(&running);
    assert_eq!(is(&aborting, ConditionType::Suspended), Some(Truth::True));
    let suspended = scene.over(&aborting, Outcome::Aborted, Verdict::None, &done());
    assert_eq!((suspended.phase.as_str(), is(&suspended, ConditionType::Finished)), ("Suspended", None));
    assert_eq!(
        (is(&suspended, ConditionType::Ready), kstatus(&suspended, 3)),
        (Some(Truth::False), "InProgress")
    );
    // Lifted: still marked, until the next attempt has its number.
    (scene.run.suspend, scene.run.suspended) = (false, true);
    let lifted = scene.project(&suspended, Stand::Waiting);
    assert_eq!(is(&lifted, ConditionType::Suspended), Some(Truth::True));
    (scene.run.run_attempt, scene.run.names) = (2, crate::plan::Names::default());
    let resumed = scene.project(&lifted, Stand::Waiting);
    assert_eq!((is(&resumed, ConditionType::Suspended), resumed.attempt), (Some(Truth::False), 2));
    assert_eq!((is(&resumed, ConditionType::Started), resumed.stages.len()), (None, 0));
}

#[test]
fn a_finished_run_follows_edits_and_nothing_else() {
    let mut scene = Scene::working(8);
    let running = scene.live(&BenchmarkRunStatus::default());
    let mut finished = scene.over(&running, Outcome::Succeeded, Verdict::Passed, &done());
    finished.observed_generation = 2;
    scene.run.finished = Some(Finished { at: scene.now, complete: true });
    scene.now = scene.now.saturating_add(SignedDuration::from_secs(60)).expect("in range");
    let mut after = scene.project(&finished, Stand::Finished);
    assert_eq!(after.observed_generation, 3);
    after.observed_generation = 2;
    assert_eq!(after, finished);
}

fn trouble(reason: Reason, weight: Weight) -> Trouble {
    Trouble {
        reason,
        problem: Problem::new("agent does not get started", "the cause").next("the next step"),
        weight,
    }
}

#[test]
fn the_worst_agents_are_named_and_the_others_counted() {
    let mut scene = Scene::working(100);
    let agents: &mut Vec<AgentView> = &mut scene.snapshot.view.agents;
    for agent in agents.iter_mut().take(40) {
        agent.state = AgentState::Disconnected { since_ns: 0, was: Position::Ready };
    }
    agents[70].state = AgentState::Lost(LossReason::Ended("OOMKilled".to_owned()));
    agents[80].state = AgentState::Active(Position::Expected);
    scene.troubles.insert((80, 0), trouble(Reason::ImagePullFailed, Weight::Waits));
    scene.troubles.insert((70, 0), trouble(Reason::OOMKilled, Weight::Ended));
    // Of an attempt that was replaced long ago.
    scene.troubles.insert((90, 7), trouble(Reason::Evicted, Weight::Ended));
    let status = scene.live(&BenchmarkRunStatus::default());
    assert_eq!((status.agent_problems.len(), status.details_dropped), (32, 10));
    let worst: &AgentProblem = &status.agent_problems[0];
    assert_eq!((worst.index, worst.reason.as_str(), worst.pod.as_str()), (70, "OOMKilled", "nightly-70-0"));
    assert!(worst.message.contains("the cause; next: the next step"), "{}", worst.message);
    let counts = status.agents.expect("agents");
    assert_eq!((counts.disconnected, counts.lost, counts.joined, counts.running), (40, 1, 99, 100));
}

#[test]
fn trouble_before_the_first_hello_stands_in_the_condition() {
    let mut scene = Scene::new(2);
    scene.troubles.insert((1, 0), trouble(Reason::ImagePullFailed, Weight::Waits));
    let status = scene.live(&BenchmarkRunStatus::default());
    assert_eq!(status.phase, "Preflight");
    assert_eq!(reason_of(&status, ConditionType::AgentsReady), "ImagePullFailed");
    assert!(
        status.message.contains("agent 1: ImagePullFailed: the cause; next: the next step"),
        "{}",
        status.message
    );
}

/// The object as it is stored: with its spec, both managers' fields and conditions.
fn object_bytes(status: &BenchmarkRunStatus) -> usize {
    fit::bytes(status) + fit::MANAGED_FIELDS_BYTES
}

#[test]
fn a_thousand_healthy_agents_fit_in_16_kib() {
    let scene = Scene::working(1_000);
    let running = scene.live(&BenchmarkRunStatus::default());
    let mut finished = scene.over(&running, Outcome::Succeeded, Verdict::Passed, &done());
    for stage in &mut finished.stages {
        let latency = |op: &str| LatencyStatus {
            op: op.to_owned(),
            count: 4_915_200,
            max_micros: 14_000,
            ..LatencyStatus::default()
        };
        stage.latency = ["Get", "Put", "Head", "List", "Delete"].map(latency).to_vec();
    }
    let (running, finished) = (object_bytes(&running), object_bytes(&finished));
    assert!(running < 16 * 1024 && finished < 16 * 1024, "{running} {finished}");
}

#[test]
fn what_does_not_fit_is_left_out_worst_last_and_counted() {
    let mut status = Scene::working(8).live(&BenchmarkRunStatus::default());
    let problem = |index: i64| AgentProblem {
        index,
        message: "ä".repeat(512),
        pod: "p".repeat(253),
        ..AgentProblem::default()
    };
    status.agent_problems = (0..32).map(problem).collect();
    let latency = LatencyStatus { op: "Get".to_owned(), count: 1, ..LatencyStatus::default() };
    let stage = |index: usize| StageStatus {
        name: format!("stage-{index}"),
        latency: vec![latency.clone(); 16],
        ..StageStatus::default()
    };
    status.stages = (0..32).map(stage).collect();
    let whole = fit::bytes(&status);
    assert_eq!(fit::fit(status.clone(), 0), status, "{whole} bytes fit");
    for others in [
        fit::OBJECT_BYTES_MAX - whole + 1,
        fit::OBJECT_BYTES_MAX - 64 * 1024,
        fit::OBJECT_BYTES_MAX - 16 * 1024,
    ] {
        let fitted = fit::fit(status.clone(), others);
        assert!(fit::bytes(&fitted) + others <= fit::OBJECT_BYTES_MAX, "{} of {others}", fit::bytes(&fitted));
        assert!(fitted.details_dropped > 0);
        let left = fitted.agent_problems.len();
        assert!(
            fitted.agent_problems.iter().map(|problem| problem.index).eq(0..left as i64),
            "the worst are kept"
        );
        if left > 0 {
            assert_eq!(fitted.stages.iter().map(|stage| stage.latency.len()).sum::<usize>(), 32 * 16);
        }
    }
    let nothing = fit::fit(status, fit::OBJECT_BYTES_MAX);
    assert!(nothing.agent_problems.is_empty() && nothing.stages.iter().all(|stage| stage.latency.is_empty()));
}

#[test]
fn every_field_has_one_manager_and_both_carry_the_epoch() {
    let scene = Scene::working(8);
    let running = scene.live(&BenchmarkRunStatus::default());
    let mut status = scene.over(&running, Outcome::Succeeded, Verdict::Passed, &done());
    status.agent_problems = vec![AgentProblem::default()];
    status.thresholds = vec![lockstep_api::status::ThresholdStatus::default()];
    let parts = managers::split(&status);
    let keys =
        |part: &Value| -> Vec<String> { part.as_object().expect("an object").keys().cloned().collect() };
    let (lifecycle, progress) = (keys(&parts.lifecycle), keys(&parts.progress));
    let shared: Vec<&String> = lifecycle.iter().filter(|key| progress.contains(key)).collect();
    assert_eq!(shared, ["epoch"]);
    let Ok(Value::Object(whole)) = serde_json::to_value(&status) else { panic!("an object") };
    assert!(whole.keys().all(|key| lifecycle.contains(key) || progress.contains(key)));
    assert!(LIFECYCLE.iter().all(|key| whole.contains_key(*key)), "a field that is not there: {LIFECYCLE:?}");
    let document = managers::document(&scene.run.identity, &parts.progress, "417");
    assert_eq!(
        document["metadata"],
        json!({"name": "nightly", "namespace": "perf", "resourceVersion": "417"})
    );
    assert_eq!(document["status"], parts.progress);
    assert!(progress.contains(&"stages".to_owned()) && !progress.contains(&"conditions".to_owned()));
}

#[test]
fn a_leader_that_was_replaced_writes_its_own_epoch_and_is_refused_by_it() {
    let scene = Scene::working(8);
    let newer = BenchmarkRunStatus { epoch: 9, ..BenchmarkRunStatus::default() };
    let late = managers::split(&scene.live(&newer));
    assert_eq!((&late.lifecycle["epoch"], &late.progress["epoch"]), (&json!(7), &json!(7)));
}

#[test]
fn a_status_is_one_that_its_schema_takes() {
    let schema = &lockstep_api::crd::schema()["properties"]["status"];
    let scene = Scene::working(1_000);
    let running = scene.live(&BenchmarkRunStatus::default());
    let finished = scene.over(&running, Outcome::Partial, Verdict::Failed, &done());
    for status in [running, finished] {
        let status = serde_json::to_value(&status).expect("JSON");
        check_schema(&status, schema, "status");
    }
}

/// As much of a schema as concerns a status: known members, lengths, minima.
fn check_schema(value: &Value, schema: &Value, at: &str) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let child = &schema["properties"][name];
                assert!(child.is_object(), "{at}.{name} is not in the schema");
                check_schema(member, child, &format!("{at}.{name}"));
            }
        }
        Value::Array(items) => {
            assert!(schema["maxItems"].as_u64().is_none_or(|max| items.len() as u64 <= max), "{at}");
            items.iter().for_each(|item| check_schema(item, &schema["items"], at));
        }
        Value::String(text) => {
            assert!(
                schema["maxLength"].as_u64().is_none_or(|max| text.chars().count() as u64 <= max),
                "{at}: {text}"
            );
        }
        Value::Number(number) => {
            assert!(number.is_i64(), "{at}: {number}");
            assert!(
                schema["minimum"].as_i64().is_none_or(|min| number.as_i64() >= Some(min)),
                "{at}: {number}"
            );
        }
        Value::Bool(_) | Value::Null => {}
    }
}

#[test]
fn wall_times_are_those_of_the_coordinators_clock() {
    let wall: Timestamp = "2026-11-24T10:00:10Z".parse().expect("a time");
    let clock = WallClock { wall, at_ns: 10 * SECOND_NS };
    assert_eq!(clock.time(4_500 * 1_000_000).0.to_string(), "2026-11-24T10:00:04.5Z");
    assert_eq!(clock.time(11 * SECOND_NS).0.to_string(), "2026-11-24T10:00:11Z");
}

#[test]
fn identities_are_those_of_stored_objects() {
    let (mut run, _) = testing::run(&json!({}));
    assert!(RunIdentity::of(&run).is_some());
    run.metadata.uid = None;
    assert_eq!(RunFacts::of(&run), Ok(None));
}
