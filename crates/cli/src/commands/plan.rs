//! `lockstep plan`: what a run would do. Everything is computed, nothing is listed: a tree of 331,776 leaves costs as
//! little as one of ten.

use super::Outcome;
use crate::args::PlanRequest;
use crate::{input, output, preview};
use lockstep_core::problem::exit;

/// Prints the plan.
pub fn plan(request: &PlanRequest) -> Outcome {
    let manifest = input::load(&request.input)?;
    let resolved = input::resolve_anywhere(&request.input, &manifest)?;
    output::say(&preview::render(&resolved.plan, &resolved.notes));
    Ok(exit::SUCCEEDED)
}
