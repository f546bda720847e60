//! `agents.tsv`: one row per stage and attempt of an agent: what it did, how well it kept time, what it used.

use super::series::micros;
use lockstep_core::results::stage::{AgentRow, StageReport};
use lockstep_core::results::{PartState, Report};
use std::fmt::Write as _;

/// The columns.
pub const HEADER: &str = "stage\tagent\tattempt\tstate\treason\twindow_s\tcount\terrors\tbytes\tmean_us\tp99_us\t\
released_after_us\tworker_start_max_us\tpacing_lag_max_us\tcpu_percent\tcpu_per_operation_us\tmax_rss_bytes\t\
client_bound\trtt_mean_us\trtt_max_us\tgap_max_us\treconnects\tother_requests";

/// Renders the table, header included. What is not known is empty.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut table = format!("{HEADER}\n");
    for stage in &report.stages {
        for agent in &stage.agents {
            push_row(&mut table, stage, agent);
        }
    }
    table
}

fn push_row(table: &mut String, stage: &StageReport, agent: &AgentRow) {
    let (state, reason) = match &agent.state {
        PartState::Complete => ("Complete", ""),
        PartState::Partial { reason } => ("Partial", reason.as_str()),
        PartState::Lost { reason, .. } => ("Lost", reason.as_str()),
    };
    let known = |ns: Option<u64>| ns.map(micros).unwrap_or_default();
    let released = agent.released_after_ns.map(|ns| {
        let sign = if ns < 0 { "-" } else { "" };
        format!("{sign}{}", micros(ns.unsigned_abs()))
    });
    let cells = [
        stage.name.clone(),
        agent.agent.to_string(),
        agent.attempt.to_string(),
        state.to_owned(),
        cell(reason),
        format!("{}.{:03}", agent.window_ns / 1_000_000_000, agent.window_ns / 1_000_000 % 1_000),
        agent.count.to_string(),
        agent.error_count.to_string(),
        agent.bytes.to_string(),
        known(agent.response_mean_ns),
        known(agent.response_p99_ns),
        released.unwrap_or_default(),
        micros(agent.lateness.worker_start_max_ns),
        micros(agent.lateness.pacing_lag_max_ns),
        cpu_percent([agent]).map(|percent| percent.to_string()).unwrap_or_default(),
        known(agent.cpu_per_operation_ns),
        agent.client.max_rss_bytes.to_string(),
        cell(agent.client.client_bound.as_deref().unwrap_or("")),
        micros(agent.network.rtt_mean_ns),
        micros(agent.network.rtt_max_ns),
        micros(agent.network.gap_max_ns),
        agent.network.reconnects.to_string(),
        agent.other_requests.to_string(),
    ];
    // Writing to a String cannot fail.
    let _ = writeln!(table, "{}", cells.join("\t"));
}

/// Share of their cores that these agents' processes used during their windows, percent; `None` where nothing is known
/// of cores or windows.
#[must_use]
pub fn cpu_percent<'a>(agents: impl IntoIterator<Item = &'a AgentRow>) -> Option<u64> {
    let (mut used_ns, mut offered_ns) = (0u128, 0u128);
    for agent in agents {
        used_ns += u128::from(agent.client.process_cpu_ns);
        offered_ns += u128::from(agent.client.milli_cores) * u128::from(agent.window_ns) / 1_000;
    }
    (used_ns * 100).checked_div(offered_ns).map(|percent| percent as u64)
}

/// A text that cannot leave its cell.
fn cell(text: &str) -> String {
    text.replace(['\t', '\n', '\r'], " ")
}
