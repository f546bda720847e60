//! `docs/resource.md`: the object as the API server has it: columns, rules, labels, and every field of its status.
//! Fields of the spec are in `docs/manifest.md`, since they are the same on one machine.

use anyhow::Result;
use lockstep_api::{crd, labels, rules};
use std::fmt::Write as _;

const INTRODUCTION: &str = include_str!("resource.md");

/// The page's text.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn render() -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n## Columns\n\n| column | shows | where |\n|---|---|---|\n");
    for column in
        crd::json()["spec"]["versions"][0]["additionalPrinterColumns"].as_array().into_iter().flatten()
    {
        let text = |field: &str| column[field].as_str().unwrap_or_default();
        let wide = if column["priority"].as_u64() == Some(1) { "`-o wide`" } else { "always" };
        writeln!(page, "| {} | `{}` | {wide} |", text("name"), text("jsonPath"))?;
    }
    page.push_str("\n## What the API server refuses\n\nBeside types, limits and unknown fields:\n\n");
    let way_out = format!(": {}", rules::WAY_OUT);
    for rule in rules::all() {
        if !rule.message.ends_with(&way_out) {
            let place = if rule.place.is_empty() {
                String::new()
            } else {
                format!("`{}`: ", rule.place.join(".").replace(".[]", "[]"))
            };
            writeln!(page, "- {place}{}", rule.message)?;
        }
    }
    let members = |of: &str, names: &[&str]| {
        names.iter().map(|name| format!("`{of}.{name}`")).collect::<Vec<_>>().join(", ")
    };
    writeln!(
        page,
        "\nImmutable are {}, {}. The message of a refused edit names the way out: {}.",
        members("spec", &rules::IMMUTABLE),
        members("spec.agents", &rules::IMMUTABLE_AGENTS),
        rules::WAY_OUT
    )?;
    page.push_str("\n## What we put on what we own\n\n| key | of | what |\n|---|---|---|\n");
    for (key, of, what) in [
        (labels::RUN, "label", "name of the run"),
        (labels::RUN_UID, "label", "uid of the run, which outlives the reuse of a name"),
        (labels::AGENT_INDEX, "label", "index of the agent, from 0"),
        (labels::AGENT_ATTEMPT, "label", "attempt of the agent under its index, from 0"),
        (labels::RUN_ATTEMPT, "label", "attempt of the whole run, from 1"),
        (labels::PLAN_HASH, "annotation", "hash of the plan that a pod was created for"),
        (labels::FINALIZER, "finalizer", "stands on a run only while its agents may live"),
        (labels::MANAGER_LIFECYCLE, "field manager", "writes conditions, phase, verdict, message"),
        (labels::MANAGER_PROGRESS, "field manager", "writes agents, progress, stages; at most every 2 s"),
    ] {
        writeln!(page, "| `{key}` | {of} | {what} |")?;
    }
    page.push_str("\n## Every field of the status\n\n| field | meaning | limits |\n|---|---|---|\n");
    super::manifest::rows(&crd::schema()["properties"]["status"], "", false, &mut page)?;
    Ok(page)
}
