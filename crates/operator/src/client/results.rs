//! The report of a run, in a ConfigMap that the run owns.
//!
//! One object, created once: a ConfigMap of our name that another object owns is left as it is, and said so. Deliberately
//! knows nothing of `results.destination`: agents upload, who hold its credentials.

use super::context::Context;
use crate::pods::build::RunIdentity;
use crate::pods::config_maps;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams};
use lockstep_api::labels::REPORT_KEY;
use lockstep_api::status::ResultsStatus;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use sha2::{Digest, Sha256};

/// Writes the report; answers where it is. `retain`: it stays when the run is deleted.
///
/// # Errors
/// What kept it from being written, for people.
pub async fn publish(
    context: &Context,
    run: &RunIdentity,
    report: &Report,
    retain: bool,
) -> Result<ResultsStatus, Problem> {
    let name = run.results_config_map();
    let failed = |cause: String| {
        Problem::new(format!("the results of run {}/{} could not be written", run.namespace, run.name), cause)
            .next(format!("kubectl describe configmap {name} -n {}", run.namespace))
    };
    let fit = |text: &str| config_maps::results(run, &[(REPORT_KEY, text)], retain);
    let mut text = report.to_json().map_err(|error| failed(error.to_string()))?;
    let mut object = fit(&text);
    if object.is_none() {
        // Indentation is a third of it.
        text = serde_json::to_string(report).map_err(|error| failed(error.to_string()))?;
        object = fit(&text);
    }
    let Some(object) = object else {
        let (bytes, most) = (text.len(), config_maps::DATA_BYTES_MAX);
        return Err(failed(format!("the report has {bytes} bytes, and a ConfigMap holds {most}"))
            .likely("thousands of agents, or a run of many hours, with a row each")
            .next("set results.destination, where there is no such limit"));
    };
    let sha256: String = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let object: ConfigMap = serde_json::from_value(object).map_err(|error| failed(error.to_string()))?;
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &run.namespace);
    let done = ResultsStatus { config_map: Some(name.clone()), uri: None, sha256: Some(sha256) };
    match maps.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(done),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let there = maps.get(&name).await.map_err(|error| failed(error.to_string()))?;
            // An answer that was lost: what stands there is what we wrote.
            if there.data == object.data {
                Ok(done)
            } else {
                Err(failed("a ConfigMap of this name is there already".into()))
            }
        }
        Err(error) => Err(failed(error.to_string())),
    }
}
