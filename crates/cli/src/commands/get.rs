//! `lockstep get`: the runs of a cluster, or everything about one.

use super::Outcome;
use crate::args::{Format, GetRequest};
use crate::cluster::access::{Cluster, connect};
use crate::cluster::object::Run;
use crate::cluster::{block_on, describe};
use crate::output;
use jiff::Timestamp;
use lockstep_core::problem::{Problem, exit};
use serde::Serialize;
use serde_json::json;

/// Prints them. The exit code says whether they could be read, not how they ended.
pub fn get(request: &GetRequest) -> Outcome {
    block_on(async {
        let cluster = connect(&request.cluster).await?;
        match &request.name {
            Some(name) => one(&cluster.run(name).await?, request.format),
            None => all(&cluster, request).await,
        }
    })
}

fn one(run: &Run, format: Format) -> Outcome {
    match format {
        Format::Words => {
            output::say(&describe::details(run, Timestamp::now()));
            if let Some(problem) = describe::problem(run) {
                output::say(&format!("\n{problem}"));
            }
            Ok(exit::SUCCEEDED)
        }
        format => document(&run.object, format),
    }
}

async fn all(cluster: &Cluster, request: &GetRequest) -> Outcome {
    let runs = cluster.list(request.everywhere).await?;
    if request.format != Format::Words {
        let items: Vec<_> = runs.iter().map(|run| &run.object).collect();
        return document(&json!({ "apiVersion": "v1", "kind": "List", "items": items }), request.format);
    }
    if runs.is_empty() {
        let place = if request.everywhere {
            "any namespace".to_owned()
        } else {
            format!("namespace {}", cluster.namespace)
        };
        output::note(&format!("there are no runs in {place}"));
    } else {
        output::say(&describe::table(&runs, request.everywhere, Timestamp::now()));
    }
    Ok(exit::SUCCEEDED)
}

fn document(object: &impl Serialize, format: Format) -> Outcome {
    let text = match format {
        Format::Yaml => serde_yaml::to_string(object).map_err(|error| error.to_string()),
        Format::Json | Format::Words => {
            serde_json::to_string_pretty(object).map_err(|error| error.to_string())
        }
    };
    output::say(&text.map_err(|error| Problem::new("the object cannot be written", error))?);
    Ok(exit::SUCCEEDED)
}
