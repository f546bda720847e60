//! YAML into JSON, strictly, with the line of every node.
//!
//! Works on the parser's events with a stack of its own, so that no input can exhaust the program's stack, and counts
//! every node that it makes, so that aliases cannot make a small file large. Plain scalars are read after YAML
//! 1.2's core schema. Deliberately without tags and without merge keys: neither means anything in a manifest.

use super::path;
use crate::fault::Fault;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

/// Levels of nesting; a pod template needs about 15.
pub const DEPTH_MAX: usize = 64;
/// Nodes in one document, aliases expanded: a manifest of 5,000 endpoints and options would stay far below.
pub const NODES_MAX: usize = 50_000;
/// Faults after which reading stops.
pub const FAULTS_MAX: usize = 200;

/// One document.
#[derive(Debug, Default)]
pub struct Document {
    /// Its content.
    pub value: Value,
    /// Line of each node, by path, from 1.
    pub lines: BTreeMap<String, u32>,
}

/// Reads all documents that are not empty.
///
/// # Errors
///
/// Everything that is wrong with the YAML itself: syntax, duplicate keys, tags, depth, number of nodes.
pub fn read(text: &str) -> Result<Vec<Document>, Vec<Fault>> {
    let mut reader = Reader::default();
    let mut parser = Parser::new(StrInput::new(text));
    while let Some(event) = parser.next_event() {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let message = format!("the manifest is not valid YAML: {}", error.info());
                reader.faults.push(Fault::new("", message).at_line(line_number(error.marker().line())));
                break;
            }
        };
        if !reader.take(event, span) || reader.faults.len() >= FAULTS_MAX {
            break;
        }
    }
    if reader.faults.is_empty() { Ok(reader.documents) } else { Err(reader.faults) }
}

#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    lines: BTreeMap<String, u32>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Value, usize)>,
    nodes: usize,
    faults: Vec<Fault>,
}

struct Frame {
    content: Content,
    path: String,
    anchor: usize,
    nodes_before: usize,
}

enum Content {
    List(Vec<Value>),
    Map { members: Map<String, Value>, key: Option<String> },
}

impl Reader {
    /// Takes one event; false when reading cannot go on.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let line = line_number(span.start.line());
        match event {
            Event::SequenceStart(anchor, tag) => {
                self.open(Content::List(Vec::new()), anchor, tag.as_deref(), line)
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { members: Map::new(), key: None };
                self.open(content, anchor, tag.as_deref(), line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(line),
            Event::Scalar(text, style, anchor, tag) => {
                // A scalar where a key is due is a key, whatever it looks like.
                if let Some(Frame { content: Content::Map { key: key @ None, members }, path, .. }) =
                    self.stack.last_mut()
                {
                    if members.contains_key(text.as_ref()) {
                        let path = path::member(path, &text);
                        let first = self
                            .lines
                            .get(&path)
                            .map_or(String::new(), |line| format!("; first on line {line}"));
                        self.faults.push(Fault::new(path, format!("is there twice{first}")).at_line(line));
                    } else {
                        self.lines.insert(path::member(path, &text), line);
                    }
                    *key = Some(text.into_owned());
                    return true;
                }
                let value = self.scalar(text, style, tag.as_deref(), line);
                if anchor != 0 {
                    self.anchors.insert(anchor, (value.clone(), 1));
                }
                self.count(1, line) && self.put(value, line)
            }
            Event::Alias(anchor) => {
                let Some((value, nodes)) = self.anchors.get(&anchor) else {
                    self.faults.push(Fault::new("", "an alias stands inside its own anchor").at_line(line));
                    return false;
                };
                // Counted before it is copied: this is where a bomb would go off.
                let nodes = *nodes;
                if self.nodes + nodes > NODES_MAX {
                    return self.count(nodes, line);
                }
                let value = value.clone();
                self.count(nodes, line) && self.put(value, line)
            }
            Event::DocumentStart(_) => {
                self.nodes = 0;
                true
            }
            Event::DocumentEnd => {
                self.anchors.clear();
                true
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => true,
        }
    }

    fn open(&mut self, content: Content, anchor: usize, tag: Option<&Tag>, line: u32) -> bool {
        if tag.is_some() {
            self.faults.push(Fault::new("", "tags have no meaning in a manifest").at_line(line));
        }
        if self.stack.len() >= DEPTH_MAX {
            let message = format!("is nested more than {DEPTH_MAX} levels deep");
            self.faults.push(Fault::new("", message).at_line(line));
            return false;
        }
        if let Some(Frame { content: Content::Map { key: None, .. }, .. }) = self.stack.last() {
            self.faults.push(Fault::new("", "a key must be a plain word").at_line(line));
            return false;
        }
        let path = self.next_path();
        self.note(&path, line);
        let nodes_before = self.nodes;
        self.stack.push(Frame { content, path, anchor, nodes_before });
        self.count(1, line)
    }

    fn close(&mut self, line: u32) -> bool {
        let Some(frame) = self.stack.pop() else { return false };
        let value = match frame.content {
            Content::List(items) => Value::Array(items),
            Content::Map { members, .. } => Value::Object(members),
        };
        if frame.anchor != 0 {
            self.anchors.insert(frame.anchor, (value.clone(), self.nodes - frame.nodes_before));
        }
        self.put(value, line)
    }

    fn put(&mut self, value: Value, line: u32) -> bool {
        let path = self.next_path();
        match self.stack.last_mut() {
            None => {
                let lines = std::mem::take(&mut self.lines);
                if !value.is_null() {
                    self.documents.push(Document { value, lines });
                }
                return true;
            }
            Some(Frame { content: Content::List(items), .. }) => items.push(value),
            Some(Frame { content: Content::Map { members, key }, .. }) => match key.take() {
                // The first of two wins; the second was reported with its key.
                Some(key) => {
                    members.entry(key).or_insert(value);
                }
                None => {
                    self.faults.push(Fault::new("", "a key must be a plain word").at_line(line));
                    return false;
                }
            },
        }
        self.note(&path, line);
        true
    }

    /// Remembers the line of a node, unless its key was seen on an earlier one.
    fn note(&mut self, path: &str, line: u32) {
        self.lines.entry(path.to_owned()).or_insert(line);
    }

    /// Path of the node that comes next.
    fn next_path(&self) -> String {
        match self.stack.last() {
            None => String::new(),
            Some(Frame { content: Content::List(items), path, .. }) => path::item(path, items.len()),
            Some(Frame { content: Content::Map { key, .. }, path, .. }) => {
                path::member(path, key.as_deref().unwrap_or_default())
            }
        }
    }

    fn count(&mut self, nodes: usize, line: u32) -> bool {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return true;
        }
        let message = format!("has more than {NODES_MAX} values, with aliases written out");
        self.faults.push(Fault::new("", message).at_line(line));
        false
    }

    fn scalar(&mut self, text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Value {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => Value::String(text.into_owned()),
            Some(_) => {
                self.faults.push(Fault::new("", "tags have no meaning in a manifest").at_line(line));
                Value::Null
            }
            None if style == ScalarStyle::Plain => plain(&text),
            None => Value::String(text.into_owned()),
        }
    }
}

/// A plain scalar after YAML 1.2's core schema; what JSON cannot hold stays text.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let number = text.strip_prefix('+').unwrap_or(text);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if let Some(hex) = text.strip_prefix("0x")
        && let Ok(value) = u64::from_str_radix(hex, 16)
    {
        return Value::from(value);
    }
    if let Some(octal) = text.strip_prefix("0o")
        && let Ok(value) = u64::from_str_radix(octal, 8)
    {
        return Value::from(value);
    }
    if !is_number {
        return Value::String(text.to_owned());
    }
    if let Ok(value) = number.parse::<i64>() {
        return Value::from(value);
    }
    if let Ok(value) = number.parse::<u64>() {
        return Value::from(value);
    }
    match number.parse::<f64>().ok().and_then(Number::from_f64) {
        Some(value) => Value::Number(value),
        None => Value::String(text.to_owned()),
    }
}

fn line_number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(text: &str) -> Value {
        read(text).unwrap().remove(0).value
    }

    fn faults(text: &str) -> String {
        read(text).unwrap_err().iter().map(|fault| format!("{fault}\n")).collect()
    }

    #[test]
    fn scalars_are_what_the_core_schema_says() {
        let value = one(
            "{a: 1, b: -2, c: 1.5, d: yes, e: ~, f: '7', g: 0x10, h: 1.2.3, i: true, j: 8Mi, k: 1e3, l: !!str 5}",
        );
        let want = json!({"a": 1, "b": -2, "c": 1.5, "d": "yes", "e": null, "f": "7", "g": 16, "h": "1.2.3",
            "i": true, "j": "8Mi", "k": 1000.0, "l": "5"});
        assert_eq!(value, want);
        assert_eq!(one("a: 100000000000000000000"), json!({"a": 1e20}));
    }

    #[test]
    fn every_node_has_its_line() {
        let document = read("a:\n  b:\n    - 1\n    - c: 2\n").unwrap().remove(0);
        assert_eq!(document.lines["a.b"], 2);
        assert_eq!(document.lines["a.b[0]"], 3);
        assert_eq!(document.lines["a.b[1].c"], 4);
    }

    #[test]
    fn documents_that_are_empty_do_not_count() {
        assert_eq!(read("---\n# nothing\n---\na: 1\n---\n").unwrap().len(), 1);
        assert_eq!(read("a: 1\n---\nb: 2\n").unwrap().len(), 2);
        assert_eq!(read("").unwrap().len(), 0);
    }

    #[test]
    fn duplicate_keys_are_all_reported() {
        let text = faults("a: 1\nb: {c: 1, c: 2}\na: 3\n");
        assert!(text.contains("b.c (line 2): is there twice"), "{text}");
        assert!(text.contains("a (line 3): is there twice; first on line 1"), "{text}");
    }

    #[test]
    fn aliases_are_expanded_within_bounds() {
        assert_eq!(one("a: &x {k: [1, 2]}\nb: *x\n"), json!({"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}));
        let mut bomb = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
        for level in 1..12 {
            let inner = vec![format!("*a{}", level - 1); 9].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(faults(&bomb).contains("more than 50000 values"));
        assert!(faults("a: &x [*x]\n").contains("alias"));
    }

    #[test]
    fn depth_is_bounded() {
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let deep = |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
            assert!(faults(&deep(70)).contains("nested more than 64"), "{open}");
            // So deep that the parser itself gives up first.
            assert!(!faults(&deep(5000)).is_empty(), "{open}");
        }
    }
}
