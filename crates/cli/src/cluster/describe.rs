//! Runs in words: the table of `lockstep get`, and everything about one run.

use super::changes;
use super::object::Run;
use super::seen::{Moment, between_ns, picture};
use crate::display::lines;
use jiff::Timestamp;
use lockstep_api::conditions::{ConditionType, Truth};
use lockstep_api::reasons::Reason;
use lockstep_api::status::{LatencyStatus, StageStatus};
use lockstep_core::format::{Table, bytes_per_s, count, latency, long_span};
use lockstep_core::problem::Problem;
use lockstep_core::run::StageState;
use std::fmt::Write as _;

/// The table of runs. `everywhere`: of all namespaces, so that theirs is a column.
#[must_use]
pub fn table(runs: &[Run], everywhere: bool, now: Timestamp) -> String {
    let mut head = vec!["NAME", "PHASE", "STAGE", "AGENTS", "PROGRESS", "RATE", "VERDICT", "AGE"];
    if everywhere {
        head.insert(0, "NAMESPACE");
    }
    let mut table = Table::of_words(&head);
    for run in runs {
        let status = &run.status;
        let progress = status.progress.as_ref();
        let mut row = vec![
            run.name(),
            run.phase().to_owned(),
            progress.map(|progress| progress.stage.clone()).unwrap_or_default(),
            status.agents.as_ref().map(|agents| agents.summary.clone()).unwrap_or_default(),
            progress.map(|progress| progress.summary.clone()).unwrap_or_default(),
            status.throughput.clone().unwrap_or_default(),
            status.verdict.clone(),
            age(run, now),
        ];
        if everywhere {
            row.insert(0, run.namespace());
        }
        table.row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }).collect());
    }
    table.lines(0).join("\n")
}

fn age(run: &Run, now: Timestamp) -> String {
    run.created().map_or_else(String::new, |created| {
        long_span(between_ns(created, now) / 1_000_000_000).replace(' ', "")
    })
}

/// Everything about one run, without what went wrong: that is [`problem`].
#[must_use]
pub fn details(run: &Run, now: Timestamp) -> String {
    let status = &run.status;
    let scene = run.scene();
    let mut text = String::new();
    let verdict = if status.verdict.is_empty() { "Pending" } else { &status.verdict };
    let attempt = if status.attempt > 1 { format!(" · attempt {}", status.attempt) } else { String::new() };
    let _ = writeln!(
        text,
        "run {}/{} · {} · verdict {verdict}{attempt} · {} old",
        run.namespace(),
        run.name(),
        run.phase(),
        age(run, now)
    );
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(text, "  {name:<9} {value}");
        }
    };
    line("target", &format!("{} · seed {}", scene.target_uri, scene.seed));
    line("agents", &agents(run));
    if problem(run).is_none() {
        line("message", &status.message);
    }
    line("degraded", run.message_if(ConditionType::Degraded).unwrap_or_default());
    let seen = picture(run, Moment::default());
    line("waits for", seen.waits_for.as_deref().filter(|wait| *wait != status.message).unwrap_or_default());
    line("results", &results(run));
    if !status.stages.is_empty() {
        text.push('\n');
        for stage in stages(run) {
            let _ = writeln!(text, "{stage}");
        }
    }
    for (title, rows) in [("thresholds", thresholds(run)), ("agents in trouble", troubles(run))] {
        if !rows.is_empty() {
            let _ = writeln!(text, "\n {title}");
            rows.iter().for_each(|row| text += &format!("   {row}\n"));
        }
    }
    text
}

fn agents(run: &Run) -> String {
    let Some(agents) = &run.status.agents else { return format!("{} wanted", run.scene().agents) };
    let mut parts = vec![format!("{} of {} ready", agents.ready, agents.desired)];
    for (number, what) in [
        (agents.running, "in the stage"),
        (agents.stalled, "standing still"),
        (agents.disconnected, "disconnected"),
        (agents.lost, "lost"),
        (agents.replaced, "replaced"),
        (agents.completed, "completed"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {what}"));
        }
    }
    parts.join(" · ")
}

fn results(run: &Run) -> String {
    let Some(results) = &run.status.results else { return String::new() };
    let map = results
        .config_map
        .as_ref()
        .map(|map| format!("ConfigMap {map} (lockstep report {} -n {})", run.name(), run.namespace()));
    map.into_iter().chain(results.uri.clone()).collect::<Vec<_>>().join(" · ")
}

/// A line per stage, as on this machine, and a table of response times below.
fn stages(run: &Run) -> Vec<String> {
    let seen = picture(run, Moment::default());
    let wide = seen.stages.iter().map(|stage| stage.name.chars().count()).max().unwrap_or(0);
    let mut text = Vec::new();
    for (index, stage) in seen.stages.iter().enumerate() {
        let mut line = lines::line(&seen, index);
        line.waits_for = None;
        let known = run.status.stages.get(index);
        let skew =
            known.and_then(|known| known.start.as_ref()).filter(|start| start.skew_micros > 0).map(|start| {
                let ns = |micros: i64| latency(u64::try_from(micros).unwrap_or_default() * 1_000);
                format!(" · skew {} ± {}", ns(start.skew_micros), ns(start.clock_error_micros))
            });
        let mut flags = String::new();
        if known.is_some_and(|known| known.degraded) {
            flags.push_str(" · degraded");
        }
        if known.is_some_and(|known| known.client_bound) {
            flags.push_str(" · CLIENT-BOUND");
        }
        let (mark, name) = (lines::mark(&seen, index), &stage.name);
        text.push(format!(" {mark} {name:<wide$}  {}{}{flags}", line.full(), skew.unwrap_or_default()));
        let measured = known.filter(|known| !known.latency.is_empty() && stage.state != StageState::Waiting);
        text.extend(measured.map(latencies).unwrap_or_default());
    }
    text
}

fn latencies(stage: &StageStatus) -> Vec<String> {
    let mut table = Table::new(&["op", "count", "mean", "p50", "p90", "p99", "p99.9", "max"]);
    for row in &stage.latency {
        let LatencyStatus {
            op,
            count: number,
            mean_micros,
            p50_micros,
            p90_micros,
            p99_micros,
            p999_micros,
            max_micros,
        } = row;
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let micros = [mean_micros, p50_micros, p90_micros, p99_micros, p999_micros, max_micros];
        let times = micros.map(|micros| latency(whole(*micros) * 1_000));
        table.row([op.clone(), count(whole(*number))].into_iter().chain(times).collect());
    }
    let mut lines = table.lines(5);
    if stage.operations_per_second > 0 {
        let whole = |number: i64| u64::try_from(number).unwrap_or_default();
        let (rate, moved) = (whole(stage.operations_per_second), whole(stage.bytes_per_second));
        lines.push(format!("     {} op/s · {} over the window", count(rate), bytes_per_s(moved)));
    }
    lines
}

fn thresholds(run: &Run) -> Vec<String> {
    let row = |one: &lockstep_api::status::ThresholdStatus| {
        let sign = match one.result.as_str() {
            "Passed" => "✔",
            "Failed" => "✖",
            _ => "?",
        };
        format!("{sign} {}: {} (limit {})", one.name, one.observed, one.limit)
    };
    run.status.thresholds.iter().map(row).collect()
}

fn troubles(run: &Run) -> Vec<String> {
    let mut rows: Vec<String> = run.status.agent_problems.iter().map(changes::trouble).collect();
    if run.status.details_dropped > 0 {
        rows.push(format!("… and {} more", run.status.details_dropped));
    }
    rows
}

/// What went wrong, or holds the run up, in four parts; `None` where nothing does.
#[must_use]
pub fn problem(run: &Run) -> Option<Problem> {
    let (place, status) = (format!("{}/{}", run.namespace(), run.name()), &run.status);
    let condition = |type_: ConditionType| status.conditions.iter().find(|one| one.type_ == type_.name());
    let held = matches!(run.phase(), "Waiting" | "Scheduling");
    let (what, reason) = match run.truth(ConditionType::Failed) {
        Some(Truth::True) => {
            let reason = condition(ConditionType::Failed).map(|one| one.reason.clone()).unwrap_or_default();
            let how = match run.phase() {
                "Aborted" => "was stopped",
                "Succeeded" | "Partial" => "ended, and did not pass",
                _ => "failed",
            };
            (format!("run {place} {how}: {reason}"), reason)
        }
        _ if held && !run.is_finished() => {
            let reason =
                condition(ConditionType::AgentsReady).map(|one| one.reason.clone()).unwrap_or_default();
            // Pods that are being scheduled are no problem yet.
            if matches!(reason.as_str(), "" | "Scheduling" | "Waiting") && status.agent_problems.is_empty() {
                return None;
            }
            (format!("run {place} waits: {reason}"), reason)
        }
        _ => return None,
    };
    let (cause, next) = match status.message.split_once("; next: ") {
        Some((cause, next)) => (cause, Some(next)),
        None => (status.message.as_str(), None),
    };
    let mut problem = Problem::new(what, cause);
    if let Some(reason) = Reason::from_name(&reason) {
        problem = problem.likely(reason.meaning());
        problem.next.extend(next.map(str::to_owned));
        problem = problem.next(format!("{} (docs/status.md#reasons)", reason.next()));
    } else {
        problem.next.extend(next.map(str::to_owned));
    }
    problem.kept = match (results(run), run.is_finished()) {
        (results, _) if !results.is_empty() => format!("the report: {results}"),
        (_, true) => "no report: nothing was measured, or it could not be stored".to_owned(),
        _ => String::new(),
    };
    Some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::tests::run;
    use serde_json::{Value, json};

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_failure_has_four_parts_and_a_wait_too() {
        let failed = run(
            json!({}),
            json!({
                "phase": "Failed", "message": "agent 2 cannot write: HTTP 403; next: check the policy of bucket bench",
                "conditions": [{"type": "Failed", "status": "True", "reason": "TargetDenied", "message": "",
                                "lastTransitionTime": "2026-11-21T23:15:07Z"}],
            }),
        );
        let text = problem(&failed).expect("it failed").to_string();
        for part in [
            "✖ run perf/nightly failed: TargetDenied\n",
            "cause      agent 2 cannot write: HTTP 403\n",
            "likely     The target refused.\n",
            "next       check the policy of bucket bench\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let waits = run(
            json!({}),
            json!({
                "phase": "Waiting", "message": "waits for run perf/x",
                "conditions": [{"type": "AgentsReady", "status": "False", "reason": "WaitingForExclusive", "message": "",
                                "lastTransitionTime": "2026-11-21T23:15:07Z"}],
            }),
        );
        assert!(problem(&waits).is_some_and(|problem| problem.what.ends_with("waits: WaitingForExclusive")));
        assert_eq!(problem(&run(json!({}), json!({"phase": "Running"}))), None);
    }

    #[test]
    fn the_table_has_a_row_per_run_and_nothing_is_left_empty() {
        let mut young = run(json!({}), Value::Null);
        young.object.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("2026-11-21T23:00:00Z")));
        let text = table(&[young], true, at("2026-11-21T23:06:12Z"));
        assert_eq!(
            text,
            "NAMESPACE  NAME     PHASE    STAGE  AGENTS  PROGRESS  RATE  VERDICT  AGE\n\
             perf       nightly  Pending  -      -       -         -     -        6m12s"
        );
    }
}
