//! The tables at the end of a run, and of `lockstep report`: per stage and operation, with everything that puts a number
//! in doubt beside it.

use super::thresholds;
use crate::results::{agents, memory};
use lockstep_core::format::{Table, bytes, count, decimal_milli, latency, mebibytes, span};
use lockstep_core::results::Report;
use lockstep_core::results::part::{PartState, Pause};
use lockstep_core::results::stage::{AgentRow, LatencyReport, OpReport, StageReport, StartReport};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Agents, reasons and problems that are shown one by one; more are counted.
const SHOWN: usize = 8;

/// The tables of a run. `results`: where they are. `ended`: whether its end was recorded.
#[must_use]
pub fn render(report: &Report, results: &str, ended: bool) -> String {
    let mut text = String::new();
    for stage in report.stages.iter().filter(|stage| !stage.agents.is_empty()) {
        push_stage(&mut text, stage);
    }
    if !ended {
        push_missing(&mut text, report);
    }
    push_ledgers(&mut text, report);
    push_limited(&mut text, "degraded", &report.degraded);
    let held: Vec<String> = report.thresholds.iter().map(thresholds::result).collect();
    push_limited(&mut text, "threshold", &held);
    let (outcome, verdict) =
        if ended { (report.outcome.name(), report.verdict.name()) } else { ("Interrupted", "Pending") };
    let doubt = if report.degraded.is_empty() || !ended { "" } else { ", Degraded" };
    // A verdict of none is shown as the reason for it.
    let verdict = match (verdict, report.thresholds.is_empty()) {
        ("None", true) => "no thresholds",
        ("None", false) => "no verdict",
        _ => verdict,
    };
    let _ = writeln!(text, " {outcome}{doubt} · {verdict} · results: {results}");
    text
}

/// Stages of a run without an end of which nothing was handed in.
fn push_missing(text: &mut String, report: &Report) {
    let missing: Vec<&str> = report
        .stages
        .iter()
        .filter(|stage| stage.agents.is_empty() && stage.state != "Skipped")
        .map(|stage| stage.name.as_str())
        .collect();
    if !missing.is_empty() {
        let _ = writeln!(text, " no agent handed in: {}", missing.join(", "));
    }
}

fn push_stage(text: &mut String, stage: &StageReport) {
    let _ = writeln!(text, " {}", head(stage));
    if !stage.operations.is_empty() {
        for line in table(stage).lines(3) {
            let _ = writeln!(text, "{line}");
        }
    }
    for note in notes(stage) {
        let _ = writeln!(text, "   {note}");
    }
    text.push('\n');
}

/// The line above a stage's table: name, length, agents, start, client.
fn head(stage: &StageReport) -> String {
    let mut parts = vec![stage.name.clone()];
    if stage.state != "Done" {
        parts.push(stage.state.clone());
    }
    if stage.discard {
        parts.push("warm-up, does not count".to_owned());
    }
    if stage.window_ns > 0 {
        parts.push(span(stage.window_ns));
    }
    parts.push(format!("{} of {} agents", stage.agents_complete, stage.agents_planned));
    parts.extend(checks(stage));
    parts.extend(start(&stage.start));
    if stage.operations.is_empty() {
        return parts.join(" · ");
    }
    let percent = agents::cpu_percent(&stage.agents);
    let cpu = percent.map(|percent| format!(" (CPU {percent} %)")).unwrap_or_default();
    parts.push(match stage.client_bound_agents {
        0 => format!("client not the bottleneck{cpu}"),
        bound => {
            format!("CLIENT-BOUND: on {bound} of {} agents the client set the pace{cpu}", stage.agents.len())
        }
    });
    parts.join(" · ")
}

/// How many checks the agents of a preflight made: `8 checks each, 2 by one agent`, as the place itself needs but one.
fn checks(stage: &StageReport) -> Option<String> {
    let mut agents: BTreeMap<&str, usize> = BTreeMap::new();
    for row in stage.environment.iter().filter(|row| row.key.starts_with("check.")) {
        *agents.entry(&row.key).or_default() += row.agents as usize;
    }
    let each = agents.values().filter(|agents| **agents >= stage.agents.len()).count();
    let rest = match agents.len() - each {
        0 => String::new(),
        rest => format!(", {rest} by one agent"),
    };
    (stage.kind == "preflight" && !agents.is_empty()).then(|| format!("{each} checks each{rest}"))
}

/// How far apart the agents began, and with what: `started within 0.21 ms of each other (with warmup; clock error ± 0.04 ms)`.
fn start(start: &StartReport) -> Option<String> {
    let millis = |micros: u64| format!("{}.{:02}", micros / 1_000, micros % 1_000 / 10);
    let with = start.inherited_from.as_ref().map(|warm_up| format!("with {warm_up}"));
    let bound = start.clock_error_micros.map(|error| format!("clock error ± {} ms", millis(error.max(10))));
    let beside: Vec<String> = with.into_iter().chain(bound).collect();
    let beside = if beside.is_empty() { String::new() } else { format!(" ({})", beside.join("; ")) };
    let skew = millis(start.skew_micros?.max(10));
    Some(format!("started within {skew} ms of each other{beside}"))
}

fn table(stage: &StageReport) -> Table {
    let mut table =
        Table::new(&["op", "count", "op/s", "MiB/s", "mean", "p50", "p90", "p99", "p99.9", "max", "errors"]);
    for row in &stage.operations {
        table.row(cells(row.op.map_or("all", |op| op.name()), row));
    }
    if stage.operations.len() > 1 {
        table.row(cells("all", &stage.total));
    }
    table
}

fn cells(name: &str, row: &OpReport) -> Vec<String> {
    let of = |read: fn(&LatencyReport) -> u64| {
        row.response.as_ref().map_or_else(|| "-".to_owned(), |response| latency(read(response)))
    };
    vec![
        name.to_owned(),
        count(row.count),
        decimal_milli(row.milli_operations_per_second),
        if row.bytes > 0 { mebibytes(row.bytes_per_second) } else { "-".to_owned() },
        of(|response| response.mean_ns),
        of(|response| response.p50_ns),
        of(|response| response.p90_ns),
        of(|response| response.p99_ns),
        of(|response| response.p999_ns),
        of(|response| response.max_ns),
        count(row.error_count),
    ]
}

/// Everything that a reader must know beside the numbers.
fn notes(stage: &StageReport) -> Vec<String> {
    let mut notes = Vec::new();
    notes.extend(memory::note_of(&stage.environment).map(str::to_owned));
    // The lock of a run that was killed is no error, but nobody should have to wonder.
    let locks = stage.environment.iter().filter(|row| row.key == "check.lock");
    notes.extend(
        locks
            .filter(|row| row.value.starts_with("taken over"))
            .map(|row| format!("the place's lock was {}", row.value)),
    );
    for row in &stage.operations {
        if !row.errors.is_empty() {
            let name = row.op.map_or("all", |op| op.name());
            let classes: Vec<String> = row
                .errors
                .iter()
                .map(|(class, number)| format!("{} {}", count(*number), class.name()))
                .collect();
            notes.push(format!("{name} errors: {}", classes.join(", ")));
        }
    }
    let late: u64 = stage.operations.iter().map(|row| row.late_starts).sum();
    for (number, noun, what) in [
        (late, "operation", "started late: latencies above count from the intended start"),
        (stage.dropped_starts, "operation", "never sent though due"),
        (stage.retries, "request", "sent again"),
        (stage.starved_deletes, "delete", "found nothing of this stage's own to delete"),
        (stage.repeated_operations, "operation", "done again after a loss"),
        (stage.total.drained, "operation", "ended after the window: counted, and not in the rates"),
    ] {
        if number > 0 {
            let plural = if number == 1 { "" } else { "s" };
            notes.push(format!("{} {noun}{plural} {what}", count(number)));
        }
    }
    let doubtful: Vec<String> = stage.agents.iter().filter_map(|agent| incomplete(stage, agent)).collect();
    notes.extend(limited(&doubtful));
    notes.extend(limited(&stage.agents.iter().flat_map(|agent| pauses(stage, agent)).collect::<Vec<_>>()));
    let bound = |agent: &AgentRow| {
        let why = agent.client.client_bound.as_ref()?;
        Some(format!("agent {}: client-bound: {why}", agent.agent))
    };
    // Where no operation was measured, nothing had a pace to set.
    let paced = stage.agents.iter().filter(|_| !stage.operations.is_empty());
    notes.extend(limited(&paced.filter_map(bound).collect::<Vec<_>>()));
    notes.extend(stage.degraded.iter().map(|why| format!("degraded: {why}")));
    let problems: Vec<String> = stage
        .problems
        .iter()
        .map(|problem| format!("problem: {} · {}", problem.what, first_line(&problem.cause)))
        .collect();
    notes.extend(limited(&problems));
    if stage.problems_dropped > 0 {
        notes.push(format!("and {} more problems, only counted", count(stage.problems_dropped)));
    }
    notes
}

/// An attempt that does not cover the whole window: which, until when, at what cost.
fn incomplete(stage: &StageReport, agent: &AgentRow) -> Option<String> {
    let who = who(agent);
    let counted = format!("{} operations of it count", count(agent.count));
    match &agent.state {
        PartState::Complete => None,
        PartState::Partial { reason } if stage.operations.is_empty() => {
            Some(format!("{who} did not finish: {reason}"))
        }
        PartState::Partial { reason } => {
            let from_ns =
                agent.pauses.iter().find(|pause| is_late_join(pause)).map_or(0, |pause| pause.to_ns);
            let covered = span(agent.window_ns.saturating_sub(from_ns));
            let from =
                if from_ns > 0 { format!(", from second {}", seconds(from_ns)) } else { String::new() };
            Some(format!("{who} covers {covered} of the window{from}: {reason}; {counted}"))
        }
        PartState::Lost { reason, unaccounted_from_ns, unaccounted_to_ns } => {
            // It may have been in the next stage already when it was lost: this one was over by then.
            let end_ns = if stage.kind == "execute" { stage.window_ns } else { u64::MAX };
            Some(format!(
                "{who} was lost: {reason}; {counted}; what it did from second {} to {} is not known",
                unaccounted_from_ns / 1_000_000_000,
                unaccounted_to_ns.min(&end_ns).div_ceil(1_000_000_000)
            ))
        }
    }
}

/// When an agent did nothing in the window, and why.
fn pauses(stage: &StageReport, agent: &AgentRow) -> Vec<String> {
    let within = |pause: &&Pause| !is_late_join(pause) && pause.from_ns < stage.window_ns;
    let text = |pause: &Pause| {
        let (from, to) = (seconds(pause.from_ns), seconds(pause.to_ns.min(stage.window_ns)));
        format!("{} did nothing from second {from} to {to}: {}", who(agent), pause.what)
    };
    agent.pauses.iter().filter(within).map(text).collect()
}

/// An agent that joins late covers less of the window, which is said of it in its own line.
fn is_late_join(pause: &Pause) -> bool {
    pause.what == "late join"
}

fn who(agent: &AgentRow) -> String {
    match agent.attempt {
        0 => format!("agent {}", agent.agent),
        attempt => format!("agent {} (attempt {})", agent.agent, attempt + 1),
    }
}

/// An instant of a stage in seconds, one decimal.
fn seconds(ns: u64) -> String {
    decimal_milli(ns / 1_000_000)
}

/// The data set's ledger, where it says more than the tables.
fn push_ledgers(text: &mut String, report: &Report) {
    let Some(ledger) = &report.dataset else { return };
    let mut parts = vec![format!("{} of {} objects are there", count(ledger.done), count(ledger.planned))];
    for (number, what) in [
        (ledger.created, "created"),
        (ledger.existed, "were there already"),
        (ledger.repeated, "done twice after a loss"),
    ] {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    }
    let written: u64 =
        report.stages.iter().filter(|stage| stage.kind == "prepare").map(|stage| stage.total.bytes).sum();
    if written > 0 {
        parts.push(format!("{} written", bytes(written)));
    }
    let prepared = report.stages.iter().any(|stage| stage.kind == "prepare" && !stage.agents.is_empty());
    if prepared {
        let _ = writeln!(text, " data set after prepare: {}", parts.join(" · "));
    }
}

fn push_limited(text: &mut String, name: &str, lines: &[String]) {
    for line in limited(lines) {
        let _ = writeln!(text, " {name}: {line}");
    }
}

fn limited(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(SHOWN).cloned().collect();
    if lines.len() > SHOWN {
        shown.push(format!("… and {} more, see results.json", lines.len() - SHOWN));
    }
    shown
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}
