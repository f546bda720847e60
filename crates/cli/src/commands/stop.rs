//! `lockstep stop`: ends a run of a cluster early, by `spec.stop`. It may be asked once, and then only harder.

use super::Outcome;
use crate::args::StopRequest;
use crate::cluster::access::{Cluster, connect};
use crate::cluster::block_on;
use crate::cluster::follow::{Sight, follow};
use crate::cluster::object::Run;
use crate::cluster::trouble::Asked;
use crate::output;
use kube::api::{Patch, PatchParams};
use lockstep_core::problem::{Problem, exit};
use serde_json::json;
use tokio::sync::mpsc;

/// Asks for the stop, says what happens, and waits for the end where that was asked for.
pub fn stop(request: &StopRequest) -> Outcome {
    block_on(async {
        let cluster = connect(&request.cluster).await?;
        let run = cluster.run(&request.name).await?;
        let place = format!("{}/{}", run.namespace(), run.name());
        if run.is_finished() {
            output::say(&format!("run {place} is over already: {}", run.phase()));
            return Ok(exit::SUCCEEDED);
        }
        let mode = if request.immediate { "Immediate" } else { "Graceful" };
        match (run.stop(), mode) {
            (Some("Immediate"), _) => output::say(&format!("run {place} is being stopped at once already")),
            (Some(_), "Graceful") => {
                output::say(&format!("run {place} is being stopped already; --immediate skips cleanup"));
            }
            _ => {
                ask(&cluster, request, mode).await?;
                output::say(&format!("stopping run {place}: {}", what_happens(&run, mode)));
            }
        }
        if request.wait { wait(cluster, &request.name, &run.uid()).await } else { Ok(exit::SUCCEEDED) }
    })
}

async fn ask(cluster: &Cluster, request: &StopRequest, mode: &str) -> Result<(), Box<Problem>> {
    let mut stop = json!({ "mode": mode });
    if let Some(reason) = &request.reason {
        stop["reason"] = json!(reason);
    }
    let patch = Patch::Merge(json!({ "spec": { "stop": stop } }));
    let params = PatchParams { field_manager: Some("lockstep".to_owned()), ..PatchParams::default() };
    let done = cluster.runs().patch(&request.name, &params, &patch).await;
    done.map(drop).map_err(|error| cluster.trouble(&Asked::run("patch", &request.name), &error))
}

fn what_happens(run: &Run, mode: &str) -> String {
    if run.status.stages.is_empty() {
        return "it had not begun, and ends without a result".to_owned();
    }
    let left = |name: &str| {
        let state =
            run.status.stages.iter().find(|stage| stage.name == name).map(|stage| stage.state.as_str());
        !matches!(state, Some("Done" | "Failed" | "Skipped"))
    };
    let cleans =
        run.stages().iter().any(|stage| stage.kind == "cleanup" && stage.always && left(&stage.name));
    let then = match (mode, cleans) {
        ("Immediate", _) => "nothing is cleaned up: what it put stays under its target",
        (_, true) => "then cleanup runs; --immediate skips it",
        (_, false) => "nothing is cleaned up",
    };
    format!("I/O ends within a second, results are kept, {then}")
}

/// Until it is over.
async fn wait(cluster: Cluster, name: &str, uid: &str) -> Outcome {
    let (sights, mut seen) = mpsc::channel(1);
    let following = tokio::spawn(follow(cluster, name.to_owned(), sights));
    let outcome = loop {
        match seen.recv().await {
            Some(Sight::Run(object)) => {
                let run = Run::of(*object);
                if run.uid() != uid {
                    output::say("it was deleted, and another run has its name now");
                    break Ok(exit::SUCCEEDED);
                }
                if run.is_finished() {
                    output::say(&format!("it is over: {}: {}", run.phase(), run.status.message));
                    break Ok(exit::SUCCEEDED);
                }
            }
            Some(Sight::Away(why)) => output::note(&format!("the API server does not answer: {why}")),
            Some(Sight::Refused(problem)) => break Err(problem),
            Some(Sight::Gone) | None => {
                output::say("it was deleted");
                break Ok(exit::SUCCEEDED);
            }
        }
    };
    following.abort();
    outcome
}
