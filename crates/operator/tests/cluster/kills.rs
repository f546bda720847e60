//! The operator is killed between any two of submit, merge, write, acknowledge and status, at instants that the API server
//! gives: a write of its is received, and its writer killed before it is done, or after it is done and before the writer
//! hears of it. Each time the other replica goes on, and in the end everything was done once and counted once.

use crate::finished;
use crate::gate::{Gate, Held, Write};
use crate::takeover::{Installed, at, epoch};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use lockstep_api::BenchmarkRun;
use lockstep_testcluster::{LIMIT, eventually};
use lockstep_testkit::s3::Fault;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What becomes of the write that its writer does not survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was received, and is not done.
    Lost,
    /// It is done, and nobody was told.
    Done,
}

/// One who is killed, and when.
struct Step {
    what: &'static str,
    fate: Fate,
    is: fn(&Write) -> bool,
}

const fn step(what: &'static str, fate: Fate, is: fn(&Write) -> bool) -> Step {
    Step { what, fate, is }
}

/// At the end of a stage.
const STAGE: [Step; 6] = [
    step("merge | write", Fate::Lost, keeps_parts),
    step("write | acknowledge", Fate::Done, keeps_parts),
    step("acknowledge | record", Fate::Lost, keeps_record),
    step("record | act", Fate::Done, keeps_record),
    step("acknowledge | status", Fate::Lost, tells_prepared),
    step("status | on", Fate::Done, tells_prepared),
];

/// Where seconds are counted, and when all is over.
const END: [Step; 6] = [
    step("measured: merge | write", Fate::Lost, keeps_parts),
    step("measured: write | acknowledge", Fate::Done, keeps_parts),
    step("over | report", Fate::Lost, is_report),
    step("report | status", Fate::Done, is_report),
    step("report | finished", Fate::Lost, tells_finished),
    step("finished | on", Fate::Done, tells_finished),
];

/// A run whose leaders are killed.
struct Hunted {
    installed: Installed<'static>,
    gate: Gate,
    runs: Api<BenchmarkRun>,
    /// Leaders that were killed.
    dead: Vec<String>,
}

impl Hunted {
    /// Holds the next write of a leader that lives.
    fn trap(&self, is: impl Fn(&Write) -> bool + Send + 'static) -> oneshot::Receiver<Held> {
        let dead = self.dead.clone();
        self.gate.trap(move |write| !write.pod.is_empty() && !dead.contains(&write.pod) && is(write))
    }

    async fn caught(&self, what: &str, trap: oneshot::Receiver<Held>) -> Held {
        match tokio::time::timeout(LIMIT, trap).await {
            Ok(held) => held.expect("the gate stands"),
            Err(_) => {
                let run = self.runs.get("a").await.map(|run| run.status);
                panic!("{what}: never written: {run:#?}\n{}", self.installed.logs().await)
            }
        }
    }

    /// The leader is killed when it has a result of an agent in its hands, and before it writes it if the machine is not too
    /// slow for that; answers whether it was, and the trap for what its successor does next.
    async fn killed_with_a_result(
        &mut self,
        what: &str,
        next: fn(&Write) -> bool,
    ) -> (bool, oneshot::Receiver<Held>) {
        let leader = self.installed.leader().await;
        let (before, by) = (came(&self.installed, &leader), leader.clone());
        let mut wrote = self.gate.trap(move |write| write.pod == by && keeps(write, "-parts"));
        eventually("handed in", || came(&self.installed, &leader) > before).await;
        self.installed.signal(&leader, Signal::KILL);
        self.dead.push(leader.clone());
        let trap = self.trap(next);
        self.succeeded(what, &leader).await;
        let held = wrote.try_recv().map(Held::deny);
        (held.is_err(), trap)
    }

    /// Leaders are killed one after the other, each at its next write that is such.
    async fn killed_at(&mut self, mut trap: oneshot::Receiver<Held>, steps: &[Step]) {
        for (at, Step { what, fate, is: _ }) in steps.iter().enumerate() {
            let held = self.caught(what, trap).await;
            let (leader, name, resource) =
                (held.write.pod.clone(), held.write.name.clone(), held.write.resource.clone());
            let before = held.write.version().map(str::to_owned);
            // Before anybody else can write it.
            self.dead.push(leader.clone());
            let next = steps.get(at + 1).map(|step| self.trap(step.is));
            match fate {
                Fate::Lost => {
                    self.installed.signal(&leader, Signal::KILL);
                    held.deny();
                    assert_eq!(self.version(&resource, &name).await, before, "{what}: it was not done");
                }
                Fate::Done => {
                    // Whoever is stopped hears of nothing, and does not hang up either.
                    self.installed.signal(&leader, Signal::STOP);
                    held.let_through();
                    let end = Instant::now() + LIMIT;
                    while self.version(&resource, &name).await == before {
                        assert!(Instant::now() < end, "{what}: it is never done");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    self.installed.signal(&leader, Signal::KILL);
                }
            }
            self.succeeded(what, &leader).await;
            let Some(next) = next else { return };
            trap = next;
        }
    }

    /// resourceVersion of what was to be written.
    async fn version(&self, resource: &str, name: &str) -> Option<String> {
        if resource == "configmaps" {
            let client = self.installed.cluster.client().await;
            let maps: Api<ConfigMap> = Api::namespaced(client, &self.installed.namespace);
            return maps.get_opt(name).await.expect("an answer").and_then(|map| map.resource_version());
        }
        self.runs.get_opt(name).await.expect("an answer").and_then(|run| run.resource_version())
    }

    /// Another one leads. What a dead leader holds is let go in its place: `takeover` waits for it to run out.
    async fn succeeded(&self, what: &str, leader: &str) {
        let began = Instant::now();
        let client = self.installed.cluster.client().await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.installed.home);
        pods.delete(leader, &DeleteParams::default().grace_period(0)).await.expect("its pod goes");
        let leases: Api<Lease> = Api::namespaced(client, &self.installed.home);
        let free = Patch::Merge(json!({"spec": {"holderIdentity": ""}}));
        leases.patch("lockstep", &PatchParams::default(), &free).await.expect("the Lease is let go");
        let next = self.installed.leader().await;
        assert_ne!(next, leader);
        eprintln!("{what}: {leader} killed, {next} leads after {:?}", began.elapsed());
    }
}

/// Whether what is kept in a ConfigMap of this kind changes; who takes it over only writes whose it is.
fn keeps(write: &Write, kind: &str) -> bool {
    let is_it = write.resource == "configmaps" && write.name.ends_with(kind);
    is_it && !write.old.is_null() && write.object["binaryData"] != write.old["binaryData"]
}

fn keeps_parts(write: &Write) -> bool {
    keeps(write, "-parts")
}

fn keeps_record(write: &Write) -> bool {
    keeps(write, "-state")
}

fn is_report(write: &Write) -> bool {
    write.resource == "configmaps" && write.name.ends_with("-results")
}

/// Whether a status says for the first time that the first stage is done.
fn tells_prepared(write: &Write) -> bool {
    let is_done = |run: &Value| {
        let stages = run["status"]["stages"].as_array().into_iter().flatten();
        stages.filter(|row| row["name"] == "prepare").any(|row| row["state"] == "Done")
    };
    write.resource == "benchmarkruns/status" && is_done(&write.object) && !is_done(&write.old)
}

/// Whether a status says for the first time that the run is finished.
fn tells_finished(write: &Write) -> bool {
    let is_finished = |run: &Value| {
        let conditions = run["status"]["conditions"].as_array().into_iter().flatten();
        conditions.filter(|one| one["type"] == "Finished").any(|one| one["status"] == "True")
    };
    write.resource == "benchmarkruns/status" && is_finished(&write.object) && !is_finished(&write.old)
}

/// Results that came to a leader so far.
fn came(installed: &Installed<'_>, leader: &str) -> usize {
    installed.node.logs(&installed.home, leader, "operator").matches("a result has come").count()
}

#[tokio::test]
async fn an_operator_killed_between_any_two_of_its_steps_loses_and_doubles_nothing() {
    let installed = Installed::with_log(2, "info,lockstep_coordinator=debug").await;
    let gate = Gate::before(installed.cluster, &installed.namespace).await;
    // Progress is written every two seconds: until it shows the stage, the stage lasts, on however fast a machine.
    let slow = installed.server.fault(Fault::delay(Duration::from_millis(50)).verb("PUT"));
    let runs = installed.apply("a", 600, 8).await;
    let mut hunted = Hunted { installed, gate, runs, dead: Vec::new() };
    let began = Instant::now();
    let run = hunted.installed.until(&hunted.runs, "a", "preparing", |run| at(run, "prepare")).await;
    let first = epoch(&run);
    slow.release();

    // What was submitted first waits a moment for what comes with it: that long it is not merged.
    let (in_time, trap) = hunted.killed_with_a_result("submit | merge", STAGE[0].is).await;
    hunted.killed_at(trap, &STAGE).await;
    hunted.installed.until(&hunted.runs, "a", "measuring", |run| at(run, "mixed")).await;
    let (again, trap) = hunted.killed_with_a_result("measured: submit | merge", END[0].is).await;
    assert!(in_time || again, "a result is always merged before its leader can be killed");
    hunted.killed_at(trap, &END).await;

    let run = hunted.installed.until(&hunted.runs, "a", "finished", |run| finished(Some(run))).await;
    let report = hunted.installed.checked_report(&run).await;
    assert!(report.timeline.iter().any(|event| event.what == "CoordinatorChanged"), "{:?}", report.timeline);
    let killed = i64::try_from(hunted.dead.len()).expect("few");
    assert!(epoch(&run) >= first + killed - 1, "epoch {first}, {killed} killed, then {}", epoch(&run));
    eprintln!("{killed} leaders killed in {:?}", began.elapsed());
    hunted.gate.remove().await;
    hunted.installed.remove().await;
}
