//! The definition: current, small enough, bounded everywhere, and its CEL rules accept and refuse the right objects.

#![allow(clippy::unwrap_used)]

use kube::core::cel::Validator;
use lockstep_api::resolve::{ResolveOptions, resolve};
use lockstep_api::spec::BenchmarkRun;
use lockstep_api::{crd, rules};
use serde_json::{Value, json};

#[test]
fn the_file_is_current() {
    let text = include_str!("../../../deploy/crds/lockstep.dev_benchmarkruns.yaml");
    let found: Value = serde_yaml::from_str(text).unwrap();
    assert!(found == *crd::json(), "deploy/crds is stale: run `cargo xtask crds`");
}

#[test]
fn the_definition_is_one_and_fits_an_annotation() {
    let definition = crd::definition().unwrap();
    assert_eq!(definition.metadata.name.as_deref(), Some("benchmarkruns.lockstep.dev"));
    assert_eq!(definition.spec.names.short_names.unwrap(), ["brun"]);
    assert_eq!(definition.spec.names.categories.unwrap(), ["lockstep"]);
    let columns = definition.spec.versions[0].additional_printer_columns.as_ref().unwrap();
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(
        names,
        ["Phase", "Stage", "Agents", "Progress", "Verdict", "Age", "Throughput", "Skew", "Reason"]
    );
    let bytes = serde_json::to_string(crd::json()).unwrap().len();
    assert!(bytes <= crd::SIZE_MAX, "{bytes} bytes");
    assert_eq!(crd::schema()["properties"]["status"]["default"], json!({ "observedGeneration": -1 }));
}

fn unbounded(node: &Value, path: &str, found: &mut Vec<String>) {
    let has = |key: &str| node.get(key).is_some();
    let is_open = has("x-kubernetes-int-or-string");
    assert!(is_open || node["type"].is_string(), "{path} has no type");
    let bounded = match node["type"].as_str() {
        Some("array") => has("maxItems"),
        Some("string") => has("maxLength") || has("enum") || has("format"),
        Some("object") if node["additionalProperties"].is_object() => has("maxProperties"),
        _ => true,
    };
    if !bounded {
        found.push(path.to_owned());
    }
    for (name, child) in node["properties"].as_object().into_iter().flatten() {
        unbounded(child, &format!("{path}.{name}"), found);
    }
    for name in ["items", "additionalProperties"] {
        if node[name].is_object() {
            unbounded(&node[name], &format!("{path}[]"), found);
        }
    }
}

#[test]
fn every_list_map_and_string_of_the_spec_has_a_maximum_and_no_enum_is_in_the_status() {
    let schema = crd::schema();
    let mut found = Vec::new();
    unbounded(&schema["properties"]["spec"], "spec", &mut found);
    assert_eq!(found, Vec::<String>::new());
    let status = schema["properties"]["status"].to_string();
    assert!(!status.contains("\"enum\"") && !status.contains("\"number\"") && !status.contains("nullable"));
    let whole = schema.to_string();
    for unwanted in
        ["\"nullable\"", "\"uint", "\"additionalProperties\":false", "\"$ref\"", "\"anyOf\"", "\"oneOf\""]
    {
        assert!(!whole.contains(unwanted), "{unwanted}");
    }
}

fn good() -> Value {
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

/// The object with the value at each pointer replaced; null removes it.
fn with(changes: &[(&str, Value)]) -> Value {
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

/// Messages of the rules that refuse `new`.
fn refused(new: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(crd::schema(), new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.message.clone()).collect(),
    }
}

/// Changes that break one rule on creation, and the start of its message.
fn broken_at_creation() -> Vec<(Vec<(&'static str, Value)>, &'static str)> {
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

#[test]
fn rules_refuse_at_creation_what_the_resolver_refuses_too() {
    assert_eq!(refused(&good(), None), Vec::<String>::new());
    let options = ResolveOptions { replicas: None, uid: "u".into(), local: false };
    let run: BenchmarkRun = serde_json::from_value(good()).unwrap();
    resolve(&run, &options).unwrap();
    for (changes, message) in broken_at_creation() {
        let object = with(&changes);
        let found = refused(&object, None);
        assert!(found.iter().any(|found| found.starts_with(message)), "{changes:?}: {found:?}");
        let run: BenchmarkRun = serde_json::from_value(object).unwrap();
        assert!(resolve(&run, &options).is_err(), "the resolver accepts {changes:?}");
    }
}

/// Edits of the good object, and the start of the message that refuses each.
fn broken_by_edit() -> Vec<(&'static str, Value, String)> {
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

#[test]
fn edits_are_refused_with_the_way_out_and_the_few_exceptions_are_not() {
    let old = good();
    for (pointer, value, message) in broken_by_edit() {
        let found = refused(&with(&[(pointer, value)]), Some(&old));
        assert!(found.iter().any(|found| found.starts_with(&message)), "{pointer}: {found:?}");
        if message.contains("immutable") {
            assert!(found.iter().any(|found| found.contains("generateName")), "{found:?}");
        }
    }
    for (pointer, value) in [
        ("/spec/suspend", json!(true)),
        ("/spec/ttlAfterFinished", json!("2h")),
        ("/spec/ttlAfterFinished", Value::Null),
        ("/spec/agents/cleanupPolicy", json!("Never")),
        ("/spec/stop", json!({ "mode": "Graceful" })),
        ("/spec/stop", json!({ "mode": "Immediate" })),
        ("/status/epoch", json!(3)),
        ("/status/epoch", json!(4)),
    ] {
        assert_eq!(refused(&with(&[(pointer, value)]), Some(&old)), Vec::<String>::new(), "{pointer}");
    }
}

#[test]
fn stop_may_only_harden() {
    let mode = |mode: &str| with(&[("/spec/stop", json!({ "mode": mode }))]);
    let (none, graceful, immediate) = (good(), mode("Graceful"), mode("Immediate"));
    for (old, new, is_fine) in [
        (&none, &graceful, true),
        (&graceful, &graceful, true),
        (&graceful, &immediate, true),
        (&immediate, &immediate, true),
        (&immediate, &graceful, false),
        (&graceful, &none, false),
        (&immediate, &none, false),
    ] {
        assert_eq!(refused(new, Some(old)).is_empty(), is_fine, "{old} → {new}");
    }
}

#[test]
fn no_rule_is_untested() {
    let mut tested: Vec<String> =
        broken_at_creation().into_iter().map(|(_, message)| message.to_owned()).collect();
    tested.extend(broken_by_edit().into_iter().map(|(_, _, message)| message));
    tested.push("spec.stop may be set once".to_owned());
    for rule in rules::all() {
        assert!(tested.iter().any(|message| rule.message.starts_with(message)), "{}", rule.message);
    }
}
