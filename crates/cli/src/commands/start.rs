//! `lockstep start`: creates a run of a cluster and follows it until it is over, as `lockstep run` does one of this
//! machine: a step of a pipeline in one command, with one exit code.
//!
//! Deliberately not `apply`: a run is one execution, so one that is there already is never changed, and never started again.

use super::{Outcome, watch};
use crate::args::StartRequest;
use crate::cluster::access::connect;
use crate::cluster::block_on;
use crate::{input, output};
use lockstep_core::problem::{Problem, exit};

/// Creates the run and shows it until it is over. The exit code is the one that `lockstep run` would have ended with.
pub fn start(request: &StartRequest) -> Outcome {
    let manifest = input::load(&request.input)?;
    let resolved = input::resolve_for_cluster(&request.input, &manifest)?;
    for note in &resolved.notes {
        output::note(&format!("note: {note}"));
    }
    let document = input::document(&request.input, &manifest);
    block_on(async {
        let mut cluster = connect(&request.cluster).await?;
        match (&manifest.run.metadata.namespace, &request.cluster.namespace) {
            (Some(own), Some(asked)) if own != asked => return Err(elsewhere(request, own, asked)),
            (Some(own), _) => cluster.namespace.clone_from(own),
            (None, _) => {}
        }
        let run = cluster.create(&document).await?;
        output::note(&format!("created run {}/{}", run.namespace(), run.name()));
        watch::until_over(&cluster, run, request.style).await
    })
}

fn elsewhere(request: &StartRequest, own: &str, asked: &str) -> Box<Problem> {
    let what = format!("{} was refused: it is a run of namespace {own}", request.input.source);
    Box::new(
        Problem::new(what, format!("metadata.namespace is {own}, and -n says {asked}"))
            .next("leave -n out, or leave metadata.namespace out of the manifest")
            .kept("nothing was created")
            .exit(exit::REFUSED),
    )
}
