//! The ConfigMaps of a run: the CA bundle that its agents trust, its report, and what a later leader needs of it. Named
//! `<run>-<uid8>-…`, so that none is ever that of an earlier run of the same name.

use super::build::RunIdentity;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use lockstep_api::labels;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Key of the CA bundle.
pub const CA_KEY: &str = "ca.crt";
/// The largest data that the API server takes, bytes, keys included.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of it that a ConfigMap of texts and binaries leaves to its texts and keys.
const TEXT_BYTES: usize = 16 * 1024;
/// The largest binary that goes into one ConfigMap, bytes.
pub const BINARY_BYTES_MAX: usize = DATA_BYTES_MAX - TEXT_BYTES;

/// The ConfigMap with the CA bundle, owned by the run. `bundle`: PEM, the current CA and the next one.
#[must_use]
pub fn ca(run: &RunIdentity, bundle: &str) -> Value {
    let data = Map::from_iter([(CA_KEY.to_owned(), json!(bundle))]);
    config_map(run, &run.ca_config_map(), &data, true)
}

/// The ConfigMap with the report of an attempt of the run; `None` when it is too large for one. `retain`: it stays when the
/// run is deleted.
#[must_use]
pub fn results(run: &RunIdentity, attempt: u32, files: &[(&str, &str)], retain: bool) -> Option<Value> {
    let bytes: usize = files.iter().map(|(name, text)| name.len() + text.len()).sum();
    let data = files.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    (bytes <= DATA_BYTES_MAX).then(|| config_map(run, &run.results_config_map(attempt), &data, !retain))
}

/// A ConfigMap of a run's own bookkeeping, owned by it: short texts, and binaries of at most [`BINARY_BYTES_MAX`] in all.
#[must_use]
pub fn kept(
    run: &RunIdentity,
    name: &str,
    texts: &BTreeMap<String, String>,
    binaries: BTreeMap<String, Vec<u8>>,
) -> ConfigMap {
    let texts = texts.iter().map(|(key, text)| (key.clone(), json!(text))).collect();
    let mut object: ConfigMap =
        serde_json::from_value(config_map(run, name, &texts, true)).unwrap_or_default();
    object.binary_data = Some(binaries.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect());
    object
}

/// Whether a ConfigMap is this run's: owned by it, or, where it is to outlive the run, marked with its uid.
#[must_use]
pub fn is_of(object: &ObjectMeta, run: &RunIdentity) -> bool {
    let owners = object.owner_references.as_deref().unwrap_or_default();
    let labelled = object.labels.as_ref().and_then(|labels| labels.get(labels::RUN_UID));
    match owners {
        [] => labelled == Some(&run.uid),
        owners => owners.iter().any(|owner| owner.uid == run.uid),
    }
}

fn config_map(run: &RunIdentity, name: &str, data: &Map<String, Value>, owned: bool) -> Value {
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": {
                labels::APP_NAME: labels::APP, labels::APP_PART_OF: labels::APP, labels::APP_INSTANCE: run.name,
                labels::RUN: run.name, labels::RUN_UID: run.uid,
            },
        },
        "data": data,
    });
    if owned {
        object["metadata"]["ownerReferences"] = json!([run.owner_reference()]);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> RunIdentity {
        RunIdentity {
            namespace: "perf".to_owned(),
            name: "nightly".to_owned(),
            uid: "3f9a0b1c-0000".to_owned(),
        }
    }

    #[test]
    fn config_maps_go_with_the_run_unless_they_are_to_stay() {
        let read = |object: Value| serde_json::from_value::<ConfigMap>(object).expect("a ConfigMap");
        let ca = read(ca(&run(), "PEM"));
        assert_eq!(ca.metadata.name.as_deref(), Some("nightly-3f9a0b1c-ca"));
        assert_eq!(ca.data.and_then(|data| data.get("ca.crt").cloned()).as_deref(), Some("PEM"));
        assert_eq!(ca.metadata.owner_references.map(|owners| owners.len()), Some(1));
        let files = [("results.json", "{}")];
        let made =
            |attempt, retain| results(&run(), attempt, &files, retain).map(read).expect("it fits").metadata;
        assert_eq!((made(1, false).owner_references.is_some(), made(1, true).owner_references), (true, None));
        let names = [made(1, false).name, made(2, false).name].map(Option::unwrap_or_default);
        assert_eq!(names, ["nightly-3f9a0b1c-results", "nightly-3f9a0b1c-results-2"]);
    }

    #[test]
    fn a_config_map_is_the_runs_by_its_owner_or_by_its_mark() {
        let texts = BTreeMap::from([("epoch".to_owned(), "3".to_owned())]);
        let ours =
            kept(&run(), "nightly-3f9a0b1c-state", &texts, BTreeMap::from([("x".to_owned(), vec![7])]));
        assert_eq!(ours.data.as_ref(), Some(&texts));
        assert_eq!(
            ours.binary_data.as_ref().and_then(|binaries| binaries.get("x")),
            Some(&ByteString(vec![7]))
        );
        let other = RunIdentity { uid: "3f9a0b1c-0001".to_owned(), ..run() };
        assert!(is_of(&ours.metadata, &run()) && !is_of(&ours.metadata, &other));
        let mut retained = ours.clone();
        retained.metadata.owner_references = None;
        assert!(is_of(&retained.metadata, &run()) && !is_of(&retained.metadata, &other));
        // Marked as ours, and owned by another.
        let mut taken = kept(&other, "x", &texts, BTreeMap::new());
        taken.metadata.labels = ours.metadata.labels;
        assert!(!is_of(&taken.metadata, &run()));
        assert!(!is_of(&ObjectMeta::default(), &run()));
    }

    #[test]
    fn a_report_that_is_too_large_for_one_is_not_sent() {
        let text = "x".repeat(DATA_BYTES_MAX - "results.json".len());
        assert!(results(&run(), 1, &[("results.json", &text)], false).is_some());
        assert!(results(&run(), 1, &[("results.json", &text), ("a", "")], false).is_none());
    }
}
