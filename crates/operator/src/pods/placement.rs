//! `spec.agents.placement` as the scheduler understands it.

use lockstep_api::labels;
use lockstep_api::spec::words::Placement;
use serde_json::{Map, Value, json};

/// Label of nodes by which agents are spread.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Adds what `placement` asks for to a pod spec. Only pods of the same run count.
pub(super) fn place(spec: &mut Map<String, Value>, placement: Placement, run_uid: &str) {
    let ours = json!({"matchLabels": {labels::RUN_UID: run_uid}});
    match placement {
        // As even as possible, and never a reason to wait.
        Placement::Spread => {
            let constraint = json!([{
                "maxSkew": 1,
                "topologyKey": HOSTNAME,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": ours,
            }]);
            spec.insert("topologySpreadConstraints".to_owned(), constraint);
        }
        // A spread constraint would allow two on one node once every node has one.
        Placement::OnePerNode => {
            let term = json!({"topologyKey": HOSTNAME, "labelSelector": ours});
            let affinity =
                json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
            spec.insert("affinity".to_owned(), affinity);
        }
        Placement::Any => {}
    }
}
