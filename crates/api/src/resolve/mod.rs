//! From spec to plan: every default filled in, every name looked up, every contradiction said.
//!
//! Parse, don't validate: whoever holds the [`Plan`] knows that it makes sense. Faults are collected over all parts
//! before any of them ends the work. Deliberately pure, so that the operator, `lockstep run`, `lockstep validate` and a
//! dry run say the same about the same manifest. What depends on the world (is the bucket there?) is preflight's.

mod dataset;
mod local;
mod policy;
mod stages;
mod target;

pub use local::{CLUSTER_ONLY, OnOneMachine};
pub use stages::{PREFLIGHT, default_stages};

use crate::fault::Fault;
use crate::labels;
use crate::spec::{BenchmarkRun, BenchmarkRunSpec};
use lockstep_core::plan::{PLAN_FORMAT, Plan, RunRef};

/// What the resolver must know beyond the manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolveOptions {
    /// Agents instead of `agents.replicas`, e.g. of `lockstep run --agents`.
    pub replicas: Option<u32>,
    /// Unique id of the run.
    pub uid: String,
    /// On one machine: cluster-only fields are noted or refused, and orphans wait 60 s instead of 2 min.
    pub local: bool,
}

/// A plan, and what a person should know about how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The plan.
    pub plan: Plan,
    /// What was ignored or decided, one sentence each.
    pub notes: Vec<String>,
}

/// Collects faults and notes while the parts are resolved.
#[derive(Default)]
pub(crate) struct Findings {
    faults: Vec<Fault>,
    notes: Vec<String>,
}

impl Findings {
    /// Adds a fault.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// Adds a note.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

/// Makes the plan of a run.
///
/// # Errors
///
/// Every fault of meaning that was found.
pub fn resolve(run: &BenchmarkRun, options: &ResolveOptions) -> Result<Resolved, Vec<Fault>> {
    let spec = &run.spec;
    let mut findings = Findings::default();
    let name = name(run, options, &mut findings);
    let (replicas, min_available) = agents(spec, options, &mut findings);
    if options.local {
        local::check(run, &mut findings);
    }
    let target = target::resolve(&spec.target, &mut findings);
    let dataset = dataset::resolve(spec, replicas, &mut findings);
    let stages = stages::resolve(spec, target.as_ref(), &mut findings);
    let start = policy::start(&spec.start);
    let failure = policy::failure(&spec.failure_policy, replicas, options.local, &mut findings);
    let thresholds = policy::thresholds(spec, &stages, &mut findings);
    policy::results(&spec.results, options.local, &mut findings);
    match (target, dataset, findings.faults.is_empty()) {
        (Some(target), Some(dataset), true) => Ok(Resolved {
            plan: Plan {
                format: PLAN_FORMAT,
                run: RunRef { name, uid: options.uid.clone(), attempt: attempt(run) },
                replicas,
                min_available,
                target,
                dataset,
                sharing: spec.dataset.sharing.into(),
                existing: spec.dataset.existing.into(),
                stages,
                start,
                failure,
                thresholds,
                active_deadline: spec.active_deadline.map(|span| span.0),
            },
            notes: findings.notes,
        }),
        _ => Err(findings.faults),
    }
}

fn attempt(run: &BenchmarkRun) -> u32 {
    run.status.as_ref().and_then(|status| u32::try_from(status.attempt).ok()).unwrap_or_default().max(1)
}

fn name(run: &BenchmarkRun, options: &ResolveOptions, findings: &mut Findings) -> String {
    let metadata = &run.metadata;
    let name = match (&metadata.name, &metadata.generate_name) {
        (Some(name), _) => name.clone(),
        // On one machine nobody completes the name; the uid tells runs apart.
        (None, Some(prefix)) if options.local => prefix.trim_end_matches('-').to_owned(),
        // The API server completes it by five characters.
        (None, Some(prefix)) => format!("{prefix}xxxxx"),
        (None, None) => {
            let fault = Fault::new("metadata.name", "is missing");
            findings.fault(fault.allowed("a name of at most 52 lower-case letters, digits and dashes"));
            return String::new();
        }
    };
    let is_well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if name.len() > labels::NAME_MAX || !is_well_formed {
        let message = match name.len() > labels::NAME_MAX {
            true => format!("is {} characters long", name.len()),
            false => format!("`{}` is not of the right form", name.escape_debug()),
        };
        findings.fault(Fault::new("metadata.name", message).allowed(
            "a lower-case letter, then letters, digits and dashes, 52 at most, without a dash at the end",
        ));
    }
    name
}

fn agents(spec: &BenchmarkRunSpec, options: &ResolveOptions, findings: &mut Findings) -> (u32, u32) {
    let replicas = options.replicas.unwrap_or(spec.agents.replicas);
    if !(1..=5000).contains(&replicas) {
        let fault = Fault::new("spec.agents.replicas", format!("{replicas} is out of range"));
        findings.fault(fault.allowed("1 to 5000"));
    }
    let min_available = match spec.agents.min_available {
        // A quorum for eight is no reason to refuse a trial with two.
        Some(least) if options.replicas.is_some() => least.min(replicas),
        Some(least) => least,
        None => replicas,
    };
    if min_available > replicas || min_available == 0 {
        let fault = Fault::new("spec.agents.minAvailable", format!("{min_available} cannot be reached"));
        findings.fault(fault.allowed(format!("1 to {replicas}, the replicas")));
    }
    (replicas, min_available)
}

/// Whether exactly one of `members` is set; a fault when not.
pub(crate) fn exactly_one(at: &str, names: &[&str], members: &[bool], findings: &mut Findings) -> bool {
    let set: Vec<&str> =
        names.iter().zip(members).filter(|(_, is_set)| **is_set).map(|(name, _)| *name).collect();
    if set.len() == 1 {
        return true;
    }
    let message = if set.is_empty() {
        format!("has none of {}", names.join(", "))
    } else {
        format!("has {} at once", set.join(" and "))
    };
    findings.fault(Fault::new(at, message).allowed(format!("exactly one of {}", names.join(", "))));
    false
}
