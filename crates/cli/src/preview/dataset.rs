//! The data set in a dry run: how many objects, bytes and directories, their names, and who owns which.

use super::{estimate, field};
use lockstep_core::dataset::names::write_agent_prefix;
use lockstep_core::dataset::size::SizeSpec;
use lockstep_core::dataset::{ByteEstimate, FilesIn, Layout};
use lockstep_core::format::{self, count};
use lockstep_core::keys::share;
use lockstep_core::plan::{Existing, Plan, Sharing};

/// Agents whose share is shown one by one; of more, the first and the last.
const AGENTS_SHOWN: u32 = 4;

/// Objects of all agents together.
#[must_use]
pub fn objects(plan: &Plan) -> u128 {
    u128::from(plan.dataset.len()) * u128::from(spaces(plan))
}

/// Bytes of all agents together. Data sets of agents are drawn apart, so their variances add up.
#[must_use]
pub fn bytes(plan: &Plan) -> ByteEstimate {
    let one = plan.dataset.expected_bytes();
    let spaces = spaces(plan);
    ByteEstimate {
        mean_bytes: one.mean_bytes.saturating_mul(u128::from(spaces)),
        std_dev_bytes: (one.std_dev_bytes as f64 * f64::from(spaces).sqrt()).ceil() as u128,
    }
}

/// How many data sets there are.
fn spaces(plan: &Plan) -> u32 {
    match plan.sharing {
        Sharing::Shared => 1,
        Sharing::PerAgent => plan.replicas,
    }
}

/// The lines about the data set.
pub fn render(plan: &Plan, page: &mut String) {
    let set = &plan.dataset;
    let total = objects(plan);
    field(
        page,
        "data set",
        &format!("{} objects · {} · {}", count(total), estimate(&bytes(plan)), sizes(&set.size)),
    );
    field(page, "layout", &layout(plan));
    if !set.is_empty() {
        field(page, "names", &names(plan));
    }
    field(page, "sharing", &sharing(plan));
    field(
        page,
        "existing",
        match plan.existing {
            Existing::Reuse => "Reuse: trusts that every object is there, and writes none",
            Existing::FillGaps => "FillGaps: looks, and writes what is missing or of another size",
            Existing::Overwrite => "Overwrite: writes every object anew",
        },
    );
}

fn sizes(size: &SizeSpec) -> String {
    match size {
        SizeSpec::Fixed(bytes) => format!("{} each", format::bytes(*bytes)),
        _ => format!(
            "{} to {}, {} on average",
            format::bytes(size.min_bytes()),
            format::bytes(size.max_bytes()),
            format::bytes(size.mean_bytes() as u128)
        ),
    }
}

fn layout(plan: &Plan) -> String {
    let directories = plan.dataset.layout.directories_checked().unwrap_or(0);
    let per_agent = if plan.sharing == Sharing::PerAgent { ", for each agent" } else { "" };
    match &plan.dataset.layout {
        Layout::Flat { prefix_shards: 0, .. } => format!("flat, no directories{per_agent}"),
        Layout::Flat { .. } => format!("flat, over {} prefixes{per_agent}", count(directories)),
        Layout::Tree(tree) => {
            let leaves = u64::from(tree.width).checked_pow(tree.depth).unwrap_or(0);
            let files = match tree.files {
                FilesIn::Leaves => "in each leaf",
                FilesIn::AllLevels => "in each directory",
            };
            format!(
                "tree, {} wide and {} deep: {} directories, {} of them leaves · {} files {files}{per_agent}",
                tree.width,
                tree.depth,
                count(directories),
                count(leaves),
                count(tree.files_per_directory)
            )
        }
    }
}

fn names(plan: &Plan) -> String {
    let resolved = plan.dataset.names();
    let name_of = |agent: u32, index| {
        let mut name = String::new();
        if plan.sharing == Sharing::PerAgent {
            write_agent_prefix(agent, &mut name);
        }
        resolved.write_name(index, &mut name);
        name
    };
    let first = name_of(0, 0);
    let last = name_of(plan.replicas.saturating_sub(1), plan.dataset.len().saturating_sub(1));
    if first == last { first } else { format!("{first} … {last}") }
}

fn sharing(plan: &Plan) -> String {
    let (len, agents) = (plan.dataset.len(), plan.replicas);
    if plan.sharing == Sharing::PerAgent {
        return format!(
            "PerAgent: each agent has a data set of its own, {} objects under a prefix",
            count(len)
        );
    }
    let range = |agent| {
        let share = share(len, agents, agent);
        format!("agent {agent} {}..{}", count(share.start), count(share.end))
    };
    let shares = match agents {
        0..=1 => return "Shared: one data set, one agent".to_owned(),
        2..=AGENTS_SHOWN => (0..agents).map(range).collect::<Vec<_>>().join(", "),
        _ => format!("{}, {} … {}", range(0), range(1), range(agents - 1)),
    };
    format!("Shared: one data set, about {} objects per agent: {shares}", count(len / u64::from(agents)))
}
