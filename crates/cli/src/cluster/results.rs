//! The report of a run, out of the ConfigMap that its status names.

use super::access::Cluster;
use super::object::Run;
use super::trouble::{self, Asked};
use lockstep_api::labels::REPORT_KEY;
use lockstep_core::problem::{Problem, exit};
use lockstep_core::results::Report;
use sha2::{Digest as _, Sha256};

/// A report as it was stored.
#[derive(Debug)]
pub struct Stored {
    /// The document, byte for byte.
    pub text: String,
    /// What it says.
    pub report: Report,
    /// Where it is, for people.
    pub place: String,
}

/// Reads the report of a run, and holds it against the hash in status.
///
/// # Errors
/// There is none yet, it cannot be read, or it is not the one that status speaks of.
pub async fn fetch(cluster: &Cluster, run: &Run) -> Result<Stored, Box<Problem>> {
    let (namespace, name) = (run.namespace(), run.name());
    let results = run.status.results.as_ref();
    let Some(map) = results.and_then(|results| results.config_map.clone()) else {
        return Err(none(run, results.and_then(|results| results.uri.as_deref())));
    };
    let place = format!("ConfigMap {namespace}/{map}");
    let broken = |what: &str, cause: String| {
        let problem = Problem::new(format!("{place}, the report of run {namespace}/{name}, {what}"), cause);
        problem
            .likely("somebody changed or replaced it")
            .next(format!("kubectl get configmap {map} -n {namespace} -o yaml"))
            .exit(exit::REFUSED)
    };
    let object = match cluster.config_maps().get(&map).await {
        Ok(object) => object,
        Err(kube::Error::Api(status)) if trouble::is_missing_object(&status) => {
            return Err(Box::new(broken("is not there any more", status.message.clone())));
        }
        Err(error) => return Err(cluster.trouble(&Asked::config_map(&map), &error)),
    };
    let text = object.data.and_then(|mut data| data.remove(REPORT_KEY));
    let text =
        text.ok_or_else(|| Box::new(broken("has no report", format!("it has no key {REPORT_KEY}"))))?;
    let found = hex(&Sha256::digest(text.as_bytes()));
    if let Some(wanted) =
        results.and_then(|results| results.sha256.as_deref()).filter(|wanted| *wanted != found)
    {
        let cause = format!("its sha256 is {found}, and status says {wanted}");
        return Err(Box::new(broken("is not what the operator wrote", cause)));
    }
    let report =
        serde_json::from_str(&text).map_err(|error| Box::new(broken("cannot be read", error.to_string())))?;
    Ok(Stored { text, report, place })
}

fn none(run: &Run, uri: Option<&str>) -> Box<Problem> {
    let (namespace, name) = (run.namespace(), run.name());
    let problem = Problem::new(
        format!("run {namespace}/{name} has no report in the cluster"),
        format!("its status names no ConfigMap; it is {}: {}", run.phase(), run.status.message),
    );
    let problem = match (uri, run.is_finished()) {
        (Some(uri), _) => problem.likely(format!("it is at {uri}: results.configMap is false")),
        (None, false) => problem
            .likely("it is not over: the report is written at its end")
            .next(format!("lockstep watch {name} -n {namespace}")),
        (None, true) => {
            problem.likely("it ended before anything was measured, or the report could not be stored")
        }
    };
    Box::new(problem.next(format!("lockstep get {name} -n {namespace}")).exit(exit::REFUSED))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
