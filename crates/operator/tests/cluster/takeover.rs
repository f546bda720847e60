//! The operator is lost: killed in each phase, replaced by its other replica, stopped and continued. Runs go on from where
//! they were, nothing is done twice, and what the report counts is what the storage server counted.

use crate::space::create_keys;
use crate::{CHART, finished, image, report, served, truth};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use lockstep_api::BenchmarkRun;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_core::op::Op;
use lockstep_core::results::Report;
use lockstep_testcluster::{ControlPlane, LIMIT, Node, NodeOptions, eventually};
use lockstep_testkit::counts;
use lockstep_testkit::s3::TestS3;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// How long agents may take to be in hand once there is a leader; more than the goal of 5 s, since this machine is busy.
const IN_HAND: Duration = Duration::from_secs(15);

/// An installation of its own, beside the one that other tests use.
pub(crate) struct Installed<'a> {
    pub(crate) cluster: &'a ControlPlane,
    pub(crate) node: &'a Node<'a>,
    pub(crate) home: String,
    pub(crate) namespace: String,
    managed_by: String,
    pub(crate) server: TestS3,
}

impl<'a> Installed<'a> {
    pub(crate) async fn with(replicas: u32) -> Installed<'static> {
        Installed::with_log(replicas, "info").await
    }

    /// The same, with a filter of the operator's log.
    pub(crate) async fn with_log(replicas: u32, log: &str) -> Installed<'static> {
        let served = served().await;
        // A comma would be another value.
        let log = format!("operator.log={}", log.replace(',', "\\,"));
        Installed::on(served.cluster, &served.node, replicas, &["crds.install=false", &log]).await
    }

    pub(crate) async fn on(
        cluster: &'a ControlPlane,
        node: &'a Node<'a>,
        replicas: u32,
        values: &[&str],
    ) -> Self {
        let home = cluster.namespace("system").await;
        let managed_by = format!("lockstep.dev/{home}");
        let (replicas, by) = (format!("replicas={replicas}"), format!("operator.managedBy={managed_by}"));
        let install = ["install", "lockstep", CHART, "-n", &home, "--set", "image.tag=test", "--wait"];
        let values = values.iter().copied().chain([replicas.as_str(), &by]);
        let more: Vec<&str> = values.flat_map(|value| ["--set", value]).collect();
        cluster.helm(&[&install[..], &more].concat()).await.expect_code(0);
        let namespace = cluster.namespace("perf").await;
        create_keys(cluster.client().await, &namespace).await;
        Self { cluster, node, home, namespace, managed_by, server: TestS3::start() }
    }

    /// A run that prepares for some seconds, measures, and cleans up; `rate` bounds what the storage server is asked.
    fn manifest(&self, name: &str, objects: u32, seconds: u32) -> String {
        let (endpoint, managed_by) = (self.server.endpoint(), &self.managed_by);
        format!(
            "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  managedBy: {managed_by}
  agents: {{replicas: 3}}
  target: {{uri: 's3://bench/{name}', endpoints: ['{endpoint}'], credentials: {{secretName: keys}}}}
  dataset: {{objects: {objects}, size: {{fixed: 1Ki}}}}
  start: {{maxSkew: 10s}}
  stages:
    - {{name: prepare, prepare: {{concurrency: 1}}}}
    - name: mixed
      execute:
        duration: {seconds}s
        concurrency: 2
        rate: {{operationsPerSecond: 150}}
        operations: [{{op: Get, weight: 3}}, {{op: Put, size: {{fixed: 1Ki}}}}]
    - {{name: cleanup, cleanup: {{concurrency: 1}}, runOn: Always}}
"
        )
    }

    pub(crate) async fn apply(&self, name: &str, objects: u32, seconds: u32) -> Api<BenchmarkRun> {
        self.cluster.apply(&self.namespace, &self.manifest(name, objects, seconds)).await;
        Api::namespaced(self.cluster.client().await, &self.namespace)
    }

    /// The pods of the operator.
    pub(crate) async fn replicas(&self) -> Vec<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client().await, &self.home);
        let pods = pods.list(&ListParams::default()).await.expect("the operator's pods");
        pods.iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(ResourceExt::name_any)
            .collect()
    }

    pub(crate) async fn lease(&self) -> Lease {
        let leases: Api<Lease> = Api::namespaced(self.cluster.client().await, &self.home);
        leases.get("lockstep").await.expect("the Lease")
    }

    /// The pod that leads.
    pub(crate) async fn leader(&self) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let holder = self.lease().await.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            if let Some((pod, _)) = holder.split_once('_') {
                return pod.to_owned();
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn signal(&self, pod: &str, signal: Signal) {
        for process in self.node.processes(&format!("{}/{pod}", self.home), "operator") {
            let pid = Pid::from_raw(process.cast_signed()).expect("a process id");
            kill_process(pid, signal).expect("the operator's process is there");
        }
    }

    /// Kills every replica at once, and its pod with it: a container that is killed again and again is started later and
    /// later.
    pub(crate) async fn kill_all(&self) {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client().await, &self.home);
        for pod in self.replicas().await {
            self.signal(&pod, Signal::KILL);
            pods.delete(&pod, &DeleteParams::default().grace_period(0)).await.expect("its pod goes");
        }
    }

    pub(crate) async fn until(
        &self,
        runs: &Api<BenchmarkRun>,
        name: &str,
        what: &str,
        is: impl Fn(&BenchmarkRun) -> bool + Send,
    ) -> BenchmarkRun {
        let condition = move |run: Option<&BenchmarkRun>| run.is_some_and(&is);
        match tokio::time::timeout(LIMIT, await_condition(runs.clone(), name, condition)).await {
            Ok(Ok(Some(run))) => run,
            other => {
                let run = runs.get(name).await.map(|run| run.status);
                panic!("{name} is not {what}: {other:?}\n{run:#?}\n{}", self.logs().await)
            }
        }
    }

    pub(crate) async fn logs(&self) -> String {
        self.logs_of(&self.replicas().await)
    }

    /// The logs of these pods of the operator, and of all agents; whether or not there is an API server.
    fn logs_of(&self, replicas: &[String]) -> String {
        let mut all = String::new();
        for pod in replicas {
            all += &format!("--- {pod}\n{}", self.node.logs(&self.home, pod, "operator"));
        }
        for index in 0..3 {
            for pod in ["a", "b"].map(|name| format!("{name}-{index}-0")) {
                all += &format!("--- {pod}\n{}", self.node.logs(&self.namespace, &pod, "agent"));
            }
        }
        all
    }

    /// The report of a finished run, held against the storage server.
    pub(crate) async fn checked_report(&self, run: &BenchmarkRun) -> Report {
        let status = run.status.as_ref().expect("a status");
        let said = format!("{status:#?}");
        assert_eq!(status.phase, "Succeeded", "{said}\n{}", self.logs().await);
        assert_eq!(truth(run, ConditionType::Complete), Some(Truth::True), "{said}");
        assert_eq!(
            status.agents.as_ref().map(|agents| (agents.lost, agents.replaced)),
            Some((0, 0)),
            "{said}"
        );
        let report = report(&self.cluster.client().await, run).await;
        counts::assert_served(&report, &self.server, &[Op::Get, Op::Put, Op::Delete]);
        for stage in report.stages.iter().filter(|stage| stage.kind != "preflight") {
            assert_eq!(stage.agents_complete, 3, "{}: {:?}", stage.name, stage.agents);
            assert_eq!(stage.repeated_operations, 0, "{}", stage.name);
        }
        // No second of the window is without operations.
        let mixed = report.stages.iter().find(|stage| stage.name == "mixed").expect("a stage");
        let seconds: Vec<u32> = mixed.series.iter().map(|row| row.second).collect();
        let window_s = u32::try_from(mixed.window_ns / 1_000_000_000).expect("seconds");
        let idle: Vec<u32> = (0..window_s).filter(|second| !seconds.contains(second)).collect();
        assert!(idle.is_empty(), "nothing was done in seconds {idle:?} of {window_s}");
        report
    }

    pub(crate) async fn remove(self) {
        let runs: Api<BenchmarkRun> = Api::namespaced(self.cluster.client().await, &self.namespace);
        for run in runs.list(&ListParams::default()).await.expect("the runs") {
            runs.delete(&run.name_any(), &DeleteParams::default()).await.expect("it goes");
            lockstep_testcluster::until_gone(&runs, &run.name_any()).await;
        }
        self.cluster.helm(&["uninstall", "lockstep", "-n", &self.home]).await.expect_code(0);
    }
}

pub(crate) fn at(run: &BenchmarkRun, stage: &str) -> bool {
    let progress = run.status.as_ref().and_then(|status| status.progress.as_ref());
    progress.is_some_and(|progress| progress.stage == stage && progress.done > 0)
}

pub(crate) fn epoch(run: &BenchmarkRun) -> i64 {
    run.status.as_ref().map_or(0, |status| status.epoch)
}

/// Agents that the leader of this epoch hears.
pub(crate) fn heard(run: &BenchmarkRun) -> i64 {
    run.status.as_ref().and_then(|status| status.agents.as_ref()).map_or(0, |agents| agents.heard)
}

/// One replica, killed in prepare and in the measured stage of one run; the Lease of the dead one has to run out each time.
#[tokio::test]
async fn an_operator_killed_in_each_phase_goes_on_from_where_it_was() {
    let installed = Installed::with(1).await;
    let runs = installed.apply("a", 4_000, 16).await;
    let mut last = 0;
    for stage in ["prepare", "mixed"] {
        let run = installed.until(&runs, "a", stage, |run| at(run, stage) && epoch(run) >= last).await;
        last = epoch(&run);
        installed.kill_all().await;
        let again = Instant::now();
        let next = last;
        let back = installed.until(&runs, "a", "in hand again", move |run| {
            finished(Some(run)) || (epoch(run) > next && heard(run) == 3)
        });
        let run = back.await;
        assert!(epoch(&run) > last || finished(Some(&run)), "{stage}");
        eprintln!(
            "{stage}: in hand {:?} after the kill, a new pod and the Lease's time included",
            again.elapsed()
        );
        last = epoch(&run);
    }
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    let report = installed.checked_report(&run).await;
    assert!(report.timeline.iter().any(|event| event.what == "CoordinatorChanged"), "{:?}", report.timeline);
    assert_eq!(truth(&run, ConditionType::Degraded), Some(Truth::True));
    installed.remove().await;
}

/// Two replicas: the one that leads is killed, and then the next is asked to end. Agents are in session with both.
#[tokio::test]
async fn the_other_replica_goes_on_when_the_leader_is_killed_or_asked_to_end() {
    let installed = Installed::with(2).await;
    let runs = installed.apply("a", 300, 25).await;
    let run = installed.until(&runs, "a", "measuring", |run| at(run, "mixed")).await;
    let (first, before) = (installed.leader().await, epoch(&run));
    installed.signal(&first, Signal::KILL);
    let began = Instant::now();
    let run = installed.until(&runs, "a", "in hand", move |run| epoch(run) > before && heard(run) == 3).await;
    let (second, between) = (installed.leader().await, epoch(&run));
    eprintln!("killed: in hand after {:?}, the Lease's time included", began.elapsed());

    // Asked to end, it hands over at once.
    let began = Instant::now();
    installed.signal(&second, Signal::TERM);
    let run =
        installed.until(&runs, "a", "handed over", move |run| epoch(run) > between && heard(run) == 3).await;
    let took = began.elapsed();
    eprintln!("asked to end: in hand after {took:?}");
    // Less than a Lease lasts: it was let go, not waited out.
    assert!(took < Duration::from_secs(8), "a hand-over took {took:?}");
    assert!(epoch(&run) > between);
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    let report = installed.checked_report(&run).await;
    for row in report.stages.iter().flat_map(|stage| &stage.agents) {
        assert!(row.network.reconnects <= 4, "agent {} dialled {} times", row.agent, row.network.reconnects);
    }
    installed.remove().await;
}

/// A rolling restart that does not end: whoever leads has to go, every few seconds and each time at another instant of the
/// run, ends of stages among them. Everything is done once and counted once.
#[tokio::test]
async fn a_run_survives_being_handed_over_again_and_again() {
    let installed = Installed::with(2).await;
    let runs = installed.apply("a", 2_500, 20).await;
    let pods: Api<Pod> = Api::namespaced(installed.cluster.client().await, &installed.home);
    let (mut handed_over, mut last) = (0, String::new());
    while !runs.get("a").await.is_ok_and(|run| finished(Some(&run))) {
        let leader = installed.leader().await;
        if leader != last {
            // One that is going already is gone.
            let _ = pods.delete(&leader, &DeleteParams::default()).await;
            (handed_over, last) = (handed_over + 1, leader);
        }
        tokio::time::sleep(Duration::from_millis(2_000 + 370 * (handed_over % 5))).await;
        assert!(handed_over < 100, "the run does not end:\n{}", installed.logs().await);
    }
    let run = runs.get("a").await.expect("the run");
    installed.checked_report(&run).await;
    eprintln!("handed over {handed_over} times, epoch {}", epoch(&run));
    assert!(handed_over >= 5 && epoch(&run) >= 5, "{handed_over} times, epoch {}", epoch(&run));
    installed.remove().await;
}

/// The leader is stopped with a run in hand, replaced, and goes on: no status of it lands, and no pod of it appears.
#[tokio::test]
async fn a_leader_that_was_stopped_writes_nothing_when_it_goes_on() {
    let installed = Installed::with(2).await;
    let runs = installed.apply("a", 300, 25).await;
    let run = installed.until(&runs, "a", "measuring", |run| at(run, "mixed")).await;
    let (stopped, before) = (installed.leader().await, epoch(&run));
    installed.signal(&stopped, Signal::STOP);
    let run =
        installed.until(&runs, "a", "taken over", move |run| epoch(run) > before && heard(run) == 3).await;
    let now = epoch(&run);
    installed.signal(&stopped, Signal::CONT);
    // It finds out, and contends again.
    let logs = || installed.node.logs(&installed.home, &stopped, "operator");
    eventually("the old leader stands down", || logs().contains("leads no more")).await;
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    assert_eq!(epoch(&run), now, "the epoch of the second leader stands");
    installed.checked_report(&run).await;
    let pods: Api<Pod> = Api::namespaced(installed.cluster.client().await, &installed.namespace);
    for pod in pods.list(&ListParams::default()).await.expect("pods").iter().map(ResourceExt::name_any) {
        assert!(pod.ends_with("-0"), "{pod} was made, and nothing had been lost");
    }
    installed.remove().await;
}

/// The API server is gone for longer than the Lease lasts. The run goes on, and its status is current soon after.
/// `LOCKSTEP_TEST_OUTAGE_S` makes it longer; then etcd is compacted meanwhile, so that no watch can be taken up again.
#[tokio::test]
async fn a_run_goes_on_while_the_api_server_is_gone() {
    let asked = std::env::var("LOCKSTEP_TEST_OUTAGE_S").ok().and_then(|text| text.parse().ok());
    let outage_s: u32 = asked.unwrap_or(12);
    let cluster = ControlPlane::start().await;
    let node = cluster.node(NodeOptions::named("node-0").image("lockstep:test", image())).await;
    let installed = Installed::on(&cluster, &node, 1, &["crds.install=true"]).await;
    let runs = installed.apply("a", 300, outage_s + 25).await;
    let run = installed.until(&runs, "a", "measuring", |run| at(run, "mixed")).await;
    let before = epoch(&run);
    let replicas = installed.replicas().await;
    cluster.stop_api_server();
    let (gone, asked_before) = (Instant::now(), installed.server.data("GET"));
    if asked.is_some() {
        cluster.compact_etcd();
    }
    let outage = Duration::from_secs(outage_s.into());
    while gone.elapsed() < outage {
        let done = installed.server.data("GET");
        tokio::time::sleep(Duration::from_secs(3).min(outage)).await;
        if installed.server.data("GET") == done {
            panic!(
                "the agents stand still {:?} after it went\n{}",
                gone.elapsed(),
                installed.logs_of(&replicas)
            );
        }
    }
    assert!(installed.server.data("GET") > asked_before);
    let returns = jiff::Timestamp::now();
    cluster.start_api_server().await;
    let back = Instant::now();
    let current = move |run: &BenchmarkRun| {
        let progress = run.status.as_ref().and_then(|status| status.progress.as_ref());
        let updated = progress.and_then(|progress| progress.last_update_time.clone());
        updated.is_some_and(|time| time.0 > returns)
    };
    let run = installed.until(&runs, "a", "current", current).await;
    let took = back.elapsed();
    eprintln!("after {outage_s} s: status is current {took:?} after the API server answered");
    assert!(took < 2 * IN_HAND, "status was stale for {took:?}\n{}", installed.logs().await);
    assert_eq!(epoch(&run), before, "nobody else led meanwhile");
    let run = installed.until(&runs, "a", "finished", |run| finished(Some(run))).await;
    let report = installed.checked_report(&run).await;
    assert!(report.timeline.iter().all(|event| event.what != "Disconnected"), "{:?}", report.timeline);
}
