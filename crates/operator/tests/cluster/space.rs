//! A namespace of its own for one test, and what tests ask of the runs in it.

use crate::{Served, finished, served, truth};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::status::BenchmarkRunStatus;
use lockstep_api::{BenchmarkRun, labels};
use lockstep_testcluster::{LIMIT, PodSecurity, until_gone};
use serde_json::{Value, json};
use std::time::Duration;

/// How late after the API's first sign of a trouble the status may tell of it.
pub(crate) const TELLS_WITHIN: Duration = Duration::from_secs(10);

/// A namespace with runs.
pub(crate) struct Space {
    pub(crate) served: &'static Served,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    pub(crate) runs: Api<BenchmarkRun>,
    pub(crate) pods: Api<Pod>,
}

/// A fresh namespace of the served cluster.
pub(crate) async fn space(prefix: &str) -> Space {
    space_with(prefix, PodSecurity::Privileged).await
}

/// The same, at a Pod Security level.
pub(crate) async fn space_with(prefix: &str, level: PodSecurity) -> Space {
    let served = served().await;
    let namespace = served.cluster.namespace_with(prefix, level).await;
    let client = served.cluster.client().await;
    let runs = Api::namespaced(client.clone(), &namespace);
    let pods = Api::namespaced(client.clone(), &namespace);
    Space { served, namespace, client, runs, pods }
}

/// A run over `null://` whose one stage, `load`, lasts so many milliseconds; `spec` is merged over its spec.
pub(crate) fn run(name: &str, load_ms: u32, spec: &Value) -> Value {
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
fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(members), Value::Object(over)) => {
            for (key, over) in over {
                merge(members.entry(key.clone()).or_insert(Value::Null), over);
            }
        }
        (value, over) => *value = over.clone(),
    }
}

impl Space {
    /// Creates a run.
    pub(crate) async fn create(&self, run: Value) {
        let object: BenchmarkRun = serde_json::from_value(run.clone()).expect("a run");
        let how = PostParams::default();
        // Futures of clients are large, and tests join many: on the heap they fit a test's stack.
        let created = Box::pin(self.runs.create(&how, &object)).await;
        created.unwrap_or_else(|error| panic!("{run}: {error}"));
    }

    /// Edits the spec of a run.
    pub(crate) async fn edit(&self, name: &str, spec: Value) -> BenchmarkRun {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let edited = Box::pin(self.runs.patch(name, &PatchParams::default(), &patch)).await;
        edited.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Asks a run to go.
    pub(crate) async fn delete(&self, name: &str) {
        self.runs
            .delete(name, &DeleteParams::default())
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Waits until a run's status is such.
    pub(crate) async fn until(
        &self,
        name: &str,
        what: &str,
        condition: impl Fn(&BenchmarkRunStatus) -> bool,
    ) -> BenchmarkRun {
        let holds =
            |run: Option<&BenchmarkRun>| run.and_then(|run| run.status.as_ref()).is_some_and(&condition);
        Box::pin(self.served.until(&self.runs, name, what, holds)).await
    }

    /// Waits until a run is finished.
    pub(crate) async fn finished(&self, name: &str) -> BenchmarkRun {
        Box::pin(self.served.until(&self.runs, name, "finished", finished)).await
    }

    /// Waits until a run is measuring.
    pub(crate) async fn measuring(&self, name: &str) -> BenchmarkRun {
        // Not by progress, which comes late where much is written.
        let load = |status: &BenchmarkRunStatus| {
            status.phase == "Running"
                && conditions::truth(&status.conditions, ConditionType::Started) == Some(Truth::True)
        };
        self.until(name, "measuring", load).await
    }

    /// Waits until a pod exists and is such.
    pub(crate) async fn pod(&self, name: &str, what: &str, condition: impl Fn(&Pod) -> bool) -> Pod {
        self.pod_dyn(name, what, &|pod: Option<&Pod>| pod.is_some_and(&condition)).await
    }

    async fn pod_dyn(&self, name: &str, what: &str, condition: &dyn Fn(Option<&Pod>) -> bool) -> Pod {
        Box::pin(lockstep_testcluster::until(&self.pods, name, what, condition)).await
    }

    /// Waits until nothing holds a finished run and nothing of it is left but its report.
    pub(crate) async fn nothing_left(&self, name: &str) {
        let free = |run: Option<&BenchmarkRun>| run.is_some_and(|run| run.finalizers().is_empty());
        let run = Box::pin(self.served.until(&self.runs, name, "without a finalizer", free)).await;
        let of_run =
            ListParams::default().labels(&format!("{}={}", labels::RUN_UID, run.uid().unwrap_or_default()));
        let pods = self.pods.list(&of_run).await.expect("pods");
        for pod in pods {
            Box::pin(until_gone(&self.pods, &pod.name_any())).await;
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let maps: Vec<String> =
            maps.list(&of_run).await.expect("ConfigMaps").iter().map(ResourceExt::name_any).collect();
        assert!(maps.iter().all(|map| map.contains("-results")), "{name} leaves {maps:?}");
    }

    /// Status, with everything that there is to know where it is missing.
    pub(crate) fn said(&self, run: &BenchmarkRun) -> String {
        self.served.said(run)
    }
}

/// The status of a run that has one.
pub(crate) fn status(run: &BenchmarkRun) -> &BenchmarkRunStatus {
    run.status.as_ref().expect("a status")
}

/// Status and reason of a condition; two empty texts for one that is not there.
pub(crate) fn condition(run: &BenchmarkRun, type_: ConditionType) -> (Option<Truth>, String) {
    let found = status(run).conditions.iter().find(|one| one.type_ == type_.name());
    (truth(run, type_), found.map(|one| one.reason.clone()).unwrap_or_default())
}

/// Waits for something of this process that is asked for again and again.
pub(crate) async fn becomes(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = std::time::Instant::now() + LIMIT;
    while !holds().await {
        assert!(std::time::Instant::now() < end, "never {what} within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
