//! What a run leaves for a later leader, against a real API server: who may write, what counts, what is lost when answers
//! are.

use crate::served;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use lockstep_api::BenchmarkRun;
use lockstep_coordinator::{Persisted, ResultStore};
use lockstep_core::results::part::{PartState, StagePart};
use lockstep_core::results::report::{Report, ReportInputs};
use lockstep_core::thresholds::Outcome;
use lockstep_operator::client::fenced::StoreError;
use lockstep_operator::client::memo::Memo;
use lockstep_operator::client::parts::{MayWrite, Parts};
use lockstep_operator::client::results;
use lockstep_operator::pods::build::RunIdentity;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A run that exists, so that nobody collects what it owns, and that no operator serves.
async fn run(name: &str) -> (Client, RunIdentity) {
    let cluster = served().await.cluster;
    let namespace = cluster.namespace("stores").await;
    let manifest = format!(
        "
apiVersion: lockstep.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: {name}}}
spec:
  managedBy: example.com/nobody
  agents: {{replicas: 1}}
  target: {{uri: 'null://'}}
  dataset: {{objects: 1, size: {{fixed: 4Ki}}}}
"
    );
    cluster.apply(&namespace, &manifest).await;
    let client = cluster.client().await;
    let runs: Api<BenchmarkRun> = Api::namespaced(client.clone(), &namespace);
    let run = runs.get(name).await.expect("the run");
    (client, RunIdentity::of(&run).expect("an identity"))
}

fn always() -> MayWrite {
    Arc::new(|| true)
}

async fn take(client: &Client, run: &RunIdentity, epoch: i64) -> (Parts, Vec<StagePart>) {
    Parts::take(client.clone(), run, epoch, always()).await.expect("they are taken")
}

/// A result with a series and some counts.
fn part(stage: u32, agent: u32) -> Arc<StagePart> {
    let mut part = StagePart::new(stage, agent, 0);
    part.totals.retries = u64::from(agent) + 1;
    part.created = 7;
    Arc::new(part)
}

fn lost(stage: u32, agent: u32) -> Arc<StagePart> {
    let mut part = StagePart::clone(&part(stage, agent));
    part.state =
        PartState::Lost { reason: "OOMKilled".to_owned(), unaccounted_from_ns: 0, unaccounted_to_ns: 1 };
    Arc::new(part)
}

fn seats(parts: &[StagePart]) -> Vec<(u32, u32)> {
    parts.iter().map(|part| (part.stage, part.agent)).collect()
}

/// The real API server, through a wire that fails on order.
#[derive(Clone, Default)]
struct Wire {
    /// Answers of writes that are still to be lost; the write is done.
    lose: Arc<AtomicU32>,
    /// Nothing goes through.
    down: Arc<AtomicBool>,
    writes: Arc<AtomicU32>,
}

impl Wire {
    fn client(&self, inner: &Client) -> Client {
        let (wire, inner) = (self.clone(), inner.clone());
        let serve = move |request: http::Request<Body>| {
            let (wire, inner) = (wire.clone(), inner.clone());
            async move {
                let is_write = request.method() != http::Method::GET;
                if wire.down.load(Ordering::SeqCst) {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
                }
                wire.writes.fetch_add(u32::from(is_write), Ordering::SeqCst);
                let answer = inner.send(request).await?;
                let lose = |left: u32| left.checked_sub(1);
                if is_write && wire.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lose).is_ok() {
                    return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
                }
                Ok::<_, tower::BoxError>(answer)
            }
        };
        Client::new(tower::service_fn(serve), "default")
    }
}

#[tokio::test]
async fn a_state_is_read_by_the_next_leader_and_written_by_no_earlier_one() {
    let (client, run) = run("memo").await;
    let (mut first, none) = Memo::take(client.clone(), &run, 1).await.expect("it is taken");
    assert_eq!(none, None);
    let state = |text: &str| text.repeat(100_000).into_bytes();
    first.save(state("one")).await.expect("it is saved");
    first.save(state("two")).await.expect("it is saved");

    let (mut second, saved) = Memo::take(client.clone(), &run, 2).await.expect("it is taken");
    assert_eq!(saved, Some(state("two")));
    // The first was stopped before this write, and goes on.
    let late = first.save(state("late")).await;
    assert!(matches!(late, Err(StoreError::Fenced { by: 2 })), "{late:?}");
    let late = Memo::take(client.clone(), &run, 1).await;
    assert!(matches!(late, Err(StoreError::Fenced { by: 2 })), "{late:?}");
    let late = Memo::delete(client.clone(), &run, 1).await;
    assert!(matches!(late, Err(StoreError::Fenced { by: 2 })), "{late:?}");
    second.save(state("three")).await.expect("it is saved");

    // Too large is said, and the one before stays.
    let mut noise = 1_u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (noise >> 56) as u8
    })
    .take(2 << 20)
    .collect();
    match second.save(large).await {
        Err(StoreError::Refused(problem)) => {
            assert!(problem.cause.contains("2097152") && !problem.next.is_empty(), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    // Somebody deletes it under way: the next one makes it anew.
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace);
    let name = run.state_config_map();
    maps.delete(&name, &Default::default()).await.expect("it is deleted");
    second.save(state("four")).await.expect("it is saved");
    let (_, saved) = Memo::take(client.clone(), &run, 3).await.expect("it is taken");
    assert_eq!(saved, Some(state("four")));
    let object = maps.get(&name).await.expect("the ConfigMap");
    assert_eq!(object.owner_references().first().map(|owner| owner.uid.as_str()), Some(run.uid.as_str()));
    Memo::delete(client.clone(), &run, 3).await.expect("it is deleted");
    assert!(maps.get_opt(&name).await.expect("an answer").is_none());
    Memo::delete(client, &run, 3).await.expect("there is nothing to delete");
}

#[tokio::test]
async fn a_state_of_somebody_else_is_left_as_it_is() {
    let (client, run) = run("foreign").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace);
    for name in [run.state_config_map(), run.parts_config_map()] {
        let mut foreign =
            ConfigMap { data: Some([("mine".to_owned(), "yes".to_owned())].into()), ..ConfigMap::default() };
        foreign.metadata.name = Some(name);
        maps.create(&PostParams::default(), &foreign).await.expect("it is created");
    }
    let refused = Memo::take(client.clone(), &run, 1).await.expect_err("it is another's");
    assert!(
        matches!(&refused, StoreError::Refused(problem) if problem.kept.contains("left as it is")),
        "{refused}"
    );
    let refused = Parts::take(client.clone(), &run, 1, always()).await.expect_err("it is another's");
    assert!(matches!(&refused, StoreError::Refused(_)), "{refused}");
    Memo::delete(client.clone(), &run, 9).await.expect("it is not ours to delete");
    Parts::delete(client.clone(), &run, 9).await.expect("it is not ours to delete");
    for name in [run.state_config_map(), run.parts_config_map()] {
        let data = maps.get(&name).await.expect("it stands").data.expect("data");
        assert_eq!(data.len(), 1, "{data:?}");
    }
}

#[tokio::test]
async fn a_result_counts_once_and_for_every_later_leader() {
    let (client, run) = run("counts").await;
    let (first, none) = take(&client, &run, 1).await;
    assert!(none.is_empty());
    assert_eq!(first.persist(part(1, 0)).await.expect("it is written"), Persisted::Written);
    assert_eq!(first.persist(lost(1, 1)).await.expect("it is written"), Persisted::Written);
    assert_eq!(first.persist(part(1, 0)).await.expect("it is there"), Persisted::Repeat);
    assert_eq!(first.persist(lost(1, 1)).await.expect("it is there"), Persisted::Repeat);

    let (second, found) = take(&client, &run, 2).await;
    assert_eq!(seats(&found), [(1, 0), (1, 1)]);
    // The first was stopped before it wrote this one, and its agent may not take it for handed in.
    let late = first.persist(part(1, 2)).await.expect_err("another leads");
    assert!(late.to_string().contains("epoch 2"), "{late}");
    assert!(Parts::take(client.clone(), &run, 1, always()).await.is_err());
    // The attempt that was given up comes back with what it did.
    assert_eq!(second.persist(part(1, 1)).await.expect("it is written"), Persisted::Written);
    assert_eq!(second.persist(lost(1, 1)).await.expect("it is there"), Persisted::Repeat);
    assert_eq!(second.persist(part(1, 0)).await.expect("it is there"), Persisted::Repeat);

    let (_, found) = take(&client, &run, 3).await;
    assert_eq!(seats(&found), [(1, 0), (1, 1)]);
    assert!(found.iter().all(|part| part.state == PartState::Complete), "{found:?}");
    assert!(Parts::delete(client.clone(), &run, 2).await.is_err(), "a later leader has it");
    Parts::delete(client.clone(), &run, 3).await.expect("it is deleted");
    let (_, found) = take(&client, &run, 3).await;
    assert!(found.is_empty());
}

#[tokio::test]
async fn lost_answers_and_an_absent_api_server_lose_no_result() {
    let (client, run) = run("lossy").await;
    let wire = Wire::default();
    let may_write = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&may_write);
    let (parts, _) = {
        let may_write: MayWrite = Arc::new(move || asked.load(Ordering::SeqCst));
        Parts::take(wire.client(&client), &run, 1, may_write).await.expect("they are taken")
    };
    let parts = Arc::new(parts);
    // The write is done, and nobody hears of it.
    wire.lose.store(2, Ordering::SeqCst);
    assert_eq!(parts.persist(part(0, 0)).await.expect("it is written"), Persisted::Written);
    assert_eq!(wire.lose.load(Ordering::SeqCst), 0);
    // Large enough for an object of its own, whose making is not answered either.
    wire.lose.store(1, Ordering::SeqCst);
    let mut large = StagePart::clone(&part(0, 1));
    let mut noise = 1_u64;
    for key in 0..18_000 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        large.environment.insert(
            key.to_string(),
            format!("{noise:x}{:x}{:x}", noise.rotate_left(23), noise ^ 0x5bd1_e995_5bd1_e995),
        );
    }
    let large = Arc::new(large);
    assert_eq!(parts.persist(Arc::clone(&large)).await.expect("it is written"), Persisted::Written);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace);
    assert!(maps.get_opt(&run.more_parts_config_map(0)).await.expect("an answer").is_some());
    assert!(
        maps.get_opt(&run.more_parts_config_map(1)).await.expect("an answer").is_none(),
        "it was made once"
    );

    // Away, and then not allowed to write: what was offered meanwhile waits, and is written afterwards.
    wire.down.store(true, Ordering::SeqCst);
    may_write.store(false, Ordering::SeqCst);
    let offered: Vec<_> = (2..5)
        .map(|agent| {
            let parts = Arc::clone(&parts);
            tokio::spawn(async move { parts.persist(part(0, agent)).await })
        })
        .collect();
    let elsewhere = async {
        let (before, after) = (wire.writes.load(Ordering::SeqCst), Duration::from_millis(600));
        wire.down.store(false, Ordering::SeqCst);
        tokio::time::sleep(after).await;
        assert_eq!(wire.writes.load(Ordering::SeqCst), before, "it may not write");
        may_write.store(true, Ordering::SeqCst);
    };
    elsewhere.await;
    for offered in offered {
        assert_eq!(offered.await.expect("no panic").expect("it is written"), Persisted::Written);
    }
    let (_, found) = take(&client, &run, 2).await;
    assert_eq!(seats(&found), [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);
    assert_eq!(found[1].environment, large.environment);
}

#[tokio::test]
async fn a_thousand_agents_that_end_together_are_acknowledged_with_a_handful_of_writes() {
    let (client, run) = run("thousand").await;
    let wire = Wire::default();
    let (parts, _) = Parts::take(wire.client(&client), &run, 1, always()).await.expect("they are taken");
    let parts = Arc::new(parts);
    let thousand: Vec<_> = (0..1_000).map(measured).collect();
    let (since, before) = (Instant::now(), wire.writes.load(Ordering::SeqCst));
    let offered: Vec<_> = thousand
        .iter()
        .map(|part| {
            let (parts, part) = (Arc::clone(&parts), Arc::clone(part));
            tokio::spawn(async move { parts.persist(part).await })
        })
        .collect();
    for offered in offered {
        assert_eq!(offered.await.expect("no panic").expect("it is written"), Persisted::Written);
    }
    let (took, writes) = (since.elapsed(), wire.writes.load(Ordering::SeqCst) - before);
    let since = Instant::now();
    let (_, found) = take(&client, &run, 2).await;
    println!("1,000 results written in {took:?} with {writes} writes, read back in {:?}", since.elapsed());
    assert_eq!(found.len(), 1_000);
    // Some machines are busy with everybody else's tests.
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert!(writes < 60, "{writes} writes");
    Parts::delete(client.clone(), &run, 2).await.expect("it is deleted");
    let maps: Api<ConfigMap> = Api::namespaced(client, &run.namespace);
    let left = maps.list(&Default::default()).await.expect("a list");
    let left: Vec<String> =
        left.iter().map(ResourceExt::name_any).filter(|name| name.contains("parts")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A result with histograms of a few thousand operations, another for each agent.
fn measured(agent: u32) -> Arc<StagePart> {
    use lockstep_core::op::Op;
    use lockstep_core::results::cell::Sample;
    let mut part = StagePart::new(3, agent, 0);
    let mut state = u64::from(agent) + 1;
    for at in 0..2_000_u64 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let op = if at % 4 == 0 { Op::Put } else { Op::Get };
        let end_ns = 100_000 + (state >> 40) % 3_000_000;
        let sample =
            Sample { op, size_bytes: 4_096, intended_ns: 0, start_ns: 0, first_byte_ns: None, end_ns };
        part.totals.record_ok(&sample, false, false);
    }
    for second in 0..60 {
        part.series.add(second, &part.totals, false);
    }
    Arc::new(part)
}

#[tokio::test]
async fn a_report_that_an_earlier_leader_wrote_is_the_report() {
    let (client, run) = run("report").await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace);
    let name = run.results_config_map(1);
    let first = report(&run, 1, "2026-11-28T03:00:00Z");
    let done = results::write(client.clone(), &run, &first, true).await.expect("it is written");
    // Another leader merged the same parts, at another time; what agents and people may have read stays.
    let again = results::write(client.clone(), &run, &report(&run, 1, "2026-11-28T04:00:00Z"), true).await;
    assert_eq!(again.expect("it is there"), done);
    // Of another attempt of the run: that is another report.
    let second = report(&run, 2, "2026-11-28T05:00:00Z");
    let other = results::write(client.clone(), &run, &second, true).await.expect("it is written");
    assert_ne!(other.sha256, done.sha256);
    for (attempt, report) in [(1, &first), (2, &second)] {
        let map = maps.get(&run.results_config_map(attempt)).await.expect("the report");
        let text = &map.data.expect("data")["results.json"];
        assert_eq!(serde_json::from_str::<Report>(text).expect("a report").run.finished, report.run.finished);
    }

    maps.delete(&name, &Default::default()).await.expect("it is deleted");
    let mut foreign =
        ConfigMap { data: Some([("mine".to_owned(), "yes".to_owned())].into()), ..ConfigMap::default() };
    foreign.metadata.name = Some(name.clone());
    maps.create(&PostParams::default(), &foreign).await.expect("it is created");
    let refused = results::write(client, &run, &first, false).await.expect_err("it is another's");
    assert!(refused.cause.contains("there already"), "{refused}");
    assert_eq!(maps.get(&name).await.expect("it stands").data, foreign.data);
}

fn report(run: &RunIdentity, attempt: u32, finished: &str) -> Report {
    let mut report = Report::build(ReportInputs {
        run: lockstep_core::results::report::RunFacts::default(),
        outcome: Outcome::Succeeded,
        failure_exit: 0,
        in_doubt: false,
        degraded: Vec::new(),
        thresholds: &[],
        objects_planned: None,
        stages: &[],
        timeline: Vec::new(),
        problems: Vec::new(),
    });
    (report.run.name, report.run.attempt) = (run.name.clone(), attempt);
    finished.clone_into(&mut report.run.finished);
    report
}
