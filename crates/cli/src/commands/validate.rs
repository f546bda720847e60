//! `lockstep validate`: everything that is wrong with a manifest, at once; with `--connect` also what preflight finds
//! when it asks the target.

use super::Outcome;
use crate::args::ValidateRequest;
use crate::{input, local, output, preview};
use lockstep_core::format;
use lockstep_core::problem::exit;

/// Checks the manifest, and the target where that was asked for.
pub fn validate(request: &ValidateRequest) -> Outcome {
    let manifest = input::load(&request.input)?;
    let resolved = input::resolve_anywhere(&request.input, &manifest)?;
    let plan = &resolved.plan;
    for note in &resolved.notes {
        output::note(&format!("note: {note}"));
    }
    output::say(&format!(
        "✔ {} is valid: run {} · {} · {} stages · {} objects · {}",
        request.input.source,
        plan.run.name,
        preview::agents(plan.replicas),
        plan.stages.len(),
        format::count(preview::objects(plan)),
        preview::estimate(&preview::bytes(plan)),
    ));
    if request.connect { local::probe(request, &manifest) } else { Ok(exit::SUCCEEDED) }
}
