//! What an agent on a cluster is started with: the contract between the operator and `lockstep-agent`.
//!
//! The program gets one argument, `--cluster`, and everything else through its environment, where a template cannot change
//! it ([`super::refuse`]). Nothing secret is among it: the token is a file, read afresh at each dial, since the kubelet
//! replaces it while the pod lives.
//!
//! | variable | value |
//! |---|---|
//! | `LOCKSTEP_COORDINATOR` | `host:port` of a headless Service; resolved anew on loss and every 10 s, a session with each address |
//! | `LOCKSTEP_NAMESPACE`, `LOCKSTEP_RUN`, `LOCKSTEP_RUN_UID` | which run |
//! | `LOCKSTEP_RUN_ATTEMPT` | attempt of the whole run, from 1 |
//! | `LOCKSTEP_INDEX`, `LOCKSTEP_ATTEMPT` | which agent, both from 0; the coordinator holds it against the pod that it made |
//! | `LOCKSTEP_TOKEN_FILE` | JSON web token of the pod, audience `lockstep.dev/<namespace>/<run>/<uid>`; sent as `authorization: Bearer …` |
//! | `LOCKSTEP_CA_FILE` | PEM bundle of the CAs that may sign the coordinator; read afresh at each dial |
//! | `LOCKSTEP_ORPHAN_GRACE_MS` | how long to work on without the coordinator, also before the first hello |
//! | `LOCKSTEP_POD`, `LOCKSTEP_POD_UID`, `LOCKSTEP_NODE` | from the downward API; uid goes into hello, node into the results |
//! | `LOCKSTEP_TERMINATION_LOG` | where the last error is written before a failing exit: one `Problem` as JSON, at most 4 KiB |
//! | `LOCKSTEP_LOG` | filter of the log; a template may set it |
//! | `LOCKSTEP_LOG_FORMAT` | how its lines look, `text` or `json`; a template may set it |
//!
//! Exit codes: 0 done, 70 orphaned, 2 cannot run, anything else a failure that the termination message tells.

use lockstep_core::run::agent::LossReason;
use serde_json::{Value, json};
use std::time::Duration;

/// Exit code of an agent that had not heard its coordinator for `orphanGrace`.
pub const EXIT_ORPHANED: i32 = 70;

/// The one argument.
pub const CLUSTER_FLAG: &str = "--cluster";

/// Path of the termination message in the container.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// What one agent is started with; see the module for what each variable means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentStart<'a> {
    /// `host:port` of the coordinators.
    pub coordinator: &'a str,
    /// Namespace of the run.
    pub namespace: &'a str,
    /// Name of the run.
    pub run: &'a str,
    /// Uid of the run.
    pub run_uid: &'a str,
    /// Attempt of the whole run, from 1.
    pub run_attempt: u32,
    /// Index of the agent, from 0.
    pub index: u32,
    /// Its attempt under that index, from 0.
    pub attempt: u32,
    /// File with the token.
    pub token_file: &'a str,
    /// File with the CA bundle.
    pub ca_file: &'a str,
    /// How long it works on without the coordinator.
    pub orphan_grace: Duration,
    /// Filter of its log.
    pub log: &'a str,
    /// How its lines look; empty is text.
    pub log_format: &'a str,
}

impl AgentStart<'_> {
    /// The container's environment, as `EnvVar`s.
    #[must_use]
    pub fn env(&self) -> Vec<Value> {
        let Self {
            coordinator,
            namespace,
            run,
            run_uid,
            run_attempt,
            index,
            attempt,
            token_file,
            ca_file,
            orphan_grace,
            log,
            log_format,
        } = self;
        let value = |name: &str, value: String| json!({"name": name, "value": value});
        let field =
            |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        vec![
            value("LOCKSTEP_COORDINATOR", (*coordinator).to_owned()),
            value("LOCKSTEP_NAMESPACE", (*namespace).to_owned()),
            value("LOCKSTEP_RUN", (*run).to_owned()),
            value("LOCKSTEP_RUN_UID", (*run_uid).to_owned()),
            value("LOCKSTEP_RUN_ATTEMPT", run_attempt.to_string()),
            value("LOCKSTEP_INDEX", index.to_string()),
            value("LOCKSTEP_ATTEMPT", attempt.to_string()),
            value("LOCKSTEP_TOKEN_FILE", (*token_file).to_owned()),
            value("LOCKSTEP_CA_FILE", (*ca_file).to_owned()),
            value("LOCKSTEP_ORPHAN_GRACE_MS", orphan_grace.as_millis().to_string()),
            field("LOCKSTEP_POD", "metadata.name"),
            field("LOCKSTEP_POD_UID", "metadata.uid"),
            field("LOCKSTEP_NODE", "spec.nodeName"),
            value("LOCKSTEP_TERMINATION_LOG", TERMINATION_LOG.to_owned()),
            value("LOCKSTEP_LOG", (*log).to_owned()),
            value("LOCKSTEP_LOG_FORMAT", if log_format.is_empty() { "text" } else { log_format }.to_owned()),
        ]
    }
}

/// What an exit code of the agent says; `None` when it ended as it should.
#[must_use]
pub fn loss_of_exit(code: i32) -> Option<LossReason> {
    match code {
        0 => None,
        EXIT_ORPHANED => Some(LossReason::Orphaned),
        code => Some(LossReason::Ended(format!("exit code {code}"))),
    }
}
