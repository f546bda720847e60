//! What tests ask of runs in a namespace of whatever cluster: of the stand-in's, and of real ones.
//!
//! Waiting here has a limit, as everywhere; a panic shows the status that was seen instead.

use crate::wait::{LIMIT, until_gone_within, until_within};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Client, ResourceExt};
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_api::{BenchmarkRun, labels};
use lockstep_core::results::Report;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// A namespace with runs.
#[derive(Clone)]
pub struct Runs {
    /// Its name.
    pub namespace: String,
    /// Who asks.
    pub client: Client,
    /// Its runs.
    pub runs: Api<BenchmarkRun>,
    /// Its pods.
    pub pods: Api<Pod>,
    /// How long is waited for anything.
    pub limit: Duration,
    /// What more there is to know when something does not come about.
    more: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Runs {
    /// Runs of a namespace that is there.
    #[must_use]
    pub fn new(client: Client, namespace: impl Into<String>) -> Self {
        let namespace = namespace.into();
        let runs = Api::namespaced(client.clone(), &namespace);
        let pods = Api::namespaced(client.clone(), &namespace);
        Self { namespace, client, runs, pods, limit: LIMIT, more: Arc::new(String::new) }
    }

    /// The same, where everything takes longer.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same, which says more when something does not come about: logs, for instance.
    #[must_use]
    pub fn saying(self, more: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self { more: Arc::new(more), ..self }
    }

    /// Creates a run.
    ///
    /// # Panics
    /// It is refused.
    pub async fn create(&self, run: Value) {
        let object: BenchmarkRun = serde_json::from_value(run.clone()).expect("a run");
        let how = PostParams::default();
        // Futures of clients are large, and tests join many: on the heap they fit a test's stack.
        let created = Box::pin(self.runs.create(&how, &object)).await;
        created.unwrap_or_else(|error| panic!("{run}: {error}"));
    }

    /// Edits the spec of a run.
    ///
    /// # Panics
    /// The edit is refused.
    pub async fn edit(&self, name: &str, spec: Value) -> BenchmarkRun {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let edited = Box::pin(self.runs.patch(name, &PatchParams::default(), &patch)).await;
        edited.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Asks a run to go.
    ///
    /// # Panics
    /// It may not go.
    pub async fn delete(&self, name: &str) {
        let deleted = self.runs.delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Waits until a run's status is such.
    ///
    /// # Panics
    /// It is not within the limit, or the run is gone.
    pub async fn until(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&BenchmarkRunStatus) -> bool,
    ) -> BenchmarkRun {
        // One instance of the watcher for all conditions: they are many, and it is large.
        self.until_dyn(name, what, &condition).await
    }

    async fn until_dyn(
        &self,
        name: &str,
        what: &str,
        condition: &dyn Fn(&BenchmarkRunStatus) -> bool,
    ) -> BenchmarkRun {
        let holds =
            |run: Option<&BenchmarkRun>| run.and_then(|run| run.status.as_ref()).is_some_and(condition);
        let waiting = Box::pin(await_condition(self.runs.clone(), name, holds));
        match tokio::time::timeout(self.limit, waiting).await {
            Ok(Ok(Some(run))) => run,
            Ok(other) => panic!("{name}: {other:?}"),
            Err(_) => {
                let seen = self.runs.get(name).await.map(|run| run.status);
                panic!("{name} is not {what} within {:?}: {seen:#?}\n{}", self.limit, (self.more)())
            }
        }
    }

    /// Waits until a run is finished.
    ///
    /// # Panics
    /// As [`Runs::until`].
    pub async fn finished(&self, name: &str) -> BenchmarkRun {
        let is_over = |status: &BenchmarkRunStatus| {
            conditions::truth(&status.conditions, ConditionType::Finished) == Some(Truth::True)
        };
        self.until(name, "finished", is_over).await
    }

    /// Waits until a run is measuring.
    ///
    /// # Panics
    /// As [`Runs::until`].
    pub async fn measuring(&self, name: &str) -> BenchmarkRun {
        // Not by progress, which comes late where much is written.
        let is_measuring = |status: &BenchmarkRunStatus| {
            status.phase == "Running"
                && conditions::truth(&status.conditions, ConditionType::Started) == Some(Truth::True)
        };
        self.until(name, "measuring", is_measuring).await
    }

    /// Waits until a stage of a run is under way.
    ///
    /// # Panics
    /// As [`Runs::until`].
    pub async fn in_stage(&self, name: &str, stage: &str) -> BenchmarkRun {
        let is_there = |status: &BenchmarkRunStatus| {
            status.progress.as_ref().is_some_and(|progress| progress.stage == stage)
        };
        self.until(name, &format!("in stage {stage}"), is_there).await
    }

    /// Waits until a pod exists and is such.
    ///
    /// # Panics
    /// It is not within the limit.
    pub async fn pod(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Pod {
        self.pod_dyn(name, what, &condition).await
    }

    async fn pod_dyn(&self, name: &str, what: &str, condition: &dyn Fn(&Pod) -> bool) -> Pod {
        let holds = |pod: Option<&Pod>| pod.is_some_and(condition);
        Box::pin(until_within(&self.pods, name, what, self.limit, holds)).await
    }

    /// Waits until nothing holds a finished run and nothing of it is left but its report.
    ///
    /// # Panics
    /// Something stays.
    pub async fn nothing_left(&self, name: &str) {
        let is_free = |run: Option<&BenchmarkRun>| run.is_some_and(|run| run.finalizers().is_empty());
        let run = Box::pin(until_within(&self.runs, name, "without a finalizer", self.limit, is_free)).await;
        let of_run =
            ListParams::default().labels(&format!("{}={}", labels::RUN_UID, run.uid().unwrap_or_default()));
        for pod in self.pods.list(&of_run).await.expect("pods") {
            Box::pin(until_gone_within(&self.pods, &pod.name_any(), self.limit)).await;
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let maps: Vec<String> =
            maps.list(&of_run).await.expect("ConfigMaps").iter().map(ResourceExt::name_any).collect();
        assert!(maps.iter().all(|map| map.contains("-results")), "{name} leaves {maps:?}");
    }
}

/// A run over `null://` whose one stage, `load`, lasts so many milliseconds; `spec` is merged over its spec.
#[must_use]
pub fn run(name: &str, load_ms: u32, spec: &Value) -> Value {
    let mut run = json!({
        "apiVersion": labels::API_VERSION, "kind": labels::KIND, "metadata": {"name": name},
        "spec": {
            "agents": {"replicas": 2},
            "target": {"uri": "null://"},
            "dataset": {"objects": 1000, "size": {"fixed": "4Ki"}, "existing": "Reuse"},
            // Nobody's clock is looked at: the machine may be busy.
            "start": {"maxSkew": "10s"},
            "stages": [{"name": "load", "execute": {
                "duration": format!("{load_ms}ms"), "rate": {"operationsPerSecond": 400},
                "operations": [{"op": "Get"}],
            }}],
        },
    });
    merge(&mut run["spec"], spec);
    run
}

/// Puts the members of `over` into `value`, deep; anything but an object replaces what is there.
pub fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (key, over) in over {
                merge(members.entry(key.clone()).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

/// The status of a run that has one.
///
/// # Panics
/// It has none.
#[must_use]
pub fn status(run: &BenchmarkRun) -> &BenchmarkRunStatus {
    run.status.as_ref().expect("a status")
}

/// What a condition of a run says.
#[must_use]
pub fn truth(run: &BenchmarkRun, type_: ConditionType) -> Option<Truth> {
    conditions::truth(&run.status.as_ref()?.conditions, type_)
}

/// Status and reason of a condition; an empty text for one that is not there.
#[must_use]
pub fn condition(run: &BenchmarkRun, type_: ConditionType) -> (Option<Truth>, String) {
    let found = status(run).conditions.iter().find(|one| one.type_ == type_.name());
    (truth(run, type_), found.map(|one| one.reason.clone()).unwrap_or_default())
}

/// Whether a run is finished.
#[must_use]
pub fn finished(run: Option<&BenchmarkRun>) -> bool {
    run.is_some_and(|run| truth(run, ConditionType::Finished) == Some(Truth::True))
}

/// The report of a finished run as it stands in the ConfigMap that its status names.
///
/// # Panics
/// Status names none, or it is not there.
pub async fn report_text(client: &Client, run: &BenchmarkRun) -> String {
    let results = run.status.as_ref().and_then(|status| status.results.as_ref());
    let name = results.and_then(|results| results.config_map.clone()).expect("a ConfigMap in status");
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &run.namespace().expect("a namespace"));
    let map = maps.get(&name).await.expect("the ConfigMap that status names");
    map.data.expect("data").remove(labels::REPORT_KEY).expect("a report")
}

/// The same, read.
///
/// # Panics
/// As [`report_text`], or it cannot be read.
pub async fn report(client: &Client, run: &BenchmarkRun) -> Report {
    serde_json::from_str(&report_text(client, run).await).expect("a report that can be read")
}
