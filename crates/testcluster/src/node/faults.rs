//! Faults on order. What really goes wrong needs none: an image that no node has, a Secret that is missing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What goes wrong with pods of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Their images cannot be pulled, for this reason.
    ImagePull(String),
    /// The runtime cannot create their containers, for this reason: `CreateContainerError`.
    CreateContainer(String),
    /// It takes this long until their first container is created.
    SlowStart(Duration),
}

/// Standing orders, by pattern of `namespace/pod`.
#[derive(Default)]
pub(super) struct Orders(Mutex<Vec<(String, Fault)>>);

impl Orders {
    pub(super) fn give(&self, pattern: &str, fault: Fault) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((pattern.to_owned(), fault));
    }

    pub(super) fn withdraw(&self, pattern: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(given, _)| given != pattern);
    }

    /// What was ordered for a pod.
    pub(super) fn of(&self, pod: &str) -> Vec<Fault> {
        let orders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        orders.iter().filter(|(pattern, _)| matches(pattern, pod)).map(|(_, fault)| fault.clone()).collect()
    }
}

/// Whether a name is one of a pattern, in which `*` stands for anything. A pattern without `/` is one of names alone.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    if !pattern.contains('/') {
        let last = name.split_once('/').map_or(name, |(_, last)| last);
        return glob(pattern, last);
    }
    glob(pattern, name)
}

fn glob(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).filter(|at| name.is_char_boundary(*at)).any(|at| glob(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_of_names_or_of_namespaces_and_names() {
        for (pattern, name, expected) in [
            ("run-*", "perf/run-3", true),
            ("run-*", "perf/other-run-3", false),
            ("*", "perf/run-3", true),
            ("perf/run-3", "perf/run-3", true),
            ("perf/*-3", "perf/run-3", true),
            ("other/*", "perf/run-3", false),
            ("run-*-0", "perf/run-3-1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
