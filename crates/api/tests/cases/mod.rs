//! What each CEL rule of the resource refuses, and what none of them does: one table for two judges, an evaluator without a
//! cluster (here) and the API server (`crates/operator/tests/cluster/rules.rs`).

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

/// Start of the message of the rule on `spec.stop`, whose cases are [`stops`].
pub(crate) const STOP: &str = "spec.stop may be set once";

/// An object that every rule accepts, with every field that a rule looks at.
pub(crate) fn good() -> Value {
    json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "BenchmarkRun",
        "metadata": { "name": "nightly" },
        "spec": {
            "seed": 7, "managedBy": "lockstep.dev/operator", "suspend": false,
            "agents": { "replicas": 4, "minAvailable": 3, "placement": "Spread", "cleanupPolicy": "Always",
                "template": { "metadata": { "labels": { "team": "storage" } } } },
            "target": { "uri": "file:///mnt/bench", "volume": { "emptyDir": {} } },
            "dataset": { "objects": 1000, "size": { "fixed": "4Ki" } },
            "stages": [
                { "name": "prepare", "prepare": {} },
                { "name": "warmup", "discard": true, "execute": { "duration": "5s", "like": "mixed" } },
                { "name": "mixed", "execute": { "duration": "30s", "rate": { "operationsPerSecond": 100 },
                    "operations": [{ "op": "Get", "keys": { "zipf": { "exponent": 0.9 } } },
                        { "op": "Put", "size": { "fixed": 1024 } }] } },
                { "name": "cleanup", "cleanup": {}, "runOn": "Always" },
            ],
            "start": { "readyTimeout": "10m" },
            "failurePolicy": { "reconnectGrace": "60s", "orphanGrace": "2m" },
            "thresholds": [{ "stage": "mixed", "metric": "p99", "atMost": "20ms" }],
            "results": { "configMap": true }, "activeDeadline": "2h", "exclusive": "lab",
            "ttlAfterFinished": "1h",
        },
        "status": { "observedGeneration": 1, "epoch": 3 },
    })
}

/// The good object with the value at each pointer replaced; null removes it.
pub(crate) fn with(changes: &[(&str, Value)]) -> Value {
    let mut object = good();
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
        match (parent, name.parse::<usize>()) {
            (Value::Array(items), Ok(index)) => items[index] = value.clone(),
            (Value::Object(members), _) if value.is_null() => drop(members.remove(name)),
            (Value::Object(members), _) => drop(members.insert(name.to_owned(), value.clone())),
            _ => panic!("{pointer}"),
        }
    }
    object
}

/// Changes that break one rule on creation, and the start of its message.
pub(crate) fn broken_at_creation() -> Vec<(Vec<(&'static str, Value)>, &'static str)> {
    vec![
        (vec![("/metadata/name", json!("a".repeat(53)))], "metadata.name is at most 52"),
        (vec![("/metadata/name", json!("1-nightly"))], "metadata.name is a lower-case letter"),
        (vec![("/metadata/name", json!("nightly.x"))], "metadata.name is a lower-case letter"),
        (vec![("/spec/agents/minAvailable", json!(5))], "minAvailable is at most replicas"),
        (vec![("/spec/stages/0/name", json!("mixed"))], "names of stages are unique"),
        (vec![("/spec/thresholds/0/stage", json!("other"))], "each threshold names an execute stage"),
        (vec![("/spec/thresholds/0/stage", json!("prepare"))], "each threshold names an execute stage"),
        (vec![("/spec/failurePolicy/orphanGrace", json!("59s"))], "orphanGrace is at least reconnectGrace"),
        (vec![("/spec/dataset/objects", Value::Null)], "set exactly one of objects, tree"),
        (
            vec![("/spec/dataset/tree", json!({ "width": 2, "depth": 2, "filesPerDirectory": 2 }))],
            "set exactly one of objects, tree",
        ),
        (vec![("/spec/dataset/size", json!({}))], "set exactly one of fixed, uniform"),
        (vec![("/spec/stages/2/execute/operations/1/size", json!({}))], "set exactly one of fixed, uniform"),
        (
            vec![("/spec/stages/0/execute", json!({ "duration": "1s" }))],
            "set exactly one of prepare, execute, cleanup",
        ),
        (vec![("/spec/stages/0/prepare", Value::Null)], "set exactly one of prepare, execute, cleanup"),
        (vec![("/spec/stages/0/discard", json!(true))], "only an execute stage can be discarded"),
        (vec![("/spec/stages/2/execute/duration", Value::Null)], "set duration, operationCount or both"),
        (vec![("/spec/stages/2/execute/rate", json!({}))], "set exactly one of operationsPerSecond, search"),
        (vec![("/spec/stages/2/execute/operations/0/keys", json!({}))], "set exactly one of uniform, zipf"),
        (vec![("/spec/thresholds/0/atLeast", json!("1ms"))], "set exactly one of atMost, atLeast"),
        (vec![("/spec/thresholds/0/atMost", Value::Null)], "set exactly one of atMost, atLeast"),
        (vec![("/spec/target/volume", json!({}))], "set exactly one of persistentVolumeClaim"),
    ]
}

/// Edits of the good object, and the start of the message that refuses each.
pub(crate) fn broken_by_edit() -> Vec<(&'static str, Value, String)> {
    let immutable = |parent: &str, name: &str| format!("{parent}.{name} is immutable: ");
    let mut cases = vec![("/status/epoch", json!(2), "status.epoch may not decrease".to_owned())];
    cases.push(("/status/epoch", Value::Null, "status.epoch may not decrease".to_owned()));
    cases.push(("/status", Value::Null, "status.epoch may not decrease".to_owned()));
    for (pointer, value) in [
        ("/spec/seed", json!(8)),
        ("/spec/target/uri", json!("file:///mnt/other")),
        ("/spec/target", Value::Null),
        ("/spec/dataset/objects", json!(1001)),
        ("/spec/stages/0/name", json!("fill")),
        ("/spec/stages", Value::Null),
        ("/spec/start/readyTimeout", json!("11m")),
        ("/spec/failurePolicy/orphanGrace", json!("3m")),
        ("/spec/thresholds", json!([])),
        ("/spec/results/configMap", json!(false)),
        ("/spec/activeDeadline", json!("3h")),
        ("/spec/activeDeadline", Value::Null),
        ("/spec/exclusive", json!("other")),
        ("/spec/managedBy", json!("other.dev/operator")),
    ] {
        let field = pointer.split('/').nth(2).unwrap_or_default();
        cases.push((pointer, value, immutable("spec", field)));
    }
    for (pointer, value) in [
        ("/spec/agents/replicas", json!(5)),
        ("/spec/agents/minAvailable", Value::Null),
        ("/spec/agents/placement", json!("Any")),
        ("/spec/agents/template/metadata/labels/team", json!("compute")),
        ("/spec/agents/template", Value::Null),
    ] {
        let field = pointer.split('/').nth(3).unwrap_or_default();
        cases.push((pointer, value, immutable("spec.agents", field)));
    }
    cases
}

/// Edits of the good object that are taken.
pub(crate) fn taken_edits() -> Vec<(&'static str, Value)> {
    vec![
        ("/spec/suspend", json!(true)),
        ("/spec/ttlAfterFinished", json!("2h")),
        ("/spec/ttlAfterFinished", Value::Null),
        ("/spec/agents/cleanupPolicy", json!("Never")),
        ("/spec/stop", json!({ "mode": "Graceful" })),
        ("/spec/stop", json!({ "mode": "Immediate" })),
        ("/status/epoch", json!(3)),
        ("/status/epoch", json!(4)),
    ]
}

/// `spec.stop` before, after, and whether that edit is taken; null is absence.
pub(crate) fn stops() -> Vec<(Value, Value, bool)> {
    let mode = |mode: &str| json!({ "mode": mode });
    let (graceful, immediate) = (mode("Graceful"), mode("Immediate"));
    vec![
        (Value::Null, graceful.clone(), true),
        (graceful.clone(), graceful.clone(), true),
        (graceful.clone(), immediate.clone(), true),
        (immediate.clone(), immediate.clone(), true),
        (immediate.clone(), graceful.clone(), false),
        (graceful, Value::Null, false),
        (immediate, Value::Null, false),
    ]
}
