//! `--set path=value`, applied to the document before it is checked, so that an override is held to the same schema
//! as the file.

use super::path::{self, Step};
use super::yaml;
use crate::fault::Fault;
use serde_json::{Map, Value};

/// Most items of a list, so that `[4000000000]` does not make one.
const ITEMS_MAX: usize = 5_000;

/// Applies one override. Objects and lists on the way are created; an item by name must exist. An empty value removes
/// the field. Returns the path as faults will print it.
///
/// # Errors
///
/// A fault when the path is malformed or leads through a scalar, or the value is no YAML.
pub fn apply(document: &mut Value, path: &str, text: &str) -> Result<String, Fault> {
    let steps = path::parse(path).ok_or_else(|| {
        Fault::new(path, "is not a path")
            .allowed("names and indexes, e.g. spec.stages[mixed].execute.duration")
    })?;
    if let Some(Step::Member(first)) = steps.first()
        && !["apiVersion", "kind", "metadata", "spec"].contains(&first.as_str())
    {
        return Err(Fault::new(path, "there is no such field").hint(format!("did you mean spec.{path}?")));
    }
    let value = parse_value(path, text)?;
    let mut here = String::new();
    let mut node = document;
    for step in steps {
        if node.is_null() {
            *node = match step {
                Step::Index(_) => Value::Array(Vec::new()),
                Step::Member(_) | Step::Named(_) => Value::Object(Map::new()),
            };
        }
        (node, here) = descend(node, &here, &step).map_err(|message| Fault::new(path, message))?;
    }
    *node = value;
    Ok(here)
}

fn descend<'a>(node: &'a mut Value, here: &str, step: &Step) -> Result<(&'a mut Value, String), String> {
    match (node, step) {
        (Value::Object(members), Step::Member(name) | Step::Named(name)) => {
            Ok((members.entry(name.clone()).or_insert(Value::Null), path::member(here, name)))
        }
        (Value::Array(items), Step::Named(name)) => {
            let names: Vec<String> =
                items.iter().filter_map(|item| item["name"].as_str()).map(str::to_owned).collect();
            let index = items
                .iter()
                .position(|item| item["name"] == name.as_str())
                .ok_or_else(|| format!("{here} has no item named {name}; it has {}", names.join(", ")))?;
            Ok((&mut items[index], path::item(here, index)))
        }
        (Value::Array(items), Step::Index(index)) => {
            if *index > items.len() || *index >= ITEMS_MAX {
                return Err(format!("{here} has {} items", items.len()));
            }
            if *index == items.len() {
                items.push(Value::Null);
            }
            Ok((&mut items[*index], path::item(here, *index)))
        }
        (Value::Array(_), Step::Member(name)) => {
            Err(format!("{here} is a list; write {here}[0].{name} or {here}[name].{name}"))
        }
        _ => Err(format!("{here} has no members")),
    }
}

fn parse_value(path: &str, text: &str) -> Result<Value, Fault> {
    let mut documents = yaml::read(text).map_err(|mut faults| {
        let message = faults.pop().map_or_else(String::new, |fault| fault.message);
        Fault::new(path, format!("the value of --set {message}"))
    })?;
    match documents.len() {
        0 => Ok(Value::Null),
        1 => Ok(documents.remove(0).value),
        _ => Err(Fault::new(path, "the value of --set is more than one document")),
    }
}
