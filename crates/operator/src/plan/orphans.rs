//! Pods that nobody looks after: what a restarted operator finds beside the pods of the runs that it knows.
//!
//! A pod whose owner is gone is the garbage collector's. One that has lost its owner (`--cascade=orphan`, with the operator
//! away) and whose run is gone is ours by its labels and its name, and nobody else will ever remove it: its agent ends by
//! itself, but the pod would stay. Everything else is left alone, whatever labels it bears.

use super::step::{Action, Step};
use crate::pods::build::RunIdentity;
use crate::pods::facts::PodFacts;
use std::collections::BTreeSet;

/// Steps for pods of one namespace whose run is gone. `runs`: uids of every run that exists there.
#[must_use]
pub fn collect(namespace: &str, pods: &[PodFacts], runs: &BTreeSet<String>) -> Vec<Step> {
    let orphaned = |pod: &&PodFacts| {
        let named =
            RunIdentity { namespace: namespace.to_owned(), name: pod.run.clone(), uid: pod.run_uid.clone() };
        !runs.contains(&pod.run_uid) && pod.owner_uid.is_none() && pod.is_of(&named) && !pod.deleting
    };
    let step = |pod: &PodFacts| Step {
        action: Action::DeletePod { name: pod.name.clone(), uid: pod.uid.clone() },
        why: format!("{}: its run is gone, and so is its owner", pod.name),
    };
    pods.iter().filter(orphaned).map(step).collect()
}
