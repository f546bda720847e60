//! The two ConfigMaps of a run: the CA bundle that its agents trust, and its report. Named `<run>-<uid8>-…`, so that
//! neither is ever that of an earlier run of the same name.

use super::build::RunIdentity;
use lockstep_api::labels;
use serde_json::{Map, Value, json};

/// Key of the CA bundle.
pub const CA_KEY: &str = "ca.crt";
/// The largest data that the API server takes, bytes, keys included.
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

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
    use k8s_openapi::api::core::v1::ConfigMap;

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
    fn a_report_that_is_too_large_for_one_is_not_sent() {
        let text = "x".repeat(DATA_BYTES_MAX - "results.json".len());
        assert!(results(&run(), 1, &[("results.json", &text)], false).is_some());
        assert!(results(&run(), 1, &[("results.json", &text), ("a", "")], false).is_none());
    }
}
