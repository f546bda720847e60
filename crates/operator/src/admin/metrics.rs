//! From what is known to the values of all metrics. Pure: everything is an argument, and nothing is counted here.

use super::families::{FAMILIES, Family};
use super::process::Process;
use super::vitals::{Requests, Seen};
use lockstep_coordinator::Snapshot;
use lockstep_coordinator::buckets::{Buckets, RESPONSE_BOUNDS_NS, SKEW_BOUNDS_NS, TIME_BOUNDS_NS};
use lockstep_coordinator::counters::{Counted, Operations};
use lockstep_core::op::{ErrorClass, Op};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Phases that a run may have, in order; any other is shown as `Other`.
const PHASES: [&str; 14] = [
    "Pending",
    "Suspended",
    "Waiting",
    "Scheduling",
    "Preflight",
    "Preparing",
    "Running",
    "CleaningUp",
    "Collecting",
    "Succeeded",
    "Partial",
    "Failed",
    "Aborted",
    "Other",
];
/// Those of them that are outcomes.
const OUTCOMES: [&str; 4] = ["Succeeded", "Partial", "Failed", "Aborted"];
/// Verdicts that a finished run may have; any other is shown as the last.
const VERDICTS: [&str; 5] = ["Passed", "Failed", "Inconclusive", "None", "Other"];

/// What the status of a run says of it in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunWords {
    /// `status.phase`; empty before the first.
    pub phase: String,
    /// `status.verdict`.
    pub verdict: String,
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// Every run.
    pub runs: Vec<RunWords>,
    /// Those under way here.
    pub snapshots: Vec<Arc<Snapshot>>,
    /// What the coordinator counted.
    pub counted: Counted,
    /// What the operator counted.
    pub vitals: Seen,
    /// What the kernel says.
    pub process: Process,
}

/// A value of a metric.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
    /// Counts within bounds, which are in nanoseconds.
    Buckets(Buckets, &'static [u64]),
}

/// Values of a metric by their labels, which are in the order of [`Family::labels`].
pub type Rows = Vec<(Vec<&'static str>, Value)>;

/// The values of all metrics, in the order of [`FAMILIES`].
#[must_use]
pub fn project(sight: &Sight) -> Vec<(Family, Rows)> {
    FAMILIES.into_iter().map(|family| (family, rows(family.name, sight))).collect()
}

fn rows(name: &str, sight: &Sight) -> Rows {
    let Sight { runs, snapshots, counted, vitals, process } = sight;
    match name {
        "lockstep_build" => vec![(vec![env!("CARGO_PKG_VERSION")], Value::Whole(1))],
        "lockstep_leader" => one(Value::Whole(u64::from(vitals.leads))),
        "lockstep_runs" => by_phase(runs),
        "lockstep_runs_finished" => by_outcome(runs),
        "lockstep_agents" => by_state(snapshots),
        "lockstep_start_skew_seconds" => one(Value::Buckets(counted.start_skew.clone(), SKEW_BOUNDS_NS)),
        "lockstep_sessions" => one(Value::Whole(counted.sessions_open)),
        "lockstep_reconnects" => one(Value::Whole(counted.reconnects)),
        "lockstep_calls_refused" => one(Value::Whole(counted.calls_refused)),
        "lockstep_reported_intervals" => one(Value::Whole(counted.seconds_reported)),
        "lockstep_operations" => by_operation(counted, |operations| Value::Whole(operations.count)),
        "lockstep_operation_bytes" => by_operation(counted, |operations| Value::Whole(operations.bytes)),
        "lockstep_operation_errors" => by_error(counted),
        "lockstep_operation_response_seconds" => by_operation(counted, |operations| {
            Value::Buckets(operations.response.clone(), RESPONSE_BOUNDS_NS)
        }),
        "lockstep_desks" => one(Value::Whole(vitals.desks)),
        "lockstep_round_duration_seconds" => one(time(&vitals.rounds)),
        "lockstep_rounds_failed" => one(Value::Whole(vitals.rounds_failed)),
        "lockstep_status_write_delay_seconds" => one(time(&vitals.status_delays)),
        "lockstep_api_requests" => {
            let row = |((method, resource, code), requests): (&(_, _, _), &Requests)| {
                (vec![*method, *resource, *code], Value::Whole(requests.count))
            };
            vitals.requests.iter().map(row).collect()
        }
        "lockstep_api_sent_bytes" => sent_bytes(vitals),
        "lockstep_api_request_duration_seconds" => {
            vitals.answers.iter().map(|(method, answers)| (vec![*method], time(answers))).collect()
        }
        "process_cpu_seconds" => one(Value::Real(process.cpu_s)),
        "process_resident_memory_bytes" => one(Value::Whole(process.resident_bytes)),
        "process_open_fds" => one(Value::Whole(process.open_fds)),
        "process_start_time_seconds" => one(Value::Real(process.start_time_s)),
        // A test holds that every family has rows.
        _ => Rows::new(),
    }
}

fn one(value: Value) -> Rows {
    vec![(Vec::new(), value)]
}

fn time(buckets: &Buckets) -> Value {
    Value::Buckets(buckets.clone(), TIME_BOUNDS_NS)
}

/// The one of a closed set that a word is; its last where it is none.
fn known<const N: usize>(set: &[&'static str; N], word: &str) -> &'static str {
    set.iter().find(|known| **known == word).copied().unwrap_or(set[N - 1])
}

fn by_phase(runs: &[RunWords]) -> Rows {
    let phase = |run: &RunWords| match run.phase.as_str() {
        "" => "Pending",
        phase => known(&PHASES, phase),
    };
    let of = |phase_: &'static str| runs.iter().filter(|run| phase(run) == phase_).count() as u64;
    PHASES.into_iter().map(|phase| (vec![phase], Value::Whole(of(phase)))).collect()
}

fn by_outcome(runs: &[RunWords]) -> Rows {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for run in runs {
        if let Some(outcome) = OUTCOMES.into_iter().find(|outcome| *outcome == run.phase) {
            *counts.entry((outcome, known(&VERDICTS, &run.verdict))).or_default() += 1;
        }
    }
    let rows = counts.into_iter();
    rows.map(|((outcome, verdict), count)| {
        let outcome = known(&OUTCOMES, outcome);
        (vec![outcome, known(&VERDICTS, verdict)], Value::Whole(count))
    })
    .collect()
}

fn by_state(snapshots: &[Arc<Snapshot>]) -> Rows {
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for agent in snapshots.iter().flat_map(|snapshot| &snapshot.view.agents) {
        *counts.entry(agent.state.name()).or_default() += 1;
    }
    counts.into_iter().map(|(state, count)| (vec![state], Value::Whole(count))).collect()
}

fn by_operation(counted: &Counted, value: impl Fn(&Operations) -> Value) -> Rows {
    let operations = counted.operations.iter();
    operations.map(|((stage, op), operations)| (vec![*stage, Op::name(*op)], value(operations))).collect()
}

fn by_error(counted: &Counted) -> Rows {
    let operations = counted.operations.iter();
    operations
        .flat_map(|((stage, op), operations)| {
            let classes = ErrorClass::ALL.into_iter().zip(operations.errors);
            classes
                .filter(|(_, count)| *count > 0)
                .map(move |(class, count)| (vec![*stage, Op::name(*op), class.name()], Value::Whole(count)))
        })
        .collect()
}

fn sent_bytes(vitals: &Seen) -> Rows {
    let mut sums: BTreeMap<(&'static str, &'static str), u64> = BTreeMap::new();
    for ((method, resource, _), requests) in &vitals.requests {
        *sums.entry((method, resource)).or_default() += requests.bytes;
    }
    let sums = sums.into_iter().filter(|(_, bytes)| *bytes > 0);
    sums.map(|((method, resource), bytes)| (vec![method, resource], Value::Whole(bytes))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::encode::encode;
    use super::*;

    fn sight() -> Sight {
        let words = |phase: &str, verdict: &str| RunWords { phase: phase.into(), verdict: verdict.into() };
        let mut counted = Counted::default();
        let mut operations = Operations { count: 7, bytes: 700, ..Operations::default() };
        operations.errors[ErrorClass::Throttled.index()] = 2;
        operations.response.observe(20_000, RESPONSE_BOUNDS_NS);
        operations.response.observe(u64::MAX, RESPONSE_BOUNDS_NS);
        counted.operations.insert(("execute", Op::Get), operations);
        counted.start_skew.observe(300_000, SKEW_BOUNDS_NS);
        let mut vitals = Seen { leads: true, ..Seen::default() };
        vitals.requests.insert(("PATCH", "benchmarkruns", "2xx"), Requests { count: 3, bytes: 900 });
        vitals.requests.insert(("PATCH", "benchmarkruns", "4xx"), Requests { count: 1, bytes: 100 });
        vitals.answers.entry("PATCH").or_default().observe(2_000_000, TIME_BOUNDS_NS);
        let runs = vec![
            words("", ""),
            words("Running", "Pending"),
            words("Succeeded", "Passed"),
            words("Succeeded", "of a newer version"),
            words("of a newer version", ""),
        ];
        Sight { runs, counted, vitals, ..Sight::default() }
    }

    #[test]
    fn every_family_is_projected_with_its_labels() {
        for (family, rows) in project(&sight()) {
            // Nobody is under way here.
            assert!(!rows.is_empty() || family.name == "lockstep_agents", "{}", family.name);
            for (labels, _) in rows {
                assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
            }
        }
    }

    #[test]
    fn words_that_are_not_known_do_not_become_labels() {
        let text = encode(project(&sight())).unwrap();
        for line in [
            "lockstep_runs{phase=\"Pending\"} 1",
            "lockstep_runs{phase=\"Running\"} 1",
            "lockstep_runs{phase=\"Other\"} 1",
            "lockstep_runs_finished{outcome=\"Succeeded\",verdict=\"Other\"} 1",
            "lockstep_runs_finished{outcome=\"Succeeded\",verdict=\"Passed\"} 1",
            "lockstep_operations_total{stage=\"execute\",op=\"Get\"} 7",
            "lockstep_operation_errors_total{stage=\"execute\",op=\"Get\",class=\"throttled\"} 2",
            "lockstep_operation_response_seconds_bucket{le=\"+Inf\",stage=\"execute\",op=\"Get\"} 2",
            "lockstep_start_skew_seconds_bucket{le=\"0.0005\"} 1",
            "lockstep_api_sent_bytes_total{method=\"PATCH\",resource=\"benchmarkruns\"} 1000",
            "lockstep_leader 1",
        ] {
            assert!(text.contains(line), "no {line} in\n{text}");
        }
        assert!(!text.contains("newer"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
