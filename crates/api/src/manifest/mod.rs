//! Reading a manifest, as strictly as the API server does and with everything that is wrong said at once.
//!
//! Bytes → size and encoding → YAML ([`yaml`]) → overrides → the CRD's schema ([`schema`]) → types. Nothing here
//! looks at meaning across fields; that is [`crate::resolve()`], which a [`Manifest`] calls with its line numbers.

pub mod overrides;
pub mod path;
pub mod schema;
pub mod suggest;
pub mod yaml;

use crate::fault::Fault;
use crate::labels;
use crate::resolve::{self, ResolveOptions, Resolved};
use crate::spec::BenchmarkRun;
use schema::Checker;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The largest manifest, in bytes; etcd takes no larger object either.
pub const SIZE_MAX: usize = 1 << 20;

/// A manifest that fits the schema.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The run.
    pub run: BenchmarkRun,
    /// The document as it was read, overrides applied: what `run.yaml` records.
    pub document: Value,
    /// What was ignored, for people.
    pub notes: Vec<String>,
    lines: BTreeMap<String, u32>,
}

impl Manifest {
    /// [`crate::resolve()`], with the lines of the file in faults and the notes of reading in front.
    ///
    /// # Errors
    ///
    /// Every fault of meaning.
    pub fn resolve(&self, options: &ResolveOptions) -> Result<Resolved, Vec<Fault>> {
        match resolve::resolve(&self.run, options) {
            Ok(mut resolved) => {
                resolved.notes.splice(0..0, self.notes.iter().cloned());
                Ok(resolved)
            }
            Err(mut faults) => {
                locate(&mut faults, &self.lines);
                Err(faults)
            }
        }
    }
}

/// Reads a manifest. `overrides` are pairs of path and value, applied in order.
///
/// # Errors
///
/// Every fault of form: size, encoding, YAML, number of documents, kind, unknown or missing fields, types, words, ranges.
pub fn load(bytes: &[u8], overrides: &[(String, String)]) -> Result<Manifest, Vec<Fault>> {
    let text = text(bytes).map_err(|fault| vec![fault])?;
    let mut documents = yaml::read(text)?;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        let message = match documents.len() {
            0 => "the manifest is empty".to_owned(),
            others => format!("the manifest has {} documents", others + 1),
        };
        let hint = "split the file, or pick one document";
        let fault = Fault::new("", message).allowed("exactly one BenchmarkRun");
        return Err(vec![if documents.is_empty() { fault } else { fault.hint(hint) }]);
    };
    let yaml::Document { mut value, mut lines } = document;
    if !value.is_object() {
        return Err(vec![
            Fault::new("", "the manifest is not an object")
                .allowed("a BenchmarkRun: apiVersion, kind, metadata, spec"),
        ]);
    }
    // Another kind would fail in every field; only this is worth saying.
    let faults = identity(&value);
    if !faults.is_empty() {
        return Err(located(faults, &lines));
    }
    let mut faults = Vec::new();
    for (path, text) in overrides {
        match overrides::apply(&mut value, path, text) {
            Ok(path) => lines.retain(|known, _| !known.starts_with(&path)),
            Err(fault) => faults.push(fault),
        }
    }
    let mut notes = Vec::new();
    if value.as_object_mut().is_some_and(|members| members.remove("status").is_some()) {
        notes.push("status is ignored: it belongs to the run that the file was taken from".to_owned());
    }
    let mut checker = Checker::default();
    checker.check(&SCHEMA, &value, "");
    faults.append(&mut checker.faults);
    faults.extend(identity(&value));
    if !faults.is_empty() {
        return Err(located(faults, &lines));
    }
    let document = value.clone();
    drop_nulls(&mut value);
    match serde_json::from_value(value) {
        Ok(run) => Ok(Manifest { run, document, notes, lines }),
        Err(error) => Err(vec![Fault::new("", format!("the manifest cannot be read: {error}"))]),
    }
}

/// The schema of the whole object, with the metadata that every object has: the CRD itself says of it only `object`.
static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let mut schema = crate::crd::schema().clone();
    schema["properties"]["metadata"] = crate::crd::metadata_schema();
    schema["properties"]["apiVersion"] = serde_json::json!({ "type": "string" });
    schema["properties"]["kind"] = serde_json::json!({ "type": "string" });
    schema["required"] = serde_json::json!(["apiVersion", "kind", "metadata", "spec"]);
    schema
});

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if bytes.len() > SIZE_MAX {
        let message = format!("the manifest is {} bytes long", bytes.len());
        return Err(Fault::new("", message).allowed(format!("at most {SIZE_MAX}")).hint("is it a manifest?"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Fault::new("", "the manifest is not text in UTF-8")
            .at_line(u32::try_from(line).unwrap_or(u32::MAX))
            .hint("is it a manifest?")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        Some(at) => {
            let line = text[..at].matches('\n').count() + 1;
            let fault = Fault::new("", "the manifest has control characters")
                .at_line(u32::try_from(line).unwrap_or(u32::MAX));
            Err(fault.hint("is it a manifest?"))
        }
        None => Ok(text),
    }
}

fn identity(value: &Value) -> Vec<Fault> {
    [("apiVersion", labels::API_VERSION), ("kind", labels::KIND)]
        .into_iter()
        .filter(|(name, want)| value[*name] != *want)
        .map(|(name, want)| {
            let message = match &value[name] {
                Value::Null => "is missing".to_owned(),
                found => format!("is {}", found.to_string().chars().take(80).collect::<String>()),
            };
            Fault::new(name, message).allowed(want)
        })
        .collect()
}

fn located(mut faults: Vec<Fault>, lines: &BTreeMap<String, u32>) -> Vec<Fault> {
    locate(&mut faults, lines);
    faults
}

/// Gives each fault the line of its path, or of the nearest one above it that is in the file.
fn locate(faults: &mut [Fault], lines: &BTreeMap<String, u32>) {
    for fault in faults.iter_mut().filter(|fault| fault.line.is_none()) {
        let mut path = fault.path.as_str();
        while !path.is_empty() {
            if let Some(line) = lines.get(path) {
                fault.line = Some(*line);
                break;
            }
            path = path.rfind(['.', '[']).map_or("", |end| &path[..end]);
        }
    }
}

/// Null is absence: the API server drops it too.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
