//! `docs/manifest.md`: every field of the spec with its meaning, default and limits, made from the schema, so that the
//! page cannot say something else than the API server does.

use anyhow::Result;
use lockstep_api::resolve::{CLUSTER_ONLY, OnOneMachine};
use lockstep_core::options::{OPTIONS, TargetOption};
use serde_json::Value;
use std::fmt::Write as _;

const INTRODUCTION: &str = include_str!("manifest.md");

/// The page's text.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn render() -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Every field\n\n| field | meaning | default | limits |\n|---|---|---|---|\n");
    rows(&lockstep_api::crd::schema()["properties"]["spec"], "", true, &mut page)?;
    page.push_str(
        "\n## Options of targets\n\n| option | of | meaning | default | allowed |\n|---|---|---|---|---|\n",
    );
    for TargetOption { schemes, name, kind, meaning, default } in OPTIONS {
        let of: Vec<String> = schemes.iter().map(|scheme| format!("{scheme:?}").to_lowercase()).collect();
        writeln!(page, "| `{name}` | {} | {meaning} | `{default}` | {kind} |", of.join(", "))?;
    }
    page.push_str(
        "\n## Fields that only a cluster knows\n\nWhat `lockstep run` does about them on one machine:\n\n\
         | field | what | why |\n|---|---|---|\n",
    );
    for (field, what, why) in CLUSTER_ONLY {
        let what = match what {
            OnOneMachine::Noted => "ignored, with a note",
            OnOneMachine::Refused => "refused",
        };
        writeln!(page, "| `{field}` | {what} | {why} |")?;
    }
    page.push_str("\n`metadata` beyond the name, and `status`, are ignored.\n");
    Ok(page)
}

/// A row for each field below `schema`. `defaults`: whether there is a column of defaults.
pub(super) fn rows(schema: &Value, prefix: &str, defaults: bool, page: &mut String) -> Result<()> {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        let meaning =
            field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let default = match &field["default"] {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        let default = if defaults { format!(" {default} |") } else { String::new() };
        writeln!(page, "| `{path}` | {meaning} |{default} {} |", limits(field))?;
        // Kubernetes' own types are documented by Kubernetes.
        if matches!(path.as_str(), "agents.template" | "target.volume.ephemeral" | "target.volume.emptyDir") {
            continue;
        }
        rows(field, &format!("{path}."), defaults, page)?;
        rows(&field["items"], &format!("{path}[]."), defaults, page)?;
    }
    Ok(())
}

/// A bound as people write it: a schema's numbers may be floating, also where they are whole.
fn whole(bound: &Value) -> String {
    match bound.as_f64() {
        Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
        _ => bound.to_string(),
    }
}

fn limits(field: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(words) = field["enum"].as_array() {
        parts.push(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
    }
    let pattern = field["pattern"].as_str();
    let is_size = pattern == Some(lockstep_api::quantity::SIZE_PATTERN);
    if is_size {
        parts.push("bytes".to_owned());
    } else if pattern == Some(lockstep_api::span::SPAN_PATTERN) {
        parts.push(if field["allOf"].is_array() { "duration, more than 0" } else { "duration" }.to_owned());
    }
    match (&field["minimum"], &field["maximum"]) {
        _ if is_size => {}
        (Value::Null, Value::Null) => {}
        (least, Value::Null) => parts.push(format!("{} or more", whole(least))),
        (Value::Null, most) => parts.push(format!("at most {}", whole(most))),
        (least, most) => parts.push(format!("{} to {}", whole(least), whole(most))),
    }
    match (&field["minItems"], &field["maxItems"]) {
        (_, Value::Null) => {}
        (Value::Null, most) => parts.push(format!("at most {most} items")),
        (least, most) => parts.push(format!("{least} to {most} items")),
    }
    if let Some(most) = field["maxProperties"].as_u64() {
        parts.push(format!("at most {most} members"));
    }
    if field["type"] == "string" && parts.is_empty() && !field["maxLength"].is_null() {
        parts.push(format!("at most {} characters", field["maxLength"]));
    }
    parts.join("; ")
}
