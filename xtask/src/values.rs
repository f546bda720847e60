//! `docs/values.md`: every value of the chart with its default, limits and meaning, made from the comments of `values.yaml`
//! and from its schema, so that the page cannot say something else than helm does.
//!
//! A comment that begins with `--` stands above the value that it documents. A value without one, or one that the schema
//! does not know or has no example of, is an error: a test renders the chart with each example.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

const INTRODUCTION: &str = include_str!("values.md");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/lockstep");

/// The page's text.
///
/// # Errors
/// A file of the chart cannot be read, or a value lacks what every value has.
pub fn render() -> Result<String> {
    let read = |file: &str| {
        std::fs::read_to_string(Path::new(CHART).join(file)).with_context(|| format!("cannot read {file}"))
    };
    page(&read("values.yaml")?, &serde_json::from_str(&read("values.schema.json")?)?)
}

fn page(values: &str, schema: &Value) -> Result<String> {
    let documented = meanings(values);
    let tree: Value = serde_yaml::from_str(values)?;
    let mut left = documented.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>();
    every_leaf_is_documented(&tree, "", &mut left, &documented)?;
    ensure!(left.is_empty(), "values.yaml documents no value there is: {left:?}");
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n| value | meaning | default | limits |\n|---|---|---|---|\n");
    for (path, meaning) in &documented {
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = tree.pointer(&pointer).context("a path that was checked")?;
        let limits = limits(schema, path)?;
        let default = match default {
            Value::String(text) if text.is_empty() => String::new(),
            Value::String(text) => format!("`{text}`"),
            value => format!("`{value}`"),
        };
        writeln!(page, "| `{path}` | {meaning} | {default} | {limits} |")?;
    }
    Ok(page)
}

/// Paths with what their comments say, in the order of the file.
fn meanings(values: &str) -> Vec<(String, String)> {
    let (mut found, mut above): (Vec<(String, String)>, Option<String>) = (Vec::new(), None);
    let mut path: Vec<(usize, &str)> = Vec::new();
    for line in values.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        if let Some(comment) = text.strip_prefix('#').map(str::trim) {
            match (comment.strip_prefix("-- "), &mut above) {
                (Some(first), _) => above = Some(first.to_owned()),
                (None, Some(so_far)) => *so_far = format!("{so_far} {comment}"),
                (None, None) => {}
            }
            continue;
        }
        if let Some((key, _)) = text.split_once(':').filter(|(key, _)| !key.contains(['{', '-', ' '])) {
            path.retain(|(at, _)| *at < indent);
            path.push((indent, key));
            let name = path.iter().map(|(_, key)| *key).collect::<Vec<_>>().join(".");
            found.extend(above.take().map(|meaning| (name, meaning)));
        }
        above = None;
    }
    found
}

fn every_leaf_is_documented(
    value: &Value,
    path: &str,
    left: &mut Vec<&str>,
    documented: &[(String, String)],
) -> Result<()> {
    if documented.iter().any(|(name, _)| name == path) {
        left.retain(|name| *name != path);
        return Ok(());
    }
    match value.as_object() {
        Some(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                every_leaf_is_documented(value, &path, left, documented)?;
            }
            Ok(())
        }
        _ => bail!("values.yaml says nothing of `{path}` (a comment above it that begins with `--`)"),
    }
}

/// What the schema says of a value, for people.
fn limits(schema: &Value, path: &str) -> Result<String> {
    let mut at = schema;
    for name in path.split('.') {
        at = &at["properties"][name];
    }
    ensure!(at.is_object(), "values.schema.json does not know `{path}`");
    ensure!(at["examples"][0] != Value::Null, "values.schema.json has no example of `{path}`");
    let mut all: BTreeMap<String, Value> = at.as_object().cloned().unwrap_or_default().into_iter().collect();
    if let Some(shared) = at["$ref"].as_str().and_then(|to| schema.pointer(to.trim_start_matches('#'))) {
        all.extend(shared.as_object().cloned().unwrap_or_default());
    }
    let mut parts = Vec::new();
    if let Some(words) = all.get("enum").and_then(Value::as_array) {
        let word = |word: &Value| word.as_str().map_or_else(|| word.to_string(), ToOwned::to_owned);
        parts.push(words.iter().map(word).collect::<Vec<_>>().join(", "));
    } else if let Some(type_) = all.get("type").and_then(Value::as_str) {
        parts.push(type_.to_owned());
    }
    match (all.get("minimum"), all.get("maximum")) {
        (Some(least), Some(most)) => parts.push(format!("{least} to {most}")),
        (Some(least), None) => parts.push(format!("{least} or more")),
        _ => {}
    }
    if let Some(pattern) = all.get("pattern").and_then(Value::as_str) {
        parts.push(format!("`{}`", pattern.replace('|', "\\|")));
    }
    Ok(parts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const VALUES: &str = "# A file.\n\n# -- First\n# line.\na: 1\n# Not one.\nb:\n  # -- Second.\n  c: {}\n  # -- Third.\n  d:\n    x: {e: f}\n";

    fn schema() -> Value {
        let leaf = |type_: &str| json!({"type": type_, "examples": [1]});
        let b = json!({"properties": {"c": leaf("object"), "d": leaf("object")}});
        json!({"properties": {"a": {"$ref": "#/definitions/n", "examples": [2]}, "b": b},
            "definitions": {"n": {"type": "integer", "minimum": 1}}})
    }

    #[test]
    fn comments_become_rows() {
        let page = page(VALUES, &schema()).unwrap();
        for row in [
            "| `a` | First line. | `1` | integer; 1 or more |",
            "| `b.c` | Second. | `{}` | object |",
            "| `b.d` | Third. | `{\"x\":{\"e\":\"f\"}}` | object |",
        ] {
            assert!(page.contains(row), "{row} in {page}");
        }
    }

    #[test]
    fn what_is_not_said_or_not_known_is_an_error() {
        let wrong = |values: &str, schema: Value, says: &str| {
            let error = page(values, &schema).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        wrong(&VALUES.replace("# -- Second.", "# Second."), schema(), "b.c");
        wrong(VALUES, json!({}), "does not know `a`");
        let mut without = schema();
        without["properties"]["b"]["properties"]["c"]["examples"] = json!([]);
        wrong(VALUES, without, "no example of `b.c`");
    }
}
