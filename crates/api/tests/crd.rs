//! The definition: current, small enough, bounded everywhere, and its CEL rules accept and refuse the right objects.

#![allow(clippy::unwrap_used)]

mod cases;

use cases::{broken_at_creation, broken_by_edit, good, with};
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
    for unwanted in ["\"uint", "\"additionalProperties\":false", "\"$ref\"", "\"anyOf\"", "\"oneOf\""] {
        assert!(!whole.contains(unwanted), "{unwanted}");
    }
}

#[test]
fn null_is_kept_in_the_template_and_nowhere_else() {
    let mut schema = crd::schema().clone();
    let template = &mut schema["properties"]["spec"]["properties"]["agents"]["properties"]["template"];
    let at = |pointer: &str| template.pointer(pointer).and_then(|node| node["nullable"].as_bool());
    let containers = "/properties/spec/properties/containers";
    for pointer in [
        "/properties/metadata/properties/labels/additionalProperties",
        "/properties/spec/properties/priorityClassName",
        containers,
        &format!("{containers}/items/properties/resources/properties/limits/additionalProperties"),
    ] {
        assert_eq!(at(pointer), Some(true), "{pointer}");
    }
    template.take();
    assert!(!schema.to_string().contains("nullable"));
}

/// Messages of the rules that refuse `new`.
fn refused(new: &Value, old: Option<&Value>) -> Vec<String> {
    match Validator::new().validate(crd::schema(), new, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_iter().map(|error| error.message.clone()).collect(),
    }
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
    for (pointer, value) in cases::taken_edits() {
        assert_eq!(refused(&with(&[(pointer, value)]), Some(&old)), Vec::<String>::new(), "{pointer}");
    }
}

#[test]
fn stop_may_only_harden() {
    for (old, new, is_fine) in cases::stops() {
        let (old, new) = (with(&[("/spec/stop", old)]), with(&[("/spec/stop", new)]));
        assert_eq!(refused(&new, Some(&old)).is_empty(), is_fine, "{old} → {new}");
    }
}

#[test]
fn no_rule_is_untested() {
    let mut tested: Vec<String> =
        broken_at_creation().into_iter().map(|(_, message)| message.to_owned()).collect();
    tested.extend(broken_by_edit().into_iter().map(|(_, _, message)| message));
    tested.push(cases::STOP.to_owned());
    for rule in rules::all() {
        assert!(tested.iter().any(|message| rule.message.starts_with(message)), "{}", rule.message);
    }
}
