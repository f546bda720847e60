//! The second step: a stored run becomes a plan and a recipe for its pods, or a conclusion that says everything that is
//! wrong with it.
//!
//! Parse, don't validate: whoever holds a [`Validated`] need not look at the spec again. What only the API server can say
//! (admission, policies) it says to a dry run of [`Recipe::pod`], judged by [`crate::pods::rejected`]; what only the
//! target can say is preflight's.

use crate::plan::{Conclusion, RunFacts};
use crate::pods::build::{Recipe, RunIdentity};
use crate::pods::config::Installation;
use lockstep_api::reasons::Reason;
use lockstep_api::spec::BenchmarkRun;
use lockstep_api::{Fault, ResolveOptions, fault, resolve};
use lockstep_core::plan::Plan;
use lockstep_core::problem::Problem;
use lockstep_core::thresholds::Outcome;
use std::sync::Arc;

/// A run whose spec makes sense.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What the planner looks at.
    pub facts: RunFacts,
    /// What the coordinator drives.
    pub plan: Arc<Plan>,
    /// What its pods are made from.
    pub recipe: Recipe,
    /// What was ignored or decided, one sentence each.
    pub notes: Vec<String>,
}

/// Resolves a stored run and checks its template. `None` when it lacks what every stored object has.
///
/// # Errors
///
/// How the run ends when its spec, its template or its own status cannot be understood.
pub fn validate(
    run: &BenchmarkRun,
    installation: &Installation,
) -> Result<Option<Validated>, Box<Conclusion>> {
    let Some(identity) = RunIdentity::of(run) else { return Ok(None) };
    let source = format!("run {}/{}", identity.namespace, identity.name);
    let facts = RunFacts::of(run).map_err(|error| {
        let fault = Fault::new("status.agentAttempts", error.to_string());
        refused(&source, &[fault.hint("only the operator writes status; create a new run")])
    })?;
    let Some(facts) = facts else { return Ok(None) };
    let options = ResolveOptions { replicas: None, uid: identity.uid.clone(), local: false };
    let resolved = resolve(run, &options).map_err(|faults| refused(&source, &faults))?;
    let recipe = Recipe::new(identity, run.clone(), resolved.plan.clone(), installation.clone())
        .map_err(|faults| refused(&source, &faults))?;
    Ok(Some(Validated { facts, plan: Arc::new(resolved.plan), recipe, notes: resolved.notes }))
}

fn refused(source: &str, faults: &[Fault]) -> Box<Conclusion> {
    let mut problem: Problem = fault::problem(source, faults);
    problem.next = vec![
        "lockstep validate -f FILE shows every fault with its line".to_owned(),
        "correct the manifest and create a new run".to_owned(),
    ];
    Box::new(Conclusion { outcome: Outcome::Failed, reason: Reason::SpecRejected, problem })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    #[test]
    fn a_run_that_makes_sense_has_a_plan_and_pods() {
        let (run, plan) = testing::run(&json!({}));
        let validated = validate(&run, &Installation::example()).expect("accepted").expect("stored");
        assert_eq!((*validated.plan).clone(), plan);
        assert_eq!(validated.recipe.pod(0, 0).expect("a pod").name, "nightly-0-0");
        assert_eq!(validated.facts.replicas, 4);
    }

    #[test]
    fn faults_of_spec_and_template_are_conclusions_with_next_steps() {
        let refuse = |change: fn(&mut BenchmarkRun)| {
            let (mut run, _) = testing::run(&json!({}));
            change(&mut run);
            let conclusion = validate(&run, &Installation::example()).expect_err("refused");
            assert_eq!((conclusion.outcome, conclusion.reason), (Outcome::Failed, Reason::SpecRejected));
            assert!(conclusion.problem.next[0].starts_with("lockstep validate"));
            conclusion.problem.cause
        };
        let cause = refuse(|run| "s3://x".clone_into(&mut run.spec.target.uri));
        assert!(cause.starts_with("spec.target.uri: "), "{cause}");
        let cause = refuse(|run| {
            let template = json!({"spec": {"restartPolicy": "Always"}});
            run.spec.agents.template = serde_json::from_value(template).ok();
        });
        assert!(cause.starts_with("spec.agents.template.spec.restartPolicy: "), "{cause}");
        let cause = refuse(|run| {
            let status =
                lockstep_api::BenchmarkRunStatus { agent_attempts: "all".to_owned(), ..Default::default() };
            run.status = Some(status);
        });
        assert!(cause.starts_with("status.agentAttempts: "), "{cause}");
    }
}
