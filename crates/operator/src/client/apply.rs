//! Carries out the planner's steps against the API server: one at a time, but for pods.
//!
//! Each write carries what was seen: a resourceVersion, or a uid. So nothing lands on an object that has changed, or on
//! another one of the same name.

use super::context::Context;
use crate::plan::observed::Holder;
use crate::plan::{CaMap, Names, Rejected};
use crate::pods::build::{PodManifest, RunIdentity};
use crate::pods::config_maps;
use crate::pods::facts::Seat;
use crate::pods::rejected::{ApiRefusal, Rejection, judge};
use crate::trust::rotation::Trusted;
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use lockstep_api::{BenchmarkRun, labels};
use serde_json::{Value, json};

/// Writes into a run, given that nobody has since it was seen. Answers with the run as it is now.
async fn change(
    context: &Context,
    run: &BenchmarkRun,
    mut patch: Value,
    status: bool,
) -> Result<BenchmarkRun, kube::Error> {
    let runs: Api<BenchmarkRun> =
        Api::namespaced(context.client.clone(), &run.namespace().unwrap_or_default());
    patch["metadata"]["resourceVersion"] = json!(run.resource_version());
    patch["metadata"]["uid"] = json!(run.uid());
    let params =
        PatchParams { field_manager: Some(labels::MANAGER_LIFECYCLE.to_owned()), ..PatchParams::default() };
    let (name, patch) = (run.name_any(), Patch::Merge(patch));
    let now = match status {
        true => runs.patch_status(&name, &params, &patch).await?,
        false => runs.patch(&name, &params, &patch).await?,
    };
    context.wrote(serde_json::to_vec(&now).map_or(0, |json| json.len()));
    Ok(now)
}

/// Claims the run for this installation. Who takes it over has heard nobody yet, and says so: what an earlier leader has
/// written would look like its own under its epoch.
///
/// # Errors
/// When the API server does not take it, as with every function here.
pub async fn claim(context: &Context, run: &BenchmarkRun) -> Result<BenchmarkRun, kube::Error> {
    let mut status = json!({
        "controller": context.installation.claim(), "epoch": context.epoch(),
        "observedGeneration": run.metadata.generation,
    });
    if run.status.as_ref().is_some_and(|status| status.agents.is_some()) {
        status["agents"] = json!({"heard": 0});
    }
    change(context, run, json!({"status": status}), true).await
}

/// Begins another attempt of the whole run.
///
/// # Errors
/// See [`claim`].
pub async fn next_attempt(
    context: &Context,
    run: &BenchmarkRun,
    attempt: u32,
) -> Result<BenchmarkRun, kube::Error> {
    let status = json!({"attempt": attempt, "agentAttempts": "", "epoch": context.epoch()});
    change(context, run, json!({"status": status}), true).await
}

/// Names attempts that are about to get pods.
///
/// # Errors
/// See [`claim`].
pub async fn name(context: &Context, run: &BenchmarkRun, names: &Names) -> Result<BenchmarkRun, kube::Error> {
    let status = json!({"agentAttempts": names.encode(), "epoch": context.epoch()});
    change(context, run, json!({"status": status}), true).await
}

/// Adds or removes our finalizer.
///
/// # Errors
/// See [`claim`].
pub async fn finalizer(
    context: &Context,
    run: &BenchmarkRun,
    stands: bool,
) -> Result<BenchmarkRun, kube::Error> {
    let mut finalizers = run.finalizers().to_vec();
    finalizers.retain(|finalizer| finalizer != labels::FINALIZER);
    if stands {
        finalizers.push(labels::FINALIZER.to_owned());
    }
    change(context, run, json!({"metadata": {"finalizers": finalizers}}), false).await
}

/// Writes the ConfigMap by which agents of the run know whom to trust.
///
/// Answers what is there now: one of this name that the run does not own is left as it is.
///
/// # Errors
/// See [`claim`].
pub async fn ca(context: &Context, run: &RunIdentity, trusted: &Trusted) -> Result<CaMap, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &run.namespace);
    let name = run.ca_config_map();
    let object = ca_map(run, trusted)?;
    match maps.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        created => return created.map(|_| CaMap::Written),
    }
    let mut there = maps.get(&name).await?;
    if !owns(run, &there) {
        return Ok(CaMap::Foreign);
    }
    if there.data != object.data {
        there.data = object.data;
        maps.replace(&name, &PostParams::default(), &there).await?;
    }
    Ok(CaMap::Written)
}

/// Whether that ConfigMap is there, is the run's, and says what it should.
///
/// # Errors
/// See [`claim`].
pub async fn tells_of(context: &Context, run: &RunIdentity, trusted: &Trusted) -> Result<bool, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &run.namespace);
    let there = maps.get_opt(&run.ca_config_map()).await?;
    let data = ca_map(run, trusted)?.data;
    Ok(there.is_some_and(|there| owns(run, &there) && there.data == data))
}

fn ca_map(run: &RunIdentity, trusted: &Trusted) -> Result<ConfigMap, kube::Error> {
    serde_json::from_value(config_maps::ca(run, &trusted.bundle)).map_err(kube::Error::SerdeError)
}

/// Deletes that ConfigMap, if it is there and the run's.
///
/// # Errors
/// See [`claim`].
pub async fn remove_ca(context: &Context, run: &RunIdentity) -> Result<(), kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &run.namespace);
    let name = run.ca_config_map();
    match maps.get_opt(&name).await? {
        Some(there) if owns(run, &there) => {
            delete(&maps, &name, &there.uid().unwrap_or_default()).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Whether a ConfigMap is the run's; one that has lost its owner is, by its labels.
fn owns(run: &RunIdentity, map: &ConfigMap) -> bool {
    let of_run = map.labels().get(labels::RUN_UID) == Some(&run.uid);
    let owners = map.owner_references();
    owners.iter().any(|owner| owner.uid == run.uid) || (owners.is_empty() && of_run)
}

/// Pods of one run that are being created at once: enough that the answers of a thousand take seconds, and few enough that
/// one run leaves the API server's fair share to the others.
pub const CREATIONS_AT_ONCE: usize = 16;

/// Creates pods, at most [`CREATIONS_AT_ONCE`] at a time; answers in the order in which the API server does.
pub fn create_pods<'a>(
    context: &'a Context,
    run: &'a RunIdentity,
    pods: Vec<(Seat, PodManifest)>,
) -> impl Stream<Item = (Seat, Result<Pod, Rejected>)> + 'a {
    futures::stream::iter(pods)
        .map(move |(seat, pod)| async move { (seat, create_pod(context, run, &pod).await) })
        .buffer_unordered(CREATIONS_AT_ONCE)
}

/// Asks the API server what it would say to the pod of an attempt: defaults, validation, admission, and no pod.
///
/// # Errors
/// What it would say against it.
pub async fn try_pod(context: &Context, run: &RunIdentity, pod: &PodManifest) -> Result<(), Rejected> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &run.namespace);
    match post(context, &pods, pod, "&dryRun=All").await {
        Ok(_) => Ok(()),
        Err(refusal) => {
            let why = judge(&refusal, &pod.name, &run.namespace);
            Err(Rejected { at: Timestamp::now(), why, holder: None })
        }
    }
}

/// Posts a pod as JSON: fields that our types do not know yet go through; those that the API server does not know are
/// refused by name, instead of being dropped.
async fn post(context: &Context, pods: &Api<Pod>, pod: &PodManifest, more: &str) -> Result<Pod, ApiRefusal> {
    let (url, manager) = (pods.resource_url(), labels::MANAGER_LIFECYCLE);
    let url = format!("{url}?fieldManager={manager}&fieldValidation=Strict{more}");
    let request = http::Request::post(url)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(&pod.json).unwrap_or_default());
    let created = match request {
        Ok(request) => context.client.request::<Pod>(request).await,
        Err(error) => Err(kube::Error::HttpError(error)),
    };
    created.map_err(|error| match error {
        kube::Error::Api(status) => {
            ApiRefusal { code: status.code, reason: status.reason.clone(), message: status.message.clone() }
        }
        error => ApiRefusal { code: 0, reason: String::new(), message: error.to_string() },
    })
}

/// Creates the pod of an attempt, or says why the API server did not take it, judged.
async fn create_pod(context: &Context, run: &RunIdentity, pod: &PodManifest) -> Result<Pod, Rejected> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &run.namespace);
    let refusal = match post(context, &pods, pod, "").await {
        Ok(pod) => return Ok(pod),
        Err(refusal) => refusal,
    };
    let why = judge(&refusal, &pod.name, &run.namespace);
    let holder = match why {
        Rejection::NameTaken => pods.get_opt(&pod.name).await.ok().flatten().map(|pod| holder(&pod)),
        _ => None,
    };
    Err(Rejected { at: Timestamp::now(), why, holder })
}

fn holder(pod: &Pod) -> Holder {
    let controller = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    Holder {
        controller_uid: controller.map(|owner| owner.uid.clone()),
        controller: controller.map(|owner| (owner.kind.clone(), owner.name.clone())),
        deleting: pod.meta().deletion_timestamp.is_some(),
    }
}

/// What is known of an object that was asked to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is there no more, or it is another by now.
    Gone,
    /// It goes, now or later.
    Goes,
}

/// Deletes the object of this name and uid; one that is gone, or is another by now, is left as it is.
///
/// # Errors
/// See [`claim`].
pub async fn delete<K>(api: &Api<K>, name: &str, uid: &str) -> Result<Asked, kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Ok(_) => Ok(Asked::Goes),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(Asked::Gone),
        Err(error) => Err(error),
    }
}
