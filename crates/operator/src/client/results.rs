//! The report of a run, in a ConfigMap that the run owns.
//!
//! One object, created once. One of this run that stands there already, e.g. by a leader that died before it could say so in
//! status, is the report: what was published is not made another. A ConfigMap of our name that is not this run's is left as
//! it is, and said so. Deliberately uploads nothing: the operator holds no credentials.

use super::context::Context;
use crate::pods::build::RunIdentity;
use crate::pods::config_maps;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, PostParams};
use lockstep_api::labels::REPORT_KEY;
use lockstep_api::status::ResultsStatus;
use lockstep_core::problem::Problem;
use lockstep_core::results::Report;
use sha2::{Digest, Sha256};

/// How often a write is tried again that somebody else was faster than.
const TRIES: u32 = 5;

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
    write(context.client.clone(), run, report, retain).await
}

/// The same, without everything else that a desk has.
///
/// # Errors
/// See [`publish`].
pub async fn write(
    client: Client,
    run: &RunIdentity,
    report: &Report,
    retain: bool,
) -> Result<ResultsStatus, Problem> {
    let attempt = report.run.attempt;
    let name = run.results_config_map(attempt);
    let failed = |cause: String| {
        Problem::new(format!("the results of run {}/{} could not be written", run.namespace, run.name), cause)
            .next(format!("kubectl describe configmap {name} -n {}", run.namespace))
    };
    let fit = |text: &str| config_maps::results(run, attempt, &[(REPORT_KEY, text)], retain);
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
            .next("measure in several runs, with fewer agents or fewer hours each"));
    };
    let object: ConfigMap = serde_json::from_value(object).map_err(|error| failed(error.to_string()))?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &run.namespace);
    put(&maps, &name, object, run, &text, attempt).await.map_err(failed)
}

/// Writes the report, unless it stands there already.
async fn put(
    maps: &Api<ConfigMap>,
    name: &str,
    mut object: ConfigMap,
    run: &RunIdentity,
    text: &str,
    attempt: u32,
) -> Result<ResultsStatus, String> {
    let done = |text: &str| {
        let sha256 = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        ResultsStatus { config_map: Some(name.to_owned()), uri: None, sha256: Some(sha256) }
    };
    for _ in 0..TRIES {
        let params = PostParams::default();
        let written = match &object.metadata.resource_version {
            None => maps.create(&params, &object).await,
            Some(_) => maps.replace(name, &params, &object).await,
        };
        match written {
            Ok(_) => return Ok(done(text)),
            // Somebody was faster, or an answer of ours was lost.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.to_string()),
        }
        let there = maps.get_opt(name).await.map_err(|error| error.to_string())?;
        object.metadata.resource_version = None;
        let Some(there) = there else { continue };
        if !config_maps::is_of(&there.metadata, run) {
            return Err("a ConfigMap of this name is there already".into());
        }
        if let Some(text) = there.data.as_ref().and_then(|data| data.get(REPORT_KEY))
            && serde_json::from_str::<Report>(text).is_ok_and(|report| report.run.attempt == attempt)
        {
            return Ok(done(text));
        }
        // Of an earlier attempt of the run, or emptied.
        object.metadata.resource_version = there.metadata.resource_version;
    }
    Err("others write it at the same time, over and over".into())
}
