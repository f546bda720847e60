//! Cluster-only fields on one machine: which are ignored with a note, which are refused. The table in
//! docs/manifest.md is this list; a test compares them.

use super::Findings;
use crate::fault::Fault;
use crate::labels;
use crate::spec::BenchmarkRun;
use crate::spec::words::{CleanupPolicy, Placement};

/// What `lockstep run` does about a field that only a cluster knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOneMachine {
    /// Goes on without it and says so.
    Noted,
    /// Does not run: ignoring it would do something else than what was asked for.
    Refused,
}

/// Every field that only a cluster knows, with what is done about it and why.
pub const CLUSTER_ONLY: [(&str, OnOneMachine, &str); 14] = [
    ("agents.placement", OnOneMachine::Noted, "all agents run on this machine"),
    ("agents.cleanupPolicy", OnOneMachine::Noted, "agents are processes and end with the run"),
    ("agents.template", OnOneMachine::Noted, "agents are processes, not pods"),
    ("target.credentials", OnOneMachine::Noted, "credentials come from the caller's environment"),
    ("target.volume", OnOneMachine::Noted, "the path of the target is used as it is"),
    ("results.destination", OnOneMachine::Noted, "results stay in the results directory"),
    ("results.secretName", OnOneMachine::Noted, "results stay in the results directory"),
    ("results.configMap", OnOneMachine::Noted, "results stay in the results directory"),
    ("results.retain", OnOneMachine::Noted, "the results directory is never deleted"),
    ("ttlAfterFinished", OnOneMachine::Noted, "the results directory is never deleted"),
    (
        "exclusive",
        OnOneMachine::Noted,
        "runs on one machine are not queued; the lock on the target still holds",
    ),
    ("managedBy", OnOneMachine::Noted, "no operator is involved"),
    ("suspend", OnOneMachine::Refused, "a suspended run would never begin"),
    ("stop", OnOneMachine::Refused, "a stopped run would never begin; Ctrl-C stops one that is under way"),
];

pub(super) fn check(run: &BenchmarkRun, findings: &mut Findings) {
    let spec = &run.spec;
    for (field, what, why) in CLUSTER_ONLY {
        let is_set = match field {
            "agents.placement" => spec.agents.placement != Placement::default(),
            "agents.cleanupPolicy" => spec.agents.cleanup_policy != CleanupPolicy::default(),
            "agents.template" => spec.agents.template.is_some(),
            "target.credentials" => spec.target.credentials.is_some(),
            "target.volume" => spec.target.volume.is_some(),
            "results.destination" => spec.results.destination.is_some(),
            "results.secretName" => spec.results.secret_name.is_some(),
            "results.configMap" => !spec.results.config_map,
            "results.retain" => spec.results.retain,
            "ttlAfterFinished" => spec.ttl_after_finished.is_some(),
            "exclusive" => spec.exclusive.is_some(),
            "managedBy" => spec.managed_by != labels::MANAGED_BY,
            "suspend" => spec.suspend,
            "stop" => spec.stop.is_some(),
            _ => false,
        };
        match what {
            _ if !is_set => {}
            OnOneMachine::Noted => findings.note(format!("spec.{field} is ignored: {why}")),
            OnOneMachine::Refused => {
                let fault =
                    Fault::new(format!("spec.{field}"), format!("cannot be done on one machine: {why}"));
                findings.fault(fault.hint("leave it out"));
            }
        }
    }
}
