//! What a lost agent costs, with real processes: outcome, exit code, reason, gap, and both ledgers, under each policy.
//!
//! Agents are ended with SIGKILL, which is how the kernel ends them for memory and how a node that goes away looks.

mod common;

use common::{
    LONG, agents, data_files, dir, kill_agent, listing, lives, report, report_in, results, wait_for_files,
};
use lockstep_core::results::{PartState, Report};
use lockstep_core::thresholds::Outcome;
use lockstep_testkit::process::{Dir, Ended, Running, signal, wait_until};
use rustix::process::Signal;

/// Objects of a prepare that lasts long enough to be interrupted.
const OBJECTS: u64 = 30_000;
/// Objects of a stage that measures.
const FEW: u64 = 1_000;

/// One kind of loss.
#[derive(Clone, Copy, Debug)]
struct Case {
    policy: &'static str,
    /// Agents that are killed, one after the other.
    killed: &'static [u32],
    outcome: Outcome,
    exit: i32,
    /// What the run says about it, on the way or at the end.
    says: &'static str,
}

const fn case(
    policy: &'static str,
    killed: &'static [u32],
    outcome: Outcome,
    exit: i32,
    says: &'static str,
) -> Case {
    Case { policy, killed, outcome, exit, says }
}

fn manifest(dir: &Dir, policy: &str, objects: u64, stages: &str) {
    let place = dir.path().join("place");
    let text = format!(
        "apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: loss}}
spec:
  seed: 7
  agents: {{replicas: 4}}
  target: {{uri: \"file://{}\"}}
  dataset: {{objects: {objects}, size: {{fixed: 1Ki}}, existing: FillGaps}}
  start: {{maxSkew: 10s}}
  failurePolicy: {{{policy}, retryDelay: 100ms}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 1}}}}
{stages}",
        place.display()
    );
    dir.write("run.yaml", text);
}

const MEASURED: &str = "    - name: mixed
      execute:
        duration: 8s
        concurrency: 1
        rate: {operationsPerSecond: 800, redistribute: true}
        operations: [{op: Get, weight: 50}, {op: Put, weight: 50, size: {fixed: 1Ki}}]
    - {name: cleanup, cleanup: {concurrency: 1}, runOn: Always}
";
const CLEANED_UP: &str = "    - {name: cleanup, cleanup: {concurrency: 1}, runOn: Always}\n";

fn start(dir: &Dir) -> Running {
    dir.command().args(["run", "-f", "run.yaml"]).start()
}

/// Kills what a case says, and waits for the end of the run. An agent that is named twice is killed twice.
fn lose(mut run: Running, killed: &[u32]) -> Ended {
    for (at, index) in killed.iter().enumerate() {
        let attempt = killed[..at].iter().filter(|before| *before == index).count() as u32;
        let pid = run.pid();
        let there = wait_until(LONG, || {
            agents(pid).iter().any(|agent| (agent.index, agent.attempt) == (*index, attempt))
                || !run.is_running()
        });
        assert!(there && run.is_running(), "attempt {attempt} of {index} never came\n{}", run.stderr());
        assert_eq!(kill_agent(pid, *index).attempt, attempt);
    }
    run.wait(LONG)
}

/// What holds for every loss: exit code, outcome, reason, and a ledger without a silent gap.
fn check(case: &Case, stage: u32, ended: &Ended, report: &Report) {
    let said = format!("{case:?}\n{}\n{}", ended.stdout, ended.stderr);
    assert_eq!((ended.code, report.outcome), (case.exit, case.outcome), "{said}");
    assert_eq!(i32::from(report.exit_code), case.exit, "{said}");
    let everything = format!("{}{}", ended.stdout, ended.stderr);
    assert!(everything.contains(case.says) && ended.stderr.contains("signal 9"), "{said}");
    let degraded = report.degraded.iter().any(|why| why.contains("signal 9"));
    assert!(degraded || report.problems.iter().any(|problem| problem.cause.contains("signal 9")), "{said}");
    for (at, index) in case.killed.iter().enumerate() {
        let attempt = case.killed[..at].iter().filter(|before| *before == index).count() as u32;
        // A second attempt that is killed before it is ready has done nothing that could be missing.
        if attempt > 0 {
            continue;
        }
        let row = report.operations.iter().find(|row| (row.agent, row.attempt) == (*index, attempt));
        let row = row.unwrap_or_else(|| panic!("agent {index} has no row in the ledger\n{said}"));
        let spans: Vec<_> = row.unaccounted.iter().filter(|span| span.stage == stage).collect();
        assert_eq!(spans.len(), 1, "{row:?}\n{said}");
        let span_ns = spans[0].to_ns.checked_sub(spans[0].from_ns).expect("a span ends after it begins");
        assert!(span_ns > 0 && span_ns < 4_000_000_000, "{row:?}\n{said}");
        assert!(spans[0].reason.contains("signal 9"), "{row:?}");
    }
    for row in report.operations.iter().filter(|row| !case.killed.contains(&row.agent)) {
        assert!(row.unaccounted.is_empty(), "an attempt that was not killed is exact: {row:?}\n{said}");
    }
    let counted: u64 = report.stages.iter().map(|stage| stage.total.count + stage.total.error_count).sum();
    let reported: u64 = report.operations.iter().map(|row| row.operations_reported).sum();
    assert_eq!(counted, reported, "{said}");
}

/// Runs a table, a few cases at a time: they mostly wait.
fn each(cases: &[Case], test: impl Fn(&Case) + Sync) {
    for group in cases.chunks(3) {
        std::thread::scope(|scope| {
            for case in group {
                let test = &test;
                scope.spawn(move || test(case));
            }
        });
    }
}

#[test]
fn a_prepare_goes_on_from_where_a_lost_agent_left_it_and_no_object_is_missing() {
    use Outcome::Succeeded;
    prepare(&[
        case("mode: FailFast, retryAttempts: 1", &[2], Succeeded, 0, "is replaced"),
        case("mode: RetryOnce", &[0], Succeeded, 0, "is replaced"),
        case("mode: ContinueIfMajority, retryAttempts: 0", &[0], Succeeded, 0, "is not replaced"),
        case("mode: ContinueIfMajority, retryAttempts: 1", &[2], Succeeded, 0, "is replaced"),
        case("mode: BestEffort, retryAttempts: 0", &[0, 1, 2], Succeeded, 0, "is not replaced"),
        case("mode: BestEffort, retryAttempts: 1", &[2], Succeeded, 0, "is replaced"),
    ]);
}

#[test]
fn a_prepare_fails_where_the_policy_gives_up() {
    use Outcome::Failed;
    prepare(&[
        case("mode: FailFast", &[2], Failed, 1, "no attempt is left"),
        case("mode: RetryOnce", &[2, 2], Failed, 1, "no attempt is left"),
        case("mode: ContinueIfMajority, retryAttempts: 0", &[1, 3], Failed, 1, "no majority"),
        case("mode: BestEffort, retryAttempts: 0, minAgents: 4", &[2], Failed, 1, "minAgents"),
    ]);
}

fn prepare(table: &[Case]) {
    each(table, |case| {
        let dir = dir();
        let place = dir.path().join("place");
        manifest(&dir, case.policy, OBJECTS, "");
        let mut run = start(&dir);
        wait_for_files(&mut run, &place, 1_000);
        let ended = lose(run, case.killed);
        println!("{case:?}: {:?}", ended.took);
        let report = report(&dir);
        check(case, 1, &ended, &report);
        let ledger = report.dataset.as_ref().expect("a data set was prepared");
        assert_eq!(ledger.planned, OBJECTS);
        if case.outcome == Outcome::Succeeded {
            assert_eq!((ledger.done, &ledger.done_ranges), (OBJECTS, &vec![(0, OBJECTS)]), "{case:?}");
            assert_eq!(data_files(&place), OBJECTS, "{case:?}");
        } else {
            assert!(ledger.done <= data_files(&place), "{case:?}: {ledger:?}");
        }
    });
}

#[test]
fn a_prepare_that_fails_is_cleaned_up_when_asked() {
    let case = case("mode: FailFast", &[2], Outcome::Failed, 1, "no attempt is left");
    let dir = dir();
    manifest(&dir, case.policy, OBJECTS, CLEANED_UP);
    let mut run = start(&dir);
    wait_for_files(&mut run, &dir.path().join("place"), 1_000);
    let ended = lose(run, case.killed);
    check(&case, 1, &ended, &report(&dir));
    assert!(!dir.path().join("place").exists(), "{:?}", listing(&dir.path().join("place")).keys());
}

/// Where each agent has a data set of its own, others finish, and remove, that of one that is gone for good.
#[test]
fn a_data_set_of_an_agent_that_is_gone_is_finished_and_removed_by_others() {
    let lost = case("mode: BestEffort, retryAttempts: 0", &[0], Outcome::Partial, 2, "is not replaced");
    for (objects, files, stage) in [(15_000, 2_000, 1), (FEW, 4 * FEW + 600, 2)] {
        let dir = dir();
        let place = dir.path().join("place");
        manifest(&dir, lost.policy, objects, MEASURED);
        let text = dir.read("run.yaml");
        let own = text.replace("existing: FillGaps", "sharing: PerAgent");
        assert_ne!(text, own);
        dir.write("run.yaml", own);
        let mut run = start(&dir);
        wait_for_files(&mut run, &place, files);
        let ended = lose(run, lost.killed);
        let report = report(&dir);
        check(&lost, stage, &ended, &report);
        let ledger = report.dataset.as_ref().expect("a data set was prepared");
        assert_eq!((ledger.planned, ledger.done), (4 * objects, 4 * objects), "{ledger:?}");
        assert!(!place.exists(), "{:?}", listing(&place).keys().take(9).collect::<Vec<_>>());
    }
}

#[test]
fn an_agent_lost_while_measuring_is_a_gap_that_is_shown_and_cleanup_leaves_nothing() {
    use Outcome::{Failed, Partial};
    let table = [
        case("mode: FailFast", &[2], Failed, 1, "no attempt is left"),
        case("mode: RetryOnce", &[2], Partial, 2, "is replaced"),
        case("mode: RetryOnce", &[2, 2], Failed, 1, "no attempt is left"),
        case("mode: ContinueIfMajority, retryAttempts: 0", &[0], Partial, 2, "is not replaced"),
        case("mode: ContinueIfMajority, retryAttempts: 1", &[0], Partial, 2, "is replaced"),
        case("mode: ContinueIfMajority, retryAttempts: 0", &[1, 3], Failed, 1, "no majority"),
        case("mode: BestEffort, retryAttempts: 0", &[0, 1, 2], Partial, 2, "is not replaced"),
        case("mode: BestEffort, retryAttempts: 1", &[3], Partial, 2, "is replaced"),
    ];
    each(&table, |case| {
        let dir = dir();
        let place = dir.path().join("place");
        manifest(&dir, case.policy, FEW, MEASURED);
        let mut run = start(&dir);
        // 400 puts a second: by then every agent has reported at least one second.
        wait_for_files(&mut run, &place, FEW + 600);
        let ended = lose(run, case.killed);
        let report = report(&dir);
        check(case, 2, &ended, &report);
        let ledger = report.dataset.as_ref().expect("a data set was prepared");
        assert_eq!((ledger.done, ledger.created), (FEW, FEW), "{case:?}");
        let stage = &report.stages[2];
        for index in case.killed {
            let row = stage.agents.iter().find(|row| (row.agent, row.attempt) == (*index, 0));
            let row = row.unwrap_or_else(|| panic!("{case:?}: agent {index} is missing in the stage"));
            assert!(matches!(row.state, PartState::Lost { .. }) && row.count > 0, "{case:?}: {row:?}");
        }
        let replaced = stage.agents.iter().filter(|row| row.attempt > 0 && row.count > 0).count();
        let wanted = usize::from(case.outcome == Partial && case.says == "is replaced");
        assert_eq!(replaced, wanted, "{case:?}: {:?}", stage.agents);
        let left = listing(&place);
        assert!(
            !place.exists(),
            "{case:?}: {} files, {:?}",
            left.len(),
            left.keys().take(9).collect::<Vec<_>>()
        );
    });
}

#[test]
fn everything_killed_halfway_is_taken_up_again_and_only_what_is_missing_is_written() {
    let dir = dir();
    let place = dir.path().join("place");
    manifest(&dir, "mode: ContinueIfMajority", OBJECTS, "");
    let mut run = start(&dir);
    wait_for_files(&mut run, &place, OBJECTS / 2);
    let killed = agents(run.pid());
    assert_eq!(killed.len(), 4);
    run.signal(Signal::KILL);
    killed.iter().for_each(|agent| signal(agent.pid, Signal::KILL));
    assert_eq!(run.wait(LONG).code, 128 + 9);
    assert!(wait_until(LONG, || killed.iter().all(|agent| !lives(agent.pid))));
    let there = data_files(&place);
    assert!((OBJECTS / 2..OBJECTS).contains(&there), "{there} files");

    let ended = start(&dir).wait(LONG);
    ended.expect_code(0);
    let runs = results(&dir);
    assert_eq!(runs.len(), 2, "{runs:?}");
    let newer = runs
        .iter()
        .map(|path| (path, std::fs::metadata(path.join("results.json"))))
        .filter(|(_, at)| at.is_ok());
    let reports: Vec<Report> = newer.map(|(path, _)| report_in(path)).collect();
    let report = reports.iter().find(|report| report.outcome == Outcome::Succeeded).expect("a second run");
    let ledger = report.dataset.as_ref().expect("a data set was prepared");
    // A file that was being written counts as missing; each agent had one worker.
    assert!(ledger.existed <= there && ledger.existed + 4 >= there, "{there} files, {ledger:?}");
    assert_eq!((ledger.done, ledger.created + ledger.existed), (OBJECTS, OBJECTS), "{ledger:?}");
    assert_eq!(data_files(&place), OBJECTS);
    assert!(ended.stdout.contains("were there already"), "{}", ended.stdout);
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert!(said.contains("taken over from run"), "{said}");
}
