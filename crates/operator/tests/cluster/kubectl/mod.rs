//! `kubectl lockstep`, as a plugin that kubectl finds in its PATH, against runs of the real operator.

mod away;
mod follow;
mod rights;
mod start;
mod story;

use lockstep_testcluster::Ended;

/// The JSON objects of `watch --json`.
fn objects(ended: &Ended) -> Vec<serde_json::Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    ended.stdout.lines().map(parse).collect()
}

/// The objects of one type.
fn of_type<'a>(objects: &'a [serde_json::Value], type_: &str) -> Vec<&'a serde_json::Value> {
    objects.iter().filter(|object| object["type"] == type_).collect()
}
