//! Holds a document against the CRD's own schema and reports everything that does not fit.
//!
//! The schema is the one that the API server gets, so that a file which passes here passes there. Deliberately no
//! general JSON Schema validator: only the keywords that a structural schema may hold, and only what ours does
//! hold; CEL rules are said again by [`crate::resolve`].

use super::path;
use super::suggest;
use super::yaml::FAULTS_MAX;
use crate::fault::Fault;
use crate::quantity::{ByteSize, SIZE_PATTERN};
use crate::span::SPAN_PATTERN;
use lockstep_core::units::{SIZE_ALLOWED, SPAN_ALLOWED};
use regex_lite::Regex;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Collects what does not fit.
#[derive(Default)]
pub struct Checker {
    /// What was found so far, in the order of the document.
    pub faults: Vec<Fault>,
    patterns: HashMap<String, Option<Regex>>,
}

impl Checker {
    /// Holds `value`, which stands at `path`, against `schema`.
    pub fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        if self.faults.len() >= FAULTS_MAX {
            return;
        }
        if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
            self.int_or_string(schema, value, path);
            return;
        }
        match (schema["type"].as_str().unwrap_or_default(), value) {
            ("object", Value::Object(members)) => self.object(schema, members, path),
            ("array", Value::Array(items)) => self.array(schema, items, path),
            ("string", Value::String(text)) => self.string(schema, text, path),
            ("boolean", Value::Bool(_)) => {}
            ("integer", Value::Number(number)) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                self.number(schema, value, path);
            }
            ("number", Value::Number(_)) => self.number(schema, value, path),
            ("", _) => {}
            (expected, found) => self.wrong_type(schema, expected, found, path),
        }
    }

    fn object(&mut self, schema: &Value, members: &Map<String, Value>, path: &str) {
        let no_properties = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&no_properties);
        let every = schema.get("additionalProperties").filter(|every| every.is_object());
        let is_open = schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true);
        for (name, value) in members {
            let here = path::member(path, name);
            match properties.get(name).or(every) {
                // Null is absence, as it is for the API server.
                Some(_) if value.is_null() => {}
                Some(schema) => self.check(schema, value, &here),
                None if is_open => {}
                None => self.faults.push(unknown(&here, name, properties.keys().map(String::as_str))),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if members.get(name).is_none_or(Value::is_null) {
                let mut fault = Fault::new(path::member(path, name), "is missing");
                if let Some(schema) = properties.get(name) {
                    fault = fault.hint(meaning(schema));
                }
                self.faults.push(fault);
            }
        }
        if let Some(most) = schema["maxProperties"].as_u64()
            && members.len() as u64 > most
        {
            let message = format!("has {} members", members.len());
            self.faults.push(Fault::new(path, message).allowed(format!("at most {most}")));
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &str) {
        let count = items.len() as u64;
        if let Some(most) = schema["maxItems"].as_u64()
            && count > most
        {
            self.faults
                .push(Fault::new(path, format!("has {count} items")).allowed(format!("at most {most}")));
        }
        if let Some(least) = schema["minItems"].as_u64()
            && count < least
        {
            self.faults
                .push(Fault::new(path, format!("has {count} items")).allowed(format!("at least {least}")));
        }
        for (index, item) in items.iter().enumerate() {
            self.check(&schema["items"], item, &path::item(path, index));
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &str) {
        if let Some(words) = schema["enum"].as_array() {
            if !words.iter().any(|word| word == text) {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                let mut fault = Fault::new(path, format!("{} is not one of the words", quote(text)))
                    .allowed(words.join(", "));
                if let Some(close) = suggest::closest(text, words.iter().copied()) {
                    fault = fault.hint(format!("did you mean {close}?"));
                }
                self.faults.push(fault);
            }
            return;
        }
        let length = text.chars().count() as u64;
        if let Some(most) = schema["maxLength"].as_u64()
            && length > most
        {
            let message = format!("is {length} characters long");
            self.faults.push(Fault::new(path, message).allowed(format!("at most {most}")));
            return;
        }
        let also = schema["allOf"].as_array().into_iter().flatten();
        let patterns = std::iter::once(schema).chain(also).filter_map(|schema| schema["pattern"].as_str());
        for pattern in patterns {
            if !self.matches(pattern, text) {
                let message = format!("{} is {}", quote(text), not_what(pattern));
                self.faults.push(Fault::new(path, message).allowed(explain(pattern)));
                return;
            }
        }
        if let Some(least) = schema["minLength"].as_u64()
            && length < least
        {
            self.faults.push(Fault::new(path, "is empty").allowed(format!("at least {least} characters")));
        }
    }

    fn number(&mut self, schema: &Value, value: &Value, path: &str) {
        let number = value.as_f64().unwrap_or(f64::NAN);
        let least = schema["minimum"].as_f64();
        let most = schema["maximum"].as_f64();
        if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
            let allowed = match (least, most) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("{least} or more"),
                (_, most) => format!("at most {}", most.unwrap_or_default()),
            };
            self.faults.push(Fault::new(path, format!("{value} is out of range")).allowed(allowed));
        }
    }

    fn int_or_string(&mut self, schema: &Value, value: &Value, path: &str) {
        let is_size = schema["pattern"] == SIZE_PATTERN;
        match value {
            Value::String(text) => {
                let before = self.faults.len();
                self.string(schema, text, path);
                if is_size
                    && before == self.faults.len()
                    && let Err(error) = text.parse::<ByteSize>()
                {
                    self.faults.push(Fault::new(path, error.to_string()).allowed(SIZE_ALLOWED));
                }
            }
            Value::Number(number) if number.is_i64() || number.is_u64() => {
                if number.as_i64().is_none_or(|number| number < 0) {
                    let allowed = if is_size { SIZE_ALLOWED } else { "a number that is not negative" };
                    self.faults.push(Fault::new(path, format!("{value} is out of range")).allowed(allowed));
                }
            }
            Value::Number(_) => {
                let fault = Fault::new(path, format!("{value} is not a whole number"));
                self.faults.push(if is_size {
                    fault.allowed(SIZE_ALLOWED)
                } else {
                    fault.hint(format!("write it in quotes: \"{value}\""))
                });
            }
            other => {
                let allowed = if is_size { SIZE_ALLOWED } else { "a number, or text" };
                self.faults.push(Fault::new(path, format!("is {}", kind(other))).allowed(allowed));
            }
        }
    }

    fn wrong_type(&mut self, schema: &Value, expected: &str, found: &Value, path: &str) {
        let mut fault = Fault::new(path, format!("is {}", kind(found)));
        let pattern = schema["pattern"].as_str();
        let words = schema["enum"].as_array();
        fault = match (expected, pattern, words) {
            ("string", Some(pattern), _) => fault.allowed(explain(pattern)),
            ("string", None, Some(words)) => {
                fault.allowed(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
            }
            ("string", ..) => fault.allowed("text"),
            ("boolean", ..) => fault.allowed("true or false"),
            ("integer", ..) => fault.allowed("a whole number"),
            ("number", ..) => fault.allowed("a number"),
            ("array", ..) => fault.allowed("a list"),
            _ => match schema["properties"].as_object().filter(|properties| properties.len() <= 24) {
                Some(properties) if !properties.is_empty() => {
                    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
                    fault.allowed(format!("an object with {}", names.join(", ")))
                }
                _ => fault.allowed("an object"),
            },
        };
        if pattern == Some(SPAN_PATTERN)
            && let Value::Number(number) = found
        {
            fault = fault.hint(format!("did you mean {number}s?"));
        } else if expected == "string" && !matches!(found, Value::Array(_) | Value::Object(_) | Value::Null) {
            fault = fault.hint(format!("write it in quotes: \"{found}\""));
        }
        self.faults.push(fault);
    }

    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        if !self.patterns.contains_key(pattern) {
            self.patterns.insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        // A pattern that does not compile admits everything here; a test shows that all of ours do.
        self.patterns[pattern].as_ref().is_none_or(|regex| regex.is_match(text))
    }
}

/// An unknown field, with what was probably meant.
#[must_use]
pub fn unknown<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Fault {
    let fault = Fault::new(path, "there is no such field");
    match suggest::closest(name, known.clone()) {
        Some(close) => fault.hint(format!("did you mean {close}?")),
        None => {
            let names: Vec<&str> = known.take(25).collect();
            if names.is_empty() || names.len() > 24 { fault } else { fault.allowed(names.join(", ")) }
        }
    }
}

fn not_what(pattern: &str) -> &'static str {
    match pattern {
        SIZE_PATTERN => "not a size",
        SPAN_PATTERN => "not a duration",
        "[1-9]" => "no time at all",
        _ => "not of the right form",
    }
}

/// A pattern in words.
fn explain(pattern: &str) -> String {
    match pattern {
        SIZE_PATTERN => SIZE_ALLOWED.to_owned(),
        SPAN_PATTERN => SPAN_ALLOWED.to_owned(),
        "[1-9]" => "a duration of more than zero".to_owned(),
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" => "lower-case letters, digits, and dashes inside".to_owned(),
        r"^https?://[^/?#]+/?$" => "http://host:port or https://host:port, without a path".to_owned(),
        r"^(s3|gs|az|file|direct|mem|null)://" => {
            "s3://bucket/prefix, file:///absolute/path, mem:// or null://".to_owned()
        }
        r"^(s3|gs|az)://" => "s3://bucket/prefix".to_owned(),
        r"^[0-9][0-9a-zA-Z.]{0,31}$" => {
            "a number with the metric's unit: 20ms, 350us, 4900, 1Gi, \"0.5\"".to_owned()
        }
        pattern => format!("text that matches {pattern}"),
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(value) => format!("{value}, true or false"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quote(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// A value as a message shows it: short, on one line, with control characters escaped.
fn quote(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    let dots = if text.chars().count() > 60 { "…" } else { "" };
    format!("`{}{dots}`", short.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))
}

/// What to put into a field: its members, or what its description says.
fn meaning(schema: &Value) -> String {
    let members =
        schema["properties"].as_object().into_iter().flat_map(|fields| fields.keys().map(String::as_str));
    let members: Vec<&str> = members.collect();
    if !members.is_empty() {
        return format!("its fields are {}", members.join(", "));
    }
    let text = schema["description"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
    format!("it says: {}", text.trim_end_matches('.'))
}
