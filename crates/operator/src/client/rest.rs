//! Finished runs for which nothing is left to do. There may be ten thousand of them, and each costs no more than its entry in
//! the store: no desk looks after it until it is edited, deleted, or its time is over.
//!
//! What may follow an end (pods that go, a finalizer, the generation of an edit) is the desk's, which closes only then.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::{BenchmarkRun, labels};
use std::collections::BTreeMap;

/// The annotation in which kubectl keeps what was applied: as large as the run itself, and nobody here reads it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether anything is left to do for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// There is, or may be.
    Works,
    /// Nothing, until this instant, when `ttlAfterFinished` is over; `None` is for ever.
    Rests(Option<Timestamp>),
}

fn is_finished(run: &BenchmarkRun) -> bool {
    let conditions = run.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::truth(conditions, ConditionType::Finished) == Some(Truth::True)
}

/// Whether a run of which no pod is known rests now; if so, until when.
#[must_use]
pub fn at(run: &BenchmarkRun, now: Timestamp) -> Rest {
    match of(run) {
        Rest::Rests(Some(until)) if until <= now => Rest::Works,
        rest => rest,
    }
}

/// Whether a run may hold anything that another one wants, or want it: to be asked of ten thousand runs in no time.
#[must_use]
pub fn is_in_the_way(run: &BenchmarkRun) -> bool {
    has_finalizer(run) || !(run.spec.suspend || is_finished(run))
}

fn has_finalizer(run: &BenchmarkRun) -> bool {
    run.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == labels::FINALIZER)
}

fn of(run: &BenchmarkRun) -> Rest {
    let Some(status) = run.status.as_ref().filter(|_| is_finished(run)) else { return Rest::Works };
    let edited = run.metadata.generation.is_some_and(|generation| generation != status.observed_generation);
    if has_finalizer(run) || edited || run.metadata.deletion_timestamp.is_some() {
        return Rest::Works;
    }
    let Some(ttl) = run.spec.ttl_after_finished else { return Rest::Rests(None) };
    let ttl = SignedDuration::try_from(ttl.0).ok();
    let ended = status.completion_time.as_ref().map(|time| time.0);
    // Without an end there is no telling when it is over; beyond all time it never is.
    match (ended, ttl) {
        (Some(ended), Some(ttl)) => Rest::Rests(ended.checked_add(ttl).ok()),
        (None, _) => Rest::Works,
        (Some(_), None) => Rest::Rests(None),
    }
}

/// Drops what nobody reads of a run: of any the annotation of kubectl, of a finished one what was to be done.
pub fn slim(run: &mut BenchmarkRun) {
    run.managed_fields_mut().clear();
    if run.annotations().contains_key(LAST_APPLIED) {
        run.annotations_mut().remove(LAST_APPLIED);
    }
    if is_finished(run) {
        run.spec.stages = Vec::new();
        run.spec.thresholds = Vec::new();
        run.spec.agents.template = None;
    }
}

/// Runs that rest, by when they are to be looked at again.
#[derive(Debug, Default)]
pub struct Sleepers(BTreeMap<Timestamp, Vec<ObjectRef<BenchmarkRun>>>);

impl Sleepers {
    /// A run rests until then.
    pub fn add(&mut self, until: Timestamp, run: &BenchmarkRun) {
        let runs = self.0.entry(until).or_default();
        let key = ObjectRef::from_obj(run);
        if !runs.contains(&key) {
            runs.push(key);
        }
    }

    /// Runs whose time is over.
    pub fn due(&mut self, now: Timestamp) -> Vec<ObjectRef<BenchmarkRun>> {
        let later = self.0.split_off(&now);
        std::mem::replace(&mut self.0, later).into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn finished(spec: &Value, change: impl FnOnce(&mut BenchmarkRun)) -> BenchmarkRun {
        let (mut run, _) = crate::testing::run(spec);
        run.status = serde_json::from_value(json!({
            "observedGeneration": 1,
            "completionTime": "2026-11-24T11:00:00Z",
            "conditions": [{
                "type": "Finished", "status": "True", "reason": "Completed", "message": "",
                "lastTransitionTime": "2026-11-24T11:00:00Z",
            }],
        }))
        .unwrap();
        change(&mut run);
        run
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_finished_run_rests_until_its_time_is_over_and_whatever_is_left_to_do_keeps_it_awake() {
        let now = time("2026-11-24T11:30:00Z");
        let check = |spec: Value, change: fn(&mut BenchmarkRun), rest| {
            assert_eq!(at(&finished(&spec, change), now), rest, "{spec}");
        };
        check(json!({}), |_| {}, Rest::Rests(None));
        check(json!({"ttlAfterFinished": "1h"}), |_| {}, Rest::Rests(Some(time("2026-11-24T12:00:00Z"))));
        check(json!({"ttlAfterFinished": "30m"}), |_| {}, Rest::Works);
        check(json!({}), |run| run.metadata.generation = Some(2), Rest::Works);
        check(
            json!({}),
            |run| run.metadata.deletion_timestamp = run.metadata.creation_timestamp.clone(),
            Rest::Works,
        );
        check(json!({}), |run| run.finalizers_mut().push(labels::FINALIZER.to_owned()), Rest::Works);
        check(json!({}), |run| run.status = None, Rest::Works);
    }

    #[test]
    fn only_what_is_over_loses_what_was_to_be_done() {
        let stages = json!({"stages": [{"name": "load", "execute": {"duration": "1s", "operations": [{"op": "Get"}]}}]});
        let mut over = finished(&stages, |_| {});
        over.annotations_mut().insert(LAST_APPLIED.to_owned(), "{}".to_owned());
        let status = over.status.clone();
        slim(&mut over);
        assert!(over.spec.stages.is_empty() && over.annotations().is_empty(), "{over:?}");
        assert_eq!(over.status, status);
        let (mut under_way, _) = crate::testing::run(&stages);
        slim(&mut under_way);
        assert_eq!(under_way.spec.stages.len(), 1);
    }

    #[test]
    fn sleepers_wake_once_and_in_their_time() {
        let run = finished(&json!({}), |_| {});
        let mut sleepers = Sleepers::default();
        sleepers.add(time("2026-11-24T12:00:00Z"), &run);
        sleepers.add(time("2026-11-24T12:00:00Z"), &run);
        assert!(sleepers.due(time("2026-11-24T11:59:00Z")).is_empty());
        assert_eq!(sleepers.due(time("2026-11-24T12:00:01Z")), [ObjectRef::from_obj(&run)]);
        assert!(sleepers.due(time("2026-11-24T12:00:01Z")).is_empty());
    }
}
