//! The `CustomResourceDefinition`: what kube derives from the types, made fit for the API server.
//!
//! The derive is the truth about fields; this module adds what it cannot say (CEL rules, list types, limits on
//! embedded Kubernetes types, the default of the status, `nullable` in the template) and takes out what the API server
//! does not want (`nullable` elsewhere, formats that it does not know, empty defaults). It deliberately does not write
//! files.

use crate::rules;
use crate::span;
use crate::spec::BenchmarkRun;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::Schema;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The largest CRD as compact JSON, in bytes: below it client-side `kubectl apply` can still store it in an annotation.
pub const SIZE_MAX: usize = 250_000;

static CRD: LazyLock<Value> = LazyLock::new(build);

/// The definition as JSON, made once per process.
#[must_use]
pub fn json() -> &'static Value {
    &CRD
}

/// The schema of the whole object: `openAPIV3Schema` of the one version.
#[must_use]
pub fn schema() -> &'static Value {
    &CRD["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The definition as a typed object, for clients that install it.
///
/// # Errors
///
/// When the JSON is no `CustomResourceDefinition`; a test shows that it is one.
pub fn definition() -> Result<CustomResourceDefinition, serde_json::Error> {
    serde_json::from_value(CRD.clone())
}

fn build() -> Value {
    let mut crd = serde_json::to_value(BenchmarkRun::crd()).unwrap_or_default();
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    for rule in rules::all() {
        let node = rule.place.iter().fold(&mut *schema, |node, step| match *step {
            "[]" => &mut node["items"],
            name => &mut node["properties"][name],
        });
        match &mut node["x-kubernetes-validations"] {
            Value::Array(rules) => rules.push(rule.to_json()),
            empty => *empty = json!([rule.to_json()]),
        }
    }
    nullable(&mut schema["properties"]["spec"]["properties"]["agents"]["properties"]["template"]);
    let options = &mut schema["properties"]["spec"]["properties"]["target"]["properties"]["options"];
    options["additionalProperties"]["maxLength"] = json!(256);
    let status = &mut schema["properties"]["status"];
    status["default"] = json!({ "observedGeneration": -1 });
    let conditions = &mut status["properties"]["conditions"];
    conditions["x-kubernetes-list-type"] = json!("map");
    conditions["x-kubernetes-list-map-keys"] = json!(["type"]);
    for name in ["stages", "thresholds", "agentProblems"] {
        schema["properties"]["status"]["properties"][name]["x-kubernetes-list-type"] = json!("atomic");
    }
    crd
}

/// Lets every member below `node` be null. In the template null deletes what is there by default; where a member may not
/// be null, the API server drops the null from what it stores, and nobody learns of the wish.
fn nullable(node: &mut Value) {
    let members = node["properties"].as_object_mut().into_iter().flat_map(|members| members.values_mut());
    for member in members {
        member["nullable"] = json!(true);
        nullable(member);
    }
    if node["additionalProperties"].is_object() {
        node["additionalProperties"]["nullable"] = json!(true);
        nullable(&mut node["additionalProperties"]);
    }
    if node["items"].is_object() {
        nullable(&mut node["items"]);
    }
}

/// Takes out what the API server does not want, everywhere below `node`.
fn tidy(node: &mut Value) {
    let Value::Object(schema) = node else { return };
    schema.remove("nullable");
    // An object without properties is closed anyway, and the API server refuses to be told so.
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    if schema.get("title").is_some_and(|title| title == span::POSITIVE) {
        schema.remove("title");
        schema.insert("allOf".into(), json!([{ "pattern": "[1-9]" }]));
    }
    // Formats of Rust's integers are unknown to the API server, which warns about them.
    if let Some(Value::String(format)) = schema.get("format")
        && format.starts_with("uint")
    {
        schema.insert("format".into(), json!("int64"));
    }
    // A default that is empty says no more than absence, and would be written into every stored object.
    let is_empty = |value: &Value| match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Null => true,
        _ => false,
    };
    if schema.get("default").is_some_and(is_empty) {
        schema.remove("default");
    }
    // Limits pass through floats on their way here.
    for limit in ["minimum", "maximum"] {
        if let Some(number) = schema.get(limit).and_then(Value::as_f64)
            && number.fract() == 0.0
            && number.abs() <= 1e15
        {
            schema.insert(limit.into(), json!(number as i64));
        }
    }
    for (name, child) in schema.iter_mut() {
        match (name.as_str(), child) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(tidy),
            ("items" | "additionalProperties", child) => tidy(child),
            _ => {}
        }
    }
}

/// Makes the schema of an embedded Kubernetes type partial: without `required` (a merge needs no part of it) and
/// without descriptions (they alone pass the size limit), and with a limit on every list, map and string.
pub(crate) fn make_partial(schema: &mut Schema) {
    if let Some(schema) = schema.as_object_mut() {
        partial(schema);
    }
}

/// Items in a list of an embedded Kubernetes type.
const EMBEDDED_ITEMS: u32 = 128;
/// Members in a map of an embedded Kubernetes type.
const EMBEDDED_MEMBERS: u32 = 128;
/// Characters in a string of an embedded Kubernetes type: a script in a container's arguments is the longest.
const EMBEDDED_CHARACTERS: u32 = 32_768;

fn partial(schema: &mut Map<String, Value>) {
    schema.remove("required");
    schema.remove("description");
    // A default of a member would be written into a partial object as if the user had asked for it.
    schema.remove("default");
    let is_type = |schema: &Map<String, Value>, name: &str| match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(several)) => several.iter().any(|one| one == name),
        _ => false,
    };
    if schema.contains_key("x-kubernetes-int-or-string") {
        schema.insert("maxLength".into(), json!(64));
    } else if is_type(schema, "array") {
        schema.insert("maxItems".into(), json!(EMBEDDED_ITEMS));
    } else if is_type(schema, "string") && !schema.contains_key("format") {
        schema.insert("maxLength".into(), json!(EMBEDDED_CHARACTERS));
    } else if schema.contains_key("additionalProperties") {
        schema.insert("maxProperties".into(), json!(EMBEDDED_MEMBERS));
    }
    for (name, child) in schema.iter_mut() {
        match (name.as_str(), child) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().filter_map(Value::as_object_mut).for_each(partial);
            }
            ("items" | "additionalProperties", Value::Object(child)) => partial(child),
            ("anyOf" | "oneOf" | "allOf", Value::Array(children)) => {
                children.iter_mut().filter_map(Value::as_object_mut).for_each(partial);
            }
            _ => {}
        }
    }
}

/// Schema of `metadata` for readers without an API server: Kubernetes' own, made partial.
pub(crate) fn metadata_schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::openapi3()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>();
    make_partial(&mut schema);
    let mut schema = schema.to_value();
    tidy(&mut schema);
    // Bookkeeping of the API server, in files that were taken from a cluster.
    schema["properties"]["managedFields"] = json!({});
    schema
}
