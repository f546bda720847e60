//! A run as it stands in the API server, read as leniently as can be: an object of a newer version is shown as far as it is
//! known.

use crate::display::Scene;
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use lockstep_api::conditions::{self, ConditionType, Truth};
use lockstep_api::resolve::{PREFLIGHT, default_stages};
use lockstep_api::status::BenchmarkRunStatus;
use serde_json::Value;

/// A run.
#[derive(Clone, Debug)]
pub struct Run {
    /// The object, without the fields that only the API server works with.
    pub object: DynamicObject,
    /// What the operator wrote; what cannot be read of it is not there.
    pub status: BenchmarkRunStatus,
}

/// A stage as its spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageNamed {
    /// Its name.
    pub name: String,
    /// `preflight`, `prepare`, `execute` or `cleanup`; empty where it is none of these.
    pub kind: &'static str,
    /// Whether it flows into the stage behind it.
    pub discard: bool,
    /// Whether it runs after a failure too.
    pub always: bool,
}

impl Run {
    /// Reads an object.
    #[must_use]
    pub fn of(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        let status = object.data.get("status").cloned().unwrap_or_default();
        let status = serde_json::from_value(status.clone()).unwrap_or_else(|_| words_of(&status));
        Self { object, status }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> String {
        self.object.name_any()
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.object.namespace().unwrap_or_default()
    }

    /// What tells it from another one of its name.
    #[must_use]
    pub fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// When it was made.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.object.creation_timestamp().map(|time| time.0)
    }

    /// Its spec.
    #[must_use]
    pub fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    /// How it is to be stopped, where somebody wants that: `Graceful` or `Immediate`.
    #[must_use]
    pub fn stop(&self) -> Option<&str> {
        self.spec()["stop"]["mode"].as_str()
    }

    /// What a condition says.
    #[must_use]
    pub fn truth(&self, type_: ConditionType) -> Option<Truth> {
        conditions::truth(&self.status.conditions, type_)
    }

    /// Message of a condition that is true.
    #[must_use]
    pub fn message_if(&self, type_: ConditionType) -> Option<&str> {
        let condition = self.status.conditions.iter().find(|one| one.type_ == type_.name())?;
        (condition.status == Truth::True.name()).then_some(condition.message.as_str())
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.truth(ConditionType::Finished) == Some(Truth::True)
    }

    /// Where it stands, in one word.
    #[must_use]
    pub fn phase(&self) -> &str {
        match self.status.phase.as_str() {
            "" => "Pending",
            phase => phase,
        }
    }

    /// The stages that its spec asks for.
    #[must_use]
    pub fn stages(&self) -> Vec<StageNamed> {
        let wanted = match &self.spec()["stages"] {
            Value::Array(stages) if !stages.is_empty() => stages.clone(),
            _ => default_stages().iter().filter_map(|stage| serde_json::to_value(stage).ok()).collect(),
        };
        let preflight =
            StageNamed { name: PREFLIGHT.to_owned(), kind: "preflight", discard: false, always: false };
        let named = |stage: &Value| StageNamed {
            name: stage["name"].as_str().unwrap_or_default().to_owned(),
            kind: ["prepare", "execute", "cleanup"]
                .into_iter()
                .find(|kind| !stage[*kind].is_null())
                .unwrap_or_default(),
            discard: stage["discard"] == true,
            always: stage["runOn"] == "Always",
        };
        std::iter::once(preflight).chain(wanted.iter().map(named)).collect()
    }

    /// What is known before it begins.
    #[must_use]
    pub fn scene(&self) -> Scene {
        let spec = self.spec();
        Scene {
            namespace: Some(self.namespace()),
            run: self.name(),
            uid: self.uid(),
            seed: spec["seed"].as_u64().unwrap_or_default(),
            target_uri: spec["target"]["uri"].as_str().unwrap_or_default().to_owned(),
            agents: spec["agents"]["replicas"].as_u64().unwrap_or(1),
            stages: self.stages().into_iter().map(|stage| stage.name).collect(),
            results: None,
        }
    }
}

/// The words of a status whose numbers cannot be read.
fn words_of(status: &Value) -> BenchmarkRunStatus {
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    BenchmarkRunStatus {
        phase: text("phase"),
        verdict: text("verdict"),
        message: text("message"),
        conditions: serde_json::from_value(status["conditions"].clone()).unwrap_or_default(),
        ..BenchmarkRunStatus::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn run(spec: Value, status: Value) -> Run {
        let mut object = json!({
            "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun",
            "metadata": {"name": "nightly", "namespace": "perf", "uid": "u", "managedFields": [{"manager": "x"}]},
        });
        object["spec"] = spec;
        object["status"] = status;
        Run::of(serde_json::from_value(object).expect("an object"))
    }

    #[test]
    fn what_a_newer_version_wrote_is_shown_as_far_as_it_is_known() {
        let status = json!({
            "phase": "Levitating", "message": "higher", "agents": "all of them",
            "conditions": [{"type": "Finished", "status": "True", "reason": "Up", "message": "",
                            "lastTransitionTime": "2026-11-21T23:15:07Z"}],
        });
        let run = run(json!({"stages": [{"name": "x", "hover": {}}], "new": 1}), status);
        assert_eq!((run.phase(), run.status.message.as_str()), ("Levitating", "higher"));
        assert!(run.is_finished() && run.object.metadata.managed_fields.is_none());
        let stages = run.stages();
        assert_eq!((stages[0].kind, stages[1].name.as_str(), stages[1].kind), ("preflight", "x", ""));
    }

    #[test]
    fn a_run_without_stages_has_those_of_the_default() {
        let run = run(json!({}), Value::Null);
        let names: Vec<String> = run.stages().into_iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["preflight", "prepare", "mixed", "cleanup"]);
        assert!(run.stages()[3].always && run.phase() == "Pending" && !run.is_finished());
    }
}
